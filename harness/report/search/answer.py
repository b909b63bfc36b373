"""What a search came to, in plain sentences, the same in the report and on the terminal. No torch here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import get_args

from harness.analysis.results import Analysis, Estimate, MetricResult, Verdict
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.tuning.findings import TUNED, WRITTEN, Findings, Gain, Outcome, TrialRow

Finding = tuple[Verdict | None, str]
"""A sentence, and the verdict in it if it has one."""
_NO_GAIN = "As written no gain is seen that tuning could explain"
_UNKNOWN = "so whether anything was gained cannot be told"


def state(found: Findings) -> str:
    """What is searched, for what, and how far it is."""
    search, over = found.search, "" if found.is_over else "The search is not over. "
    count = len(search.parameters)
    what = f"{count} loss setting{'' if count == 1 else 's'} of {search.cell.name} searched for {aim(found)}"
    counts = Counter(row.outcome for row in found.trials)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in get_args(Outcome) if counts[outcome])
    return f"{over}{what}: {found.done} of {search.tune.trials} trials have an outcome ({told or 'none has begun'})."


def aim(found: Findings) -> str:
    """`a lower Fréchet distance (emoji), with CLIP score at most 1 point worse than with the weights as written`."""
    several = len(found.search.objectives) > 1
    goals = [f"{'' if several else 'a '}{metric.better} {metric.title}" for metric in found.search.objectives]
    limits = [f"{metric.title} at most {size(metric, margin)} worse" for metric, margin in found.search.constraints]
    kept = f", with {wording.listed(limits)} than with the weights as written" if limits else ""
    return wording.listed(goals) + (" at once" if several else "") + kept


def size(metric: Metric, margin: float) -> str:
    """`5 %`, `1 point`, `0.02`."""
    points = f" point{'' if margin == 1 else 's'}" if metric.unit == "points" else ""
    return f"{margin:g}" + (" %" if metric.scale == "log" else points)


def first(found: Findings) -> TrialRow | None:
    """The trial with the weights as written, once it has measured."""
    return next((row for row in found.trials if row.number == 0 and row.outcome == "done"), None)


def change(metric: Metric, to: TrialRow, since: TrialRow) -> float:
    """By how much one trial differs from another, in the metric's `change_unit`."""
    gap = metric.scaled(to.measured[metric.name]) - metric.scaled(since.measured[metric.name])
    return float(metric.change(gap))


def on_tuning_seeds(found: Findings) -> str:
    """The best trial against the first."""
    best, start = found.best, first(found)
    if not any(row.outcome == "done" for row in found.trials):
        return "No trial is done, so there is nothing to tell yet."
    if best is None:
        return "No trial that is done keeps the constraints, so none is the best."
    if start is None:
        missing = "Trial 0, which has the weights as written, has measured nothing, so no gain can be told"
        return f"{missing}. The best of the others is trial {best.number}: {_measured(found, best)}."
    if best.number == 0:
        told = "Tuning found nothing better: trial 0, which has the weights as written, is the best of"
        return f"{told} {_candidates(found)} ({_measured(found, best)})."
    changes = [
        f"{metric.title} {number(metric, best)}, as written (trial 0) {number(metric, start)}, "
        f"{wording.signed(metric, change(metric, best, start))}"
        for metric in found.search.objectives
    ]
    optimistic = f"It was picked from {_candidates(found)} after seeing these very numbers, so they are optimistic."
    return (
        f"{_chosen(found)} on the tuning seeds and captions is trial {best.number}: {'; '.join(changes)}. {optimistic}"
    )


def _chosen(found: Findings) -> str:
    if not found.front:
        return "The best"
    count = len(found.front)
    return (
        f"Of the {count} trials of the Pareto front the one nearest to the best of every objective"
        if (count > 1)
        else "The one trial of the Pareto front"
    )


def _candidates(found: Findings) -> str:
    count = sum(row.is_candidate for row in found.trials)
    kept = f" that {'keeps' if count == 1 else 'keep'} the constraints" if found.search.constraints else ""
    return f"{count} trial{'' if count == 1 else 's'}{kept}"


def _measured(found: Findings, row: TrialRow) -> str:
    return "; ".join(f"{metric.title} {number(metric, row)}" for metric in found.search.objectives)


def number(metric: Metric, row: TrialRow) -> str:
    """What the trial measured, or a dash."""
    value = row.measured.get(metric.name)
    return wording.MISSING if value is None else wording.number(metric, value)


def on_fresh_seeds(found: Findings) -> list[Finding]:
    """What the comparison of the best with the weights as written says, objective by objective."""
    if found.best is None:
        return []
    if found.best.number == 0:
        return [(None, "There is nothing to compare under fresh seeds: the best weights are those as written.")]
    if found.search.tune.confirm == 0:
        return [(None, f"No comparison under fresh seeds was asked for (tune.confirm is 0), {_UNKNOWN}.")]
    if found.comparison is None:
        return [(None, f"The comparison under fresh seeds is not made yet, {_UNKNOWN}.")]
    return [*_findings(found), *_caveats(found)]


def on_gains(found: Findings) -> list[Finding]:
    """Whether tuning explains what the cell gains over others that were tuned too."""
    return [finding for gain in found.gains for metric in found.search.objectives for finding in _gained(gain, metric)]


def _gained(gain: Gain, metric: Metric) -> Iterator[Finding]:
    before, after = (_only(each, metric.name) for each in (gain.written, gain.tuned))
    if before is None or after is None:
        return
    changes = [
        f"{wording.signed(metric, each.value)} ({wording.interval(metric, each.low, each.high)})"
        for each in (before, after)
    ]
    own, other = gain.trials
    budget = f"{own} trials each" if own == other else f"{own} and {other} trials"
    told = f"{gain.cell} over {gain.over}: {changes[0]} as written, {changes[1]} with both tuned ({budget})"
    lacking = "; ".join(dict.fromkeys(filter(None, (before.reason, after.reason))))
    rest = f" Note: {lacking}." if lacking else ""
    yield (
        after.verdict,
        f"{_left(before.verdict, after.verdict)}: {metric.title}, {told}, {wording.seeds(after.n)}.{rest}",
    )


def _left(before: Verdict, after: Verdict) -> str:
    """What is left of a gain when both cells are tuned."""
    if before != "better":
        return "Both tuned, there is a gain that was not seen as written" if after == "better" else _NO_GAIN
    match after:
        case "better":
            return "Both tuned, a gain is left"
        case "worse":
            return "Both tuned, the gain is turned round"
        case "inconclusive" | "equivalent":
            return "Both tuned, no gain is left to see"
        case _:
            return f"Both tuned, it cannot be told ({after})"


def _only(analysis: Analysis, metric: str) -> Estimate | None:
    """The estimate of the one cell that is compared."""
    found = next((result for result in analysis.metrics if result.metric.name == metric), None)
    return next((cell.estimate for cell in found.cells if cell.estimate), None) if found else None


def _findings(found: Findings) -> Iterator[Finding]:
    for metric in found.search.objectives:
        estimate = compared(found, metric)
        if estimate is None:
            yield None, f"{metric.title}: not measured alike under fresh seeds, {_UNKNOWN}."
        else:
            yield estimate.verdict, f"{metric.title}: {_judged(result_of(found, metric), estimate)}"
    for metric, margin in found.search.constraints:
        estimate = compared(found, metric)
        if estimate is not None:
            yield None, f"{metric.title}, at most {size(metric, margin)} worse: {_kept(metric, margin, estimate)}"


def _caveats(found: Findings) -> Iterator[Finding]:
    """What the comparison lacks."""
    assert found.comparison is not None
    most = max((estimate.n for metric in found.search.objectives if (estimate := compared(found, metric))), default=0)
    asked = len(found.search.fresh_seeds)
    if most < asked:
        yield None, f"{most} of the {asked} pairs of runs that were asked for are done."
    if not found.is_over:
        yield None, "This is of the best trial so far; the search may find another."


def result_of(found: Findings, metric: Metric) -> MetricResult | None:
    results: Mapping[str, MetricResult] = (
        {result.metric.name: result for result in found.comparison.metrics} if found.comparison else {}
    )
    return results.get(metric.name)


def compared(found: Findings, metric: Metric) -> Estimate | None:
    """The weights found less those as written, on this metric under fresh seeds."""
    result = result_of(found, metric)
    return result.cell(TUNED).estimate if result else None


def _judged(result: MetricResult | None, estimate: Estimate) -> str:
    assert result is not None
    metric, told = result.metric, _difference(result, estimate)
    small = result.margin is not None and abs(estimate.value or 0.0) < result.margin
    less = f", though by less than the margin of {wording.margin(result)}" if small else ""
    match estimate.verdict:
        case "better":
            return f"{told}. The gain holds{less}."
        case "worse":
            return f"{told}. Tuning made it worse{less}: keep the weights as written."
        case "equivalent":
            if estimate.p is None:
                return f"{told}: tuning gained nothing ({estimate.reason})."
            return f"{told}, within the margin of {wording.margin(result)}: tuning gained nothing that counts."
        case "inconclusive":
            why = f" ({estimate.reason})" if estimate.reason else ""
            runs = wording.seeds(estimate.n) if estimate.n else "these runs"
            return f"{told}. Whether tuning gained anything cannot be told from {runs}{why}."
        case "diverged":
            counts = {name: wording.rate(result.cell(name).states, "diverged") for name in (WRITTEN, TUNED)}
            runs = f"{counts[TUNED]} runs with the weights found diverged, {counts[WRITTEN]} with those as written"
            return f"{runs}, {_UNKNOWN}."
        case "insufficient seeds":
            return f"{wording.signed(metric, estimate.value)}, which is no verdict: {estimate.reason}."
        case "diagnostic":
            return f"{told}. Training saw the network that measures, so this is no verdict."


def _difference(result: MetricResult, estimate: Estimate) -> str:
    """`4.00 against 5.00 as written, −19.9 % (95 % interval −20.8 to −19.0 %), better in 5 of 5 seeds`."""
    metric = result.metric
    means = f"{wording.mean_sd(metric, result.cell(TUNED))} against {wording.mean_sd(metric, result.cell(WRITTEN))}"
    ends = wording.interval(metric, estimate.low, estimate.high)
    change = f"{wording.signed(metric, estimate.value)} (95 % interval {ends})"
    counted = f"better in {estimate.improved} of {wording.seeds(estimate.n)}" if estimate.n else "unpaired"
    return f"{means} as written, {change}, {counted}"


def _kept(metric: Metric, margin: float, estimate: Estimate) -> str:
    """Whether the constraint holds under fresh seeds, as far as the interval goes."""
    change = f"{wording.signed(metric, estimate.value)} ({wording.interval(metric, estimate.low, estimate.high)})"
    if estimate.low is None or estimate.high is None:
        return f"{change}; whether it is kept cannot be told."
    sign = 1 if metric.better == "lower" else -1
    least, most = sorted((sign * estimate.low, sign * estimate.high))
    if most <= margin:
        return f"{change}; it is kept."
    return f"{change}; it is broken." if least > margin else f"{change}; whether it is kept cannot be told."
