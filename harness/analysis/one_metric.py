"""Everything about one metric: cells, effects, interactions, controls. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from harness.analysis import statistics
from harness.analysis.estimates import Question, Sample, estimates
from harness.analysis.ground import Ground, Places, Standing
from harness.analysis.reading import reading_of
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
from harness.analysis.table import Column
from harness.design.contrasts import Estimable, Interaction, MainEffect, Weights

DIVERGED_SHARE = 0.1
"""An effect is called diverged when at least this share of its runs with the idea diverged, and less without it."""
Contrast = TypeVar("Contrast", MainEffect, Interaction)
SEEN = "training saw the network that measures"


@dataclass(frozen=True)
class _Chosen(Generic[Contrast]):
    """A contrast of the design, and what is left of it where cells have no result."""

    planned: Contrast
    found: Contrast | None
    reason: str


class OneMetric:
    """All that a table tells of one metric."""

    def __init__(self, ground: Ground, column: Column, margin: float | None) -> None:
        self.ground, self.column = ground, column
        self.standing = Standing(ground, column)
        scaled = column.metric.scaled(np.where(self.standing.there, self.standing.values, np.nan))
        self.sample = Sample(column.metric, ground.seeds, scaled, margin, ground.twins)
        self.tells = ground.tells_of(self.standing.readable()[0])

    def result(self) -> MetricResult:
        lenth = self._lenth()
        return MetricResult(
            metric=self.column.metric,
            cells=self._cells(),
            effects=self._effects(),
            interactions=self._interactions(),
            attribution=self._attribution(),
            residual_sd=self.sample.fit.sd or None,
            df=self.sample.fit.df,
            seed_correlation=statistics.intraclass(self.sample.values, float(self.sample.noise.max(initial=0.0))),
            margin=self.sample.margin,
            control=self._control(),
            lenth=lenth,
            card=self.column.card,
            notes=self._notes(),
        )

    def _cells(self) -> tuple[CellResult, ...]:
        places = range(len(self.ground.planned))
        found = iter(estimates(self.sample, [self._difference(place) for place in places if place != self.ground.own]))
        return tuple(self._cell(place, None if place == self.ground.own else next(found)) for place in places)

    def _difference(self, place: int) -> Question:
        """A cell against the baseline."""
        ground, weights = self.ground, np.zeros(len(self.ground.planned))
        lacking = self.standing.lacking([ground.own, place])
        if not lacking:
            weights[[ground.own, place]] = -1, 1
        settled, reason = self._settled_cell(place)
        return Question(weights, settled, "; ".join(filter(None, [reason, lacking])))

    def _settled_cell(self, place: int) -> tuple[Verdict | None, str]:
        counts = self.ground.counts[place]
        if self.standing.is_diagnostic([place]):
            return "diagnostic", SEEN
        if counts.get("diverged"):
            told = f"{counts['diverged']} of {sum(counts.values())} runs diverged"
            return "diverged", told if place in self.standing.present else ""
        if self.sample.twins[place] == self.sample.twins[self.ground.own]:
            return (
                "equivalent",
                f"trained as {self.ground.baseline} was: the same settings, or the same weights came out",
            )
        return None, ""

    def _cell(self, place: int, estimate: Estimate | None) -> CellResult:
        mine = self.standing.values[:, place]
        done = np.isfinite(mine)
        both = np.isfinite(self.sample.values[:, [place, self.ground.own]]).all(axis=1)
        ours, theirs = self.sample.values[both][:, [place, self.ground.own]].T
        values, noise = mine[done], float(self.sample.noise.max(initial=0.0))
        return CellResult(
            cell=self.ground.name(place),
            toggles=self.ground.planned[place],
            seeds=tuple(seed for seed, there in zip(self.ground.seeds, done, strict=True) if there),
            values=tuple(values.tolist()),
            mean=float(values[0] + (values - values[0]).mean()) if len(values) else None,
            sd=statistics.deviation(values) if len(values) > 1 else None,
            states=self.ground.counts[place],
            estimate=estimate,
            correlation=None if estimate is None else statistics.correlation(ours, theirs, noise),
            card=self.column.cards[place],
            seen=self.column.seen[place],
        )

    def _chosen(self, of: Callable[[Estimable], Mapping[Hashable, Contrast]]) -> list[_Chosen[Contrast]]:
        """The contrasts of the design, each as the cells with results tell it, and those that only these tell."""
        options = [(of(self.ground.tells_of(places)), places) for places in self.standing.readable()]
        planned = of(self.ground.tells)
        chosen = []
        for key, contrast in {**options[0][0], **planned}.items():
            wanted = self.ground.used(planned[key].weights) if key in planned else frozenset()
            found = next(((told[key], places) for told, places in options if key in told), None)
            reason = self._without(wanted, found[1] if found else None)
            chosen.append(_Chosen(contrast, found[0] if found else None, reason))
        return chosen

    def _without(self, wanted: Places, read: Places | None) -> str:
        """Which cells of a contrast it is read without, and why; of one that cannot be read, which it lacks."""
        lacking = self.standing.lacking(wanted)
        if read is None:
            return lacking or f"{self._apart(wanted - self.standing.joined)}"
        told = "; ".join(filter(None, [lacking, self._apart((wanted & self.standing.present) - read)]))
        return f"read from the other cells, as {told}" if told else ""

    def _apart(self, places: Collection[int]) -> str:
        if not places:
            return ""
        return f"{self.ground.names(places)} share{'s' * (len(places) == 1)} no seed with the other cells"

    def _vector(self, weights: Weights) -> Floats:
        """[cells]."""
        vector = np.zeros(len(self.ground.planned))
        for toggles, weight in weights.items():
            vector[self.ground.places[toggles]] = weight
        return vector

    def _effects(self) -> tuple[Effect, ...]:
        chosen = self._chosen(lambda tells: {effect.toggle: effect for effect in tells.effects})
        lost = [self._diverged(each.planned.toggle, each.planned.weights) for each in chosen]
        found = estimates(self.sample, [self._of_effect(*pair) for pair in zip(chosen, lost, strict=True)])
        told = zip(chosen, found, lost, strict=True)
        return tuple(
            Effect(read.toggle, estimate, read.pairs, read.aliases, (on[0], off[0]))
            for each, estimate, (on, off) in told
            for read in [each.found or each.planned]
        )

    def _diverged(self, toggle: str, weights: Weights) -> tuple[tuple[int, int], tuple[int, int]]:
        """(diverged runs, all runs) of the design's contrast with the toggle on, and off."""
        sides = {True: [0, 0], False: [0, 0]}
        for place in self.ground.used(weights):
            side, counts = sides[toggle in self.ground.planned[place]], self.ground.counts[place]
            side[0] += counts.get("diverged", 0)
            side[1] += sum(counts.values())
        return (sides[True][0], sides[True][1]), (sides[False][0], sides[False][1])

    def _of_effect(self, chosen: _Chosen[MainEffect], lost: tuple[tuple[int, int], tuple[int, int]]) -> Question:
        (on, with_it), (off, without) = lost
        question = self._question(chosen)
        if question.settled:
            return question
        if on / max(1, with_it) < DIVERGED_SHARE or on / max(1, with_it) <= off / max(1, without):
            return question
        told = f"{on} of {with_it} runs with it diverged, {off} of {without} without it"
        return Question(question.weights, "diverged", "; ".join(filter(None, [told, question.reason])))

    def _question(self, chosen: _Chosen[Contrast]) -> Question:
        weights = self._vector((chosen.found or chosen.planned).weights)
        used = np.flatnonzero(weights).tolist()
        if self.standing.is_diagnostic(used):
            return Question(weights if chosen.found else 0 * weights, "diagnostic", SEEN)
        if not self.sample.folded(weights).any():
            return Question(weights, "equivalent", "it compares cells that were trained alike")
        return Question(weights if chosen.found else 0 * weights, None, chosen.reason)

    def _interactions(self) -> tuple[InteractionResult, ...]:
        chosen = self._chosen(lambda tells: {(each.aliases, each.toggle): each for each in tells.interactions})
        told = {name.lstrip("-") for each in chosen if each.found for name in each.found.aliases}
        kept = [
            each for each in chosen if each.found or not told.issuperset(n.lstrip("-") for n in each.planned.aliases)
        ]
        pairs = zip(kept, estimates(self.sample, [self._question(each) for each in kept]), strict=True)
        return tuple(InteractionResult(each.planned.aliases, each.planned.toggle, estimate) for each, estimate in pairs)

    def _attribution(self) -> dict[str, Estimate]:
        chosen = self._chosen(
            lambda tells: {name: MainEffect(name, weights, 0) for name, weights in tells.attribution.items()}
        )
        found = estimates(self.sample, [self._question(each) for each in chosen])
        return {each.planned.toggle: estimate for each, estimate in zip(chosen, found, strict=True)}

    def _notes(self) -> tuple[str, ...]:
        """What a reader must know of all comparisons on this metric."""
        told, standing = [], self.standing
        if len(standing.present) > 1 and not standing.joined:
            told.append(
                "No seed has runs of two cells, so all comparisons are unpaired (Welch's t): what a seed does to a run "
                "stays in the spread."
            )
        elif alone := {self.ground.name(place): runs for place, runs in enumerate(standing.alone()) if runs}:
            some = ", ".join(f"{runs} of {name}" for name, runs in list(alone.items())[:4])
            more = f" and {len(alone) - 4} more cells" if len(alone) > 4 else ""
            told.append(f"Runs whose seed no other cell has finished are left out of paired comparisons: {some}{more}.")
        lost = frozenset(range(len(self.ground.planned))) - standing.present
        if lost and standing.present and self.ground.tells.effects and self.tells.effects:
            before, now = (reading_of(tells) for tells in (self.ground.tells, self.tells))
            if before != now:
                told.append(f"Without {self.ground.names(lost)}: {now[0].lower()}{now[1:]}")
        return tuple(told)

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
        noise = max(float(self.sample.noise.max()), float(statistics.rounding(ours[None]).max()))
        value, error, df = statistics.unpaired([ours, theirs], [1.0, -1.0], noise)
        if not error > 0:
            return Control(seeds, self.sample.shown(value), None, None, None)
        reach = statistics.quantile(df) * error
        ends = (self.sample.shown(value - reach), self.sample.shown(value + reach))
        return Control(seeds, self.sample.shown(value), *ends, statistics.two_sided(value / error, df))

    def _lenth(self) -> Lenth | None:
        """Of a factorial with one run a cell, which has no other measure of its error."""
        if self.tells.basis != "orthogonal" or self.standing.there.sum(axis=0).max(initial=0) != 1:
            return None
        named = [(effect.toggle, effect.weights) for effect in self.tells.effects]
        named += [(" or ".join(each.aliases), each.weights) for each in self.tells.interactions]
        only = np.where(np.isfinite(self.sample.within), self.sample.within, 0.0).sum(axis=0)
        if not self.standing.joined:  # every run has a seed of its own
            only = np.where(np.isfinite(self.sample.values), self.sample.values, 0.0).sum(axis=0)
        values = np.array([self._vector(weights) @ only for _, weights in named])
        values[np.abs(values) <= 2 * self.sample.noise.max()] = 0.0
        margins = statistics.lenth(values) if len(values) > 2 else None
        return Lenth(tuple(name for name, _ in named), tuple(values.tolist()), *margins) if margins else None
