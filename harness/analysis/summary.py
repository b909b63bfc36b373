"""An analysis as plain numbers and tables, for trackers. No torch here."""

from __future__ import annotations

from typing import Any

from harness.analysis.results import Analysis, Estimate

Frame = dict[str, list[Any]]
"""{"columns": names, "data": rows}, the shape of a data frame split."""


def numbers(analysis: Analysis) -> dict[str, float]:
    """What is known of each cell and metric by name: `<cell>/<metric>/mean`, sd, n, difference, low and high."""
    found: dict[str, float | None] = {}
    for result in analysis.metrics:
        for cell in result.cells:
            name = f"{cell.cell}/{result.metric.name}"
            found |= {f"{name}/mean": cell.mean, f"{name}/sd": cell.sd, f"{name}/n": len(cell.values)}
            found |= {f"{name}/{key}": value for key, value in _difference(cell.estimate).items()}
    return {name.replace("+", " "): value for name, value in found.items() if value is not None}


def _difference(estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {}
    return {"difference": estimate.value, "low": estimate.low, "high": estimate.high}


def tables(analysis: Analysis) -> dict[str, Frame]:
    """The cells, effects and interactions of all metrics, a table each."""
    told = ["low", "high", "p", "p_holm", "n", "improved", "verdict", "paired", "reason"]
    return {
        "cells": {"columns": ["metric", "cell", "runs", "mean", "sd", "difference", *told], "data": _cells(analysis)},
        "effects": {"columns": ["metric", "toggle", "effect", *told], "data": _effects(analysis)},
        "interactions": {"columns": ["metric", "aliases", "effect", *told], "data": _interactions(analysis)},
    }


def _cells(analysis: Analysis) -> list[list[Any]]:
    return [
        [result.metric.name, cell.cell, len(cell.values), cell.mean, cell.sd, *_row(cell.estimate)]
        for result in analysis.metrics
        for cell in result.cells
    ]


def _effects(analysis: Analysis) -> list[list[Any]]:
    return [
        [result.metric.name, effect.toggle, *_row(effect.estimate)]
        for result in analysis.metrics
        for effect in result.effects
    ]


def _interactions(analysis: Analysis) -> list[list[Any]]:
    return [
        [result.metric.name, " or ".join(each.aliases), *_row(each.estimate)]
        for result in analysis.metrics
        for each in result.interactions
    ]


def _row(estimate: Estimate | None) -> list[Any]:
    if estimate is None:
        return [*[None] * 7, "baseline", None, ""]
    numbers = [estimate.value, estimate.low, estimate.high, estimate.p, estimate.p_holm]
    return [*numbers, estimate.n, estimate.improved, estimate.verdict, estimate.paired, estimate.reason]
