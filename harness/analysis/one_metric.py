"""Everything about one metric: cells, effects, interactions, controls. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.analysis import statistics
from harness.analysis.estimates import Sample, estimates
from harness.analysis.results import (
    CellResult,
    Control,
    Effect,
    Estimate,
    InteractionResult,
    Lenth,
    MetricResult,
    Verdict,
)
from harness.analysis.statistics import Floats
from harness.analysis.table import Column, Table
from harness.design.contrasts import Estimable, Weights
from harness.metrics.definitions import Metric

DIVERGED_SHARE = 0.1
"""An effect is called diverged when at least this share of its runs with the idea diverged, and less without it."""


class OneMetric:
    """All that a table tells of one metric."""

    def __init__(self, table: Table, baseline: str, tells: Estimable, column: Column, margin: float | None) -> None:
        self.table, self.tells, self.column = table, tells, column
        self.own = table.place(baseline)
        self.seeds, self.control_seeds = table.blocks(baseline)
        self.counts = table.counts()
        self.values = table.matrix(column, self.seeds)
        self.places = {cell.toggles: place for place, cell in enumerate(table.cells)}
        comparable = np.array(self._comparable())
        scaled = _scaled(column.metric, np.where(comparable, self.values, np.nan))
        self.sample = Sample(column.metric, self.seeds, scaled, margin, table.twins(self.seeds))

    def result(self) -> MetricResult:
        metric = self.column.metric
        return MetricResult(
            metric=metric,
            cells=self._cells(),
            effects=self._effects(),
            interactions=self._interactions(),
            attribution=self._attribution(),
            residual_sd=float(np.sqrt(self.sample.fit.variance)) if self.sample.fit.variance else None,
            df=self.sample.fit.df,
            seed_correlation=statistics.intraclass(self.sample.values),
            margin=self.sample.margin,
            control=self._control(),
            lenth=self._lenth(),
            card=self.column.card,
        )

    def _comparable(self) -> list[bool]:
        """By cell: whether it was measured as the baseline was."""
        cards = self.column.cards
        wanted = cards[self.own] or next(filter(None, cards), "")
        return [card != "" and card == wanted for card in cards]

    def _variants(self) -> list[int]:
        return [place for place in range(len(self.table.cells)) if place != self.own]

    def _against_baseline(self) -> Floats:
        weights = np.zeros((len(self.table.cells) - 1, len(self.table.cells)))
        weights[:, self.own] = -1
        for row, place in enumerate(self._variants()):
            weights[row, place] = 1
        return weights

    def _cells(self) -> tuple[CellResult, ...]:
        settled = [self._settled_cell(place) for place in self._variants()]
        found = iter(estimates(self.sample, self._against_baseline(), settled))
        places = range(len(self.table.cells))
        return tuple(self._cell(place, None if place == self.own else next(found)) for place in places)

    def _cell(self, place: int, estimate: Estimate | None) -> CellResult:
        mine = self.values[:, place]
        done = np.isfinite(mine)
        both = np.isfinite(self.sample.values[:, [place, self.own]]).all(axis=1)
        paired = self.sample.values[both]
        values = mine[done]
        return CellResult(
            cell=self.table.cells[place].name,
            toggles=self.table.cells[place].toggles,
            seeds=tuple(seed for seed, there in zip(self.seeds, done, strict=True) if there),
            values=tuple(values.tolist()),
            mean=float(values.mean()) if len(values) else None,
            sd=float(values.std(ddof=1)) if len(values) > 1 else None,
            states=self.counts[place],
            estimate=estimate,
            correlation=None if estimate is None else statistics.correlation(paired[:, place], paired[:, self.own]),
            card=self.column.cards[place],
            seen=self.column.seen[place],
        )

    def _settled_cell(self, place: int) -> Verdict | None:
        if self._is_diagnostic([place]):
            return "diagnostic"
        if self.counts[place].get("diverged"):
            return "diverged"
        return "equivalent" if self.sample.twins[place] == self.sample.twins[self.own] else None

    def _is_diagnostic(self, places: Sequence[int]) -> bool:
        seen = self.column.seen
        return self.column.metric.role == "diagnostic" or seen[self.own] or any(seen[place] for place in places)

    def _vectors(self, contrasts: Sequence[Weights]) -> Floats:
        """[contrasts, cells]."""
        vectors = np.zeros((len(contrasts), len(self.table.cells)))
        for row, weights in enumerate(contrasts):
            for toggles, weight in weights.items():
                vectors[row, self.places[toggles]] = weight
        return vectors

    def _effects(self) -> tuple[Effect, ...]:
        effects = self.tells.effects
        vectors = self._vectors([effect.weights for effect in effects])
        lost = [self._diverged(effect.toggle, row) for effect, row in zip(effects, vectors, strict=True)]
        settled = [self._settled_effect(row, *counts) for row, counts in zip(vectors, lost, strict=True)]
        found = zip(effects, estimates(self.sample, vectors, settled), lost, strict=True)
        return tuple(
            Effect(effect.toggle, estimate, effect.pairs, effect.aliases, (on[0], off[0]))
            for effect, estimate, (on, off) in found
        )

    def _diverged(self, toggle: str, weights: Floats) -> tuple[tuple[int, int], tuple[int, int]]:
        """(diverged runs, all runs) of the contrast's cells with the toggle on, and off."""
        counts = {True: [0, 0], False: [0, 0]}
        for place in np.flatnonzero(weights).tolist():
            side = counts[toggle in self.table.cells[place].toggles]
            side[0] += self.counts[place].get("diverged", 0)
            side[1] += sum(self.counts[place].values())
        return (counts[True][0], counts[True][1]), (counts[False][0], counts[False][1])

    def _settled_effect(self, weights: Floats, on: tuple[int, int], off: tuple[int, int]) -> Verdict | None:
        if self._is_diagnostic(np.flatnonzero(weights).tolist()):
            return "diagnostic"
        if not self.sample.folded(weights).any():
            return "equivalent"
        with_it, without = (lost / max(1, runs) for lost, runs in (on, off))
        return "diverged" if with_it >= DIVERGED_SHARE and with_it > without else None

    def _interactions(self) -> tuple[InteractionResult, ...]:
        found = self.tells.interactions
        vectors = self._vectors([each.weights for each in found])
        pairs = zip(found, estimates(self.sample, vectors, self._unjudged(vectors)), strict=True)
        return tuple(InteractionResult(each.aliases, each.toggle, estimate) for each, estimate in pairs)

    def _unjudged(self, vectors: Floats) -> list[Verdict | None]:
        return ["diagnostic" if self._is_diagnostic(np.flatnonzero(row).tolist()) else None for row in vectors]

    def _attribution(self) -> dict[str, Estimate]:
        shares = self.tells.attribution
        vectors = self._vectors(list(shares.values()))
        return dict(zip(shares, estimates(self.sample, vectors, self._unjudged(vectors)), strict=True))

    def _control(self) -> Control | None:
        other = _scaled(self.column.metric, self.table.matrix(self.column, self.control_seeds)[:, self.own])
        ours = other[np.isfinite(other)]
        if not self.control_seeds:
            return None
        seeds = tuple(seed for seed, value in zip(self.control_seeds, other, strict=True) if np.isfinite(value))
        base = self.sample.values[:, self.own]
        theirs = base[np.isfinite(base)]
        if not len(ours) or not len(theirs):
            return Control(seeds, None, None, None, None)
        value = self.sample.shown(float(ours.mean() - theirs.mean()))
        told = statistics.welch(ours, theirs)
        if told is None:
            return Control(seeds, value, None, None, None)
        low, high, p = told
        return Control(seeds, value, self.sample.shown(low), self.sample.shown(high), p)

    def _lenth(self) -> Lenth | None:
        """Of a factorial under one seed, which has no other measure of its error."""
        if self.tells.basis != "orthogonal" or len(self.seeds) != 1:
            return None
        named = [(effect.toggle, effect.weights) for effect in self.tells.effects]
        named += [(" or ".join(each.aliases), each.weights) for each in self.tells.interactions]
        values = self._vectors([weights for _, weights in named]) @ self.sample.values[0]
        if len(values) < 3 or not np.isfinite(values).all():
            return None
        return Lenth(tuple(name for name, _ in named), tuple(values.tolist()), *statistics.lenth(values))


def _scaled(metric: Metric, values: Floats) -> Floats:
    return np.log(values) if metric.scale == "log" else values
