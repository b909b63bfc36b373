"""Run records -> paired comparisons with the baseline. No torch here.

Pairs are runs of equal seed, which share data order, latents and initial draws. Per metric and variant: Student's t on
the paired differences (of logarithms for distances), Holm's correction over the variants of a metric, and a verdict.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from harness.analysis import shared_cards
from harness.comparison.paired import LEVEL, correlation, holm, student
from harness.errors import HarnessError
from harness.metrics.cards import kernel_first
from harness.metrics.definitions import Metric, rows
from harness.records import STATES, RunRecord, State, state_of

Verdict = Literal["better", "worse", "no evidence either way", "insufficient seeds", "diverged", "diagnostic"]


@dataclass(frozen=True)
class CellSummary:
    """What the runs of one cell measured for one metric, in the metric's own unit."""

    cell: str
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    mean: float | None
    sd: float | None
    """Sample standard deviation over seeds; None below two."""
    card: str = ""
    """Digest of how all of them were measured; empty if they were not measured alike."""
    seen: bool = False
    """Whether training saw the network that measures, so that the values stand under another name."""


@dataclass(frozen=True)
class Effect:
    """A variant against the baseline on one metric; differences in % for a metric of scale log, else in its unit."""

    metric: str
    cell: str
    seeds: tuple[int, ...]
    """Seeds that both cells finished: the n pairs."""
    differences: tuple[float, ...]
    """Variant against baseline, by seed."""
    difference: float | None
    low: float | None
    high: float | None
    """Ends of the 95 % Student-t interval; None without two pairs that differ in their differences."""
    improved: int
    """In how many of the n seeds the variant was better."""
    p: float | None
    p_holm: float | None
    correlation: float | None
    """Of the paired values; None below three pairs."""
    verdict: Verdict

    @property
    def n(self) -> int:
        return len(self.seeds)


@dataclass(frozen=True)
class CellState:
    """Every planned run of a cell by its state: none is left out."""

    cell: str
    toggles: tuple[str, ...]
    states: dict[State, int]


@dataclass(frozen=True)
class Comparison:
    """All cells against the baseline."""

    baseline: str
    seeds: tuple[int, ...]
    metrics: tuple[Metric, ...]
    cells: tuple[CellState, ...]
    summaries: tuple[CellSummary, ...]
    effects: tuple[Effect, ...]
    cards: dict[str, dict[str, Any]]
    """Metric -> how it was measured. A diagnostic whose cards differ has none and is compared where they agree."""
    suspicions: tuple[str, ...]
    """Cells whose guide CLIP is pleased in every seed and the measuring CLIP in none."""

    @property
    def headlines(self) -> tuple[Metric, ...]:
        """The metrics that the answer is given in, in the order in which they are to be read."""
        return kernel_first(self.metrics, self.cards)

    def summary(self, cell: str, metric: str) -> CellSummary:
        return next(s for s in self.summaries if (s.cell, s.metric) == (cell, metric))

    def of(self, metric: str) -> tuple[Effect, ...]:
        """The effects on one metric, a variant each, in the order of the cells."""
        return tuple(effect for effect in self.effects if effect.metric == metric)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)


def compare(records: Sequence[RunRecord], baseline: str) -> Comparison:
    """Compares every cell with the baseline cell.

    Raises HarnessError when no run is of the baseline, or when runs were measured by different cards.
    """
    cells = tuple(dict.fromkeys(record.run.cell for record in records))
    if baseline not in cells:
        raise HarnessError(f"no run belongs to the baseline {baseline!r}: the cells are {', '.join(cells) or 'none'}")
    done = [record for record in records if state_of(record) == "done"]
    results = [record.result for record in done if record.result]
    found = rows({name: result.cards.get(name, {}) for result in results for name in result.metrics})
    cards = {metric.name: shared_cards.shared(done, metric) for metric in found}
    summaries = tuple(_summary(done, cell, metric) for metric in found for cell in cells)
    states = tuple(_states(records, cell) for cell in cells)
    effects = tuple(effect for metric in found for effect in _family(metric, summaries, states, baseline))
    return Comparison(
        baseline=baseline,
        seeds=tuple(sorted({record.run.seed for record in records})),
        metrics=found,
        cells=states,
        summaries=summaries,
        effects=effects,
        cards={name: card for name, card in cards.items() if card is not None},
        suspicions=_suspicions(effects),
    )


def _summary(done: Iterable[RunRecord], cell: str, metric: Metric) -> CellSummary:
    mine = [record for record in done if record.run.cell == cell]
    pairs = sorted(
        (record.run.seed, record.result.metrics[name])
        for record in mine
        if record.result and (name := shared_cards.source(record, metric.name))
    )
    seeds, values = tuple(seed for seed, _ in pairs), tuple(value for _, value in pairs)
    mean = float(np.mean(values)) if values else None
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    card, seen = shared_cards.of_cell(mine, metric.name), shared_cards.seen(mine, metric.name)
    return CellSummary(cell, metric.name, seeds, values, mean, sd, card, seen)


def _states(records: Iterable[RunRecord], cell: str) -> CellState:
    mine = [record for record in records if record.run.cell == cell]
    counts = Counter(map(state_of, mine))
    return CellState(cell, mine[0].run.toggles, {state: counts[state] for state in STATES if counts[state]})


def _family(
    metric: Metric, summaries: Iterable[CellSummary], states: Iterable[CellState], baseline: str
) -> tuple[Effect, ...]:
    """The effects of all variants on one metric: the family over which p-values are corrected."""
    mine = {summary.cell: summary for summary in summaries if summary.metric == metric.name}
    effects = [_effect(metric, mine[cell], mine[baseline]) for cell in mine if cell != baseline]
    corrected = holm([effect.p for effect in effects])
    diverged = {state.cell for state in states if state.states.get("diverged")}
    effects = [replace(effect, p_holm=p) for effect, p in zip(effects, corrected, strict=True)]
    if metric.role == "diagnostic" or mine[baseline].seen:
        return tuple(replace(effect, verdict="diagnostic") for effect in effects)
    seen = {cell for cell, summary in mine.items() if summary.seen}
    return tuple(
        replace(
            effect,
            verdict="diagnostic" if effect.cell in seen else _verdict(metric, effect, effect.cell in diverged),
        )
        for effect in effects
    )


def _effect(metric: Metric, variant: CellSummary, baseline: CellSummary) -> Effect:
    alike = variant.card != "" and variant.card == baseline.card
    seeds = tuple(seed for seed in variant.seeds if alike and seed in baseline.seeds)
    ours, theirs = (
        np.array([dict(zip(cell.seeds, cell.values, strict=True))[seed] for seed in seeds])
        for cell in (variant, baseline)
    )
    if metric.scale == "log":
        ours, theirs = np.log(ours), np.log(theirs)
    low, high, p = student(ours, theirs)
    differences = ours - theirs
    better = differences < 0 if metric.better == "lower" else differences > 0
    return Effect(
        metric=metric.name,
        cell=variant.cell,
        seeds=seeds,
        differences=tuple(_shown(metric, float(value)) for value in differences),
        difference=_shown(metric, float(differences.mean())) if seeds else None,
        low=None if low is None else _shown(metric, low),
        high=None if high is None else _shown(metric, high),
        improved=int(better.sum()),
        p=p,
        p_holm=None,
        correlation=correlation(ours, theirs),
        verdict="insufficient seeds",
    )


def _shown(metric: Metric, difference: float) -> float:
    """A difference of logarithms in %."""
    return 100 * math.expm1(difference) if metric.scale == "log" else difference


def _verdict(metric: Metric, effect: Effect, diverged: bool) -> Verdict:
    if diverged:
        return "diverged"
    if effect.n < 2 or effect.difference is None:
        return "insufficient seeds"
    if effect.p_holm is None or effect.p_holm >= 1 - LEVEL:
        return "no evidence either way"
    return "better" if (effect.difference < 0) == (metric.better == "lower") else "worse"


def _suspicions(effects: Sequence[Effect]) -> tuple[str, ...]:
    judged = {effect.cell: effect for effect in effects if effect.metric == "clip_score"}
    seen = {effect.cell: effect for effect in effects if effect.metric == "clip_score_seen"}
    both = [(seen[cell], judged[cell]) for cell in seen if cell in judged]
    return tuple(guide.cell for guide, judge in both if guide.n and guide.improved == guide.n and not judge.improved)
