"""The sections that put the numbers in context: scale, cost, learning curves, samples and runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from harness.analysis.costs import SCRIPT_SECONDS, CellCost, timing_noise
from harness.analysis.results import CellState, Effect, Estimate, MetricResult
from harness.metrics.definitions import NO_CAPTIONS
from harness.report import wording
from harness.report.document.model import Block, Code, Details, FileLink, Mark, Paragraph, Section, Table, Text, bullets
from harness.report.effects import title
from harness.report.inputs import MOST_RUNS, ReportInputs, run_anchor
from harness.report.samples import viewer
from harness.report.tables import (
    NO_ESTIMATE,
    Field,
    change,
    folded,
    measured,
    named,
    numeric,
    plain_column,
    table,
    text,
)
from harness.report.verdicts import mark
from harness.runs.record import STATES, RunRecord, State, state_of
from harness.text import quantity

COSTS = {
    "s_per_kimg": "s per kimg",
    "seconds": "s in all",
    "script_seconds": "s of the script",
    "peak_memory_training_mb": "peak MiB, training",
    "resident_memory_training_mb": "peak MiB outside the GPU, training",
    "peak_memory_measuring_mb": "peak MiB, measuring",
    "peak_memory_mb": "peak MiB",  # of runs from before training and measuring were separated
    "generator_mparams": "G, M parameters",
    "discriminator_mparams": "D, M parameters",
    "gflops_per_step": "GFLOP per step",
}
MOST_UNFINISHED = 50
"""Runs without a result that are listed one by one."""
_ROWS = {
    "ceiling": "real held-out images, own captions (ceiling)",
    "floor": "real held-out images, shuffled captions (floor)",
    "untrained": "untrained generator",
}
Values = tuple[str, Mapping[str, float | None]]
"""A row and its number by metric, `n` among them."""


def scale(inputs: ReportInputs) -> Iterator[Block]:
    analysis, sanity = inputs.analysis, inputs.sanity
    if not sanity or not analysis.metrics:
        return
    yield _scale_table(inputs)
    note = (
        "The distances of the ceiling are those of n real images from the other side of the split; with few images "
        "they are too high."
    )
    # Images whose captions all look alike to the measuring CLIP have no other caption to be scored with.
    asked = max(result.card.get("asked", 0) for result in analysis.metrics)
    floor = sanity.get("floor", {}).get("n", 0.0)
    if any(result.card.get("captions") == "given" for result in analysis.metrics):
        note += " No real image belongs to a caption of metrics.captions, so its metrics have no ceiling and no floor."
    elif "floor" in sanity and not floor:
        note += " There is no floor, as all held-out captions are the same to the CLIP that measures."
    elif 0 < floor < asked:
        few = f"{floor:.0f} of {asked} images"
        note += f" The floor is from {few}, as the other captions are all the same to that CLIP."
    yield Paragraph(note, note=True)


def _scale_table(inputs: ReportInputs) -> Table:
    results, baseline = inputs.analysis.metrics, inputs.analysis.baseline
    titles = dict(_ROWS)
    captions = {result.card.get("captions") for result in results}
    if "held-out" not in captions and captions & {"given", NO_CAPTIONS}:
        titles["ceiling"] = "real held-out images (ceiling)"
    elif {result.card.get("captions") for result in results if "asked" in result.card} == {"train"}:
        titles |= {row: title.replace("held-out images", "images to train on") for row, title in titles.items()}
    if any(it.run.cell == baseline and it.run.settings.init.averaged for it in inputs.records):
        titles["untrained"] = f"{baseline} before training, with the weights of init"
    rows: list[Values] = [(title, inputs.sanity[row]) for row, title in titles.items() if row in inputs.sanity]
    # The R-precision of images that fit no caption, and of one image for all captions.
    for result in results:
        if "rivals" in result.card:
            name, among = result.metric.name, result.card["rivals"] + 1
            rows.append((f"chance, ranked among {among}", {name: result.card["chance"]}))
            if result.card["constant"] > result.card["chance"]:
                rows.append(("one image for all captions, at best", {name: result.card["constant"]}))
    means = {result.metric.name: result.cell(baseline).mean for result in results}
    rows.append((baseline, means))
    fields: list[Field[Values]] = [text("row", lambda row: row[0]), plain_column("n", lambda row: row[1].get("n"), 0)]
    fields += measured([result.metric for result in results], lambda row: row[1])
    return table(["scale"], "What real images and a generator before training reach", fields, rows)


def cost(inputs: ReportInputs) -> Iterator[Block]:
    present = {name for each in inputs.costs for name in each.means}
    if names := [name for name in COSTS if name in present] + sorted(present - set(COSTS)):
        yield folded(costs_table(inputs.costs, names), "cells and their cost")
        yield Paragraph("Means over finished runs. Runs that shared the machine with others took longer.", note=True)
        yield from inputs.figures.get("tradeoff", ())
        yield from _at_equal_time(inputs)


def costs_table(costs: Sequence[CellCost], names: Sequence[str]) -> Table:
    """One row for each cell; all numbers of a column have the decimals of its largest, which has four digits."""

    def column(name: str) -> Field[CellCost]:
        values = [abs(each.means[name]) for each in costs if name in each.means and math.isfinite(each.means[name])]
        largest = max(values, default=0.0)
        decimals = min(6, max(0, 3 - math.floor(math.log10(largest)))) if largest else 0
        return plain_column(COSTS.get(name, name), lambda each: each.means.get(name), decimals)

    fields: list[Field[CellCost]] = [
        named("cell", lambda each: each.cell),
        plain_column("time, baseline 1", lambda each: each.ratio),
        *map(column, names),
    ]
    return table(["cost"], "Cost by cell", fields, costs)


def _at_equal_time(inputs: ReportInputs) -> Iterator[Block]:
    """Each effect at equal images and once more at equal time."""
    timed = {result.metric.name: result for result in inputs.equal_time.metrics} if inputs.equal_time else {}
    shown = [
        Section(
            title(result.metric), (_equal_time_table(result, timed[result.metric.name]),), metric=result.metric.name
        )
        for result in inputs.analysis.headlines
        if result.effects and result.metric.name in timed
    ]
    if not shown:
        return
    note = (
        "At equal time: what each run had reached after as many seconds of training as the baseline takes for all its "
        "images, interpolated by a straight line between snapshots."
    )
    if any(SCRIPT_SECONDS in each.means for each in inputs.costs):
        note += (
            " Of a script the seconds are those of its process, from start to end over all attempts: loading data and "
            "drawing images count, measuring after its end does not. It is taken to be as fast at every step, and "
            "equal images are whole runs."
        )
    noise = timing_noise(inputs.costs)
    if noise is not None:
        note += (
            f" Cells that do the same arithmetic took times that differ by up to {100 * noise:.0f} %. That comes from "
            "the machine, and the intervals do not include it."
        )
    yield Section("At equal time and at equal images", (Paragraph(note, note=True), *shown))


def _equal_time_table(result: MetricResult, timed: MetricResult) -> Table:
    estimates = {effect.toggle: effect.estimate for effect in timed.effects}

    def at_equal_time(effect: Effect) -> Estimate:
        return estimates.get(effect.toggle, NO_ESTIMATE)

    fields: list[Field[Effect]] = [
        named("idea", lambda effect: effect.toggle),
        *change(result.metric, attrgetter("estimate"), "equal images"),
        text("verdict", lambda effect: mark(effect.estimate.verdict)),
        *change(result.metric, at_equal_time, "equal time"),
        text("verdict at equal time", lambda effect: mark(at_equal_time(effect).verdict)),
    ]
    caption = f"Effects at equal images and at equal time on {title(result.metric)}"
    return table(["equal-time", result.metric.name], caption, fields, result.effects)


def samples(inputs: ReportInputs) -> Iterator[Block]:
    figures = inputs.figures.get("samples", ())
    yield from figures
    if choice := viewer(inputs.records):
        yield choice
    if figures and inputs.captions:
        yield Details("Captions, from left to right", (bullets(inputs.captions),))


def runs(inputs: ReportInputs) -> Iterator[Block]:
    cells, count = inputs.analysis.cells, quantity(len(inputs.records), "run")
    if unfinished := [record for record in inputs.records if state_of(record) != "done"]:
        yield folded(_states(cells), "cells by the state of their runs")
        yield _listed(unfinished, "in runs.csv" if len(inputs.records) > MOST_RUNS else "in the table below")
    else:
        yield Paragraph(f"All runs are done: {count} of {quantity(len(cells), 'cell')}.")
    if len(inputs.records) > MOST_RUNS:
        yield Paragraph(
            ("So many runs are not listed: ", FileLink("runs.csv", "runs.csv"), " has each with its numbers.")
        )
    else:
        yield Details(f"All {count} with their numbers", (runs_table(inputs),))


def _states(cells: Sequence[CellState]) -> Table:
    """How many of a cell's planned runs are in which state: `1 of 3`."""

    def column(state: State) -> Field[CellState]:
        return numeric(state, lambda cell: wording.rate(cell.states, state), lambda cell: cell.states.get(state, 0))

    present = [state for state in STATES if any(cell.states.get(state) for cell in cells)]
    fields: list[Field[CellState]] = [named("cell", lambda cell: cell.cell), *map(column, present)]
    return table(["states"], "States of runs by cell", fields, cells)


def _listed(unfinished: Sequence[RunRecord], where_listed: str) -> Block:
    items: list[Text] = []
    for record in unfinished[:MOST_UNFINISHED]:
        run, status, state = record.run, record.status, state_of(record)
        where = f" at step {status.step} of {status.total_steps}" if status.step else ""
        why = (f": {status.reason}",) if status.reason else ()
        items.append((f"{run.cell}, seed {run.seed} (", Code(run.id), "): ", Mark(state, state), where, *why))
    if len(unfinished) > MOST_UNFINISHED:
        items.append(f"{len(unfinished) - MOST_UNFINISHED} more, listed {where_listed}.")
    return bullets(items)


def runs_table(inputs: ReportInputs) -> Table:
    """One row for each run, with its numbers."""
    fields: list[Field[RunRecord]] = [
        text("run", lambda record: Code(record.run.id)),
        named("cell", lambda record: record.run.cell),
        named("seed", lambda record: str(record.run.seed), "seed"),
        text("state", lambda record: Mark(state_of(record), state_of(record))),
    ]
    metrics = [result.metric for result in inputs.analysis.metrics]
    fields += measured(metrics, lambda record: record.result.metrics if record.result else {})
    return table(["runs"], "Every run with its numbers", fields, inputs.records, run_anchor)
