"""Effects and interactions from columns: of an orthogonal design, of what is left of it, and by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.design.coding import Coding, Contrast, Floats, Weights, edges_of
from harness.design.kinds import Subset

_Contrasts = tuple[tuple[Contrast, ...], tuple[Contrast, ...]]
"""Effects and interactions."""
_Groups = dict[tuple[float, ...], list[tuple[str, int]]]
"""Column, +1 in its first cell -> the interactions `a:b` that have it, each with its sign."""


def from_columns(coding: Coding) -> _Contrasts:
    """Effects, and interactions grouped by equal columns, of an orthogonal design."""
    cells, sides = coding.cells, dict(zip(coding.ideas, coding.steps == 2, strict=True))

    def contrast(column: Floats) -> Weights:
        """mean(+1) - mean(-1); each side is half of the cells."""
        return {cell: 2 * value / len(cells) for cell, value in zip(cells, column.tolist(), strict=True)}

    groups = _interaction_columns(coding)
    by_factor = [tuple(coding.ideas[place] for place in places) for places in coding.siblings]
    effects, interactions = [], []
    for idea, column in zip(coding.ideas, coding.columns.T, strict=True):
        if sides[idea]:
            weights = contrast(column)
        else:
            factor = next(levels for levels in by_factor if idea in levels)
            weights = _weights(cells, _mean(cells, idea, factor, True) - _mean(cells, idea, factor, False))
        effects.append(Contrast(idea, weights, _take_aliases(groups, column), len(edges_of(cells, idea))))
    for key, members in groups.items():
        column = np.array(key, float)
        one, other = members[0][0].split(":")
        if sides[one] and sides[other]:
            # Not constant, balanced and orthogonal to all effects: the others cannot be estimated from columns.
            if column.any() and not column.sum() and np.abs(column @ coding.columns).max() < 1e-9:
                interactions.append(_interaction(members, contrast(column)))
        elif row := _clear(coding, members, by_factor):
            interactions.append(row)
    return tuple(effects), tuple(interactions)


def _clear(coding: Coding, members: Sequence[tuple[str, int]], by_factor: Sequence[Subset]) -> Contrast | None:
    """An interaction with a level of a factor of three or more, from the means of four sets of cells.

    None where these have a share of another effect or interaction.
    """
    (one, other), cells = members[0][0].split(":"), coding.cells
    factors = [next((levels for levels in by_factor if idea in levels), (idea,)) for idea in (one, other)]
    row = np.zeros(len(cells))
    for on in (True, False):
        for also in (True, False):
            corner = _mean(cells, one, factors[0], on) * (_mean(cells, other, factors[1], also) > 0)
            if not corner.any():
                return None
            row += (0.5 if on == also else -0.5) * corner / corner.sum()
    names = {name for name, _ in members}
    at = {idea: column for idea, column in zip(coding.ideas, coding.columns.T, strict=True)}
    products = [at[a] * at[b] for a, b in coding.pairs if f"{a}:{b}" not in names]
    if np.abs(row @ np.column_stack([coding.columns, *products])).max() > 1e-9:
        return None
    first = members[0][1]
    return _interaction([(name, first * sign) for name, sign in members], _weights(cells, row))


def _mean(cells: Sequence[Subset], idea: str, factor: Subset, on: bool) -> Floats:
    """[cells]: the weights of the mean of the cells with an idea, or of those with no idea of its factor."""
    rows = [idea in cell if on else not any(level in cell for level in factor) for cell in cells]
    there: Floats = np.array(rows, float)
    there /= max(there.sum(), 1)
    return there


def from_columns_left(coding: Coding) -> _Contrasts:
    """Effects and groups of interactions by least squares on what is left of an orthogonal design.

    Where too few cells are left for both, the effects alone, with the interactions that they then hold a share of.
    """
    varied = np.flatnonzero(np.ptp(coding.columns, axis=0)).tolist()
    if not varied:
        return (), ()
    coding = coding.only(varied)
    groups = _interaction_columns(coding)
    groups.pop(_key(np.ones(len(coding.cells))), None)  # constant in these cells: part of the mean
    every = dict(groups)
    aliases = [_take_aliases(groups, column) for column in coding.columns.T]
    model = np.column_stack([_main(coding), *(np.array(key, float) for key in groups)])
    if np.linalg.matrix_rank(model) < model.shape[1]:
        alone = regression(coding)
        return tuple(replace(effect, aliases=_held(effect.weights, coding.cells, every)) for effect in alone), ()
    steps = dict(zip(coding.ideas, coding.steps.tolist(), strict=True))
    rows = iter(np.linalg.pinv(model)[1:])
    effects = [
        Contrast(name, _weights(coding.cells, steps[name] * next(rows)), each)
        for name, each in zip(coding.ideas, aliases, strict=True)
    ]
    interactions = []
    for members in groups.values():
        one, other = members[0][0].split(":")
        # Half the difference of two effects.
        interactions.append(_interaction(members, _weights(coding.cells, steps[one] * steps[other] / 2 * next(rows))))
    return tuple(effects), tuple(interactions)


def _main(coding: Coding) -> Floats:
    """[cells, 1 + ideas]: the mean and the main effects, whose coefficients are effects divided by the steps."""
    return np.column_stack([np.ones(len(coding.cells)), coding.columns])


def regression(coding: Coding) -> tuple[Contrast, ...]:
    """Least squares on main effects alone, for the ideas that it determines."""
    model = _main(coding)
    inverse = np.linalg.pinv(model)
    unit = np.eye(model.shape[1])
    # A coefficient is determined where the inverse gives it back alone, but for rounding.
    determined = np.flatnonzero(np.all(np.abs(inverse @ model - unit) <= 1e-9 + 1e-5 * unit, axis=1))
    return tuple(
        Contrast(idea, _weights(coding.cells, coding.steps[place - 1] * inverse[place]))
        for place, idea in enumerate(coding.ideas, start=1)
        if place in determined
    )


def _held(weights: Weights, cells: Sequence[Subset], groups: _Groups) -> tuple[str, ...]:
    """The interactions of which a contrast holds any share."""
    row = np.array([weights.get(cell, 0.0) for cell in cells])
    shares = ((float(row @ np.array(key, float)), members) for key, members in groups.items())
    return tuple(
        _signed(name, sign if share > 0 else -sign)
        for share, members in shares
        if abs(share) > 1e-9
        for name, sign in members
    )


def _interaction_columns(coding: Coding) -> _Groups:
    groups: _Groups = {}
    columns = dict(zip(coding.ideas, coding.columns.T, strict=True))
    for one, other in coding.pairs:
        column = columns[one] * columns[other]
        groups.setdefault(_key(column), []).append((f"{one}:{other}", 1 if column[0] > 0 else -1))
    return groups


def _key(column: Floats) -> tuple[float, ...]:
    """Equal for columns that are equal but for their sign."""
    return tuple((column if column[0] > 0 else -column).round(9).tolist())


def _take_aliases(groups: _Groups, column: Floats) -> tuple[str, ...]:
    """The interactions that have a toggle's own column, with their signs; they are taken out of the groups."""
    own = 1 if column[0] > 0 else -1
    return tuple(_signed(name, own * sign) for name, sign in groups.pop(_key(column), []))


def _interaction(members: Sequence[tuple[str, int]], weights: Weights) -> Contrast:
    """A group with the sign of its first member."""
    first = members[0][1]
    signed = {cell: first * weight for cell, weight in weights.items()}
    return Contrast("", signed, tuple(_signed(name, first * sign) for name, sign in members))


def _signed(name: str, sign: int) -> str:
    return name if sign > 0 else f"-{name}"


def _weights(cells: Sequence[Subset], row: Floats) -> Weights:
    """The row of an inverse [cells], without what only rounding put there."""
    least = 1e-9 * float(np.abs(row).max(initial=0.0))
    return {cell: weight for cell, weight in zip(cells, row.tolist(), strict=True) if abs(weight) > least}
