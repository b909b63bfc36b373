"""A table of runs to the analysis of every metric: cells, effects, interactions, controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from harness.analysis import alike, statistics
from harness.analysis.coverage import Coverage, Places
from harness.analysis.estimates import Question, estimates
from harness.analysis.looks import Looks, looked_at
from harness.analysis.results import (
    Analysis,
    CellResult,
    CellState,
    Control,
    Effect,
    Estimate,
    InteractionResult,
    Lenth,
    MetricResult,
    Trend,
    Verdict,
)
from harness.analysis.sample import Sample
from harness.analysis.table import Column, RunTable
from harness.design.coding import Contrast
from harness.design.contrasts import Estimable, simple_effects
from harness.errors import HarnessError
from harness.metrics.cards import kernel_first
from harness.metrics.definitions import base
from harness.text import shortened

DIVERGED_SHARE = 0.1
"""An effect is called diverged when at least this share of its runs with the idea diverged, and less without it."""
SEEN = "training saw the network that measures"


def analyse(
    table: RunTable, baseline: str, margins: Mapping[str, float] | None = None, looks: Looks | None = None
) -> Analysis:
    """Compare every cell with the baseline, and estimate what the toggles do, on every metric of the table.

    `margins`: metric (or its kind: fd for fid and every fd_*, kid for every kid_*) -> the difference that does not
    matter, in % for a metric of scale log, else in its unit.
    `looks`: the rule by which seeds were added; only the first seeds that are whole are compared. None: their number
    was fixed before anything was run.
    Raises HarnessError when no run is of the baseline, or a distance that is compared by ratios is not above 0.
    """
    names = [cell.name for cell in table.cells]
    if baseline not in names:
        allowed = f"the cells are {', '.join(names) or 'none'}; name one of them as the baseline"
        raise HarnessError(f"no run belongs to the baseline {baseline!r}: {allowed}")
    margins = margins or {}
    left_out: tuple[str, ...] = ()
    if looks:
        table, left_out = looked_at(table, baseline, looks)
    seeds, _ = table.blocks(baseline)
    by_look = tuple(table.under(seeds[:n]).twins for n in range(looks.first, len(seeds))) if looks else ()
    metrics = []
    for column in table.columns:
        _check_positive(table, column)
        name = column.metric.name
        margin = margins.get(name, margins.get(base(name)))
        metrics.append(_MetricAnalysis(Coverage(table, baseline, column), margin, looks, by_look).result())
    return Analysis(
        baseline=baseline,
        toggles=table.toggles,
        seeds=seeds,
        cells=tuple(CellState(c.name, c.toggles, n) for c, n in zip(table.cells, table.counts, strict=True)),
        design=table.estimable,
        metrics=_in_reading_order(metrics),
        notes=(*left_out, *alike.told(table, seeds)),
        rule=looks,
    )


def _check_positive(table: RunTable, column: Column) -> None:
    for run in np.flatnonzero(column.values <= 0).tolist() if column.metric.scale == "log" else ():
        where = f"{table.cells[table.cell[run]].name}, seed {table.seed[run]}"
        what = f"{column.metric.name} of {where} is {column.values[run]:g}: distances are compared by ratios"
        raise HarnessError(f"{what} and must be above 0; measure that run again, or leave it out")


def _in_reading_order(results: Sequence[MetricResult]) -> tuple[MetricResult, ...]:
    """Headlines first; a kernel distance that leads stands before the distance that it is preferred to."""
    by_name = {result.metric.name: result for result in results}
    leading = kernel_first([result.metric for result in results], {name: it.card for name, it in by_name.items()})
    names = {metric.name for metric in leading}
    first = [replace(by_name[metric.name], metric=metric) for metric in leading]
    return (*first, *(result for result in results if result.metric.name not in names))


@dataclass(frozen=True)
class _Readable:
    """A contrast of the design, and what is left of it where cells have no result."""

    planned: Contrast
    left: Contrast | None
    question: Question


class _MetricAnalysis:
    """One metric of a table."""

    def __init__(
        self, coverage: Coverage, margin: float | None, looks: Looks | None, by_look: tuple[tuple[int, ...], ...]
    ) -> None:
        self.coverage, self.table, self.column = coverage, coverage.table, coverage.column
        scaled = self.column.metric.scaled(np.where(coverage.there, coverage.values, np.nan))
        sample = Sample(self.column.metric, coverage.seeds, scaled, margin, self.table.twins, looks, by_look)
        self.sample = replace(sample, one_run=self.table.one_run)
        self.estimable = self.table.estimable_from(coverage.readable()[0])

    def result(self) -> MetricResult:
        shapley = self._contrasts(lambda design: {name: Contrast(name, it) for name, it in design.attribution.items()})
        shares = estimates(self.sample, [each.question for each in shapley])
        return MetricResult(
            metric=self.column.metric,
            cells=self._cells(),
            effects=self._effects(),
            interactions=self._interactions(),
            attribution={each.planned.toggle: share for each, share in zip(shapley, shares, strict=True)},
            residual_sd=self.sample.fit.sd or None,
            df=self.sample.fit.df,
            seed_correlation=statistics.intraclass(self.sample.distinct, self.sample.noise),
            margin=self.sample.margin,
            control=self._control(),
            lenth=self._lenth(),
            card=self.column.card,
            notes=self._notes(),
            trends=self._trends(),
            rule=self.sample.looks,
        )

    def _cells(self) -> tuple[CellResult, ...]:
        places = range(len(self.table.cells))
        others = [place for place in places if place != self.coverage.base]
        differences = dict(zip(others, estimates(self.sample, [*map(self._difference, others)]), strict=True))
        return tuple(self._cell(place, differences.get(place)) for place in places)

    def _difference(self, place: int) -> Question:
        """A cell against the baseline."""
        base, twins, counts = self.coverage.base, self.table.twins, self.table.counts[place]
        weights, planned = np.zeros((2, len(twins)))
        planned[[base, place]] = -1, 1
        missing = self.coverage.missing([base, place])
        if not missing:
            weights = planned
        verdict: Verdict | None = None
        reason = ""
        if self.coverage.is_diagnostic([place]):
            verdict, reason = "diagnostic", SEEN
        elif counts.get("diverged"):
            verdict = "diverged"
            if place in self.coverage.present:  # otherwise `missing` says so
                reason = f"{counts['diverged']} of {sum(counts.values())} runs diverged"
        elif twins[place] == twins[base]:
            verdict, like = "equivalent", self.table.cells[base].name
            reason = f"trained exactly as {like}: the same settings, or the same weights at the end"
        return Question(weights, planned, verdict, "; ".join(filter(None, [reason, missing])))

    def _cell(self, place: int, estimate: Estimate | None) -> CellResult:
        by_seed = self.coverage.values[:, place]
        done = np.isfinite(by_seed)
        values = by_seed[done]
        pair = self.sample.values[:, [place, self.coverage.base]]
        ours, theirs = pair[np.isfinite(pair).all(axis=1)].T
        return CellResult(
            cell=self.table.cells[place].name,
            toggles=self.table.cells[place].toggles,
            states=self.table.counts[place],
            seeds=tuple(compress(self.coverage.seeds, done)),
            values=tuple(values.tolist()),
            # Less the first value, so that equal values have exactly that mean.
            mean=float(values[0] + (values - values[0]).mean()) if len(values) else None,
            sd=statistics.deviation(values) if len(values) > 1 else None,
            estimate=estimate,
            correlation=None if estimate is None else statistics.pearson(ours, theirs, self.sample.noise),
            card=self.column.cards[place],
            seen=self.column.seen[place],
        )

    def _contrasts(self, of: Callable[[Estimable], Mapping[Hashable, Contrast]]) -> list[_Readable]:
        """The contrasts of the design, each as the cells with results tell it, and those that only these tell."""
        options = [(of(self.table.estimable_from(places)), places) for places in self.coverage.readable()]
        planned = of(self.table.estimable)
        readable = []
        for key, contrast in {**options[0][0], **planned}.items():
            wanted: Places = frozenset()
            if key in planned:
                wanted = frozenset(self.table.places[cell] for cell in planned[key].weights)
            left, read = next(((of_cells[key], cells) for of_cells, cells in options if key in of_cells), (None, None))
            readable.append(_Readable(contrast, left, self._question(contrast, left, wanted, read)))
        return readable

    def _question(self, contrast: Contrast, left: Contrast | None, wanted: Places, read: Places | None) -> Question:
        """What is left of a contrast of the cells `wanted`, chosen from `read`."""
        planned = self.table.vector(contrast.weights)
        weights = self.table.vector(left.weights) if left else 0 * planned
        if self.coverage.is_diagnostic(np.flatnonzero(weights if left else planned).tolist()):
            return Question(weights, planned, "diagnostic", SEEN)
        if not self.sample.folded(planned).any():
            return Question(planned, planned, "equivalent", "it compares cells that were trained alike")
        if left and not self.sample.folded(weights).any():
            reason = f"{self.coverage.without(wanted, None)}; the cells that are left were trained alike"
            return Question(0 * weights, planned, None, reason)
        return Question(weights, planned, None, self.coverage.without(wanted, read))

    def _effects(self) -> tuple[Effect, ...]:
        contrasts = self._contrasts(lambda design: {effect.toggle: effect for effect in design.effects})
        questions, diverged = [], []
        for contrast in contrasts:
            # Runs of the planned contrast's cells, by whether the idea is on.
            lost, runs, question = Counter[bool](), Counter[bool](), contrast.question
            idea = contrast.planned.toggle
            others = {level for factor in self.table.factors if idea in factor.ideas for level in factor.ideas} - {idea}
            for cell in contrast.planned.weights:
                if others.intersection(cell):
                    continue  # another level of the factor is neither with the idea nor at the reference
                states, on = self.table.counts[self.table.places[cell]], idea in cell
                lost[on] += states.get("diverged", 0)
                runs[on] += sum(states.values())
            diverged.append((lost[True], lost[False]))
            share, other_share = (lost[on] / max(1, runs[on]) for on in (True, False))
            if not question.settled and share >= DIVERGED_SHARE and share > other_share:
                reason = (
                    f"{lost[True]} of {runs[True]} runs with it diverged, {lost[False]} of {runs[False]} without it"
                )
                reason = "; ".join(filter(None, [reason, question.reason]))
                question = replace(question, settled="diverged", reason=reason)
            questions.append(question)
        return tuple(
            Effect(read.toggle, estimate, read.pairs, read.aliases, lost)
            for contrast, estimate, lost in zip(contrasts, estimates(self.sample, questions), diverged, strict=True)
            for read in [contrast.left or contrast.planned]
        )

    def _interactions(self) -> tuple[InteractionResult, ...]:
        contrasts = self._contrasts(lambda design: {(each.aliases, each.toggle): each for each in design.interactions})
        readable = {name.lstrip("-") for each in contrasts if each.left for name in each.left.aliases}
        # A group that cannot be read is left out where its members are read in other groups.
        contrasts = [
            each
            for each in contrasts
            if each.left or not readable.issuperset(n.lstrip("-") for n in each.planned.aliases)
        ]
        answers = zip(contrasts, estimates(self.sample, [each.question for each in contrasts]), strict=True)
        return tuple(
            InteractionResult(it.planned.aliases, it.planned.toggle, estimate, self._simple(it.left, estimate))
            for it, estimate in answers
        )

    def _simple(self, interaction: Contrast | None, estimate: Estimate) -> dict[str, tuple[Estimate, Estimate]]:
        """The simple effects of an interaction that is there."""
        if interaction is None or estimate.verdict not in ("better", "worse"):
            return {}
        found = {}
        for idea, halves in simple_effects(interaction).items():
            vectors = [self.table.vector(weights) for weights in halves]
            without, joint = estimates(self.sample, [Question(vector, vector) for vector in vectors])
            found[idea] = without, joint
        return found

    def _trends(self) -> tuple[Trend, ...]:
        contrasts = self._contrasts(lambda design: {trend.toggle: trend for trend in design.trends})
        factors = {factor.name: factor for factor in self.table.factors}
        # Each is a family of its own: trends ask again what the effects have answered, in another form.
        return tuple(
            Trend(factors[each.planned.toggle], *estimates(self.sample, [each.question])) for each in contrasts
        )

    def _notes(self) -> tuple[str, ...]:
        """What a reader must know of all comparisons on this metric."""
        coverage = self.coverage
        notes = [*coverage.lacking()]
        # Runs that share their seed with no other cell's run: nothing can be paired with them.
        lonely = (coverage.there & (coverage.there.sum(axis=1, keepdims=True) == 1)).sum(axis=0).tolist()
        alone = [f"{runs} of {cell.name}" for cell, runs in zip(self.table.cells, lonely, strict=True) if runs]
        # Cells that trained alike are one cell: of these alone nothing is compared, paired or not.
        if len({self.table.twins[place] for place in coverage.present}) > 1 and not coverage.joined:
            two = "two cells that trained differently" if (coverage.there.sum(axis=1) > 1).any() else "two cells"
            notes.append(
                f"No seed has runs of {two}, so all comparisons are unpaired (Welch's t), and differences between "
                "seeds stay in the spread."
            )
        elif alone and len(coverage.present) > 1:
            runs = shortened(alone, 4)
            notes.append(f"Runs whose seed no other cell has measured are left out of paired comparisons: {runs}.")
        lost = frozenset(range(len(self.table.cells))) - coverage.present
        before, now = self.table.estimable, self.estimable
        if lost and before.effects and now.effects and before.reading != now.reading:
            notes.append(f"Without {self.table.names(lost)}: {now.reading[0].lower()}{now.reading[1:]}")
        return tuple(notes)

    def _control(self) -> Control | None:
        """The baseline under the control seeds less the baseline under the others."""
        planned, place, sample = self.coverage.control_seeds, self.coverage.base, self.sample
        if not planned:
            return None
        control = self.column.metric.scaled(self.table.matrix(self.column, planned)[:, place])
        # By looks, the number of the baseline's seeds depends on the results, but for those before the first look.
        first = sample.looks.first if sample.looks else None
        done, base = np.isfinite(control), sample.values[:first, place]
        seeds = tuple(compress(planned, done))
        ours, theirs = control[done], base[np.isfinite(base)]
        if not len(ours) or not len(theirs):
            return Control(seeds, first=first)
        noise = max(sample.noise, float(statistics.rounding(ours[None]).max()))
        value, error, df = statistics.welch([ours, theirs], [1.0, -1.0], noise)
        if not error > 0:
            return Control(seeds, sample.shown(value), first=first)
        reach = statistics.quantile(df) * error
        low, high = sample.shown(value - reach), sample.shown(value + reach)
        p = float(statistics.two_sided(np.array(value / error), np.array(df)))
        return Control(seeds, sample.shown(value), low, high, p, first)

    def _lenth(self) -> Lenth | None:
        """Of a factorial with one run a cell, which has no other measure of its error.

        Levels of one factor share their reference, so their contrasts are not independent, as the test wants them.
        """
        if self.sample.looks or any(len(factor.levels) > 2 for factor in self.table.factors):
            return None  # by looks nothing is tested before the first one
        if self.estimable.basis != "orthogonal" or self.coverage.there.sum(axis=0).max(initial=0) != 1:
            return None
        named = [(effect.toggle, effect.weights) for effect in self.estimable.effects]
        named += [(" or ".join(each.aliases), each.weights) for each in self.estimable.interactions]
        contrasts = {name: self.table.vector(weights) for name, weights in named}
        # Of cells that trained alike alone the difference is known, and is no error to hold the others against.
        contrasts = {name: weights for name, weights in contrasts.items() if self.sample.folded(weights).any()}
        # Seeds drop out of contrasts within seeds; where every run has a seed of its own they cannot.
        runs = self.sample.within if self.coverage.joined else self.sample.values
        by_cell = np.where(np.isfinite(runs), runs, 0.0).sum(axis=0)
        values = np.array([weights @ by_cell for weights in contrasts.values()])
        values[np.abs(values) <= 2 * self.sample.noise] = 0.0
        margins = statistics.lenth(values) if len(values) > 2 else None
        return Lenth(tuple(contrasts), tuple(values.tolist()), *margins) if margins else None
