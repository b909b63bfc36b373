"""Scales of the figures: what is averaged and subtracted, and how an axis writes it. No torch here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.definitions import Metric

Floats = NDArray[np.float64]


def unit(metric: Metric) -> str:
    """What follows a difference."""
    return " %" if metric.scale == "log" else ""


def tick(metric: Metric) -> Callable[[float, int], str]:
    """Writes the ticks of an axis of differences."""
    return lambda value, _: f"{value:+g}{unit(metric)}".replace("-", "−") if abs(value) > 1e-12 else "0"


def analysed(metric: Metric, values: ArrayLike) -> Floats:
    """Measured values on the scale on which they are averaged and subtracted: log for a metric of scale log."""
    raw = np.asarray(values, dtype=np.float64)
    return np.log(raw) if metric.scale == "log" else raw


def measured(metric: Metric, values: ArrayLike) -> Floats:
    """The inverse of `analysed`."""
    scaled = np.asarray(values, dtype=np.float64)
    return np.exp(scaled) if metric.scale == "log" else scaled


def shown(metric: Metric, differences: ArrayLike) -> Floats:
    """Differences on the scale of the analysis as readers see them: in % for a metric of scale log."""
    scaled = np.asarray(differences, dtype=np.float64)
    return 100 * np.expm1(scaled) if metric.scale == "log" else scaled
