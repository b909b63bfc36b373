"""The distances over pairs one by one, for the tests of each."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from harness.metrics.pairs import kid_precision_recall


def kernel_distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    return kid_precision_recall(a, b)[0]


def precision_recall(real: NDArray[Any], fake: NDArray[Any]) -> tuple[float, float]:
    return kid_precision_recall(real, fake)[1:]
