"""The comparison on the terminal: effects first, then cells, then what gave no number."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from harness.analysis.results import Analysis, CellResult, Estimate, MetricResult
from harness.metrics.cards import missing_captions
from harness.report import wording
from harness.report.document.model import Mark, Simple, flow, plain, simple
from harness.report.interactions import is_same_contrast, sentence
from harness.report.matrix import subjects, verdict_sentence
from harness.report.verdicts import CLAIMED, FORMS, badges, reasons
from harness.terminal.table import TextTable, console_width, print_sentence, print_table
from harness.text import listed, one_line, quantity

WIDE = 104
"""Columns of a terminal from which on means and corrected p have room."""
MOST_CELLS, MOST_SENTENCES = 20, 8


def print_comparison(analysis: Analysis, console: Console) -> None:
    """One sentence, then for each headline metric a table: effects, and below a rule the cells that say more."""
    if subjects(analysis):
        print_sentence(console, Text.assemble(*map(_styled, simple(verdict_sentence(analysis))), "\n"))
    for result in analysis.headlines:
        base = wording.mean_sd(result.metric, result.cell(analysis.baseline))
        title = f"{result.metric.title}, {result.metric.better} is better; {analysis.baseline}: {base}"
        print_sentence(console, Text(one_line(title), "bold"))
        _print_result(result, console)
        decided = filter(None, [wording.decided(result)])
        for line in (*decided, *_trends(result), *_interactions(result), *_other_tests(result), *result.notes):
            print_sentence(console, one_line(line))
        for line in _first(list(map(plain, reasons(result))), "reason"):
            print_sentence(console, one_line(line))
        if control := wording.control(result, analysis.baseline):
            print_sentence(console, one_line(control))
    if looks := wording.looks(analysis):
        print_sentence(console, one_line(f"{looks}{' Intervals and p hold over all looks.' if analysis.looks else ''}"))
    missing = (text for result in analysis.metrics for text in missing_captions(result.metric, result.card))
    for note in (*analysis.notes, *dict.fromkeys(missing)):
        print_sentence(console, one_line(note))
    without_effect = [name for name in analysis.design.inestimable if name in analysis.toggles]
    if without_effect:
        print_sentence(console, one_line(f"These cells say nothing about {listed(without_effect)}."))
    for states in _unfinished(analysis):
        print_sentence(console, states)


def _unfinished(analysis: Analysis) -> Iterator[Text]:
    """`img_img_loss, mix_logits: 1 done, 2 failed`: cells whose runs are not all done."""
    cells: dict[str, list[str]] = {}
    for cell in analysis.cells:
        if cell.states and set(cell.states) != {"done"}:
            cells.setdefault(wording.states(cell.states), []).append(cell.cell)
    for states, names in cells.items():
        yield Text.assemble((one_line(", ".join(names)), "bold"), f": {states}")


def _styled(span: Simple) -> tuple[str, str]:
    if isinstance(span, Mark):
        return one_line(span.text), next((look.terminal for verdict, look in FORMS.items() if verdict == span.kind), "")
    return flow(plain(span)), ""


def _first(lines: list[str], others: str) -> list[str]:
    """Up to so many lines, then how many more of `others` there are."""
    more = len(lines) - MOST_SENTENCES
    return [*lines[:MOST_SENTENCES], *([f"and {quantity(more, f'more {others}')}"] if more > 0 else [])]


def _interactions(result: MetricResult) -> list[str]:
    """Those that are better or worse, the largest first, in one sentence each."""
    sure = [each for each in result.interactions if each.estimate.verdict in CLAIMED]
    sure = [each for each in sure if not is_same_contrast(result, each)]
    sure.sort(key=lambda each: -abs(each.estimate.value or 0.0))
    return _first([sentence(result, each) for each in sure], "interaction")


def _trends(result: MetricResult) -> list[str]:
    return [wording.trend(result.metric, trend) for trend in result.trends if trend.estimate.value is not None]


def _other_tests(result: MetricResult) -> list[str]:
    """What was not judged with the spread of all cells: another spread, or one seed only."""
    lines = []
    if result.uneven:
        names = listed(result.uneven)
        lines.append(
            f"{names}: the spread over seeds is unlike that of the other cells, so intervals are from own seeds alone."
        )
    if result.lenth:
        pairs = zip(result.lenth.names, result.lenth.values, strict=True)
        out = [name for name, value in pairs if abs(value) > result.lenth.margin]
        names = listed(out) or "nothing"
        lines.append(f"One run per cell gives no verdict; by Lenth's test {names} stands out.")
    return lines


def _print_result(result: MetricResult, console: Console) -> None:
    effects = {effect.toggle: effect.estimate for effect in result.effects}
    # A cell whose difference is a toggle's effect stands above the rule already.
    above = {name: (estimate.value, estimate.by_seed) for name, estimate in effects.items()}
    cells = [
        (cell, cell.estimate)
        for cell in result.cells
        if cell.estimate and _has_news(cell.estimate)
        if above.get(cell.cell) != (cell.estimate.value, cell.estimate.by_seed)
    ]
    hidden = len(cells) > MOST_CELLS
    shown = [] if hidden else cells
    wide = (console_width(console) or WIDE) >= WIDE
    middle = ["change", "95 % interval", "improved"]
    columns = [*(["mean ± sd"] if shown and wide else []), *middle, *(["p (Holm)"] if wide else [])]
    table = TextTable("effect of an idea; cell" if shown else "effect of an idea", *columns, "verdict", numbers=columns)
    for name, estimate in effects.items():
        if _has_news(estimate):
            table.add_row(*_row(result, name, estimate, None, columns))
    table.add_rule()
    for cell, estimate in shown:
        # The effect of that toggle stands above under its name.
        name = f"{cell.cell} alone" if cell.toggles == (cell.cell,) else cell.cell
        table.add_row(*_row(result, name, estimate, cell, columns))
    if any(table.rows):
        print_table(console, table)
    if hidden:
        print_sentence(console, f"not shown here: {quantity(len(cells), 'cell')}")


def _has_news(estimate: Estimate) -> bool:
    """Whether there is anything to show: a difference, or that runs diverged."""
    return estimate.value is not None or estimate.verdict != "insufficient seeds"


def _row(
    result: MetricResult, name: str, estimate: Estimate, cell: CellResult | None, columns: list[str]
) -> list[Text]:
    entries = {
        "mean ± sd": wording.mean_sd(result.metric, cell) if cell else wording.MISSING,
        "change": wording.signed(result.metric, estimate.value),
        "95 % interval": wording.interval(result.metric, estimate.low, estimate.high),
        "improved": f"{estimate.improved}/{estimate.n}" if estimate.n else wording.MISSING,
        "p (Holm)": wording.p_value(estimate.p_holm),
    }
    verdict = ", ".join([estimate.verdict, *badges(result, name, estimate, None)])
    return [
        Text(one_line(name), "bold" if estimate.verdict in CLAIMED else ""),
        *(Text(entries[column]) for column in columns),
        Text(verdict, FORMS[estimate.verdict].terminal),
    ]
