"""The comparison on the terminal: effects first, then cells, then what gave no number. No torch here."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from harness.analysis.results import Analysis, CellResult, Estimate, MetricResult, Verdict
from harness.report import interplay, wording
from harness.report.badges import badges
from harness.report.document.document import one_line
from harness.report.reasons import reasons
from harness.terminal.table import TextTable, console_width, print_sentence, print_table

_STYLES: dict[Verdict, str] = {"better": "bold green", "worse": "bold red", "diverged": "magenta", "equivalent": "cyan"}
_WIDE = 104
_MOST_CELLS = 20
_MOST_SENTENCES = 8
Line = tuple[str, Estimate, CellResult | None]


def print_comparison(analysis: Analysis, console: Console) -> None:
    """A table a headline metric: what each toggle does, below a rule the cells that say more. Fits 80 columns."""
    for result in analysis.headlines:
        print_sentence(console, Text(one_line(_title(analysis, result)), "bold"))
        _show(result, console)
        for sentence in (*_interactions(result), *_judged_apart(result), *_lacking(result, analysis.baseline)):
            print_sentence(console, one_line(sentence))
    for note in analysis.notes:
        print_sentence(console, one_line(note))
    silent = [name for name in analysis.design.inestimable if name in analysis.toggles]
    if silent:
        print_sentence(console, one_line(f"These cells say nothing of {wording.listed(silent)}."))
    for told, cells in _unfinished(analysis).items():
        print_sentence(console, Text.assemble((one_line(", ".join(cells)), "bold"), f": {told}"))


def _unfinished(analysis: Analysis) -> dict[str, list[str]]:
    """States of runs in words -> the cells that have them, for all but those that are done."""
    found: dict[str, list[str]] = {}
    for state in analysis.cells:
        if set(state.states) != {"done"}:
            found.setdefault(wording.states(state.states), []).append(state.cell)
    return found


def _interactions(result: MetricResult) -> list[str]:
    """Those that have a verdict, the largest first, in a sentence each."""
    sure = [found for found in result.interactions if found.estimate.verdict in ("better", "worse")]
    sure = [found for found in sure if not interplay.same_finding(result, found)]
    sure.sort(key=lambda found: -abs(found.estimate.value or 0.0))
    more = [f"and {len(sure) - _MOST_SENTENCES} more interactions"] if len(sure) > _MOST_SENTENCES else []
    return [interplay.sentence(result, found) for found in sure[:_MOST_SENTENCES]] + more


def _judged_apart(result: MetricResult) -> list[str]:
    """What has no interval as the rest has: too unlike a spread, or one seed only."""
    told = []
    if result.uneven:
        names = wording.listed(result.uneven)
        told.append(f"{names}: the spread over seeds is unlike that of the rest, so intervals are by own seeds alone.")
    if result.lenth:
        pairs = zip(result.lenth.names, result.lenth.values, strict=True)
        out = [name for name, value in pairs if abs(value) > result.lenth.margin]
        told.append(f"One run a cell gives no verdict; by Lenth's test {wording.listed(out) or 'nothing'} stands out.")
    return told


def _lacking(result: MetricResult, baseline: str) -> list[str]:
    """Why there is no answer, or not the one that the design promises."""
    told = reasons(result)
    more = [f"{len(told) - _MOST_SENTENCES} further reasons are in the JSON"] if len(told) > _MOST_SENTENCES else []
    return [*result.notes, *told[:_MOST_SENTENCES], *more, *filter(None, [wording.control(result, baseline)])]


def _title(analysis: Analysis, result: MetricResult) -> str:
    base = wording.mean_sd(result.metric, result.cell(analysis.baseline))
    return f"{result.metric.title}, {result.metric.better} is better; {analysis.baseline}: {base}"


def _show(result: MetricResult, console: Console) -> None:
    cells = _further(result)
    hidden = len(cells) > _MOST_CELLS
    wide = (console_width(console) or _WIDE) >= _WIDE
    columns = _columns(bool(cells) and not hidden and wide, wide)
    numbers = [name for name, shown in columns.items() if shown]
    first = "effect of an idea" if not cells or hidden else "effect of an idea; cell"
    built = TextTable(first, *numbers, "verdict", numbers=numbers)
    for effect in result.effects:
        if _says(effect.estimate):
            built.add_row(*_row(result, (effect.toggle, effect.estimate, None), columns))
    built.add_rule()
    for cell in () if hidden else cells:
        if cell.estimate:
            # The effect of that toggle stands above under its name.
            name = f"{cell.cell} alone" if cell.toggles == (cell.cell,) else cell.cell
            built.add_row(*_row(result, (name, cell.estimate, cell), columns))
    if built.has_rows:
        print_table(console, built)
    if hidden:
        print_sentence(console, f"{len(cells)} cells are not shown here")


def _further(result: MetricResult) -> list[CellResult]:
    """The cells but those whose difference is a toggle's effect, which is told already."""
    told = {effect.toggle: effect.estimate.by_seed for effect in result.effects}
    return [
        cell
        for cell in result.cells
        if cell.estimate and _says(cell.estimate) and told.get(cell.cell) != cell.estimate.by_seed
    ]


def _says(estimate: Estimate) -> bool:
    """Whether there is anything to show: a difference, or that its runs diverged."""
    return estimate.value is not None or estimate.verdict != "insufficient seeds"


def _columns(means: bool, wide: bool) -> dict[str, bool]:
    return {"mean ± sd": means, "change": True, "95 % interval": True, "improved": True, "p (Holm)": wide}


def _row(result: MetricResult, line: Line, columns: dict[str, bool]) -> list[Text]:
    name, estimate, cell = line
    told = {
        "mean ± sd": wording.mean_sd(result.metric, cell) if cell else wording.MISSING,
        "change": wording.signed(result.metric, estimate.value),
        "95 % interval": wording.interval(result.metric, estimate.low, estimate.high),
        "improved": f"{estimate.improved}/{estimate.n}" if estimate.n else wording.MISSING,
        "p (Holm)": wording.p_value(estimate.p_holm),
    }
    shown = [Text(told[column]) for column, wanted in columns.items() if wanted]
    style = _STYLES.get(estimate.verdict, "")
    verdict = ", ".join([estimate.verdict, *badges(result, name, estimate, None)])
    return [
        Text(one_line(name), "bold" if estimate.verdict in ("better", "worse") else ""),
        *shown,
        Text(verdict, style),
    ]
