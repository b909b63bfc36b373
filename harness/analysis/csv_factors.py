"""Columns of a CSV that are factors: their levels, and which of them is the reference."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from harness.analysis.csv_columns import Sheet, numeric
from harness.design.factors import Factor, level_name, written
from harness.design.kinds import ORIGIN
from harness.errors import DataError, nearest
from harness.text import quantity

MOST_LEVELS = 64
"""Of a factor: a number that varies freely is none."""


def factors_of(sheet: Sheet, baseline: str) -> tuple[Factor, ...]:
    """The factors that the user named; a reference that nobody named is that of the rows of the origin or baseline.

    Raises DataError.
    """
    cell = sheet.like("cell")
    if cell in sheet.levels and (sheet.toggles or len(sheet.levels) > 1):
        why = f"{cell!r} names the cells, which the toggles and other factors make up"
        raise DataError(f"{sheet.path}: --levels {cell}: {why}; name the columns in which the cells differ")
    return tuple(_factor(sheet, name, reference, baseline) for name, reference in sheet.levels.items())


def levels_by_row(sheet: Sheet, name: str) -> list[str]:
    """The level of the factor `name` that each row has."""
    return [level_name(name, value) for value in _values(sheet, name)]


def _values(sheet: Sheet, name: str) -> list[Any]:
    """By row: a number, else the text that stands there."""
    texts = sheet.frame[name]
    numbers = numeric(texts).astype(float)
    # A zero with a sign is the same level.
    return [text if math.isnan(number) else number + 0.0 for text, number in zip(texts, numbers.tolist(), strict=True)]


def _factor(sheet: Sheet, name: str, reference: str | None, baseline: str) -> Factor:
    texts = sheet.frame[name]
    if set("+:=") & set(name):
        why = f"a factor may not be called {name!r}, as levels, cells and interactions are named so"
        raise DataError(f"{sheet.header}: {why}; give the column another name")
    sheet.refuse(name, texts == "", "a level in every row, as --levels names it a factor")
    comma = texts.str.fullmatch(r"[+-]?\d+,\d+")
    sheet.refuse(name, comma, "a word, or a number with a point, such as 0.5, as --levels names it a factor")
    values = tuple(dict.fromkeys(_values(sheet, name)))
    if all(isinstance(value, float) for value in values):
        values = tuple(sorted(values))
    if not 2 <= len(values) <= MOST_LEVELS:
        fix = f"a factor has 2 to {MOST_LEVELS} levels"
        raise DataError(f"{sheet.path}: --levels {name}: the column has {quantity(len(values), 'value')}; {fix}")
    levels = tuple(level_name(name, value) for value in values)
    if twice := sorted({level for level in levels if levels.count(level) > 1}):
        raise DataError(f"{sheet.path}: --levels {name}: two values would both be called {twice[0]!r}; rename one")
    factor = Factor(name, levels, levels[0], values)
    named = ", ".join(map(written, values))
    if reference is not None:
        chosen = factor.level(f"{name}={reference}")
        if chosen is None:
            near = nearest(reference.lower(), map(written, values)) or ";"
            raise DataError(f"{sheet.path}: --levels {name}={reference}: no such level{near} the levels are {named}")
        return replace(factor, reference=chosen)
    # The level of the rows that are called origin, or as the baseline is.
    cells = sheet.frame.get(sheet.like("cell"), texts)
    by_row = levels_by_row(sheet, name)
    for cell in (ORIGIN, baseline):
        own = {by_row[row] for row in np.flatnonzero(cells == cell).tolist()}
        if len(own) == 1:
            return replace(factor, reference=own.pop())
    example = f"--levels {name}={written(values[0])}"
    why = "nothing says which of its levels the others are compared with"
    raise DataError(f"{sheet.path}: --levels {name}: {why} ({named}); name it, such as {example}")
