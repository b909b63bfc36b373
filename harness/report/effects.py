"""The sections on effects, cells and the A/A control. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from harness.analysis.results import Analysis, CellResult, Effect, Estimate, MetricResult
from harness.metrics.cards import ranking
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.document import (
    Block,
    Cell,
    Column,
    Details,
    Link,
    Mark,
    Paragraph,
    Section,
    Span,
    Table,
    Text,
    bullets,
)
from harness.report.grids import (
    NOTHING,
    Field,
    change,
    folded,
    judgement,
    numeric,
    seeds_improved,
    table,
    text,
    verdict,
)
from harness.report.material import Material
from harness.report.reasons import reasons

_READING = (
    "Effect: mean difference between runs of equal seed with the idea and without it; for distances that of "
    "logarithms, shown in %. 95 % interval: with the residual of all cells. p (Holm): corrected over all rows of a "
    "table; a verdict needs p < 0.05. Own interval: by the effect's own seeds alone. Sign-flip p: the exact test, and "
    "the least that so few seeds allow. d_z: effect in units of its spread over seeds."
)
_CELLS = (
    "Each cell against the baseline, from runs of equal seed. r: correlation with the baseline's values by seed. "
    "n: finished runs under the seeds that all cells have. Runs: one a seed, each listed under Runs; those of the "
    "control, which compares the baseline with itself under further seeds, are no part of n, mean or change."
)


def effects(material: Material) -> Section | None:
    analysis = material.analysis
    results = [result for result in analysis.metrics if result.effects]
    if not results:
        return None
    leading: list[Block] = [_effects_of(result, material) for result in results if result.metric.headline]
    rest = tuple(_effects_of(result, material) for result in results if not result.metric.headline)
    further = [Details(f"Effects on {len(rest)} further metrics", rest)] if rest else []
    about: list[Block] = [Paragraph(analysis.design.reading), Paragraph(_READING, note=True)]
    forest = material.figures.get("effects", ())
    return Section("Effects", (*about, *forest, *leading, *further), "effects")


def _effects_of(result: MetricResult, material: Material) -> Section:
    blocks = [Paragraph(told, note=True) for told in _notes(result, material.analysis)]
    return Section(title(result.metric), (*blocks, effects_table(result), *_lacking(result)))


def _lacking(result: MetricResult) -> list[Block]:
    """Why there is no answer, or not the one that the design promises."""
    told = [*result.notes, *reasons(result)]
    return [bullets(told)] if told else []


def title(metric: Metric) -> str:
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.title}{unit}: {metric.better} is better"


def _notes(result: MetricResult, analysis: Analysis) -> list[str]:
    """What stands above a table whose numbers need it."""
    found = [result.metric.doc]
    if "rivals" in result.card:
        found.append(f"{ranking(result.card).capitalize()}")
    if not result.card and any(cell.card for cell in result.cells):
        found.append(
            "Not measured alike in all cells: a change is shown where a cell was measured as the baseline was."
        )
    return [" ".join([*filter(None, found), *_spread(result, analysis)])]


def _spread(result: MetricResult, analysis: Analysis) -> list[str]:
    if result.residual_sd is None:
        return []
    sd = f"{100 * result.residual_sd:.1f} %" if result.metric.scale == "log" else f"{result.residual_sd:.3g}"
    told = [f"A run scatters by {sd} about its cell and seed (df = {result.df})."]
    if result.seed_correlation is not None:
        told.append(f"Runs of one seed correlate by {wording.plain_number(result.seed_correlation)} over cells.")
    if result.margin is not None:
        told.append(f"Margin of equivalence: {wording.margin(result)}.")
    return told


def effects_table(result: MetricResult) -> Table:
    """A row a toggle."""
    metric, found = result.metric, result.effects
    fields: list[Field[Effect]] = [
        text("idea", lambda effect: effect.toggle),
        *change(metric, _estimate, "effect"),
        text("verdict", lambda effect: verdict(effect.estimate.verdict)),
        seeds_improved(_estimate),
        *judgement(_estimate),
        numeric("own interval", lambda effect: _own(metric, effect.estimate), lambda effect: effect.estimate.own_low),
        numeric("sign-flip p", lambda e: wording.sign_flip(e.estimate), lambda e: e.estimate.sign_flip),
        numeric("d_z", lambda e: wording.plain_number(e.estimate.d_z), lambda e: e.estimate.d_z),
    ]
    if result.margin is not None:
        fields.append(
            numeric(
                "p equivalent", lambda e: wording.p_value(e.estimate.p_equivalent), lambda e: e.estimate.p_equivalent
            )
        )
    if any(effect.aliases for effect in found):
        fields.append(text("cannot be told from", lambda e: wording.alias_names(e.aliases) or wording.MISSING))
    if any(sum(effect.diverged) for effect in found):
        fields.append(text("diverged runs", wording.diverged))
    return table(["effects", metric.name], f"Effects on {title(metric)}", fields, found)


def _estimate(effect: Effect) -> Estimate:
    return effect.estimate


def _own(metric: Metric, estimate: Estimate) -> str:
    return wording.interval(metric, estimate.own_low, estimate.own_high)


def cells(material: Material) -> Section | None:
    results = material.analysis.metrics
    if not results:
        return None
    leading: list[Block] = []
    for result in results:
        if result.metric.headline:
            shown = folded(cells_table(result, material), f"cells on {result.metric.title}")
            leading.append(Section(title(result.metric), (shown, *_control(result, material.analysis.baseline))))
    rest = tuple(
        Section(title(result.metric), (*_cell_notes(result, material), cells_table(result, material)))
        for result in results
        if not result.metric.headline
    )
    further = [Details(f"Cells on {len(rest)} further metrics", rest)] if rest else []
    return Section("Cells", (Paragraph(_CELLS, note=True), *leading, *further), "cells")


def _cell_notes(result: MetricResult, material: Material) -> list[Block]:
    """Once a metric: where effects are shown, they stand there."""
    if result.effects:
        return []
    return [*(Paragraph(told, note=True) for told in _notes(result, material.analysis)), *_lacking(result)]


def cells_table(result: MetricResult, material: Material) -> Table:
    """A row a cell, the baseline first."""
    metric, baseline = result.metric, material.analysis.baseline
    control = set(result.control.seeds) if result.control else set()
    runs = {cell.cell: _split(material.runs_of(cell.cell), control, cell.cell == baseline) for cell in result.cells}
    fields: list[Field[CellResult]] = [
        text("cell", lambda cell: cell.cell),
        numeric("mean ± sd", lambda cell: wording.mean_sd(metric, cell), lambda cell: cell.mean),
        *change(metric, _difference),
        text("verdict", lambda cell: _judged(cell, baseline)),
        seeds_improved(_difference),
        numeric("n", lambda cell: str(len(cell.values)), lambda cell: len(cell.values)),
        *judgement(_difference),
        numeric("r", lambda cell: wording.plain_number(cell.correlation), lambda cell: cell.correlation),
    ]
    if any(set(cell.states) != {"done"} for cell in result.cells):
        fields.append(text("states", lambda cell: wording.states(cell.states)))
    if any(shared for shared, _ in runs.values()):
        fields.append(_runs_column(runs))
    ordered = sorted(result.cells, key=lambda cell: cell.cell != baseline)
    return table(["cells", metric.name], f"Cells on {title(metric)}", fields, ordered)


def _difference(cell: CellResult) -> Estimate:
    return cell.estimate or NOTHING


def _judged(cell: CellResult, baseline: str) -> Text:
    if cell.cell == baseline or cell.estimate is None:
        return Mark("baseline", "baseline") if cell.cell == baseline else wording.MISSING
    return verdict(cell.estimate.verdict)


Links = tuple[Link, ...]


def _split(links: Links, control: Set[int], is_baseline: bool) -> tuple[Links, Links]:
    """The runs under the seeds of all cells, and those of the control."""
    apart = tuple(link for link in links if is_baseline and int(link.text) in control)
    return tuple(link for link in links if link not in apart), apart


def _runs_column(runs: Mapping[str, tuple[Links, Links]]) -> tuple[Column, Callable[[CellResult], Cell]]:
    def told(cell: CellResult) -> Cell:
        shared, control = runs[cell.cell]
        apart: tuple[Span, ...] = ("; control: ", *_seeds(control)) if control else ()
        return Cell((*_seeds(shared), *apart))

    return Column("runs", "text"), told


def _seeds(links: Links) -> tuple[Span, ...]:
    parts = [part for link in links for part in (link, ", ")][:-1]
    return ("seeds " if len(links) > 1 else "seed ", *parts)


def _control(result: MetricResult, baseline: str) -> list[Block]:
    told = wording.control(result, baseline)
    return [Paragraph(told)] if told else []
