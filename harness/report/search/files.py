"""A search as tables and JSON for machines. No torch here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.analysis import export
from harness.analysis.export import Frame, as_json
from harness.analysis.results import Analysis
from harness.report.document.csv import Value, csv_text
from harness.report.search import answer
from harness.study import search_space
from harness.tuning.findings import Findings, Gain, TrialRow
from harness.tuning.trials import name


def trials_csv(found: Findings) -> str:
    """A row a trial: its outcome, what it measured, by how much it breaks constraints, and its weights."""
    return csv_text(_head(found), [_trial(found, row) for row in found.trials])


def _head(found: Findings) -> list[str]:
    search = found.search
    excess = [f"excess_{metric.name}" for metric, _ in search.constraints]
    measured = [metric.name for metric in search.metrics]
    return ["trial", "outcome", *measured, *excess, "seconds", *(each.name for each in search.parameters)]


def _trial(found: Findings, row: TrialRow) -> list[Value]:
    search = found.search
    measured: list[Value] = [row.measured.get(metric.name) for metric in search.metrics]
    excess: list[Value] = [row.excess.get(metric.name) for metric, _ in search.constraints]
    values: list[Value] = [row.values.get(each.name) for each in search.parameters]
    return [row.number, row.outcome, *measured, *excess, row.seconds, *values]


def search_json(found: Findings) -> dict[str, Any]:
    """All of a search, without what depends on the machine or is secret, such as a storage's URL."""
    search, tune = found.search, asdict(found.search.tune)
    tune["storage"] = None if search.tune.storage is None else "set"
    return {
        "study": search.study.name,
        "profile": search.study.profile,
        "cell": search.cell.name,
        "toggles": list(search.cell.toggles),
        "search": name(search),
        "tune": tune | {"pruner": search_space.pruner(search.cell.settings, search.tune)},
        "parameters": [asdict(each) for each in search.parameters],
        "objectives": [metric.name for metric in search.objectives],
        "constraints": {metric.name: margin for metric, margin in search.constraints},
        "seeds": {"trials": list(search.seeds), "comparison": list(search.fresh_seeds)},
        "is_over": found.is_over,
        "best": found.best.number if found.best else None,
        "front": [row.number for row in found.front],
        "importances": {metric: dict(shares) for metric, shares in found.importances.items()},
        "trials": [asdict(row) for row in found.trials],
        "comparison": as_json(found.comparison) if found.comparison else None,
        "gains": [_gain(gain) for gain in found.gains],
    }


def _gain(gain: Gain) -> dict[str, Any]:
    both = {"written": as_json(gain.written), "tuned": as_json(gain.tuned)}
    return {"cell": gain.cell, "over": gain.over, "trials": list(gain.trials), **both}


def summary(found: Findings) -> tuple[dict[str, float], dict[str, Frame]]:
    """What a tracker shows of a search: numbers by name, and the table of its trials."""
    rows = {"first": answer.first(found), "best": found.best}
    numbers: dict[str, float] = {"trials": float(len(found.trials)), "trials_with_outcome": float(found.done)}
    for label, row in rows.items():
        numbers |= {f"{label}/{each.name}": row.measured[each.name] for each in found.search.metrics} if row else {}
    if found.best:
        numbers["best/trial"] = float(found.best.number)
    if found.comparison:
        numbers |= _under("comparison", found.comparison)
    for gain in found.gains:
        numbers |= _under(f"over {gain.over}/written", gain.written) | _under(f"over {gain.over}/tuned", gain.tuned)
    tables: dict[str, Frame] = {
        "trials": {"columns": _head(found), "data": [_trial(found, row) for row in found.trials]}
    }
    return numbers, tables


def _under(name: str, analysis: Analysis) -> dict[str, float]:
    return {f"{name}/{key}": value for key, value in export.numbers(analysis).items()}
