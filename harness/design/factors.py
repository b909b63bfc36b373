"""Factors: settings with several values, of which each but the reference level is an idea like a toggle.

A factor with k levels gives k - 1 ideas, named `tau=0.1`. No two of them are on together, and where none is, the factor
has its reference level. So a cell is still a set of ideas, and all that a factor adds is which ideas belong together.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Factor:
    """A setting and its levels."""

    name: str
    """Short: `tau`."""
    levels: tuple[str, ...]
    """Names of all levels, the reference too, in the order in which they were written: `tau=0.1`."""
    reference: str
    """The name of the level that a cell has where no other one is on."""
    values: tuple[Any, ...]
    """The levels' values."""
    setting: str = ""
    """Dotted name of the setting; empty for a column of a CSV."""

    @property
    def ideas(self) -> tuple[str, ...]:
        """The levels other than the reference."""
        return tuple(level for level in self.levels if level != self.reference)

    def level(self, name: str) -> str | None:
        """The level that `tau=0.10`, or `loss.tau=0.1`, stands for; None if it is none."""
        if name in self.levels:
            return name
        left, equals, text = name.partition("=")
        if not equals or left not in (self.name, self.setting):
            return None
        if (short := level_name(self.name, text)) in self.levels:
            return short
        number = _number(text)
        return next((own for own, each in zip(self.levels, self.values, strict=True) if _same(each, number)), None)

    def of(self, cell: Iterable[str]) -> str:
        """The level that a cell has."""
        return next((idea for idea in self.ideas if idea in cell), self.reference)

    @cached_property
    def ascending(self) -> tuple[str, ...]:
        """The levels from the lowest value to the highest; empty where values are no numbers or a trend is no more than
        an effect, as there are two.
        """
        if len(self.levels) < 3 or any(
            isinstance(each, bool) or not isinstance(each, int | float) for each in self.values
        ):
            return ()
        return tuple(name for _, name in sorted(zip(self.values, self.levels, strict=True)))

    def trend(self) -> dict[str, float]:
        """Level -> its weight in the linear trend: the rise from the lowest to the highest level of the least-squares
        line over the ranks of the levels.

        Ranks, not values: whoever writes 0.01, 0.1, 1 takes them as steps of one size, and the trend is then the same
        for a setting and its logarithm, and is not that of the largest value against all others.
        """
        ranks = np.arange(len(self.ascending)) - (len(self.ascending) - 1) / 2
        weights = (len(ranks) - 1) * ranks / (ranks**2).sum() if len(ranks) else ranks
        return dict(zip(self.ascending, weights.tolist(), strict=True))

    def as_dict(self) -> dict[str, Any]:
        """JSON: {"factor", "setting", "levels": [names], "reference", "trend": lowest to highest level, or empty}."""
        named = {"factor": self.name, "setting": self.setting or None}
        return {**named, "levels": self.levels, "reference": self.reference, "trend": self.ascending}


def levels_of(factors: Iterable[Factor]) -> tuple[str, ...]:
    """The ideas of all factors, in order."""
    return tuple(idea for factor in factors for idea in factor.ideas)


def without_levels(ideas: Iterable[str], factors: Iterable[Factor]) -> tuple[str, ...]:
    """The ideas that are toggles."""
    levels = levels_of(factors)
    return tuple(idea for idea in ideas if idea not in levels)


def combinations_of(factors: Iterable[Factor]) -> int:
    """How many combinations of levels there are."""
    return math.prod(len(factor.levels) for factor in factors)


def crossed(cells: Iterable[tuple[str, ...]], factors: Sequence[Factor]) -> list[tuple[str, ...]]:
    """Each of the cells with every combination of levels, those with few ideas first."""
    levels = [[(), *((idea,) for idea in factor.ideas)] for factor in factors]
    whole = [sum(on, cell) for cell in cells for on in product(*levels)]
    return sorted(whole, key=len) if factors else whole


def level_name(factor: str, value: Any) -> str:
    """`tau=0.1`: a name that can stand in a cell's, in an interaction's and in a tracker's."""
    # What is replaced leaves no mark at the ends: `-` before a number would be a minus.
    text = re.sub(r"[^\w.-]+", "-", re.sub(r"^[^\w.-]+|[^\w.-]+$", "", written(value)))
    return f"{factor}={text or ('empty' if value == '' else '-')}"


def written(value: Any) -> str:
    """A value as YAML has it, in its shortest form: 1, 0.1, 1e-05, true, null, ''."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return repr(value).removesuffix(".0").replace("e+", "e")
    return ",".join(map(written, value)) if isinstance(value, list | tuple) else str(value) or "''"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _same(value: Any, number: float | None) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == number
