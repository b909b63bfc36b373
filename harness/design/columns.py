"""Effects and interactions from columns: of an orthogonal design, of what is left of it, and by least squares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from harness.design.coding import Coding, Contrast, Floats, Weights, edges_of
from harness.design.kinds import Subset

_Contrasts = tuple[tuple[Contrast, ...], tuple[Contrast, ...]]
"""Effects and interactions."""
_Groups = dict[tuple[float, ...], list[tuple[str, int]]]
"""Column, +1 in its first cell -> the interactions `a:b` that have it, each with its sign."""
_LEAST_HELD = 0.1
"""Of what two ideas change only together, the part from which on another effect is said to hold it. A fraction of
resolution III holds half of it, one of resolution IV with one cell more 0.02."""


def from_columns(coding: Coding) -> _Contrasts:
    """Effects, and interactions grouped by equal columns, of an orthogonal design."""
    cells, sides = coding.cells, dict(zip(coding.ideas, coding.steps == 2, strict=True))

    def contrast(column: Floats) -> Weights:
        """mean(+1) - mean(-1); each side is half of the cells."""
        return {cell: 2 * value / len(cells) for cell, value in zip(cells, column.tolist(), strict=True)}

    groups = _interaction_columns(coding)
    states = _states(coding)
    effects, interactions = [], []
    for idea, column in zip(coding.ideas, coding.columns.T, strict=True):
        on, off = states[idea]
        weights = contrast(column) if sides[idea] else _weights(cells, on / on.sum() - off / off.sum())
        effects.append(Contrast(idea, weights, _take_aliases(groups, column), len(edges_of(cells, idea))))
    products = np.array([*groups]).reshape(len(groups), len(cells))
    for place, (column, members) in enumerate(zip(products, groups.values(), strict=True)):
        one, other = members[0][0].split(":")
        if sides[one] and sides[other]:
            # Not constant, balanced and orthogonal to all effects: the others cannot be estimated from columns.
            if column.any() and not column.sum() and np.abs(column @ coding.columns).max() < 1e-9:
                interactions.append(_interaction(members, contrast(column)))
            continue
        row = _from_corners(states[one], states[other])
        others = np.concatenate([row @ coding.columns, np.delete(products @ row, place)])
        if row.any() and np.abs(others).max() < 1e-9:  # no share of another effect or interaction
            first = members[0][1]
            signed = [(name, first * sign) for name, sign in members]
            interactions.append(_interaction(signed, _weights(cells, row)))
    return tuple(effects), tuple(interactions)


def _states(coding: Coding) -> dict[str, tuple[Floats, Floats]]:
    """Idea -> [cells]: 1 where it is on, and where no idea of its factor is, the other being 0."""
    on = coding.columns > 0
    families = {place: places for places in coding.siblings for place in places}
    return {
        idea: (on[:, place].astype(float), (~on[:, families.get(place, (place,))].any(axis=1)).astype(float))
        for place, idea in enumerate(coding.ideas)
    }


def _from_corners(one: tuple[Floats, Floats], other: tuple[Floats, Floats]) -> Floats:
    """[cells]: half of what the first gains with the other on over with it off, from the means of four sets of cells.

    All 0 where one of the four has no cell.
    """
    corners = [first * second for first in one for second in other]
    if not all(corner.any() for corner in corners):
        return np.zeros_like(one[0])
    both, first, second, neither = (corner / corner.sum() for corner in corners)
    row: Floats = (both - first - second + neither) / 2
    return row


def from_columns_left(coding: Coding) -> _Contrasts:
    """Effects and groups of interactions by least squares on what is left of an orthogonal design.

    Where too few cells are left for both, the effects alone, with all interactions that they then hold a part of, those
    of the idea's own too.
    """
    varied = np.flatnonzero(np.ptp(coding.columns, axis=0)).tolist()
    if not varied:
        return (), ()
    coding = coding.only(varied)
    groups = _interaction_columns(coding)
    groups.pop(_key(np.ones(len(coding.cells))), None)  # constant in these cells: part of the mean
    aliases = [_take_aliases(groups, column) for column in coding.columns.T]
    model = np.column_stack([_main(coding), *(np.array(key, float) for key in groups)])
    if np.linalg.matrix_rank(model) < model.shape[1]:
        alone = regression(coding)
        return tuple(replace(it, aliases=_held(it.weights, coding, coding.pairs, 1e-9)) for it in alone), ()
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
    """Least squares on main effects alone, for the ideas that it determines, with interactions of other ideas
    that are mixed into them."""
    model = _main(coding)
    inverse = np.linalg.pinv(model)
    unit = np.eye(model.shape[1])
    # A coefficient is determined where the inverse gives it back alone, but for rounding.
    determined = np.flatnonzero(np.all(np.abs(inverse @ model - unit) <= 1e-9 + 1e-5 * unit, axis=1))
    effects = []
    for place in determined[determined > 0].tolist():
        idea = coding.ideas[place - 1]
        weights = _weights(coding.cells, coding.steps[place - 1] * inverse[place])
        others = [pair for pair in coding.pairs if idea not in pair]
        effects.append(Contrast(idea, weights, _held(weights, coding, others, _LEAST_HELD)))
    return tuple(effects)


def _held(weights: Weights, coding: Coding, pairs: Iterable[tuple[str, str]], least: float) -> tuple[str, ...]:
    """The interactions of these pairs of which a contrast holds more than `least`, in parts of what two ideas change
    only together."""
    row = np.array([weights.get(cell, 0.0) for cell in coding.cells])
    columns = coding.columns / coding.steps
    parts, places = columns.T @ (row[:, None] * columns), {name: place for place, name in enumerate(coding.ideas)}
    held = ((f"{one}:{other}", float(parts[places[one], places[other]])) for one, other in pairs)
    return tuple(_signed(name, 1 if part > 0 else -1) for name, part in held if abs(part) > least)


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
