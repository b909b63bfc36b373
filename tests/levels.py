"""Factors beside toggles, tables of made-up numbers over them, and least squares on dummy columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.analysis.table import Column, RunTable
from harness.design.coding import Weights
from harness.design.factors import Factor
from harness.design.kinds import DesignConfig, Subset, expand
from harness.metrics.definitions import METRICS

AB, ABC = ("a", "b"), ("a", "b", "c")
TAU = Factor("tau", ("tau=0.1", "tau=0.5", "tau=1"), "tau=0.5", (0.1, 0.5, 1.0), "loss.tau")
LAYERS = Factor("layers", ("layers=2", "layers=4", "layers=8", "layers=9"), "layers=2", (2, 4, 8, 9), "g.layers")
SWITCH = Factor("noise", ("noise=false", "noise=true"), "noise=false", (False, True), "generator.noise")
DESIGNS = {
    "one-at-a-time": DesignConfig(),
    "leave-one-out": DesignConfig(kind="leave-one-out", include=("origin",)),
    "both": DesignConfig(kind="both"),
    "full": DesignConfig(kind="full"),
    "fractional": DesignConfig(kind="fractional", generators=("C=AB",)),
    "list": DesignConfig(
        kind="list",
        cells=(("a", "tau=0.1"), ("b", "tau=1"), ("a", "b"), ("c",), ("b", "c", "tau=0.1"), ("a", "c", "tau=1"), ()),
    ),
}
EFFECTS = {"a": 3.0, "b": -2.0, "c": 0.5, "tau=0.1": 1.25, "tau=1": -4.0}


def cells_of(design: DesignConfig, toggles: Subset = ABC, *factors: Factor) -> list[Subset]:
    return [cell.toggles for cell in expand(design, toggles, factors).cells]


def table(cells: Sequence[Subset], ideas: Subset, values: np.ndarray, *factors: Factor) -> RunTable:
    """Of a score, `values` [seeds, cells]; NaN: a failed run."""
    seeds, count = values.shape
    named = expand(
        DesignConfig(kind="list", cells=tuple(cells)), tuple(i for i in ideas if "=" not in i), factors
    ).cells
    assert [cell.toggles for cell in named] == list(cells)
    states = tuple("done" if np.isfinite(value) else "failed" for value in values.ravel())
    column = Column(METRICS["clip_score"], values.ravel(), ("alike",) * count, (False,) * count)
    places, blocks = np.tile(np.arange(count), seeds), np.repeat(np.arange(seeds), count)
    return RunTable(ideas, named, places, blocks, states, (column,), factors=factors)


def planted(cells: Sequence[Subset], effects: Mapping[str, float], seeds: int = 3, base: float = 60.0) -> np.ndarray:
    """Additive effects, and what the runs of a seed share."""
    luck = np.random.default_rng(1).normal(0, 2, seeds)
    return base + luck[:, None] + np.array([sum(effects[idea] for idea in cell) for cell in cells])


def oracle(cells: Sequence[Subset], values: np.ndarray, ideas: Sequence[str]) -> dict[str, float]:
    """Least squares on dummies of seeds and ideas, over the runs that finished."""
    rows, y = [], []
    for seed, row in enumerate(values):
        for cell, value in zip(cells, row, strict=True):
            if np.isfinite(value):
                rows.append([float(seed == s) for s in range(len(values))] + [float(idea in cell) for idea in ideas])
                y.append(value)
    solution = np.linalg.lstsq(np.array(rows), np.array(y), rcond=None)[0]
    return dict(zip(ideas, solution[len(values) :].tolist(), strict=True))


def effects_of(found: Any) -> dict[str, float]:
    return {effect.toggle: effect.estimate.value for effect in found.effects}


def value_of(weights: Weights, values: Mapping[Subset, float]) -> float:
    return sum(weight * values[cell] for cell, weight in weights.items())
