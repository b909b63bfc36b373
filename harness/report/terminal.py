"""The comparison on the terminal: effects first, then cells, then what gave no number. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.results import Analysis, CellResult, Estimate, MetricResult, Verdict
from harness.report import wording

_STYLES: dict[Verdict, str] = {"better": "bold green", "worse": "bold red", "diverged": "magenta", "equivalent": "cyan"}
_WIDE = 104
_MOST_CELLS = 20
Line = tuple[str, Estimate, CellResult | None]


def print_comparison(analysis: Analysis, console: Console) -> None:
    """The headline metrics: what each toggle does, then each cell against the baseline. Fits 80 columns."""
    for result in analysis.headlines:
        if result.effects:
            lines: list[Line] = [(effect.toggle, effect.estimate, None) for effect in result.effects]
            console.print(_table(_title(result), "toggle", result, lines, console.width))
    for result in analysis.headlines:
        cells: list[Line] = [(cell.cell, cell.estimate, cell) for cell in result.cells if cell.estimate]
        if len(cells) <= _MOST_CELLS and not _same_as_effects(result):
            console.print(_table(_cells_title(analysis, result), "cell", result, cells, console.width))
        elif len(cells) > _MOST_CELLS:
            console.print(Text(f"{result.metric.title}: {len(cells)} cells, see the report"))
    for state in analysis.cells:
        if set(state.states) != {"done"}:
            console.print(Text.assemble((state.cell, "bold"), f": {wording.states(state.states)}"))


def _same_as_effects(result: MetricResult) -> bool:
    """Whether each cell is one toggle on the baseline, and its difference that toggle's effect."""
    told = {effect.toggle: effect.estimate.by_seed for effect in result.effects}
    compared = [cell for cell in result.cells if cell.estimate]
    return all(cell.estimate and told.get(cell.cell) == cell.estimate.by_seed for cell in compared)


def _title(result: MetricResult) -> str:
    return f"Effects on {result.metric.title}, {result.metric.better} is better"


def _cells_title(analysis: Analysis, result: MetricResult) -> str:
    base = wording.mean_sd(result.metric, result.cell(analysis.baseline))
    return f"{result.metric.title}, {result.metric.better} is better; {analysis.baseline}: {base}"


def _table(title: str, first: str, result: MetricResult, lines: Sequence[Line], width: int) -> Table:
    wide = width >= _WIDE
    built = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    built.add_column(first, overflow="fold")
    means = wide and first == "cell"
    for name, shown in _columns(means, wide).items():
        if shown:
            built.add_column(name, justify="right", no_wrap=True)
    built.add_column("verdict", no_wrap=True)
    for line in lines:
        built.add_row(*_row(result, line, _columns(means, wide)))
    return built


def _columns(means: bool, wide: bool) -> dict[str, bool]:
    return {"mean ± sd": means, "change": True, "95 % interval": True, "wins": True, "p (Holm)": wide}


def _row(result: MetricResult, line: Line, columns: dict[str, bool]) -> list[Text]:
    name, estimate, cell = line
    told = {
        "mean ± sd": wording.mean_sd(result.metric, cell) if cell else wording.MISSING,
        "change": wording.signed(result.metric, estimate.value),
        "95 % interval": wording.interval(result.metric, estimate.low, estimate.high),
        "wins": f"{estimate.improved}/{estimate.n}",
        "p (Holm)": wording.p_value(estimate.p_holm),
    }
    shown = [Text(told[column]) for column, wanted in columns.items() if wanted]
    style = _STYLES.get(estimate.verdict, "")
    return [
        Text(name, "bold" if estimate.verdict in ("better", "worse") else ""),
        *shown,
        Text(estimate.verdict, style),
    ]
