"""An analysis for others: as documented JSON, and as plain numbers and tables for trackers.

{"baseline", "toggles": [toggle or level], "levels": [{"factor", "setting", "levels": [name], "reference", "trend"}],
 "seeds", "design": {"basis", "reading", "inestimable", "condition"}, "notes": [text],
 "looks": {"first", "most", "rate", "spent": {seeds: of the rate, up to that look}, "so_far": [{"seeds", "undecided":
           {headline metric: [effect]}}]}, only where seeds were added by looks,
 "suspicions",
 "metrics": {name: {
    "title", "better": "lower" | "higher", "scale": "log" | "raw", "unit": "%" or the metric's, "role",
    "residual_sd", "df", "seed_correlation", "margin", "card",
    "notes": [text],
    "holm": {"effects", "cells", "interactions": size of the family, without those of cells that trained alike},
    "effects": [{"toggle": a toggle or a level, ESTIMATE, "pairs", "aliases": ["a:b"], "diverged": {"on", "off"}}],
    "trends": [{"factor", "levels": [lowest, ..., highest], "effect", "ci", "p", "n", "by_seed", "own_ci", "paired",
                "reason"}], in no family of Holm's,
    "cells": [{"cell", "toggles", "seeds", "values", "mean", "sd", "states": {state: runs}, ESTIMATE with its value as
               "difference" and for "n" the number of its values, "correlation"}],
    "interactions": [{"aliases": ["a:b"], "toggle", ESTIMATE}],
    "attribution": [{"toggle", ESTIMATE}], "control": {"seeds", "value", "ci", "p"} | null,
    "lenth": {"contrasts": {name: value}, "pse", "margin", "simultaneous"} | null}}}

ESTIMATE is "effect", "ci": [low, high] | null, "p", "p_holm", "p_equivalent", "verdict", "n", "improved", "by_seed":
{seed: value}, "own_ci", "sign_flip": {"p", "least"} | null, "d_z", "uneven", "paired", "reason"; by looks also
"decided_after": seeds, where a test gave the verdict.
Differences are in "unit".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.looks import Looks
from harness.analysis.results import Analysis, CellResult, Estimate, LookResult, MetricResult, Trend, family_size
from harness.analysis.sample import ALPHA
from harness.analysis.spending import spent


def as_json(analysis: Analysis) -> dict[str, Any]:
    return {
        **_fields(analysis, "baseline toggles seeds notes suspicions"),
        **({"looks": _rule(analysis.rule, analysis.looks)} if analysis.rule and analysis.looks is not None else {}),
        "levels": [factor.as_dict() for factor in analysis.factors],
        "design": _fields(analysis.design, "basis reading inestimable condition"),
        "metrics": {result.metric.name: _metric(result) for result in analysis.metrics},
    }


def _rule(rule: Looks, looks: Sequence[LookResult]) -> dict[str, Any]:
    return {
        **_fields(rule, "first most"),
        "rate": round(ALPHA, 9),
        "spent": {seeds: ALPHA * float(spent(seeds, rule.most)) for seeds in range(rule.first, rule.most + 1)},
        "so_far": [_fields(look, "seeds undecided") for look in looks],
    }


def _fields(of: Any, names: str) -> dict[str, Any]:
    return {name: getattr(of, name) for name in names.split()}


def _metric(result: MetricResult) -> dict[str, Any]:
    control, lenth = result.control, result.lenth
    return {
        **_fields(result.metric, "title better scale role"),
        "unit": result.metric.change_unit,
        **_fields(result, "residual_sd df seed_correlation margin card notes"),
        "effects": [
            {
                **_fields(effect, "toggle pairs aliases"),
                **_estimate(effect.estimate),
                "diverged": dict(zip(("on", "off"), effect.diverged, strict=True)),
            }
            for effect in result.effects
        ],
        "holm": {
            "effects": family_size(effect.estimate for effect in result.effects),
            "cells": family_size(cell.estimate for cell in result.cells),
            "interactions": family_size(each.estimate for each in result.interactions),
        },
        "trends": [_trend(trend) for trend in result.trends],
        "cells": [_cell(cell) for cell in result.cells],
        "interactions": [
            {"aliases": each.aliases, "toggle": each.toggle or None, **_estimate(each.estimate)}
            for each in result.interactions
        ],
        "attribution": [{"toggle": name, **_estimate(share)} for name, share in result.attribution.items()],
        "control": control and {**_fields(control, "seeds value p"), "ci": _ends(control.low, control.high)},
        "lenth": lenth
        and {
            **_fields(lenth, "pse margin simultaneous"),
            "contrasts": dict(zip(lenth.names, lenth.values, strict=True)),
        },
    }


def _estimate(estimate: Estimate, name: str = "effect") -> dict[str, Any]:
    flips = {"p": estimate.sign_flip, "least": estimate.sign_flip_least}
    return {
        name: estimate.value,
        "ci": _ends(estimate.low, estimate.high),
        **_fields(estimate, "p p_holm p_equivalent verdict n improved d_z uneven paired reason"),
        "by_seed": {str(seed): value for seed, value in zip(estimate.seeds, estimate.by_seed, strict=True)},
        "own_ci": _ends(estimate.own_low, estimate.own_high),
        "sign_flip": None if estimate.sign_flip is None else flips,
        **({} if estimate.decided_after is None else {"decided_after": estimate.decided_after}),
    }


def _trend(trend: Trend) -> dict[str, Any]:
    of = _estimate(trend.estimate)
    names = ["effect", "ci", "p", "n", "by_seed", "own_ci", "paired", "reason"]
    return {"factor": trend.factor.name, "levels": trend.factor.ascending, **{name: of[name] for name in names}}


def _ends(low: float | None, high: float | None) -> list[float] | None:
    return None if low is None or high is None else [low, high]


def _cell(cell: CellResult) -> dict[str, Any]:
    compared = {**dict.fromkeys(("difference", "ci", "p", "p_holm")), "verdict": "baseline", "reason": ""}
    if cell.estimate:
        compared = _estimate(cell.estimate, "difference")
    return {
        **_fields(cell, "cell toggles seeds values mean sd states"),
        **compared,
        # Runs that are finished; of the difference n counts the pairs, which `by_seed` names.
        "n": len(cell.values),
        "correlation": cell.correlation,
    }


Frame = dict[str, list[Any]]
"""{"columns": names, "data": rows}, the shape that pandas calls split."""
_TAKEN = str.maketrans("+=", "  ")
_ESTIMATE = ("low", "high", "p", "p_holm", "n", "improved", "verdict", "paired", "reason")


def numbers(analysis: Analysis) -> dict[str, float]:
    """Headline results of each cell by name: `<cell>/<metric>/mean` and `<cell>/<metric>/difference` from the baseline.

    Names are such that trackers take them: a space in place of a plus or an equals sign. Trackers draw a chart of each
    number, so these are few; intervals and the other metrics are in `tables`.
    """
    values: dict[str, float | None] = {}
    for result in analysis.headlines:
        for cell in result.cells:
            name = f"{cell.cell}/{result.metric.name}"
            values[f"{name}/mean"] = cell.mean
            values[f"{name}/difference"] = None if cell.estimate is None else cell.estimate.value
    return {name.translate(_TAKEN): value for name, value in values.items() if value is not None}


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
    return [estimate.value, *(getattr(estimate, name) for name in _ESTIMATE)]
