"""An analysis as documented JSON. No torch here.

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

from dataclasses import asdict
from typing import Any

from harness.analysis.results import Analysis, CellResult, Estimate, MetricResult


def as_json(analysis: Analysis) -> dict[str, Any]:
    return {
        "baseline": analysis.baseline,
        "toggles": list(analysis.toggles),
        "seeds": list(analysis.seeds),
        "design": asdict(analysis.design),
        "notes": list(analysis.notes),
        "suspicions": list(analysis.suspicions),
        "metrics": {result.metric.name: _metric(result) for result in analysis.metrics},
    }


def _metric(result: MetricResult) -> dict[str, Any]:
    metric = result.metric
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
        "control": _control(result),
        "lenth": _lenth(result),
    }


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
    unlike: dict[str, Any] = {
        "difference": None,
        "ci": None,
        "p": None,
        "p_holm": None,
        "verdict": "baseline",
        "reason": "",
    }
    compared = _estimate(cell.estimate, "difference") if cell.estimate else unlike
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


def _control(result: MetricResult) -> dict[str, Any] | None:
    control = result.control
    if control is None:
        return None
    ends = _ends(control.low, control.high)
    return {"seeds": list(control.seeds), "value": control.value, "ci": ends, "p": control.p}


def _lenth(result: MetricResult) -> dict[str, Any] | None:
    found = result.lenth
    if found is None:
        return None
    contrasts = dict(zip(found.names, found.values, strict=True))
    return {"contrasts": contrasts, "pse": found.pse, "margin": found.margin, "simultaneous": found.simultaneous}
