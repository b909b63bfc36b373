"""What a set of cells can say: effects and interactions as contrasts of cell means. No torch here.

Coding is -1 off, +1 on. An effect is mean(on) - mean(off); an interaction of a and b is half the difference between a's
effect with b on and with b off, which is mean(ab = +1) - mean(ab = -1) of a full factorial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.design.kinds import Subset, in_study_order

Floats = NDArray[np.float64]
Basis = Literal["orthogonal", "pairs", "regression"]
Weights = Mapping[Subset, float]
"""Cell -> its weight; the weights sum to 0, so that what all runs of a seed share drops out."""


@dataclass(frozen=True)
class MainEffect:
    """What turning one toggle on does."""

    toggle: str
    weights: Weights
    pairs: int
    """Pairs of cells that differ in this toggle alone; 0: there is none, and the whole design tells."""
    aliases: tuple[str, ...] = ()
    """Interactions `a:b` that cannot be told from it; `-a:b` enters with the other sign."""


@dataclass(frozen=True)
class Interaction:
    """An interaction, or the sum of several that the design cannot tell apart."""

    aliases: tuple[str, ...]
    """Each `a:b`, or `-a:b` where it enters the sum with the other sign."""
    weights: Weights
    toggle: str = ""
    """Set when all of this toggle's interactions are summed: half of what it gains beside all others over alone."""


@dataclass(frozen=True)
class Estimable:
    """All that a set of cells can say about its toggles."""

    toggles: tuple[str, ...]
    effects: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]
    basis: Basis
    """How an effect is read: `orthogonal`, `pairs` or `regression`."""
    inestimable: tuple[str, ...] = ()
    """Toggles without an effect and pairs `a:b` without an interaction, nor one in a named group."""
    condition: float = 1.0
    """Condition number of the main-effects model of the cells; 1 is orthogonal."""
    attribution: Mapping[str, Weights] = field(default_factory=dict)
    """Toggle -> Shapley value of its part in full - origin; full factorials only."""


def estimable(cells: Sequence[Subset], toggles: Sequence[str], planned: Sequence[Subset] = ()) -> Estimable:
    """What these cells can say. A toggle that is on in all cells or in none has no effect.

    `planned`: the whole design, of which these are the cells that have results. An effect is read from them as it is in
    the design as far as they allow it: from the pairs that are left, or by least squares where pairs were never needed.
    """
    order = tuple(toggles)
    distinct = _distinct(cells, order)
    whole = _distinct(planned, order) or distinct
    coded = _coded(distinct, order)
    edges = {toggle: _edges(distinct, order, toggle) for toggle in order}
    basis: Basis = "regression"
    found: tuple[Interaction, ...] = ()
    if _orthogonal(coded):
        basis, (effects, found) = "orthogonal", _from_columns(distinct, order, coded)
    elif all(_edges(whole, order, toggle) for toggle in order):
        basis, effects = "pairs", tuple(_mean_edge(toggle, pairs) for toggle, pairs in edges.items() if pairs)
    elif _orthogonal(_coded(whole, order)):
        effects, found = _from_columns_left(distinct, order, coded)
    else:
        effects = _regression(distinct, order, coded)
    if basis != "orthogonal" and not found:
        found = _from_squares(distinct, order) or _with_the_rest(distinct, order, edges)
    missing = _missing(order, effects, found)
    return Estimable(order, effects, found, basis, missing, _condition(coded), _shapley(distinct, order))


def _distinct(cells: Sequence[Subset], toggles: Subset) -> tuple[Subset, ...]:
    return tuple(dict.fromkeys(in_study_order(cell, toggles) for cell in cells))


def _coded(cells: Sequence[Subset], toggles: Subset) -> Floats:
    """[cells, toggles] of -1 and +1."""
    return np.array([[1.0 if toggle in cell else -1.0 for toggle in toggles] for cell in cells]).reshape(
        len(cells), len(toggles)
    )


def _condition(coded: Floats) -> float:
    if not coded.size:
        return 1.0
    model = np.column_stack([np.ones(len(coded)), coded])
    values = np.linalg.svd(model, compute_uv=False)
    dependent = len(values) < model.shape[1] or values[-1] <= 1e-9 * values[0]
    return math.inf if dependent else float(values[0] / values[-1])


def _orthogonal(coded: Floats) -> bool:
    """Whether every toggle is on in half of the cells, and in half of those of every other toggle."""
    if len(coded) < 2 or not coded.size:
        return False
    balanced = not coded.sum(axis=0).any()
    return balanced and np.array_equal(coded.T @ coded, len(coded) * np.eye(coded.shape[1]))


def _from_columns(
    cells: Sequence[Subset], toggles: Subset, coded: Floats
) -> tuple[tuple[MainEffect, ...], tuple[Interaction, ...]]:
    """Effects, and interactions grouped by equal columns, of an orthogonal design."""
    groups = _pair_columns(toggles, coded)
    effects = []
    for place, toggle in enumerate(toggles):
        column = coded[:, place]
        pairs = len(_edges(cells, toggles, toggle))
        effects.append(MainEffect(toggle, _contrast(cells, column), pairs, _claimed(groups, column)))
    found = []
    for key, members in groups.items():
        column = _column(key)
        if column.any() and not column.sum() and not np.any(column @ coded):
            found.append(Interaction(*_named(members, _contrast(cells, column))))
    return tuple(effects), tuple(found)


def _pair_columns(toggles: Subset, coded: Floats) -> dict[bytes, list[tuple[str, int]]]:
    """Column of an interaction, +1 in its first cell -> the pairs `a:b` that have it, each with its sign."""
    groups: dict[bytes, list[tuple[str, int]]] = {}
    for one, other in combinations(range(len(toggles)), 2):
        column = coded[:, one] * coded[:, other]
        groups.setdefault(_key(column), []).append((f"{toggles[one]}:{toggles[other]}", _sign(column)))
    return groups


def _sign(column: Floats) -> int:
    return 1 if column[0] > 0 else -1


def _key(column: Floats) -> bytes:
    return (_sign(column) * column).astype(np.int8).tobytes()


def _claimed(groups: dict[bytes, list[tuple[str, int]]], column: Floats) -> tuple[str, ...]:
    """The interactions that have a toggle's own column, with their signs; they are taken out of the groups."""
    return tuple(_signed(name, _sign(column) * sign) for name, sign in groups.pop(_key(column), []))


def _named(members: Sequence[tuple[str, int]], weights: Weights) -> tuple[tuple[str, ...], Weights]:
    """A group by the sign of its first member."""
    first = members[0][1]
    aliases = tuple(_signed(name, first * sign) for name, sign in members)
    return aliases, {cell: first * weight for cell, weight in weights.items()}


def _from_columns_left(
    cells: Sequence[Subset], toggles: Subset, coded: Floats
) -> tuple[tuple[MainEffect, ...], tuple[Interaction, ...]]:
    """Effects and groups of interactions by least squares on what is left of an orthogonal design.

    Where too few cells are left for both, the effects alone, with the interactions that they then hold a share of.
    """
    varied = [place for place, column in enumerate(coded.T) if len(set(column.tolist())) > 1]
    if not varied:
        return (), ()
    names, mains = tuple(toggles[place] for place in varied), coded[:, varied]
    groups = _pair_columns(names, mains)
    groups.pop(_key(np.ones(len(cells))), None)
    of_pairs = dict(groups)
    aliases = [_claimed(groups, column) for column in mains.T]
    model = np.column_stack([np.ones(len(cells)), mains, *map(_column, groups)])
    if np.linalg.matrix_rank(model) < model.shape[1]:
        return tuple(_with_shares(effect, cells, of_pairs) for effect in _regression(cells, names, mains)), ()
    rows = [_weights(cells, row) for row in 2 * np.linalg.pinv(model)[1:]]
    effects = zip(names, rows, aliases, strict=False)  # the groups' rows follow
    found = zip(groups.values(), rows[len(names) :], strict=True)
    return (
        tuple(MainEffect(name, row, 0, told) for name, row, told in effects),
        tuple(Interaction(*_named(members, row)) for members, row in found),
    )


def _with_shares(
    effect: MainEffect, cells: Sequence[Subset], of_pairs: Mapping[bytes, Sequence[tuple[str, int]]]
) -> MainEffect:
    """With the interactions of which its contrast holds any share."""
    row = np.array([effect.weights.get(cell, 0.0) for cell in cells])
    shares = [(float(row @ _column(key)), members) for key, members in of_pairs.items()]
    held = [(share, members) for share, members in shares if abs(share) > 1e-9]
    return replace(
        effect, aliases=tuple(_signed(name, _sign(np.array([share])) * s) for share, each in held for name, s in each)
    )


def _column(key: bytes) -> Floats:
    return np.frombuffer(key, dtype=np.int8).astype(float)


def _weights(cells: Sequence[Subset], row: Floats) -> Weights:
    """The row of an inverse, without what is there by rounding."""
    least = 1e-9 * float(np.abs(row).max(initial=0.0))
    return {cell: weight for cell, weight in zip(cells, row.tolist(), strict=True) if abs(weight) > least}


def _contrast(cells: Sequence[Subset], column: Floats) -> Weights:
    """mean(+1) - mean(-1)."""
    return {cell: 2 * value / len(cells) for cell, value in zip(cells, column.tolist(), strict=True)}


def _signed(name: str, sign: int) -> str:
    return name if sign > 0 else f"-{name}"


def _edges(cells: Sequence[Subset], toggles: Subset, toggle: str) -> list[tuple[Subset, Subset]]:
    """(with, without) for every pair of cells that differ in this toggle alone."""
    there = set(cells)
    pairs = ((cell, tuple(name for name in cell if name != toggle)) for cell in cells if toggle in cell)
    return [(on, off) for on, off in pairs if off in there]


def _mean_edge(toggle: str, pairs: Sequence[tuple[Subset, Subset]]) -> MainEffect:
    return MainEffect(toggle, _summed([(on, 1 / len(pairs), off) for on, off in pairs]), len(pairs))


def _summed(edges: Sequence[tuple[Subset, float, Subset]]) -> Weights:
    """The contrast of weight * (plus - minus), summed."""
    weights: dict[Subset, float] = {}
    for plus, weight, minus in edges:
        weights[plus] = weights.get(plus, 0.0) + weight
        weights[minus] = weights.get(minus, 0.0) - weight
    return {cell: weight for cell, weight in weights.items() if weight}


def _regression(cells: Sequence[Subset], toggles: Subset, coded: Floats) -> tuple[MainEffect, ...]:
    """Least squares on main effects alone, for the toggles that it determines."""
    model = np.column_stack([np.ones(len(cells)), coded])
    inverse = np.linalg.pinv(model)
    determined = inverse @ model
    found = []
    for place, toggle in enumerate(toggles, start=1):
        unit = np.eye(model.shape[1])[place]
        if np.allclose(determined[place], unit, atol=1e-9):
            found.append(MainEffect(toggle, _weights(cells, 2 * inverse[place]), 0))
    return tuple(found)


def _from_squares(cells: Sequence[Subset], toggles: Subset) -> tuple[Interaction, ...]:
    """Mean over all foursomes of cells that differ in two toggles alone, for the pairs that have one."""
    there = set(cells)
    found = []
    for one, other in combinations(toggles, 2):
        squares = []
        for cell in cells:
            if one in cell and other in cell:
                no_one, no_other = (tuple(n for n in cell if n != absent) for absent in (one, other))
                neither = tuple(n for n in no_one if n != other)
                if {no_one, no_other, neither} <= there:
                    squares.append((cell, no_one, no_other, neither))
        if squares:
            half = 0.5 / len(squares)
            edges = [(both, half, no_one) for both, no_one, _, _ in squares]
            edges += [(neither, half, no_other) for _, _, no_other, neither in squares]
            found.append(Interaction((f"{one}:{other}",), _summed(edges)))
    return tuple(found)


def _with_the_rest(
    cells: Sequence[Subset], toggles: Subset, edges: Mapping[str, Sequence[tuple[Subset, Subset]]]
) -> tuple[Interaction, ...]:
    """Half the difference between a toggle's effect beside all others and alone, where the cells have both."""
    found = []
    for toggle in toggles:
        contexts = {off: on for on, off in edges[toggle]}
        rest = tuple(name for name in toggles if name != toggle)
        if () in contexts and rest in contexts and len(rest) > 1:
            weights = _summed([(contexts[rest], 0.5, rest), ((), 0.5, contexts[()])])
            aliases = tuple(":".join(in_study_order((toggle, name), toggles)) for name in rest)
            found.append(Interaction(aliases, weights, toggle))
    return tuple(found)


def _missing(toggles: Subset, effects: Sequence[MainEffect], interactions: Sequence[Interaction]) -> tuple[str, ...]:
    known = {effect.toggle for effect in effects}
    named = {name.removeprefix("-") for group in interactions for name in group.aliases}
    named |= {name.removeprefix("-") for effect in effects for name in effect.aliases}
    pairs = (f"{one}:{other}" for one, other in combinations(toggles, 2))
    return (*(toggle for toggle in toggles if toggle not in known), *(pair for pair in pairs if pair not in named))


def _shapley(cells: Sequence[Subset], toggles: Subset) -> dict[str, Weights]:
    """Mean gain of a toggle over all orders in which the toggles can be added (Shapley 1953)."""
    k = len(toggles)
    if not k or len(cells) != 2**k:
        return {}
    found = {}
    for toggle in toggles:
        shares = [
            (on, math.factorial(len(off)) * math.factorial(k - len(off) - 1) / math.factorial(k), off)
            for on, off in _edges(cells, toggles, toggle)
        ]
        found[toggle] = _summed(shares)
    return found
