"""The answer at a glance: one sentence, and every idea against every headline metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.results import Analysis, Estimate, MetricResult, Verdict
from harness.report import wording
from harness.report.document.model import Bar, Cell, Clause, Clauses, Column, Mark, Row, Simple, Table, Text, listing
from harness.report.verdicts import CLAIMED, MOST_NAMES, after_a_sentence, badges
from harness.text import listed

_WIDEST = 2.5
"""Times the largest value that the axis of a column reaches, however wide an interval is."""


@dataclass(frozen=True)
class Subject:
    """An idea, or a cell where there are no ideas to tell apart, and what it does to every headline metric."""

    name: str
    estimates: Mapping[str, Estimate]
    """By the metric's name."""

    def verdict(self, result: MetricResult) -> Verdict | None:
        estimate = self.estimates.get(result.metric.name)
        return estimate.verdict if estimate else None


def subjects(analysis: Analysis) -> list[Subject]:
    """Ideas from the best to the worst on the first headline metric, those without a value last; else cells."""
    results = analysis.headlines
    named = {result.metric.name: _named(analysis, result) for result in results}
    each = dict.fromkeys(name for own in named.values() for name in own)
    every = [Subject(name, {metric: own[name] for metric, own in named.items() if name in own}) for name in each]

    def gain(subject: Subject) -> float:
        first = results[0].metric
        estimate = subject.estimates.get(first.name)
        if estimate is None or estimate.value is None:
            return float("-inf")
        return -estimate.value if first.better == "lower" else estimate.value

    return sorted(every, key=gain, reverse=True) if results else []


def has_effects(analysis: Analysis) -> bool:
    """Whether what is compared are ideas; else there are none to tell apart, and it is cells against the baseline."""
    return any(result.effects for result in analysis.headlines)


def is_against_baseline(analysis: Analysis) -> bool:
    """Whether each change that is shown is that of one cell from the baseline: cells, and ideas one at a time."""
    [base] = [cell.toggles for cell in analysis.cells if cell.cell == analysis.baseline]
    weights = [effect.weights for effect in analysis.design.effects]
    return not has_effects(analysis) or all(len(each) == 2 and each.get(base) == -1 for each in weights)


def _named(analysis: Analysis, result: MetricResult) -> dict[str, Estimate]:
    effects = {effect.toggle: effect.estimate for effect in result.effects}
    return effects or {
        cell.cell: cell.estimate for cell in result.cells if cell.estimate and cell.cell != analysis.baseline
    }


def verdict_sentence(analysis: Analysis) -> Text:
    """`resnet_guided improves Fréchet distance and CLIP score; transform_w makes CLIP score worse; ...`.

    Of cells: `Cells compared with a: b makes CLIP score worse.`, as cell b tells nothing about idea b.
    """
    groups: dict[tuple[tuple[Simple, ...], tuple[Simple, ...]], list[str]] = {}
    for subject in subjects(analysis):
        groups.setdefault(_says(analysis.headlines, subject), []).append(subject.name)
    # What improves stands first, what claims nothing last; within that, in the order of the matrix.
    ranked = sorted(groups.items(), key=lambda group: _rank(group[0][0]))
    said = Clauses(tuple(Clause(listing(each, MOST_NAMES), *says) for says, each in ranked))
    claims = [
        effect for result in analysis.headlines for effect in result.effects if effect.estimate.verdict in CLAIMED
    ]
    mixed = any(effect.aliases for effect in claims)
    about = "" if has_effects(analysis) else f"Cells compared with {analysis.baseline}: "
    return (about, said, ". This design cannot tell some of these effects from interactions." if mixed else ".")


def _rank(says: tuple[Simple, ...]) -> int:
    kinds = [span.kind for span in says if isinstance(span, Mark)]
    return ["better", "worse", "equivalent", ""].index(kinds[0] if kinds else "")


def _says(results: Sequence[MetricResult], subject: Subject) -> tuple[tuple[Simple, ...], tuple[Simple, ...]]:
    """What follows the name of one subject, and of several that do the same."""
    by_verdict: dict[Verdict | None, list[str]] = {}
    for result in results:
        by_verdict.setdefault(subject.verdict(result), []).append(result.metric.title)
    good, bad = by_verdict.get("better", []), by_verdict.get("worse", [])
    if set(by_verdict) == {"equivalent"}:
        alike = all(estimate.alike for estimate in subject.estimates.values())
        within = Mark("nothing" if alike else "nothing beyond the margins", "equivalent")
        return (" changes ", within), (" change ", within)
    if not good and not bad:
        if "diverged" in by_verdict:
            return (" diverged",), (" diverged",)
        what = "sure effect"
        if set(by_verdict) <= {"insufficient seeds"}:
            compared = any(estimate.value is not None for estimate in subject.estimates.values())
            what = f"verdict yet: {'too few seeds' if compared else 'one side of the comparison has no result'}"
        return (f" has no {what}",), (f" have no {what}",)

    def form(improve: str, make: str) -> Iterator[Simple]:
        yield " "
        if good:
            yield Mark(improve, "better")
            yield f" {listed(good)}"
        if bad:
            yield " but " if good else ""
            yield f"{make} {listed(bad)} "
            yield Mark("worse", "worse")

    return tuple(form("improves", "makes")), tuple(form("improve", "make"))


def matrix(analysis: Analysis, every: Sequence[Subject], at_equal_time: Analysis | None) -> Table:
    """One row for each idea, best first; in each column of a metric the change, its interval as a bar, and badges."""
    rows = [
        [Cell(subject.name), *(_entry(result, every, subject, at_equal_time) for result in analysis.headlines)]
        for subject in every
    ]
    what = "idea" if has_effects(analysis) else "cell"
    columns = [
        Column(what, "cell"),
        *(Column(_head(result), "effect", result.metric.name) for result in analysis.headlines),
    ]
    return Table(
        tuple(columns), tuple(Row(tuple(row)) for row in rows), f"What every {what} does to every metric", "matrix"
    )


def _head(result: MetricResult) -> str:
    return f"{result.metric.title}: {result.metric.better} is better"


def _entry(result: MetricResult, every: Sequence[Subject], subject: Subject, at_equal_time: Analysis | None) -> Cell:
    estimate = subject.estimates.get(result.metric.name)
    if estimate is None or estimate.value is None:
        return Cell(wording.MISSING if estimate is None else Mark(estimate.verdict, estimate.verdict))
    arrow = "↓" if estimate.value < 0 else "↑" if estimate.value > 0 else "="
    change = Mark(
        f"{arrow} {wording.signed(result.metric, estimate.value).lstrip('+−')} {estimate.verdict}", estimate.verdict
    )
    timed = at_equal_time if result.effects else None
    weaknesses = after_a_sentence(badges(result, subject.name, estimate, timed))
    low, high = estimate.low, estimate.high
    interval = f" {wording.brackets(result.metric, low, high)}" if low is not None and high is not None else ""
    return Cell((change, interval, *weaknesses), estimate.value, _bar(result, every, estimate))


def _bar(result: MetricResult, every: Sequence[Subject], estimate: Estimate) -> Bar:
    """On an axis that all ideas share."""
    own = [one for subject in every if (one := subject.estimates.get(result.metric.name)) and one.value is not None]
    values = [abs(one.value or 0.0) for one in own]
    ends = [abs(end) for one in own for end in (one.low, one.high) if end is not None]
    reach = max([*values, min(max(ends, default=0.0), _WIDEST * max(values)), result.margin or 0.0]) or 1.0

    def at(value: float | None) -> float | None:
        return None if value is None else max(-1.0, min(1.0, value / reach))

    return Bar(at(estimate.value) or 0.0, at(estimate.low), at(estimate.high), (result.margin or 0.0) / reach)
