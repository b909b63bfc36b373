"""Numbers as the figures write them. No torch here."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.definitions import Metric

Floats = NDArray[np.float64]


def signed(metric: Metric, value: float) -> str:
    """A difference with its sign: `−18.2 %`, `+1.30`, `+0.021`."""
    return _digits(metric, value, value) + unit(metric)


def interval(metric: Metric, low: float, high: float) -> str:
    """`[−42.7, −31.3]`, in the unit of the difference before it."""
    wider = max(abs(low), abs(high))
    return f"[{_digits(metric, low, wider)}, {_digits(metric, high, wider)}]"


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


def _digits(metric: Metric, value: float, like: float) -> str:
    if metric.scale == "log":
        decimals = 1 if abs(like) < 1000 else 0
    else:
        decimals = {"points": 2, "share": 3}.get(metric.unit, _three(like))
    text = f"{value:+.{decimals}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def _three(value: float) -> int:
    """Decimals that show three digits."""
    return min(6, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 2
