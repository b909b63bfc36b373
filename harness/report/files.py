"""The tables for machines: every effect, cell, interaction and run as CSV. No torch here."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import Analysis, CellResult, Effect, Estimate, MetricResult
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.csv import Value, csv_text
from harness.runs.record import RunRecord, state_of

_INTERVALS = ("value", "unit", "low", "high", "own_low", "own_high", "n", "improved")
_TESTS = ("p", "p_holm", "p_equivalent", "sign_flip", "sign_flip_least", "d_z", "verdict", "seeds", "paired", "reason")
_ESTIMATE = (*_INTERVALS, *_TESTS)
_SHOWN = ("manifest", "weights_sha256")


def effects_csv(analysis: Analysis) -> str:
    """A row a metric and toggle."""
    rows = [_effect(result.metric, effect) for result in analysis.metrics for effect in result.effects]
    return csv_text(["metric", "toggle", *_ESTIMATE, "pairs", "aliases", "diverged_on", "diverged_off"], rows)


def cells_csv(analysis: Analysis) -> str:
    """A row a metric and cell; the baseline has no difference."""
    rows = [_cell(result, cell) for result in analysis.metrics for cell in result.cells]
    head = ["metric", "cell", "states", "values", "mean", "sd", *_ESTIMATE, "correlation", "manifest"]
    return csv_text(head, rows)


def _effect(metric: Metric, effect: Effect) -> list[Value]:
    about: list[Value] = [effect.pairs, " ".join(effect.aliases), *effect.diverged]
    return [metric.name, effect.toggle, *_estimate(metric, effect.estimate), *about]


def _cell(result: MetricResult, cell: CellResult) -> list[Value]:
    measured: list[Value] = [wording.states(cell.states), len(cell.values), cell.mean, cell.sd]
    baseline: list[Value] = ["baseline" if name == "verdict" else None for name in _ESTIMATE]
    compared = _estimate(result.metric, cell.estimate) if cell.estimate else baseline
    return [result.metric.name, cell.cell, *measured, *compared, cell.correlation, result.card.get("manifest")]


def interactions_csv(analysis: Analysis) -> str:
    """A row a metric and interaction, or sum of several."""
    rows = [
        [result.metric.name, " ".join(found.aliases), found.toggle, *_estimate(result.metric, found.estimate)]
        for result in analysis.metrics
        for found in result.interactions
    ]
    return csv_text(["metric", "aliases", "toggle", *_ESTIMATE], rows)


def _estimate(metric: Metric, estimate: Estimate) -> list[Value]:
    own: dict[str, Value] = {
        "unit": metric.change_unit,
        "seeds": " ".join(map(str, estimate.seeds)),
        "paired": int(estimate.paired),
    }
    return [own[name] if name in own else getattr(estimate, name) for name in _ESTIMATE]


def runs_csv(records: Sequence[RunRecord], toggles: Sequence[str]) -> str:
    """A row a run: what it is, a column of 0 and 1 for every toggle, where it stands, its numbers and its cost."""
    metrics = sorted({name for record in records if record.result for name in record.result.metrics})
    costs = sorted({name for record in records if record.result for name in record.result.cost})
    head = [
        "run",
        "cell",
        "seed",
        *toggles,
        "state",
        "step",
        "attempt",
        "error",
        "manifest",
        "weights_sha256",
        "engine_training",
        "engine_measuring",
        *metrics,
    ]
    rows = [_run(record, toggles, metrics, costs) for record in records]
    return csv_text([*head, *(f"cost_{name}" for name in costs)], rows)


def _run(record: RunRecord, toggles: Sequence[str], metrics: Sequence[str], costs: Sequence[str]) -> list[Value]:
    run, status = record.run, record.status
    measured = record.result.metrics if record.result else {}
    cost = record.result.cost if record.result else {}
    on: list[Value] = [int(toggle in run.toggles) for toggle in toggles]
    where: list[Value] = [state_of(record), status.step, status.attempt, status.error, _manifest(record)]
    where.append(record.result.weights or None if record.result else None)
    where += [run.engine.training or None, run.engine.measuring or None]
    numbers: list[Value] = [*(measured.get(name) for name in metrics), *(cost.get(name) for name in costs)]
    return [run.id, run.cell, run.seed, *on, *where, *numbers]


def _manifest(record: RunRecord) -> str | None:
    """The manifest of a run's numbers; all have the same."""
    cards = record.result.cards.values() if record.result else ()
    return " ".join(sorted({str(card["manifest"]) for card in cards if "manifest" in card})) or None
