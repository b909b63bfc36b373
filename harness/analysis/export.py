"""An analysis for others: as documented JSON, and as plain numbers and tables for trackers.

{"baseline", "toggles", "seeds", "design": {"basis", "reading", "inestimable", "condition"}, "notes": [text],
 "suspicions",
 "metrics": {name: {
    "title", "better": "lower" | "higher", "scale": "log" | "raw", "unit": "%" or the metric's, "role",
    "residual_sd", "df", "seed_correlation", "margin", "card",
    "notes": [text],
    "effects": [{"toggle", ESTIMATE, "pairs", "aliases": ["a:b"], "diverged": {"on", "off"}}],
    "cells": [{"cell", "toggles", "seeds", "values", "mean", "sd", "states": {state: runs}, ESTIMATE with its value as
               "difference", "correlation"}],
    "interactions": [{"aliases": ["a:b"], "toggle", ESTIMATE}],
    "attribution": [{"toggle", ESTIMATE}], "control": {"seeds", "value", "ci", "p"} | null,
    "lenth": {"contrasts": {name: value}, "pse", "margin", "simultaneous"} | null}}}

ESTIMATE is "effect", "ci": [low, high] | null, "p", "p_holm", "p_equivalent", "verdict", "n", "improved", "by_seed":
{seed: value}, "own_ci", "sign_flip": {"p", "least"} | null, "d_z", "uneven", "paired", "reason".
Differences are in "unit".
"""

from __future__ import annotations

from typing import Any

from harness.analysis.results import Analysis, CellResult, Control, Estimate, Lenth, MetricResult


def as_json(analysis: Analysis) -> dict[str, Any]:
    can = analysis.design
    return {
        "baseline": analysis.baseline,
        "toggles": list(analysis.toggles),
        "seeds": list(analysis.seeds),
        "design": {name: getattr(can, name) for name in ("basis", "reading", "inestimable", "condition")},
        "notes": list(analysis.notes),
        "suspicions": list(analysis.suspicions),
        "metrics": {result.metric.name: _metric(result) for result in analysis.metrics},
    }


def _metric(result: MetricResult) -> dict[str, Any]:
    metric, control, lenth = result.metric, result.control, result.lenth
    return {
        "title": metric.title,
        "better": metric.better,
        "scale": metric.scale,
        "unit": metric.change_unit,
        "role": metric.role,
        "residual_sd": result.residual_sd,
        "df": result.df,
        "seed_correlation": result.seed_correlation,
        "margin": result.margin,
        "card": dict(result.card),
        "notes": list(result.notes),
        "effects": [
            {
                "toggle": effect.toggle,
                **_estimate(effect.estimate),
                "pairs": effect.pairs,
                "aliases": list(effect.aliases),
                "diverged": dict(zip(("on", "off"), effect.diverged, strict=True)),
            }
            for effect in result.effects
        ],
        "cells": [_cell(cell) for cell in result.cells],
        "interactions": [
            {"aliases": list(each.aliases), "toggle": each.toggle or None, **_estimate(each.estimate)}
            for each in result.interactions
        ],
        "attribution": [{"toggle": name, **_estimate(share)} for name, share in result.attribution.items()],
        "control": control and _control(control),
        "lenth": lenth and _lenth(lenth),
    }


def _control(it: Control) -> dict[str, Any]:
    return {"seeds": list(it.seeds), "value": it.value, "ci": _ends(it.low, it.high), "p": it.p}


def _lenth(test: Lenth) -> dict[str, Any]:
    contrasts = dict(zip(test.names, test.values, strict=True))
    return {"contrasts": contrasts, "pse": test.pse, "margin": test.margin, "simultaneous": test.simultaneous}


def _estimate(estimate: Estimate, name: str = "effect") -> dict[str, Any]:
    flips = None
    if estimate.sign_flip is not None:
        flips = {"p": estimate.sign_flip, "least": estimate.sign_flip_least}
    return {
        name: estimate.value,
        "ci": _ends(estimate.low, estimate.high),
        "p": estimate.p,
        "p_holm": estimate.p_holm,
        "p_equivalent": estimate.p_equivalent,
        "verdict": estimate.verdict,
        "n": estimate.n,
        "improved": estimate.improved,
        "by_seed": {str(seed): value for seed, value in zip(estimate.seeds, estimate.by_seed, strict=True)},
        "own_ci": _ends(estimate.own_low, estimate.own_high),
        "sign_flip": flips,
        "d_z": estimate.d_z,
        "uneven": estimate.uneven,
        "paired": estimate.paired,
        "reason": estimate.reason,
    }


def _ends(low: float | None, high: float | None) -> list[float] | None:
    return None if low is None or high is None else [low, high]


def _cell(cell: CellResult) -> dict[str, Any]:
    compared: dict[str, Any] = {
        **dict.fromkeys(("difference", "ci", "p", "p_holm")),
        "verdict": "baseline",
        "reason": "",
    }
    if cell.estimate:
        compared = _estimate(cell.estimate, "difference")
    return {
        "cell": cell.cell,
        "toggles": list(cell.toggles),
        "seeds": list(cell.seeds),
        "values": list(cell.values),
        "mean": cell.mean,
        "sd": cell.sd,
        "states": dict(cell.states),
        **compared,
        # Runs that are finished; of the difference n counts the pairs, which `by_seed` names.
        "n": len(cell.values),
        "correlation": cell.correlation,
    }


Frame = dict[str, list[Any]]
"""{"columns": names, "data": rows}, the shape that pandas calls split."""
_ESTIMATE = ["low", "high", "p", "p_holm", "n", "improved", "verdict", "paired", "reason"]


def numbers(analysis: Analysis) -> dict[str, float]:
    """Results of each cell and metric by name: `<cell>/<metric>/mean`, sd, n, difference, low and high.

    Names are such that trackers take them: a space in place of a plus.
    """
    values: dict[str, float | None] = {}
    for result in analysis.metrics:
        for cell in result.cells:
            name = f"{cell.cell}/{result.metric.name}"
            values |= {f"{name}/mean": cell.mean, f"{name}/sd": cell.sd, f"{name}/n": len(cell.values)}
            if (estimate := cell.estimate) is not None:
                values[f"{name}/difference"] = estimate.value
                values |= {f"{name}/low": estimate.low, f"{name}/high": estimate.high}
    return {name.replace("+", " "): value for name, value in values.items() if value is not None}


def tables(analysis: Analysis) -> dict[str, Frame]:
    """The cells, effects and interactions of all metrics, a table each."""
    cells, effects, interactions = list[list[Any]](), list[list[Any]](), list[list[Any]]()
    for result in analysis.metrics:
        name = result.metric.name
        cells += [[name, it.cell, len(it.values), it.mean, it.sd, *_row(it.estimate)] for it in result.cells]
        effects += [[name, it.toggle, *_row(it.estimate)] for it in result.effects]
        interactions += [[name, " or ".join(it.aliases), *_row(it.estimate)] for it in result.interactions]
    return {
        "cells": {"columns": ["metric", "cell", "runs", "mean", "sd", "difference", *_ESTIMATE], "data": cells},
        "effects": {"columns": ["metric", "toggle", "effect", *_ESTIMATE], "data": effects},
        "interactions": {"columns": ["metric", "aliases", "effect", *_ESTIMATE], "data": interactions},
    }


def _row(estimate: Estimate | None) -> list[Any]:
    if estimate is None:
        return [*[None] * 7, "baseline", None, ""]
    interval = [estimate.value, estimate.low, estimate.high, estimate.p, estimate.p_holm]
    return [*interval, estimate.n, estimate.improved, estimate.verdict, estimate.paired, estimate.reason]
