"""What a reader has to know before believing the verdicts. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import Analysis, Estimate, MetricResult
from harness.analysis.statistics import LEVEL, quantile
from harness.metrics.cards import bias, caveats
from harness.report.badges import CLAIMED, holds_zero, turns
from harness.report.by_code import by_code
from harness.report.material import Material
from harness.report.real import against_real
from harness.report.wording import listed, runs
from harness.runs.record import RunRecord, state_of
from harness.study.schema import Study, remarks, told_once

_MOST_NAMES = 8
Named = tuple[MetricResult, str, Estimate]


def cautions(material: Material) -> list[str]:
    """One sentence or two each."""
    analysis = material.analysis
    judged = [named for result in analysis.headlines for named in _judged(analysis, result)]
    found = [tuned(material.study, analysis.baseline), _few_seeds(judged), _unfinished(material.records)]
    found += by_code(material.records)
    for result in analysis.headlines:
        mine = [named for named in judged if named[0] is result]
        found += [_suggestive(result, mine), _uneven(result, mine), _borrowed(result, mine), _late(material, result)]
        found += [f"{result.metric.title}: {note}" for note in result.notes]
    found += analysis.notes
    found += [bias(result.metric, result.card) for result in analysis.headlines if result.card]
    found += [text for result in analysis.metrics for text in caveats(result.metric, result.card)]
    found += against_real(material)
    found += [
        f"CLIP overfit suspected in {cell}: the CLIP that guided its training scores it higher in every seed, the CLIP "
        "that measures in none."
        for cell in analysis.suspicions
    ]
    return [text for text in found if text] + _remarks(material.records)


def tuned(study: Study, baseline: str) -> str:
    """Whose weights were searched, and that the baseline's were not; empty for weights as somebody wrote them."""
    if not study.tuned:
        return ""
    searches = [f"{cell} ({it.trials} trials on {it.objective})" for cell, it in study.tuned.items()]
    told = f"The loss weights come from a search for {listed(searches)}, and hold for every cell."
    if baseline in study.tuned:
        return told
    return f"{told} None was made for {baseline}: a change against it includes what the search has gained."


def _judged(analysis: Analysis, result: MetricResult) -> list[Named]:
    """The effects, or the cells where the design has none."""
    effects = [(result, effect.toggle, effect.estimate) for effect in result.effects]
    return effects or [(result, cell.cell, cell.estimate) for cell in result.cells if cell.estimate]


def _few_seeds(judged: Sequence[Named]) -> str:
    counts = {estimate.n for _, _, estimate in judged if estimate.n}
    if counts == {1}:
        return "One seed gives no verdict: the differences may be chance. Two seeds are the least, five are better."
    if 2 not in counts:
        return ""
    two, three, five = (quantile(n - 1) for n in (2, 3, 5))
    df = min(result.df for result, _, _ in judged)
    return (
        f"With 2 seeds an interval rests on the spread of all cells together (df = {df}) and holds if they spread "
        f"alike. By its own seeds alone (df = 1) it reaches {two:.1f} standard errors to either side "
        f"(3 seeds: {three:.1f}; 5 seeds: {five:.1f}). No evidence then says little."
    )


def _unfinished(records: Sequence[RunRecord]) -> str:
    missing = [record for record in records if state_of(record) != "done"]
    if not missing:
        return ""
    names = [f"{record.run.cell} seed {record.run.seed} {state_of(record)}" for record in missing[:_MOST_NAMES]]
    more = [f"{len(missing) - _MOST_NAMES} more"] if len(missing) > _MOST_NAMES else []
    return f"{runs(len(missing))} of the plan gave no number, see Runs: {listed([*names, *more])}."


def _suggestive(result: MetricResult, judged: Sequence[Named]) -> str:
    unsure = [name for _, name, e in judged if e.verdict == "inconclusive" and e.p is not None and e.p < 1 - LEVEL]
    if not unsure:
        return ""
    return (
        f"{result.metric.title}: the interval of {listed(unsure)} excludes no change, but that does not survive Holm's "
        f"correction for {len(judged)} comparisons. More seeds would tell."
    )


def _uneven(result: MetricResult, judged: Sequence[Named]) -> str:
    names = [name for _, name, estimate in judged if estimate.uneven]
    if not names:
        return ""
    return (
        f"{result.metric.title}: {listed(names)} spread{'s' if len(names) == 1 else ''} over seeds unlike the rest, so "
        "interval and p are by its own seeds alone (df = n − 1)."
    )


def _borrowed(result: MetricResult, judged: Sequence[Named]) -> str:
    """Verdicts that would not stand on the seeds of their own contrast alone."""
    names = [name for _, name, e in judged if e.verdict in CLAIMED and e.own_low is not None and holds_zero(e)]
    if not names:
        return ""
    return (
        f"{result.metric.title}: by own seeds alone, without the spread that all cells share, the interval of "
        f"{listed(names)} includes no change."
    )


def _late(material: Material, result: MetricResult) -> str:
    """Effects that are judged otherwise when every cell has the baseline's time."""
    turned = [
        f"{effect.toggle} ({then})"
        for effect in result.effects
        if effect.estimate.verdict in CLAIMED
        and (then := turns(result, effect.toggle, effect.estimate, material.equal_time))
    ]
    if not turned:
        return ""
    told = f"at equal time in place of equal images the verdict differs on {listed(turned)}"
    return f"{result.metric.title}: {told}; see Cost."


def _remarks(records: Sequence[RunRecord]) -> list[str]:
    """What the settings of a cell say about its objective and its judges."""
    found = {record.run.cell: record.run for record in records}
    lines = told_once({cell: remarks(run.settings, run.fingerprints) for cell, run in found.items()})
    return [f"{line}." for line in lines]
