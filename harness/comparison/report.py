"""The report of a study: Markdown, CSV, JSON and figures from run folders alone. The same records give the same bytes.

<folder>/report.md        the answer, the tables, the figures, how it was measured and where it came from
         comparison.csv   a row a metric and cell        runs.csv     a row a run       effects.json   all of it
         figures/         each as SVG and PNG            study.json   the study, resolved
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.comparison import sections, wording
from harness.comparison.analysis import Comparison, Effect, Verdict, compare
from harness.comparison.figures import forest, learning_curves
from harness.comparison.markup import Row, csv_text, md
from harness.comparison.sections import Material
from harness.comparison.sheet import sample_sheet
from harness.metrics.definitions import Metric
from harness.records import RunRecord, read_json, state_of, write_json, write_text

if TYPE_CHECKING:
    from harness.study.definition import Study

_STYLES: dict[Verdict, str] = {"better": "green", "worse": "red", "diverged": "magenta"}
_WIDE = 104


def write_report(study: Study, records: Sequence[RunRecord], folder: Path) -> Path:
    """Writes the report of these records into `folder` and returns the path of report.md.

    Raises HarnessError when the baseline has no run or runs were measured differently.
    """
    grid = read_json(study.root / "grid.json") if (study.root / "grid.json").exists() else {}
    comparison = compare(records, study.baseline)
    material = Material(study, tuple(records), comparison, grid.get("sanity", {}), grid.get("provenance", {}))
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    write_text(folder / "comparison.csv", _comparison_csv(comparison))
    write_text(folder / "runs.csv", _runs_csv(records))
    effects = {"study": study.name, "comparison": comparison.as_dict(), "sanity": dict(material.sanity)}
    write_json(folder / "effects.json", effects)
    write_json(folder / "study.json", sections.resolved(study))
    figures = _draw(material, folder / "figures")
    write_text(folder / "report.md", _markdown(material, figures))
    return folder / "report.md"


def _markdown(material: Material, figures: Sequence[tuple[str, str]]) -> str:
    parts = [
        sections.answer(material),
        sections.comparisons(material),
        sections.runs(material),
        sections.scale(material),
        sections.cost(material),
        sections.figures(material, figures),
        sections.measured(material.comparison),
        sections.provenance(material),
    ]
    return "\n\n".join([f"# {md(material.study.name)}", *filter(None, parts)]) + "\n"


def _draw(material: Material, folder: Path) -> list[tuple[str, str]]:
    """(title, file stem) of every figure that could be drawn."""
    comparison, headlines = material.comparison, material.headlines
    drawn: list[tuple[str, str]] = []
    if headlines and len(comparison.cells) > 1:
        forest(comparison, headlines, folder / "effects")
        drawn.append((f"Differences from {comparison.baseline}", "effects"))
    for metric in headlines:
        learning_curves(comparison, material.records, metric, folder / f"curves-{metric.name}")
        drawn.append((f"Learning curves, {metric.title}", f"curves-{metric.name}"))
    if sample_sheet(material.records, folder / "samples"):
        drawn.append(("Samples: same caption and latent down a column", "samples"))
    return drawn


def _comparison_csv(comparison: Comparison) -> str:
    head = ["metric", "cell", "states", "n", "mean", "sd", "difference", "difference_unit", "low", "high", "improved"]
    head += ["p", "p_holm", "correlation", "verdict", "manifest"]
    states = {cell.cell: wording.states(cell) for cell in comparison.cells}
    rows: list[Row] = []
    for metric in comparison.metrics:
        effects = {effect.cell: effect for effect in comparison.of(metric.name)}
        manifest = comparison.cards.get(metric.name, {}).get("manifest")
        for cell, state in states.items():
            mine = comparison.summary(cell, metric.name)
            measured = (metric.name, cell, state, len(mine.values), mine.mean, mine.sd)
            rows.append([*measured, *_effect_row(metric, effects.get(cell)), manifest])
    return csv_text(head, rows)


def _effect_row(metric: Metric, effect: Effect | None) -> Row:
    if effect is None:
        return [None] * 8 + ["baseline"]
    unit = "%" if metric.scale == "log" else metric.unit
    numbers = [effect.low, effect.high, effect.improved, effect.p, effect.p_holm, effect.correlation]
    return [effect.difference, unit, *numbers, effect.verdict]


def _runs_csv(records: Sequence[RunRecord]) -> str:
    metrics = sorted({name for record in records if record.result for name in record.result.metrics})
    costs = sorted({name for record in records if record.result for name in record.result.cost})
    head = [
        "run",
        "cell",
        "seed",
        "toggles",
        "state",
        "step",
        "attempt",
        "error",
        "manifest",
        *metrics,
        *(f"cost_{c}" for c in costs),
    ]
    return csv_text(head, [_run_row(record, metrics, costs) for record in records])


def _run_row(record: RunRecord, metrics: Sequence[str], costs: Sequence[str]) -> Row:
    run, status = record.run, record.status
    measured = record.result.metrics if record.result else {}
    cost = record.result.cost if record.result else {}
    about: list[str | float | int | None] = [
        run.id,
        run.cell,
        run.seed,
        " ".join(run.toggles),
        state_of(record),
        status.step,
        status.attempt,
        status.error,
        " ".join(_manifests(record)) or None,
    ]
    return [*about, *(measured.get(name) for name in metrics), *(cost.get(name) for name in costs)]


def _manifests(record: RunRecord) -> list[str]:
    """The manifest of a run's numbers; all have the same."""
    cards = record.result.cards.values() if record.result else ()
    return sorted({str(card["manifest"]) for card in cards if "manifest" in card})


def print_comparison(comparison: Comparison, console: Console) -> None:
    """The headline metrics, a table each, and every cell with runs that gave no number. Fits 80 columns."""
    for metric in comparison.headlines:
        console.print(_console_table(comparison, metric, wide=console.width >= _WIDE))
    for cell in comparison.cells:
        if set(cell.states) != {"done"}:
            console.print(Text.assemble((cell.cell, "bold"), f": {wording.states(cell)}"))


def _console_table(comparison: Comparison, metric: Metric, wide: bool) -> Table:
    base = wording.mean_sd(metric, comparison.summary(comparison.baseline, metric.name))
    title = f"{metric.title}, {metric.better} is better; {comparison.baseline}: {base}"
    built = Table(title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    built.add_column("variant", overflow="fold")
    for name in ["mean ± sd", "change", "95 % interval", "wins", "p (Holm)"]:
        if wide or name not in ("mean ± sd", "p (Holm)"):
            built.add_column(name, justify="right", no_wrap=True)
    built.add_column("verdict", no_wrap=True)
    for effect in comparison.of(metric.name):
        built.add_row(*_console_row(comparison, metric, effect, wide))
    return built


def _console_row(comparison: Comparison, metric: Metric, effect: Effect, wide: bool) -> list[Text]:
    mean = wording.mean_sd(metric, comparison.summary(effect.cell, metric.name))
    change = "–" if effect.difference is None else wording.signed(metric, effect.difference)
    cells = [effect.cell, mean, change, wording.interval(metric, effect)]
    cells.append(f"{effect.improved}/{effect.n}")
    cells.append(wording.p_value(effect.p_holm))
    shown = cells if wide else [cells[0], *cells[2:5]]
    return [*map(Text, shown), Text(effect.verdict, _STYLES.get(effect.verdict, ""))]
