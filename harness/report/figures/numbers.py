"""How an axis writes differences. No torch here."""

from __future__ import annotations

from collections.abc import Callable

from harness.metrics.definitions import Metric


def unit(metric: Metric) -> str:
    """What follows a difference."""
    return " %" if metric.scale == "log" else ""


def tick(metric: Metric, ends: tuple[float, float]) -> Callable[[float, int], str]:
    """Writes the ticks of an axis of differences with these ends."""
    least = 1e-9 * max(map(abs, ends))
    return lambda value, _: f"{value:+g}{unit(metric)}".replace("-", "−") if abs(value) > least else "0"
