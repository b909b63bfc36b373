"""The tables for machines: every effect, cell, interaction and run as CSV, in which no text becomes a formula."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

from harness.analysis.results import Analysis, Estimate
from harness.design.factors import Factor
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.runs.record import COST, OUTCOME, WHICH_RUN, RunRecord, state_of

Value = str | float | int | None
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?")
"""Text that is no formula though it may begin with a sign, such as a level."""
_ESTIMATE = (
    "value", "unit", "low", "high", "own_low", "own_high", "n", "improved", "p", "p_holm", "p_equivalent", "sign_flip",
    "sign_flip_least", "d_z", "verdict", "seeds", "paired", "reason",
)  # fmt: skip


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Value]]) -> str:
    """A CSV file in full; text that a spreadsheet would take for a formula begins with an apostrophe."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_harmless(name) for name in head)
    writer.writerows([_harmless(value) for value in row] for row in rows)
    return stream.getvalue()


def _harmless(value: Value) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        # The repr of numpy's floats would name their type.
        return float.__repr__(value) if isinstance(value, float) else repr(value)
    is_formula = value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) and not _NUMBER.fullmatch(value)
    text = f"'{value}" if is_formula else value
    # A bare carriage return would end the row for some readers.
    return "\n".join(text.splitlines())


def effects_csv(analysis: Analysis) -> str:
    """One row for each metric and idea; by looks also the seeds of the look that decided."""
    rows = [
        [
            *(result.metric.name, effect.toggle, *_estimate(result.metric, effect.estimate)),
            *(effect.pairs, " ".join(effect.aliases), *effect.diverged),
            *([effect.estimate.decided_after] if analysis.rule else []),
        ]
        for result in analysis.metrics
        for effect in result.effects
    ]
    head = ["metric", "toggle", *_ESTIMATE, "pairs", "aliases", "diverged_on", "diverged_off"]
    return csv_text([*head, *(["decided_after"] if analysis.rule else [])], rows)


def cells_csv(analysis: Analysis) -> str:
    """One row for each metric and cell; the baseline has no difference."""
    baseline: list[Value] = ["baseline" if name == "verdict" else None for name in _ESTIMATE]
    rows = [
        [
            *(result.metric.name, cell.cell, wording.states(cell.states), len(cell.values), cell.mean, cell.sd),
            *(_estimate(result.metric, cell.estimate) if cell.estimate else baseline),
            *(cell.correlation, result.card.get("manifest")),
        ]
        for result in analysis.metrics
        for cell in result.cells
    ]
    head = ["metric", "cell", "states", "values", "mean", "sd", *_ESTIMATE, "correlation", "manifest"]
    return csv_text(head, rows)


def interactions_csv(analysis: Analysis) -> str:
    """One row for each metric and interaction, or sum of several."""
    rows = [
        [result.metric.name, " ".join(each.aliases), each.toggle, *_estimate(result.metric, each.estimate)]
        for result in analysis.metrics
        for each in result.interactions
    ]
    return csv_text(["metric", "aliases", "toggle", *_ESTIMATE], rows)


def _estimate(metric: Metric, estimate: Estimate) -> list[Value]:
    seeds = " ".join(map(str, estimate.seeds))
    more = {"unit": metric.change_unit, "n": estimate.n, "seeds": seeds, "paired": int(estimate.paired)}
    values: dict[str, Value] = vars(estimate) | more
    return [values[name] for name in _ESTIMATE]


def trends_csv(analysis: Analysis) -> str:
    """One row for each metric and factor whose levels are numbers; no p of it is corrected."""
    names = ("value", "unit", "low", "high", "own_low", "own_high", "n", "p", "seeds", "paired", "reason")
    rows = []
    for result in analysis.metrics:
        for trend in result.trends:
            values = dict(zip(_ESTIMATE, _estimate(result.metric, trend.estimate), strict=True))
            levels = " ".join(trend.factor.ascending)
            rows.append([result.metric.name, trend.factor.name, levels, *(values[name] for name in names)])
    return csv_text(["metric", "factor", "levels", *names], rows)


def runs_csv(records: Sequence[RunRecord], toggles: Sequence[str], factors: Sequence[Factor] = ()) -> str:
    """One row for each run, see `runs_rows`."""
    return csv_text(*runs_rows(records, toggles, factors))


def runs_rows(
    records: Sequence[RunRecord], toggles: Sequence[str], factors: Sequence[Factor] = ()
) -> tuple[list[str], list[list[Value]]]:
    """The names of the columns, and a row for each run: what it is, 0 or 1 for a toggle, the level of a factor, its
    state, numbers and cost."""
    results = [record.result for record in records if record.result]
    metrics = sorted({name for result in results for name in result.metrics})
    costs = sorted({name for result in results for name in result.cost})
    head = [*WHICH_RUN, *toggles, *(factor.name for factor in factors), *OUTCOME, *metrics]
    head += [f"{COST}{name}" for name in costs]
    rows: list[list[Value]] = []
    for record in records:
        result = record.result
        measured, cost = (result.metrics, result.cost) if result else ({}, {})
        about = _about(record, toggles, factors)
        rows.append([*about, *map(measured.get, metrics), *map(cost.get, costs)])
    return head, rows


def _about(record: RunRecord, toggles: Sequence[str], factors: Sequence[Factor]) -> list[Value]:
    """What the run is and what became of it."""
    run, status, result = record.run, record.status, record.result
    # All cards of a run have the same manifest.
    manifests = {str(card["manifest"]) for card in result.cards.values() if "manifest" in card} if result else set()
    row: list[Value] = [run.id, run.cell, run.seed, *(int(toggle in run.toggles) for toggle in toggles)]
    row += [factor.of(run.toggles).removeprefix(f"{factor.name}=") for factor in factors]
    row += [state_of(record), status.step, status.attempt, status.error, " ".join(sorted(manifests))]
    row += [result.weights if result else None, run.engine.training, run.engine.measuring]
    row += ["; ".join(dict.fromkeys(each.device for each in run.machines))]
    row += ["; ".join(dict.fromkeys(each.versions.get("torch", "") for each in run.machines))]
    return row
