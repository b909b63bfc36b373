"""The sections that the numbers are to be held against: scale, cost, curves and samples. No torch here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from harness.analysis.costs import CellCost, timing_noise
from harness.analysis.results import Effect, Estimate, MetricResult
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.document import Block, Details, Paragraph, Section, Table, bullets
from harness.report.effects import title
from harness.report.grids import NOTHING, Field, change, folded, numeric, table, text, verdict
from harness.report.material import Material

_COSTS = {
    "s_per_kimg": "s per kimg",
    "seconds": "s in all",
    "peak_memory_training_mb": "peak MiB, training",
    "peak_memory_measuring_mb": "peak MiB, measuring",
    "peak_memory_mb": "peak MiB",  # of runs from before the two were told apart
    "generator_mparams": "G, M parameters",
    "discriminator_mparams": "D, M parameters",
    "gflops_per_step": "GFLOP per step",
}
_DIGITS = 4
"""Of the largest number of a column; all of a column have the decimals that this one has."""
_ROWS = {
    "ceiling": "real held-out images, own captions (ceiling)",
    "floor": "real held-out images, shuffled captions (floor)",
    "untrained": "untrained generator",
}
Values = tuple[str, Mapping[str, float]]
"""A row and its number by metric, `n` among them."""


def scale(material: Material) -> Section | None:
    analysis = material.analysis
    if not material.sanity or not analysis.metrics:
        return None
    cells = {result.metric.name: result.cell(analysis.baseline) for result in analysis.metrics}
    means = {name: cell.mean for name, cell in cells.items() if cell.mean is not None}
    rows: list[Values] = [(name, material.sanity[key]) for key, name in _ROWS.items() if key in material.sanity]
    rows += _chance(analysis.metrics)
    fields: list[Field[Values]] = [
        text("row", lambda row: row[0]),
        numeric("n", lambda row: f"{row[1]['n']:.0f}" if "n" in row[1] else wording.MISSING, lambda r: r[1].get("n")),
        *(_reached(result.metric) for result in analysis.metrics),
    ]
    shown = table(
        ["scale"], "What real images and an untrained generator reach", fields, [*rows, (analysis.baseline, means)]
    )
    notes = [
        "The ceiling's distances are those of n real images of the other side of the split; few are biased upward."
    ]
    notes += _without_floor(material)
    return Section("Scale", (shown, Paragraph(" ".join(notes), note=True)), "scale")


def _without_floor(material: Material) -> Iterator[str]:
    """For how many real images no caption differs from their own."""
    asked = max((result.card.get("asked", 0) for result in material.analysis.metrics), default=0)
    floor = material.sanity.get("floor", {}).get("n", 0.0)
    if "ceiling" in material.sanity and not floor:
        yield "There is no floor, as all held-out captions are one to the CLIP that measures."
    elif floor and floor < asked:
        yield f"The floor is of {floor:.0f} of {asked} images, as the others' captions are all one to that CLIP."


def _chance(results: Sequence[MetricResult]) -> Iterator[Values]:
    """What R-precision is of images that have nothing to do with any caption, and of one image for all."""
    for result in results:
        if "rivals" in result.card:
            name, among = result.metric.name, result.card["rivals"] + 1
            yield f"chance, ranked among {among}", {name: result.card["chance"]}
            if result.card["constant"] > result.card["chance"]:
                yield "one image for all captions, at best", {name: result.card["constant"]}


def _reached(metric: Metric) -> Field[Values]:
    def tell(row: Values) -> str:
        return wording.number(metric, row[1][metric.name]) if metric.name in row[1] else wording.MISSING

    return numeric(metric.title, tell, lambda row: row[1].get(metric.name))


def cost(material: Material) -> Section | None:
    found = {name for each in material.costs for name in each.means}
    names = [name for name in _COSTS if name in found] + sorted(found - set(_COSTS))
    if not names:
        return None
    note = "Means over finished runs. Runs that shared the machine with others took longer for it."
    shown = folded(_costs(material.costs, names), "cells and their cost")
    blocks: list[Block] = [shown, Paragraph(note, note=True), *material.figures.get("tradeoff", ())]
    return Section("Cost", (*blocks, *_at_equal_time(material)), "cost")


def _costs(costs: Sequence[CellCost], names: Sequence[str]) -> Table:
    fields: list[Field[CellCost]] = [
        text("cell", lambda each: each.cell),
        numeric(
            "time, baseline 1",
            lambda each: wording.plain_number(each.ratio),
            lambda each: each.ratio,
        ),
        *(_mean(name, _decimals([each.means[name] for each in costs if name in each.means])) for name in names),
    ]
    return table(["cost"], "Cost by cell", fields, costs)


def _decimals(values: Sequence[float]) -> int:
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return min(6, max(0, _DIGITS - 1 - math.floor(math.log10(largest)))) if largest else 0


def _mean(name: str, decimals: int) -> Field[CellCost]:
    def tell(each: CellCost) -> str:
        return wording.plain_number(each.means.get(name), decimals)

    return numeric(_COSTS.get(name, name), tell, lambda each: each.means.get(name))


def _at_equal_time(material: Material) -> list[Block]:
    """Each effect at equal images and once more at equal time."""
    if material.equal_time is None:
        return []
    other = {result.metric.name: result for result in material.equal_time.metrics}
    both = [
        (result, other[result.metric.name]) for result in material.analysis.headlines if result.metric.name in other
    ]
    shown = [Section(title(result.metric), (_both(result, timed),)) for result, timed in both if result.effects]
    if not shown:
        return []
    note = (
        "At equal time: what each run had reached after as many seconds of training as the baseline takes for all its "
        "images, read between snapshots by a straight line."
    )
    noise = timing_noise(material.costs)
    if noise is not None:
        note += (
            f" Cells that do the same arithmetic took times that differ by up to {100 * noise:.0f} %: so much is the "
            "machine's, and the intervals do not know of it."
        )
    return [Section("At equal time beside equal images", (Paragraph(note, note=True), *shown))]


def _both(result: MetricResult, timed: MetricResult) -> Table:
    late = {effect.toggle: effect.estimate for effect in timed.effects}

    def then(effect: Effect) -> Estimate:
        return late.get(effect.toggle, NOTHING)

    def now(effect: Effect) -> Estimate:
        return effect.estimate

    fields: list[Field[Effect]] = [
        text("idea", lambda effect: effect.toggle),
        *change(result.metric, now, "equal images"),
        text("verdict", lambda effect: verdict(now(effect).verdict)),
        *change(result.metric, then, "equal time"),
        text("verdict then", lambda effect: verdict(then(effect).verdict)),
    ]
    caption = f"Effects at equal images and at equal time on {title(result.metric)}"
    return table(["equal-time", result.metric.name], caption, fields, result.effects)


def curves(material: Material) -> Section | None:
    drawn = material.figures.get("curves", ())
    return Section("Learning curves", drawn, "curves") if drawn else None


def samples(material: Material) -> Section | None:
    drawn = material.figures.get("samples", ())
    if not drawn:
        return None
    captions = Details("Captions, from left to right", (bullets(material.captions),))
    return Section("Samples", (*drawn, *([captions] if material.captions else [])), "samples")
