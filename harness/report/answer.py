"""The first screen: what came out, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.analysis.results import Analysis, Estimate, MetricResult, Verdict
from harness.report import wording
from harness.report.caveats import caveats
from harness.report.document.markdown import rendered
from harness.report.document.model import (
    About,
    Block,
    Clause,
    Clauses,
    Figure,
    Mark,
    Names,
    Paragraph,
    Section,
    Span,
    Strong,
    Text,
    bullets,
    listing,
)
from harness.report.inputs import ReportInputs
from harness.report.interactions import is_same_contrast, members, sentence
from harness.report.matrix import is_against_baseline, matrix, subjects, verdict_sentence
from harness.report.verdicts import CLAIMED, Reasoned, after_a_sentence, badges, by_reason, is_below_margin
from harness.report.wording import amount
from harness.runs.record import STATES
from harness.text import quantity

Named = tuple[str, Estimate]
"""A toggle or a cell, and its estimate."""
LEAST_TO_RANK = 4
"""Cells below which naming the two best means says no more than the table."""


def answer(inputs: ReportInputs) -> Iterator[Block]:
    analysis = inputs.analysis
    every = subjects(analysis)
    if every:
        yield Paragraph(verdict_sentence(analysis), lead=True)
    # Most effects are no difference from the baseline, and stand right below.
    what, effect = "Every cell", f" {analysis.design.reading}"
    if is_against_baseline(analysis):
        what, effect = "Everything", ""
    counts = f"{_counts(analysis)} {what} is compared with the baseline, "
    yield Paragraph((counts, Strong(analysis.baseline), f".{effect}"), note=bool(every))
    if looks := wording.looks(analysis):
        yield Paragraph(f"Seeds were added one by one until the results decided: {looks}", note=bool(every))
    if not analysis.metrics:
        yield Paragraph("No run is finished, so there is nothing to compare yet.")
    elif not analysis.headlines:
        yield Paragraph("Every network that measures was also used in training, so no metric is left for verdicts.")
    if len(every) > 1:
        yield matrix(analysis, every, inputs.equal_time)
    yield from inputs.figures.get("effects", ())
    for result in analysis.headlines:
        base = wording.mean_sd(result.metric, result.cell(analysis.baseline))
        line = f"{result.metric.better.capitalize()} is better; {analysis.baseline}: {base}"
        sentences = tuple(_sentences(inputs, result))
        parts: tuple[Block, ...] = (Paragraph(line, note=True), *([bullets(sentences)] if sentences else []))
        yield Section(result.metric.title, parts, metric=result.metric.name)
    if lines := caveats(inputs):
        yield Section("Caveats", (bullets(lines),), "caveats")


def as_note(inputs: ReportInputs) -> list[str]:
    """The answer in Markdown for a tracker, which gets the figures as files: a part for each block."""
    return rendered((block for block in answer(inputs) if not isinstance(block, Figure)), 3)


def _counts(analysis: Analysis) -> str:
    """How many runs there are, and in which states."""
    counts = {state: sum(cell.states.get(state, 0) for cell in analysis.cells) for state in STATES}
    again = max((len(result.control.seeds) for result in analysis.metrics if result.control), default=0)
    control = f", {analysis.baseline} under {again} more as a control" if again else ""
    size = f"{quantity(len(analysis.cells), 'cell')} under {quantity(len(analysis.seeds), 'seed')}{control}"
    return f"{size}; {quantity(sum(counts.values()), 'run')}: {wording.states(counts) or 'none'}."


def _sentences(inputs: ReportInputs, result: MetricResult) -> Iterator[Text]:
    """Claims first, the largest before the others; then interactions, the best cells, and what claims nothing."""
    baseline = inputs.analysis.baseline
    effects: list[Named] = [(effect.toggle, effect.estimate) for effect in result.effects]
    cells = [(cell.cell, cell.estimate) for cell in result.cells if cell.estimate and cell.cell != baseline]
    named = effects or cells
    same = {each.toggle for each in result.interactions if is_same_contrast(result, each)}
    aliases = {effect.toggle: wording.alias_names(effect.aliases) for effect in result.effects}
    for verdict in CLAIMED:
        for name, estimate in sorted(named, key=lambda each: -abs(each[1].value or 0.0)):
            if estimate.verdict == verdict:
                alias = aliases.get(name)
                label = f"{name} (or {alias}: this design cannot tell)" if alias else name
                claim = _claim(result, label, estimate)
                claim += " All of it comes with the other ideas on: alone it changes nothing." if name in same else ""
                weaknesses = badges(result, name, estimate, inputs.equal_time if effects else None)
                yield _marked(verdict, claim, [name], weaknesses)
    for each in result.interactions:
        if each.estimate.verdict in CLAIMED and each.toggle not in same:
            said = Mark("Interaction", each.estimate.verdict), f": {sentence(result, each)}"
            yield About(said, members(each))
    if effects:
        yield from _all_ideas_on(inputs.analysis, result)
        yield from _best_means(result)
    for verdict in _WITHOUT_CLAIM:
        if chosen := [(name, estimate) for name, estimate in named if estimate.verdict == verdict]:
            yield (Mark(verdict.capitalize(), verdict), ": ", *_without_claim(result, verdict, chosen), ".")


def _marked(verdict: Verdict, text: str, cells: Sequence[str], weaknesses: Sequence[str]) -> Text:
    said = (Mark(verdict.capitalize(), verdict), f": {text}", *after_a_sentence(weaknesses))
    return About(said, tuple(cells))


def _claim(result: MetricResult, name: str, estimate: Estimate) -> str:
    """`transform_w lowers it by 11.2 % [7.1, 15.0], 3 of 3 seeds.`, below the name of the metric."""
    verb = "raises" if (estimate.value or 0) > 0 else "lowers"
    claim = f"{name} {verb} it by {amount(result.metric, estimate)}, {agreeing_seeds(estimate)}"
    claim += f", decided after {estimate.decided_after}" if estimate.decided_after else ""
    small = f"; this is below the margin of {wording.margin(result.metric, result.margin)}"
    return f"{claim}{small if is_below_margin(result, estimate) else ''}."


def agreeing_seeds(estimate: Estimate) -> str:
    """In how many seeds it points in the direction of the mean."""
    if not estimate.n:
        return "estimated through other cells" if estimate.paired else "unpaired"
    value = estimate.value or 0.0
    same = sum(each * value > 0 for each in estimate.by_seed)  # a seed without a change agrees with neither side
    agree = min(same, estimate.n - estimate.improved) if estimate.verdict == "worse" else estimate.improved
    return f"{agree} of {quantity(estimate.n, 'seed')}"


def _all_ideas_on(analysis: Analysis, result: MetricResult) -> Iterator[Text]:
    """The cell with every idea on, if there is one in addition to the single ideas."""
    for cell in result.cells:
        everything = cell.toggles == analysis.full and len(cell.toggles) > 1
        if everything and cell.estimate and cell.estimate.verdict in CLAIMED:
            claim = _claim(result, f"Everything on ({cell.cell})", cell.estimate)
            yield _marked(cell.estimate.verdict, claim, [cell.cell], badges(result, cell.cell, cell.estimate, None))


def _best_means(result: MetricResult) -> Iterator[Text]:
    sign = 1 if result.metric.better == "lower" else -1
    ranked = sorted(
        (sign * cell.mean, cell.cell) for cell in result.cells if cell.mean is not None and cell.sd is not None
    )
    if len(ranked) >= LEAST_TO_RANK:
        best = [name for _, name in ranked[:2]]
        first, second = (f"{name} ({wording.mean_sd(result.metric, result.cell(name))})" for name in best)
        how = f"chosen from {len(ranked)} cells after seeing the results, so optimistic"
        yield About((Strong("Best means"), f": {first}, then {second}; {how}."), tuple(best))


def _without_claim(result: MetricResult, verdict: Verdict, chosen: Sequence[Named]) -> tuple[Span, ...]:
    """The names that have a verdict other than better and worse, and what there is to say about them."""
    if verdict == "equivalent":
        return (_equivalent(result, chosen),)
    if verdict == "diverged":
        counts = {effect.toggle: f"diverged runs: {wording.diverged(effect)}" for effect in result.effects}
        cells = {cell.cell: f"{wording.rate(cell.states, 'diverged')} runs" for cell in result.cells}
        return (Names(tuple((f"{name} ({(cells | counts)[name]})", name) for name, _ in chosen)),)
    if verdict == "diagnostic":
        return listing([name for name, _ in chosen]), ", as the network that measures was also used in training"
    # Those without an interval have the reason in its place, those with one seed their difference too.
    judged = [name for name, estimate in chosen if estimate.p is not None and verdict == "inconclusive"]
    rest = [(name, estimate) for name, estimate in chosen if name not in judged]

    def called(name: str, estimate: Estimate) -> str:
        has_change = verdict == "insufficient seeds" and estimate.value is not None
        return f"{name} {wording.signed(result.metric, estimate.value)}" if has_change else name

    reasoned = by_reason([Reasoned(called(name, it), name, it) for name, it in rest], " ({})")
    return (Clauses((*([Clause(listing(judged), (), ())] if judged else []), *reasoned)),)


def _equivalent(result: MetricResult, chosen: Sequence[Named]) -> Clauses:
    same = [name for name, estimate in chosen if estimate.reason and estimate.p is None]
    near = [name for name, _ in chosen if name not in same]
    less = f"it by less than the margin of {wording.margin(result.metric, result.margin)}"
    nothing = "no difference at all: the runs are the same, or they ended with the same weights"
    parts = [Clause(listing(near), (f" changes {less}",), (f" change {less}",))] if near else []
    return Clauses((*parts, *([Clause(listing(same), (f" makes {nothing}",), (f" make {nothing}",))] if same else [])))


_WITHOUT_CLAIM: tuple[Verdict, ...] = ("equivalent", "diverged", "inconclusive", "insufficient seeds", "diagnostic")
"""In the order of the answer."""
