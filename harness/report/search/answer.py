"""What a search found, in plain sentences, the same in the report and on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from harness.analysis.results import Analysis, Estimate, MetricResult, Verdict
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.verdicts import is_below_margin
from harness.runs.record import FINAL, State
from harness.text import listed, quantity
from harness.tuning.findings import TUNED, WRITTEN, Findings, Outcome, TrialRow

Sentence = tuple[Verdict | None, str]
"""A sentence, and the verdict in it if it has one."""
_UNKNOWN = "so it is unknown whether tuning gained anything"


_NEAREST = "Of the {} trials of the Pareto front the one nearest to the best of every objective"


def progress(findings: Findings) -> str:
    """What is searched, for what, and how many trials there are."""
    search, subject = findings.search, "The search" if findings.is_over else "The search is not finished. It"
    settings = quantity(len(search.parameters), "loss setting")
    what = f"{subject} varies {settings} of {search.cell.name} for {aim(findings)}"
    counts = Counter(row.outcome for row in findings.trials)
    outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in get_args(Outcome) if counts[outcome])
    total = f"{findings.done} of {quantity(search.tune.trials, 'trial')} have an outcome"
    if findings.done > search.tune.trials:  # fewer are asked for by now
        total = f"{quantity(findings.done, 'trial')} with an outcome, of {search.tune.trials} asked for"
    return f"{what}: {total} ({outcomes or 'none has started'})."


def aim(findings: Findings) -> str:
    """`a lower Fréchet distance (emoji), with CLIP score at most 1 point worse than with the weights as written`."""
    search = findings.search
    several = len(search.objectives) > 1
    goals = [f"{'' if several else 'a '}{metric.better} {metric.title}" for metric in search.objectives]
    limits = [f"{metric.title} at most {wording.margin(metric, size)} worse" for metric, size in search.constraints]
    limited = f", with {listed(limits)} than with the weights as written" if limits else ""
    return listed(goals) + (" at once" if several else "") + limited


def as_written(findings: Findings) -> TrialRow | None:
    """The trial with the weights as written, once it has measured."""
    return next((row for row in findings.trials if row.number == 0 and row.outcome == "done"), None)


def on_tuning_seeds(findings: Findings) -> str:
    """The best trial against the first."""
    best, start, objectives = findings.best, as_written(findings), findings.search.objectives
    if not findings.has_result:
        return "No trial has a result." if findings.is_over else "No trial is done, so there is no result yet."
    if best is None:
        return "No trial that is done meets the constraints, so none is the best."
    values = "; ".join(f"{metric.title} {wording.number(metric, best.measured[metric.name])}" for metric in objectives)
    candidates = quantity(sum(row.is_candidate for row in findings.trials), "trial")
    if findings.search.constraints:
        candidates += f" that {'meets' if candidates.startswith('1 ') else 'meet'} the constraints"
    if start is None:
        missing = "Trial 0, which has the weights as written, has measured nothing, so no gain is known"
        return f"{missing}. The best of the others is trial {best.number}: {values}."
    if best.number == 0 and len(findings.front) > 1:
        others = quantity(len(findings.front) - 1, "other trial")
        front = f"{_NEAREST.format(len(findings.front))} is trial 0, which has the weights as written ({values})"
        return f"{front}; {others} of the front: better on one objective and worse on another."
    if best.number == 0:
        nothing = "Tuning found nothing better: trial 0, which has the weights as written"
        return f"{nothing}, is the best of {candidates} ({values})."
    changes = []
    for metric in objectives:
        now, before = best.measured[metric.name], start.measured[metric.name]
        change = wording.signed(metric, float(metric.change(metric.scaled(now) - metric.scaled(before))))
        numbers = f"{wording.number(metric, now)}, as written (trial 0) {wording.number(metric, before)}"
        changes.append(f"{metric.title} {numbers}, {change}")
    which = "The one trial of the Pareto front" if findings.front else "The best"
    if len(findings.front) > 1:
        which = _NEAREST.format(len(findings.front))
    optimistic = f"It was chosen from {candidates} after seeing these results, so they are optimistic."
    return f"{which} on the tuning seeds and captions is trial {best.number}: {'; '.join(changes)}. {optimistic}"


def on_fresh_seeds(findings: Findings) -> Iterator[Sentence]:
    """The best weights against those as written, for each objective and constraint."""
    best, comparison = findings.best, findings.comparison
    if best is None:
        return
    if best.number == 0:
        yield None, "There is nothing to compare under fresh seeds: the trial that is chosen is the one as written."
    elif findings.search.tune.confirm == 0:
        yield None, f"No comparison under fresh seeds was asked for (tune.confirm is 0), {_UNKNOWN}."
    elif comparison is None:
        yield _without_numbers(findings.fresh)
    else:
        yield from _on_comparison(findings, comparison)


def _without_numbers(fresh: Mapping[str, Mapping[State, int]]) -> Sentence:
    """What became of the runs under fresh seeds, where none can be compared."""
    if not fresh or any(state not in FINAL for states in fresh.values() for state in states):
        return None, f"The comparison under fresh seeds is not made yet, {_UNKNOWN}."
    runs = f"runs with the weights found: {wording.states(fresh[TUNED])}; as written: {wording.states(fresh[WRITTEN])}"
    verdict: Verdict | None = "diverged" if fresh[TUNED].get("diverged") else None
    return verdict, f"The comparison under fresh seeds has no numbers, {_UNKNOWN} ({runs})."


def _on_comparison(findings: Findings, comparison: Analysis) -> Iterator[Sentence]:
    search, compared = findings.search, {}
    for result in comparison.metrics:
        if estimate := result.cell(TUNED).estimate:
            compared[result.metric.name] = result, estimate
    for metric in search.objectives:
        if metric.name in compared:
            result, estimate = compared[metric.name]
            yield estimate.verdict, f"{metric.title}: {_conclusion(result, estimate)}"
        else:
            yield None, f"{metric.title}: not measured alike under fresh seeds, {_UNKNOWN}."
    for metric, margin in search.constraints:
        if metric.name in compared:
            limit = f"{metric.title}, at most {wording.margin(metric, margin)} worse"
            verdict, text = constraint(metric, margin, compared[metric.name][1])
            yield verdict, f"{limit}: {text}"
    pairs = max((compared[metric.name][1].n for metric in search.objectives if metric.name in compared), default=0)
    planned = len(search.fresh_seeds)
    if pairs < planned:
        yield None, f"{pairs} of the {planned} pairs of runs that were asked for are done."
    if not findings.is_over:
        yield None, "This compares the best trial so far; the search may still find a better one."


def _conclusion(result: MetricResult, estimate: Estimate) -> str:
    """`4.00 against 5.00 as written, −19.9 % (95 % interval −20.8 to −19.0 %), better in 5 of 5 seeds. The gain
    holds.`"""
    metric, margin = result.metric, wording.margin(result.metric, result.margin)
    less = f", though by less than the margin of {margin}" if is_below_margin(result, estimate) else ""
    means = f"{wording.mean_sd(metric, result.cell(TUNED))} against {wording.mean_sd(metric, result.cell(WRITTEN))}"
    seeds = f"better in {estimate.improved} of {quantity(estimate.n, 'seed')}" if estimate.n else "unpaired"
    change = f"{means} as written, {_change(metric, estimate, '95 % interval ')}, {seeds}"
    match estimate.verdict:
        case "better":
            return f"{change}. The gain holds{less}."
        case "worse":
            return f"{change}. Tuning made it worse{less}: keep the weights as written."
        case "equivalent":
            if estimate.p is None:
                return f"{change}: tuning gained nothing ({estimate.reason})."
            return f"{change}, within the margin of {margin}: tuning gained nothing that matters."
        case "inconclusive":
            why = f" ({estimate.reason})" if estimate.reason else ""
            runs = quantity(estimate.n, "seed") if estimate.n else "these runs"
            return f"{change}. {runs[0].upper()}{runs[1:]} cannot tell whether tuning gained anything{why}."
        case "diverged":
            found, written = (Counter(result.cell(name).states) for name in (TUNED, WRITTEN))
            runs = f"{found['diverged']} of {found.total()} runs with the weights found diverged"
            runs += f", {written['diverged']} of {written.total()} with those as written"
            is_worse = found["diverged"] * written.total() > written["diverged"] * found.total()
            return f"{runs}{': keep the weights as written' if is_worse else f', {_UNKNOWN}'}."
        case "insufficient seeds":
            return f"{wording.signed(result.metric, estimate.value)}, without a verdict: {estimate.reason}."
        case "diagnostic":
            return f"{change}. The network that measures was also used in training, so there is no verdict."


def _change(metric: Metric, estimate: Estimate, label: str = "") -> str:
    ends = wording.interval(metric, estimate.low, estimate.high)
    return f"{wording.signed(metric, estimate.value)} ({label}{ends})"


def constraint(metric: Metric, margin: float, estimate: Estimate) -> Sentence:
    """Whether a constraint is met under fresh seeds, as far as the interval shows; worse where it is violated."""
    verdict: Verdict | None = None
    end = "it is unknown whether the constraint is met"
    if estimate.low is not None and estimate.high is not None:
        sign = 1 if metric.better == "lower" else -1
        least, most = sorted((sign * estimate.low, sign * estimate.high))
        if most <= margin:
            end = "the constraint is met"
        elif least > margin:
            verdict, end = "worse", "the constraint is violated"
    return verdict, f"{_change(metric, estimate)}; {end}."


def on_gains(findings: Findings) -> Iterator[Sentence]:
    """Whether tuning explains what the cell gains over others that were tuned too."""
    for gain in findings.gains:
        own, other = gain.trials
        budget = f"{quantity(own, 'trial')} each" if own == other else f"{own} and {quantity(other, 'trial')}"
        for metric in findings.search.objectives:
            written, tuned = (_only_estimate(analysis, metric) for analysis in (gain.written, gain.tuned))
            if written is None or tuned is None:
                continue
            outcome = _what_remains(written.verdict, tuned.verdict)
            both = f"{_change(metric, written)} as written, {_change(metric, tuned)} with both tuned ({budget})"
            text = f"{metric.title}, {gain.cell} over {gain.over}: {both}, {_seeds_of(written, tuned)}."
            if tuned.low is not None and gain.tuned != gain.written:
                text += " The intervals are over seeds alone; another search may find other weights."
            reasons = "; ".join(dict.fromkeys(filter(None, (written.reason, tuned.reason))))
            yield tuned.verdict, f"{outcome}: {text}{f' Note: {reasons}.' if reasons else ''}"


def _seeds_of(written: Estimate, tuned: Estimate) -> str:
    """How many seeds two comparisons are of."""
    if not written.paired or not tuned.paired:
        return "unpaired where no seed is shared"
    if written.n == tuned.n:
        return quantity(tuned.n, "seed")
    return f"{quantity(written.n, 'seed')} as written and {tuned.n} with both tuned"


def _only_estimate(analysis: Analysis, metric: Metric) -> Estimate | None:
    """Of the one cell that is compared."""
    cells = (cell for result in analysis.metrics if result.metric.name == metric.name for cell in result.cells)
    return next((cell.estimate for cell in cells if cell.estimate), None)


def _what_remains(written: Verdict, tuned: Verdict) -> str:
    """What remains of a gain when both cells are tuned."""
    if written != "better" and tuned != "better":
        return "As written there is no gain that tuning could explain"
    if written != "better":
        return "With both tuned, there is a gain that was not seen as written"
    outcomes = {"better": "a gain remains", "worse": "the gain is reversed"}
    outcomes |= dict.fromkeys(("inconclusive", "equivalent"), "no gain is seen")
    return f"With both tuned, {outcomes.get(tuned, f'the gain is unknown ({tuned})')}"
