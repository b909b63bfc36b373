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

DIVERGED_SHARE = 0.1
"""An effect is called diverged when at least this share of its runs with the idea diverged, and less without it."""


class Ground:
    """What all metrics of a table share, worked out once."""

    def __init__(self, table: Table, baseline: str, tells: Estimable) -> None:
        self.table, self.tells = table, tells
        self.own = table.place(baseline)
        self.seeds, self.control_seeds = table.blocks(baseline)
        self.counts = table.counts()
        self.twins = table.twins(self.seeds)
        self.places = {cell.toggles: place for place, cell in enumerate(table.cells)}


class OneMetric:
    """All that a table tells of one metric."""

    def __init__(self, ground: Ground, column: Column, margin: float | None) -> None:
        self.ground, self.column = ground, column
        self.values = ground.table.matrix(column, ground.seeds)
        comparable = np.array(self._comparable())
        scaled = column.metric.scaled(np.where(comparable, self.values, np.nan))
        self.sample = Sample(column.metric, ground.seeds, scaled, margin, ground.twins)

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
        wanted = cards[self.ground.own] or next(filter(None, cards), "")
        return [card != "" and card == wanted for card in cards]

    def _variants(self) -> list[int]:
        return [place for place in range(len(self.ground.table.cells)) if place != self.ground.own]

    def _against_baseline(self) -> Floats:
        weights = np.zeros((len(self.ground.table.cells) - 1, len(self.ground.table.cells)))
        weights[:, self.ground.own] = -1
        for row, place in enumerate(self._variants()):
            weights[row, place] = 1
        return weights

    def _cells(self) -> tuple[CellResult, ...]:
        settled = [self._settled_cell(place) for place in self._variants()]
        found = iter(estimates(self.sample, self._against_baseline(), settled))
        places = range(len(self.ground.table.cells))
        return tuple(self._cell(place, None if place == self.ground.own else next(found)) for place in places)

    def _cell(self, place: int, estimate: Estimate | None) -> CellResult:
        mine = self.values[:, place]
        done = np.isfinite(mine)
        both = np.isfinite(self.sample.values[:, [place, self.ground.own]]).all(axis=1)
        ours, theirs = self.sample.values[both][:, [place, self.ground.own]].T
        values = mine[done]
        return CellResult(
            cell=self.ground.table.cells[place].name,
            toggles=self.ground.table.cells[place].toggles,
            seeds=tuple(seed for seed, there in zip(self.ground.seeds, done, strict=True) if there),
            values=tuple(values.tolist()),
            mean=float(values.mean()) if len(values) else None,
            sd=float(values.std(ddof=1)) if len(values) > 1 else None,
            states=self.ground.counts[place],
            estimate=estimate,
            correlation=None if estimate is None else statistics.correlation(ours, theirs),
            card=self.column.cards[place],
            seen=self.column.seen[place],
        )

    def _settled_cell(self, place: int) -> Verdict | None:
        if self._is_diagnostic([place]):
            return "diagnostic"
        if self.ground.counts[place].get("diverged"):
            return "diverged"
        return "equivalent" if self.sample.twins[place] == self.sample.twins[self.ground.own] else None

    def _is_diagnostic(self, places: Sequence[int]) -> bool:
        seen = self.column.seen
        return self.column.metric.role == "diagnostic" or seen[self.ground.own] or any(seen[place] for place in places)

    def _vectors(self, contrasts: Sequence[Weights]) -> Floats:
        """[contrasts, cells]."""
        vectors = np.zeros((len(contrasts), len(self.ground.table.cells)))
        for row, weights in enumerate(contrasts):
            for toggles, weight in weights.items():
                vectors[row, self.ground.places[toggles]] = weight
        return vectors

    def _effects(self) -> tuple[Effect, ...]:
        effects = self.ground.tells.effects
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
            side = counts[toggle in self.ground.table.cells[place].toggles]
            side[0] += self.ground.counts[place].get("diverged", 0)
            side[1] += sum(self.ground.counts[place].values())
        return (counts[True][0], counts[True][1]), (counts[False][0], counts[False][1])

    def _settled_effect(self, weights: Floats, on: tuple[int, int], off: tuple[int, int]) -> Verdict | None:
        if self._is_diagnostic(np.flatnonzero(weights).tolist()):
            return "diagnostic"
        if not self.sample.folded(weights).any():
            return "equivalent"
        with_it, without = (lost / max(1, runs) for lost, runs in (on, off))
        return "diverged" if with_it >= DIVERGED_SHARE and with_it > without else None

    def _interactions(self) -> tuple[InteractionResult, ...]:
        found = self.ground.tells.interactions
        vectors = self._vectors([each.weights for each in found])
        pairs = zip(found, estimates(self.sample, vectors, self._unjudged(vectors)), strict=True)
        return tuple(InteractionResult(each.aliases, each.toggle, estimate) for each, estimate in pairs)

    def _unjudged(self, vectors: Floats) -> list[Verdict | None]:
        return ["diagnostic" if self._is_diagnostic(np.flatnonzero(row).tolist()) else None for row in vectors]

    def _attribution(self) -> dict[str, Estimate]:
        shares = self.ground.tells.attribution
        vectors = self._vectors(list(shares.values()))
        return dict(zip(shares, estimates(self.sample, vectors, self._unjudged(vectors)), strict=True))

    def _control(self) -> Control | None:
        if not self.ground.control_seeds:
            return None
        raw = self.ground.table.matrix(self.column, self.ground.control_seeds)[:, self.ground.own]
        other = self.column.metric.scaled(raw)
        ours = other[np.isfinite(other)]
        seeds = tuple(seed for seed, value in zip(self.ground.control_seeds, other, strict=True) if np.isfinite(value))
        base = self.sample.values[:, self.ground.own]
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
        if self.ground.tells.basis != "orthogonal" or len(self.ground.seeds) != 1:
            return None
        named = [(effect.toggle, effect.weights) for effect in self.ground.tells.effects]
        named += [(" or ".join(each.aliases), each.weights) for each in self.ground.tells.interactions]
        values = self._vectors([weights for _, weights in named]) @ self.sample.values[0]
        if len(values) < 3 or not np.isfinite(values).all():
            return None
        return Lenth(tuple(name for name, _ in named), tuple(values.tolist()), *statistics.lenth(values))
