"""The sections on effects, cells and the A/A control."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter

from harness.analysis.results import CellResult, Effect, Estimate, MetricResult, Trend
from harness.metrics.cards import ranking
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.model import Block, Details, Link, Mark, Paragraph, Section, Span, Table, Text, bullets
from harness.report.inputs import ReportInputs
from harness.report.tables import (
    NO_ESTIMATE,
    Field,
    change,
    folded,
    named,
    numeric,
    p_column,
    p_values,
    plain_column,
    seeds_improved,
    table,
    text,
)
from harness.report.verdicts import mark, reasons
from harness.text import listed, quantity

_EFFECTS = (
    "Effect: mean difference between runs of equal seed with the idea and without it; for distances that of "
    "logarithms, shown in %. 95 % interval: with the residual of all cells. p (Holm): corrected over all rows of a "
    "table but those of cells that trained alike; a verdict needs p < 0.05. Own interval: from the effect's own seeds "
    "alone. {}d_z: effect in units of its spread over seeds."
)
_SIGN_FLIP = "Sign-flip p: the exact test, and the smallest value that so few seeds allow. "
_LOOKS = (
    "Seeds were added until the results decided, so every p and interval is one of all looks together, after {} to {} "
    "seeds: wider than for a fixed number of seeds. A verdict of an earlier look stands, although an interval of a "
    "later one may include zero. There is no sign-flip p, as that test needs a fixed number of seeds."
)
_LEVELS = (
    "A level such as {} is compared with the reference level of its factor: {}. The correction is over all "
    "toggles and all levels of a table together."
)
_TREND = (
    " Trend: the rise from the lowest to the highest level of the least-squares line over their ranks, as steps "
    "between levels count alike. It is outside the corrected family, and has no verdict."
)
_CELLS = (
    "Each cell against the baseline, from runs of equal seed. r: correlation with the baseline's values by seed. "
    "n: finished runs under the seeds that all cells have. Runs: one per seed, each listed under Runs; those of the "
    "control, which compares the baseline with itself under further seeds, are no part of n, mean or change."
)


def effects(inputs: ReportInputs) -> Iterator[Block]:
    if results := [result for result in inputs.analysis.metrics if result.effects]:
        yield Paragraph(inputs.analysis.design.reading)
        rule = inputs.analysis.rule
        yield Paragraph(_EFFECTS.format("" if rule else _SIGN_FLIP), note=True)
        if rule:
            yield Paragraph(_LOOKS.format(rule.first, rule.most), note=True)
        if inputs.analysis.factors:
            references = listed([factor.reference for factor in inputs.analysis.factors])
            levels = _LEVELS.format(inputs.analysis.factors[0].ideas[0], references)
            yield Paragraph(f"{levels}{_TREND if _has_trends(results) else ''}", note=True)
        yield from _headlines_first(results, _effects_of, "Effects")


def _has_trends(results: Iterable[MetricResult]) -> bool:
    return any(result.trends for result in results)


def _effects_of(result: MetricResult) -> Iterator[Block]:
    yield from _explained(result, effects_table(result))
    if result.trends:
        yield trends_table(result)


def _headlines_first(
    results: Sequence[MetricResult], blocks: Callable[[MetricResult], Iterable[Block]], what: str
) -> Iterator[Block]:
    """One section for each metric; those that are no headline are folded away."""
    rest = []
    for result in results:
        section = Section(title(result.metric), tuple(blocks(result)), metric=result.metric.name)
        if result.metric.headline:
            yield section
        else:
            rest.append(section)
    if rest:
        yield Details(f"{what} on {quantity(len(rest), 'further metric')}", tuple(rest))


def title(metric: Metric) -> str:
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.title}{unit}: {metric.better} is better"


def _explained(result: MetricResult, table: Table) -> Iterator[Block]:
    """The table below what its numbers are: the metric, how it was measured, and how runs scatter. Below it why a
    number is missing, or is not the one that the design promises."""
    metric, parts = result.metric, [result.metric.doc]
    if "rivals" in result.card:
        parts.append(ranking(result.card).capitalize())
    if not result.card and any(cell.card for cell in result.cells):
        parts.append(
            "Not measured alike in all cells: a change is shown where a cell was measured as the baseline was."
        )
    if result.residual_sd is not None:
        sd = f"{100 * result.residual_sd:.1f} %" if metric.scale == "log" else f"{result.residual_sd:.3g}"
        parts.append(f"A run scatters by {sd} about its cell and seed (df = {result.df}).")
        if result.seed_correlation is not None:
            parts.append(f"Runs of one seed correlate by {wording.plain_number(result.seed_correlation)} over cells.")
        if result.margin is not None:
            parts.append(f"Margin of equivalence: {wording.margin(metric, result.margin)}.")
    yield Paragraph(" ".join(filter(None, parts)), note=True)
    yield table
    if lines := [*result.notes, *reasons(result)]:
        yield bullets(lines)


def trends_table(result: MetricResult) -> Table:
    """One row for each factor whose levels are numbers."""
    metric, estimate = result.metric, attrgetter("estimate")
    fields: list[Field[Trend]] = [
        text("factor", lambda trend: trend.factor.name),
        text("levels", lambda trend: ", ".join(trend.factor.ascending)),
        *change(metric, estimate, "trend, lowest to highest"),
        p_column("p (not corrected)", lambda trend: trend.estimate.p),
    ]
    return table(["trends", metric.name], f"Trends over levels on {title(metric)}", fields, result.trends)


def effects_table(result: MetricResult) -> Table:
    """One row for each idea: toggles, then levels."""
    metric, estimate = result.metric, attrgetter("estimate")

    def own_interval(effect: Effect) -> str:
        return wording.interval(metric, effect.estimate.own_low, effect.estimate.own_high)

    decided: list[Field[Effect]] = [plain_column("decided after", lambda effect: effect.estimate.decided_after, 0)]
    sign_flip: list[Field[Effect]] = [
        numeric("sign-flip p", lambda e: wording.sign_flip(e.estimate), lambda e: e.estimate.sign_flip)
    ]
    fields: list[Field[Effect]] = [
        named("idea", lambda effect: effect.toggle),
        *change(metric, estimate, "effect"),
        text("verdict", lambda effect: mark(effect.estimate.verdict)),
        *(decided if result.rule else []),
        seeds_improved(estimate),
        *p_values(estimate),
        numeric("own interval", own_interval, lambda effect: effect.estimate.own_low),
        *([] if result.rule else sign_flip),
        plain_column("d_z", lambda effect: effect.estimate.d_z),
    ]
    if result.margin is not None:
        fields.append(p_column("p equivalent", lambda effect: effect.estimate.p_equivalent))
    if any(effect.aliases for effect in result.effects):
        fields.append(text("cannot be told from", lambda e: wording.alias_names(e.aliases) or wording.MISSING))
    if any(sum(effect.diverged) for effect in result.effects):
        fields.append(text("diverged runs", wording.diverged))
    return table(["effects", metric.name], f"Effects on {title(metric)}", fields, result.effects)


def cells(inputs: ReportInputs) -> Iterator[Block]:
    def blocks(result: MetricResult) -> Iterator[Block]:
        cells = cells_table(result, inputs)
        if not result.metric.headline:
            # Where there are effects, their table has been explained.
            yield from (cells,) if result.effects else _explained(result, cells)
            return
        yield folded(cells, f"cells on {result.metric.title}")
        if control := wording.control(result, inputs.analysis.baseline):
            yield Paragraph(control)

    if inputs.analysis.metrics:
        yield Paragraph(_CELLS, note=True)
        yield from _headlines_first(inputs.analysis.metrics, blocks, "Cells")


def cells_table(result: MetricResult, inputs: ReportInputs) -> Table:
    """One row for each cell, the baseline first."""
    metric, baseline = result.metric, inputs.analysis.baseline
    control = {str(seed) for seed in result.control.seeds} if result.control else set()

    def difference(cell: CellResult) -> Estimate:
        return cell.estimate or NO_ESTIMATE

    def verdict(cell: CellResult) -> Text:
        if cell.cell == baseline:
            return Mark("baseline", "baseline")
        return mark(cell.estimate.verdict) if cell.estimate else wording.MISSING

    def runs(cell: CellResult) -> Text:
        links = inputs.runs_of(cell.cell)
        apart = [link for link in links if cell.cell == baseline and link.text in control]
        shared = [link for link in links if link not in apart]
        return (*_seeds(shared), *(("; control: ", *_seeds(apart)) if apart else ()))

    fields: list[Field[CellResult]] = [
        named("cell", lambda cell: cell.cell),
        numeric("mean ± sd", lambda cell: wording.mean_sd(metric, cell), lambda cell: cell.mean),
        *change(metric, difference),
        text("verdict", verdict),
        seeds_improved(difference),
        plain_column("n", lambda cell: len(cell.values), 0),
        *p_values(difference),
        plain_column("r", lambda cell: cell.correlation),
    ]
    if any(set(cell.states) != {"done"} for cell in result.cells):
        fields.append(text("states", lambda cell: wording.states(cell.states)))
    if any(inputs.runs_of(cell.cell) for cell in result.cells):
        fields.append(text("runs", runs))
    ordered = sorted(result.cells, key=lambda cell: cell.cell != baseline)
    return table(["cells", metric.name], f"Cells on {title(metric)}", fields, ordered)


def _seeds(links: list[Link]) -> tuple[Span, ...]:
    parts = [part for link in links for part in (link, ", ")][:-1]
    return ("seeds " if len(links) > 1 else "seed ", *parts)
