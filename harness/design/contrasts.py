"""What can be estimated from a set of cells: effects and interactions as contrasts of cell means.

Coding is -1 off, +1 on; `coded` [cells, toggles] is the design in it, and the column of an interaction a:b is the
product of the columns of a and b. An effect is mean(on) - mean(off); an interaction is half the difference between a's
effect with b on and with b off, which is mean(ab = +1) - mean(ab = -1) of a full factorial. Columns that are equal, or
equal but for their sign, are aliases: their sum is estimated, and no data can tell them apart (Montgomery, Design and
Analysis of Experiments, ch. 6 and 8). An edge is a pair of cells that differ in one toggle alone, as on a hypercube.
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
_Contrasts = tuple[tuple["Contrast", ...], tuple["Contrast", ...]]
"""Effects and interactions."""
_Groups = dict[tuple[int, ...], list[tuple[str, int]]]
"""Column, +1 in its first cell -> the interactions `a:b` that have it, each with its sign."""


@dataclass(frozen=True)
class Contrast:
    """A main effect, or an interaction, or the sum of several interactions that are aliases."""

    toggle: str
    """Of a main effect. Of an interaction empty, or the toggle all of whose interactions are summed: half of what it
    gains beside all others over alone."""
    weights: Weights
    aliases: tuple[str, ...] = ()
    """Interactions `a:b` in it, or `-a:b` with the other sign: those that no data can tell from a main effect, or that
    an interaction is the sum of."""
    pairs: int = 0
    """Pairs of cells that differ in this toggle alone; 0: there is none, and it is estimated from the whole design."""


@dataclass(frozen=True)
class Estimable:
    """All effects and interactions that can be estimated from a set of cells."""

    toggles: tuple[str, ...]
    effects: tuple[Contrast, ...]
    interactions: tuple[Contrast, ...]
    basis: Basis
    """How effects are estimated: from orthogonal columns, as means over edges (`pairs`), or by least squares."""
    inestimable: tuple[str, ...] = ()
    """Toggles without an effect and pairs `a:b` without an interaction, nor one in a named group."""
    condition: float | None = 1.0
    """Condition number of the main-effects model of the cells; 1 is orthogonal. None: effects are not all distinct."""
    attribution: Mapping[str, Weights] = field(default_factory=dict)
    """Toggle -> Shapley value of its part in full - origin; full factorials only."""

    @property
    def reading(self) -> str:
        """What an effect is in this design, in a sentence."""
        if not self.effects:
            return "No idea is on in some cells and off in others, so there is no effect to estimate."
        if self.basis == "orthogonal":
            half = len(self.effects[0].weights) // 2
            return f"An effect is the mean of the {half} cells with the idea less the mean of the {half} without it."
        if self.basis == "regression":
            fitted = "fitted with the interactions" if self.interactions else "with all interactions assumed to be 0"
            return f"An effect is the least-squares main effect over the available cells, {fitted}."
        # Of pairs: what the idea does alone (origin, toggle), last (all others, all), at both ends, or averaged.
        alone, last = "what the idea changes alone", "what the idea changes with all others on"
        averaged = "the mean over all pairs of cells that differ in the idea only"
        sentences = set()
        for effect in self.effects:
            low: set[Subset] = {(), (effect.toggle,)}
            high = {self.toggles, tuple(name for name in self.toggles if name != effect.toggle)}
            cells = set(effect.weights)
            both = f"the mean of {alone} and {last}" if cells == low | high else averaged
            sentences.add(alone if cells == low else last if cells == high else both)
        return f"An effect is {sentences.pop() if len(sentences) == 1 else averaged}."


def estimable(cells: Sequence[Subset], toggles: Sequence[str], planned: Sequence[Subset] = ()) -> Estimable:
    """What can be estimated from these cells. A toggle that is on in all cells or in none has no effect.

    `planned`: the whole design, of which these are the cells that have results. An effect is estimated from them as it
    is in the design as far as they allow it: from the edges that are left, or by least squares where there were none.
    """
    order = tuple(toggles)
    distinct, coded = _coded(cells, order)
    whole, coded_whole = _coded(planned, order) if planned else (distinct, coded)
    edges = {toggle: _edges(distinct, toggle) for toggle in order}
    basis: Basis = "regression"
    interactions: tuple[Contrast, ...] = ()
    if _orthogonal(coded):
        basis, (effects, interactions) = "orthogonal", _from_columns(distinct, order, coded)
    elif all(_edges(whole, toggle) for toggle in order):
        basis = "pairs"
        effects = tuple(
            Contrast(toggle, _summed([(on, 1 / len(pairs), off) for on, off in pairs]), pairs=len(pairs))
            for toggle, pairs in edges.items()
            if pairs
        )
    elif _orthogonal(coded_whole):
        effects, interactions = _from_columns_left(distinct, order, coded)
    else:
        effects = _regression(distinct, order, coded)
    if basis != "orthogonal" and not interactions:
        interactions = _from_squares(distinct, order) or _with_the_rest(order, edges)
    groups = [each.aliases for each in effects] + [each.aliases for each in interactions]
    names = {name.removeprefix("-") for aliases in groups for name in aliases}
    inestimable = [toggle for toggle in order if toggle not in {effect.toggle for effect in effects}]
    inestimable += [pair for one, other in combinations(order, 2) if (pair := f"{one}:{other}") not in names]
    attribution = _shapley(order, edges) if order and len(distinct) == 2 ** len(order) else {}
    return Estimable(order, effects, interactions, basis, tuple(inestimable), _condition(coded), attribution)


def _coded(cells: Sequence[Subset], toggles: Subset) -> tuple[tuple[Subset, ...], Floats]:
    """The cells, each once, and their coding [cells, toggles] of -1 and +1."""
    distinct = tuple(dict.fromkeys(in_study_order(cell, toggles) for cell in cells))
    levels = [[1.0 if toggle in cell else -1.0 for toggle in toggles] for cell in distinct]
    return distinct, np.array(levels).reshape(len(distinct), len(toggles))


def _model(coded: Floats) -> Floats:
    """[cells, 1 + toggles]: the mean and the main effects."""
    return np.column_stack([np.ones(len(coded)), coded])


def _condition(coded: Floats) -> float | None:
    model = _model(coded)
    if not coded.size:
        return 1.0
    condition = float(np.linalg.cond(model))
    return condition if len(model) >= model.shape[1] and condition < 1e9 else None


def _orthogonal(coded: Floats) -> bool:
    """Whether every toggle is on in half of the cells, and in half of those of every other toggle."""
    model = _model(coded)
    return coded.size > 0 and np.array_equal(model.T @ model, len(model) * np.eye(model.shape[1]))


# Contrasts from columns.


def _from_columns(cells: Sequence[Subset], toggles: Subset, coded: Floats) -> _Contrasts:
    """Effects, and interactions grouped by equal columns, of an orthogonal design."""

    def contrast(column: Floats) -> Weights:
        """mean(+1) - mean(-1); each side is half of the cells."""
        return {cell: 2 * value / len(cells) for cell, value in zip(cells, column.tolist(), strict=True)}

    groups = _interaction_columns(toggles, coded)
    effects = tuple(
        Contrast(toggle, contrast(column), _take_aliases(groups, column), len(_edges(cells, toggle)))
        for toggle, column in zip(toggles, coded.T, strict=True)
    )
    interactions = []
    for key, members in groups.items():
        column = np.array(key, float)
        # Not constant, balanced and orthogonal to all effects: the others cannot be estimated from columns.
        if column.any() and not column.sum() and not np.any(column @ coded):
            interactions.append(_interaction(members, contrast(column)))
    return effects, tuple(interactions)


def _from_columns_left(cells: Sequence[Subset], toggles: Subset, coded: Floats) -> _Contrasts:
    """Effects and groups of interactions by least squares on what is left of an orthogonal design.

    Where too few cells are left for both, the effects alone, with the interactions that they then hold a share of.
    """
    varied = np.flatnonzero(np.ptp(coded, axis=0)).tolist()
    if not varied:
        return (), ()
    names, mains = tuple(toggles[place] for place in varied), coded[:, varied]
    groups = _interaction_columns(names, mains)
    groups.pop(_key(np.ones(len(cells))), None)  # constant in these cells: part of the mean
    every = dict(groups)
    aliases = [_take_aliases(groups, column) for column in mains.T]
    model = np.column_stack([_model(mains), *(np.array(key, float) for key in groups)])
    if np.linalg.matrix_rank(model) < model.shape[1]:
        alone = _regression(cells, names, mains)
        return tuple(replace(effect, aliases=_held(effect.weights, cells, every)) for effect in alone), ()
    # Twice the coefficient, as the coding goes from -1 to +1.
    rows = (_weights(cells, row) for row in 2 * np.linalg.pinv(model)[1:])
    effects = [Contrast(name, next(rows), each) for name, each in zip(names, aliases, strict=True)]
    return tuple(effects), tuple(_interaction(members, next(rows)) for members in groups.values())


def _regression(cells: Sequence[Subset], toggles: Subset, coded: Floats) -> tuple[Contrast, ...]:
    """Least squares on main effects alone, for the toggles that it determines."""
    model = _model(coded)
    inverse = np.linalg.pinv(model)
    unit = np.eye(model.shape[1])
    # A coefficient is determined where the inverse gives it back alone, but for rounding.
    determined = np.flatnonzero(np.all(np.abs(inverse @ model - unit) <= 1e-9 + 1e-5 * unit, axis=1))
    return tuple(
        Contrast(toggle, _weights(cells, 2 * inverse[place]))
        for place, toggle in enumerate(toggles, start=1)
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


def _interaction_columns(toggles: Subset, coded: Floats) -> _Groups:
    groups: _Groups = {}
    for one, other in combinations(range(len(toggles)), 2):
        column = coded[:, one] * coded[:, other]
        groups.setdefault(_key(column), []).append((f"{toggles[one]}:{toggles[other]}", 1 if column[0] > 0 else -1))
    return groups


def _key(column: Floats) -> tuple[int, ...]:
    """Equal for columns that are equal but for their sign."""
    return tuple((column[0] * column).astype(int).tolist())


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


# Contrasts from cells that differ in one or two toggles.


def _edges(cells: Sequence[Subset], toggle: str) -> list[tuple[Subset, Subset]]:
    """(with, without) for every pair of cells that differ in this toggle alone."""
    there = set(cells)
    pairs = ((cell, tuple(name for name in cell if name != toggle)) for cell in cells if toggle in cell)
    return [(on, off) for on, off in pairs if off in there]


def _summed(edges: Sequence[tuple[Subset, float, Subset]]) -> Weights:
    """The contrast of weight * (plus - minus), summed."""
    weights: dict[Subset, float] = {}
    for plus, weight, minus in edges:
        weights[plus] = weights.get(plus, 0.0) + weight
        weights[minus] = weights.get(minus, 0.0) - weight
    return {cell: weight for cell, weight in weights.items() if weight}


def _from_squares(cells: Sequence[Subset], toggles: Subset) -> tuple[Contrast, ...]:
    """Mean over all foursomes of cells that differ in two toggles alone, for the pairs that have one."""
    there = set(cells)
    interactions = []
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
            interactions.append(Contrast("", _summed(edges), (f"{one}:{other}",)))
    return tuple(interactions)


def _with_the_rest(toggles: Subset, edges: Mapping[str, Sequence[tuple[Subset, Subset]]]) -> tuple[Contrast, ...]:
    """Half the difference between a toggle's effect beside all others and alone, where the cells have both."""
    interactions = []
    for toggle in toggles:
        with_it = {off: on for on, off in edges[toggle]}
        rest = tuple(name for name in toggles if name != toggle)
        if () in with_it and rest in with_it and len(rest) > 1:
            weights = _summed([(with_it[rest], 0.5, rest), ((), 0.5, with_it[()])])
            aliases = tuple(":".join(in_study_order((toggle, name), toggles)) for name in rest)
            interactions.append(Contrast(toggle, weights, aliases))
    return tuple(interactions)


def _shapley(toggles: Subset, edges: Mapping[str, Sequence[tuple[Subset, Subset]]]) -> dict[str, Weights]:
    """Mean gain of a toggle over all orders in which the toggles can be added (Shapley 1953), of a full factorial."""
    k = len(toggles)

    def orders(before: int) -> float:
        """Share of the orders in which exactly these `before` toggles come first."""
        return math.factorial(before) * math.factorial(k - before - 1) / math.factorial(k)

    return {toggle: _summed([(on, orders(len(off)), off) for on, off in pairs]) for toggle, pairs in edges.items()}
