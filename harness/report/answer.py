"""The first screen: what came out, in plain sentences. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness.analysis.results import Analysis, CellResult, Effect, Estimate, MetricResult, Verdict
from harness.report import interplay, wording
from harness.report.badges import CLAIMED, badges, is_small, marked
from harness.report.cautions import cautions
from harness.report.document.document import Block, Mark, Paragraph, Section, Span, Strong, Text, bullets
from harness.report.material import Material
from harness.report.reasons import by_reason
from harness.report.wording import amount, listed
from harness.runs.record import STATES

_LABELS: dict[Verdict, str] = {
    "better": "Better",
    "worse": "Worse",
    "equivalent": "Equivalent",
    "diverged": "Diverged",
    "insufficient seeds": "Too few seeds",
    "inconclusive": "No evidence",
    "diagnostic": "Not judged",
}
_TOGETHER = " All of it is with the other ideas on: alone it changes nothing."
Subject = tuple[str, Estimate]
"""What is judged: a toggle, or a cell; and the estimate."""


def answer(material: Material) -> tuple[Block, ...]:
    analysis = material.analysis
    blocks: list[Block] = [
        Paragraph((f"{_headline(analysis)} Everything is compared with the baseline, ", Strong(analysis.baseline), "."))
    ]
    if not analysis.metrics:
        blocks.append(Paragraph("No run is finished, so there is nothing to compare yet."))
    elif not analysis.headlines:
        told = "Training has seen every network that measures, so no metric is left for verdicts."
        blocks.append(Paragraph(told))
    for result in analysis.headlines:
        found = bullets(list(_findings(material, result)))
        blocks.append(Section(result.metric.title, (_baseline(analysis, result), *([found] if found.items else []))))
    minded = cautions(material)
    if minded:
        blocks.append(Section("Caveats", (bullets(minded),), "caveats"))
    return tuple(blocks)


def _headline(analysis: Analysis) -> str:
    """How many runs there are and where they stand."""
    counts = {state: sum(cell.states.get(state, 0) for cell in analysis.cells) for state in STATES}
    where = wording.states(counts) or "none"
    cells = f"{len(analysis.cells)} cell{'' if len(analysis.cells) == 1 else 's'}"
    again = max((len(result.control.seeds) for result in analysis.metrics if result.control), default=0)
    control = f", {analysis.baseline} under {again} more as a control" if again else ""
    seeds = f"{wording.seeds(len(analysis.seeds))}{control}"
    return f"{cells} under {seeds}; {wording.runs(sum(counts.values()))}: {where}."


def _baseline(analysis: Analysis, result: MetricResult) -> Paragraph:
    base = wording.mean_sd(result.metric, result.cell(analysis.baseline))
    return Paragraph(f"{result.metric.better.capitalize()} is better; {analysis.baseline}: {base}", note=True)


def _findings(material: Material, result: MetricResult) -> Iterator[Text]:
    analysis = material.analysis
    subjects = [(effect.toggle, effect.estimate) for effect in result.effects] or _cells(analysis, result)
    aliases = {effect.toggle: effect.aliases for effect in result.effects}
    together = {found.toggle for found in result.interactions if interplay.same_finding(result, found)}
    for verdict in CLAIMED:
        for name, estimate in sorted(subjects, key=_size, reverse=True):
            if estimate.verdict == verdict:
                claim = _claim(result, name + _doubt(aliases.get(name, ())), estimate)
                doubts = marked(badges(result, name, estimate, material.equal_time if result.effects else None))
                yield (*_marked(verdict, claim + (_TOGETHER if name in together else "")), *doubts)
    for found in result.interactions:
        if found.estimate.verdict in CLAIMED and found.toggle not in together:
            yield _marked(found.estimate.verdict, interplay.sentence(result, found), "Interaction")
    if result.effects:
        yield from _all_together(analysis, result)
        yield from _best(result)
    for verdict, say in _GROUPS.items():
        chosen = [(name, estimate) for name, estimate in subjects if estimate.verdict == verdict]
        if chosen:
            yield (Mark(_LABELS[verdict], verdict), say(result, chosen))


def _size(subject: Subject) -> float:
    return abs(subject[1].value or 0.0)


def _doubt(aliases: Sequence[str]) -> str:
    """What else a toggle's effect may be."""
    return f" (or {wording.alias_names(aliases)}: this design cannot tell)" if aliases else ""


def _cells(analysis: Analysis, result: MetricResult) -> list[Subject]:
    return [(cell.cell, cell.estimate) for cell in result.cells if cell.estimate and cell.cell != analysis.baseline]


def _marked(verdict: Verdict, text: str, label: str = "") -> tuple[Span, ...]:
    return (Mark(label or _LABELS[verdict], verdict), f": {text}")


def _claim(result: MetricResult, name: str, estimate: Estimate) -> str:
    """`transform_w lowers Fréchet distance by 11.2 % [7.1, 15.0], 3 of 3 seeds.`"""
    verb = "raises" if (estimate.value or 0) > 0 else "lowers"
    told = f"{name} {verb} {result.metric.title} by {amount(result.metric, estimate)}, {improved_in(estimate)}"
    less = f"; that is less than the margin of {wording.margin(result)}" if is_small(result, estimate) else ""
    return f"{told}{less}."


def improved_in(estimate: Estimate) -> str:
    """In how many seeds it points to where it points on the whole."""
    if not estimate.n:
        return "read through other cells" if estimate.paired else "unpaired"
    agree = estimate.n - estimate.improved if estimate.verdict == "worse" else estimate.improved
    return f"{agree} of {wording.seeds(estimate.n)}"


def _all_together(analysis: Analysis, result: MetricResult) -> Iterator[Text]:
    """The cell with every idea on, if there is one in addition to the single ideas."""
    whole = [cell for cell in result.cells if len(cell.toggles) == len(analysis.toggles) > 1]
    for cell in whole:
        if cell.estimate and cell.estimate.verdict in CLAIMED:
            claim = _claim(result, f"Everything on ({cell.cell})", cell.estimate)
            doubts = badges(result, cell.cell, cell.estimate, None)
            yield (*_marked(cell.estimate.verdict, claim), *marked(doubts))


def _best(result: MetricResult) -> Iterator[Text]:
    """The two best means, where there are cells to pick from."""
    sign = 1 if result.metric.better == "lower" else -1
    found = sorted(
        (sign * cell.mean, cell.cell) for cell in result.cells if cell.mean is not None and cell.sd is not None
    )
    if len(found) < 4:
        return
    first, second = (f"{name} ({wording.mean_sd(result.metric, result.cell(name))})" for _, name in found[:2])
    told = f": {first}, then {second}; chosen from {len(found)} cells after seeing the results, so optimistic."
    yield (Strong("Best means"), told)


def _equivalent(result: MetricResult, chosen: Sequence[Subject]) -> str:
    same = [(name, estimate) for name, estimate in chosen if estimate.reason and estimate.p is None]
    near = [subject for subject in chosen if subject not in same]
    told = []
    if near:
        verb = "changes" if len(near) == 1 else "change"
        told.append(f"{_names(near)} {verb} it by less than the margin of {wording.margin(result)}")
    if same:
        verb = "makes" if len(same) == 1 else "make"
        told.append(f"{_names(same)} {verb} no difference at all: the same runs, or the same weights came out")
    return f": {'; '.join(told)}."


def _no_evidence(result: MetricResult, chosen: Sequence[Subject]) -> str:
    """Without an interval nothing was looked at, and the reason is told in its place."""
    unseen = [subject for subject in chosen if subject[1].p is None]
    seen = [subject for subject in chosen if subject not in unseen]
    told = [f"for {_names(seen)}"] if seen else []
    told += [f"for {names}: {reason}" for reason, names in by_reason(unseen)]
    return f" {'; '.join(told)}."


def _too_few(result: MetricResult, chosen: Sequence[Subject]) -> str:
    """Each with the difference that there is, if any, and why it has no verdict."""
    told = [
        (f"{name} {wording.signed(result.metric, each.value)}" if each.value is not None else name, each)
        for name, each in chosen
    ]
    return f": {'; '.join(f'{names} ({reason})' for reason, names in by_reason(told))}."


def _diverged(result: MetricResult, chosen: Sequence[Subject]) -> str:
    effects: dict[str, Effect] = {effect.toggle: effect for effect in result.effects}
    cells: dict[str, CellResult] = {cell.cell: cell for cell in result.cells}
    told = []
    for name, _ in chosen:
        if name in effects:
            told.append(f"{name} (diverged runs: {wording.diverged(effects[name])})")
        else:
            told.append(f"{name} ({wording.rate(cells[name].states, 'diverged')} runs)")
    return f": {listed(told)}."


def _seen(result: MetricResult, chosen: Sequence[Subject]) -> str:
    return f": {_names(chosen)}, as training saw the network that measures."


def _names(chosen: Sequence[Subject]) -> str:
    return listed([name for name, _ in chosen])


_GROUPS: dict[Verdict, Callable[[MetricResult, Sequence[Subject]], str]] = {
    "equivalent": _equivalent,
    "diverged": _diverged,
    "inconclusive": _no_evidence,
    "insufficient seeds": _too_few,
    "diagnostic": _seen,
}
