"""What can be estimated from a set of cells: effects and interactions as contrasts of cell means.

An idea is a toggle, or a level of a factor other than its reference. Coding is -1 off, +1 on; a level of three or more,
k, is -1/k off and 1 - 1/k on. The column of an interaction a:b is the product of the columns of a and b. An effect is
mean(on) - mean(off), off being the reference level; an interaction is half the difference between a's effect with b on
and with b off, which is mean(ab = +1) - mean(ab = -1) of a full factorial. Columns that are equal, or equal but for
their sign, are aliases: their sum is estimated, and no data can tell them apart (Montgomery, Design and Analysis of
Experiments, ch. 6 and 8). An edge is a pair of cells that differ in one idea alone, as on a hypercube.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from harness.design.coding import Coding, Contrast, Weights, coding_of, edges_of
from harness.design.columns import from_columns, from_columns_left, regression
from harness.design.factors import Factor
from harness.design.kinds import Subset, in_study_order

Basis = Literal["orthogonal", "pairs", "regression"]
_Edges = Mapping[str, Collection[tuple[Subset, Subset]]]
"""Idea -> (with, without) for every pair of cells that differ in it alone."""


@dataclass(frozen=True)
class Estimable:
    """All effects and interactions that can be estimated from a set of cells."""

    toggles: tuple[str, ...]
    """All ideas."""
    effects: tuple[Contrast, ...]
    interactions: tuple[Contrast, ...]
    basis: Basis
    """How effects are estimated: from orthogonal columns, as means over edges (`pairs`), or by least squares."""
    inestimable: tuple[str, ...] = ()
    """Ideas without an effect and pairs `a:b` without an interaction, nor one in a named group."""
    condition: float | None = 1.0
    """Condition number of the main-effects model of the cells; 1 is orthogonal. None: effects are not all distinct."""
    attribution: Mapping[str, Weights] = field(default_factory=dict)
    """Toggle -> Shapley value of its part in full - origin, factors at their reference; full factorials only."""
    trends: tuple[Contrast, ...] = ()
    """Of each factor of three numbers or more: the linear trend over its levels, see `Factor.trend`."""
    factors: tuple[Factor, ...] = ()
    with_interactions: bool = False
    """Of least squares: whether the interactions are fitted with the effects, not read from other cells beside them."""

    @property
    def reading(self) -> str:
        """What an effect is in this design, in a sentence."""
        if not self.effects:
            return "No idea is on in some cells and off in others, so there is no effect to estimate."
        several = [factor for factor in self.factors if len(factor.levels) > 2]
        against = ". A level is compared with the reference level of its factor" if self.factors else ""
        if self.basis == "orthogonal":
            half = len(self.effects[0].weights) // 2
            which = (f"the {half} cells", f"the {half}") if half > 1 else ("the cell", "that")
            which = ("the cells", "those") if several else which
            return f"An effect is the mean of {which[0]} with the idea less the mean of {which[1]} without it{against}."
        if self.basis == "regression":
            fitted = (
                "fitted with the interactions" if self.with_interactions else "with all interactions assumed to be 0"
            )
            return f"An effect is the least-squares main effect over the available cells, {fitted}{against}."
        # Of pairs: what the idea does alone (origin, idea), last (all others, all), at both ends, or averaged.
        alone, last = "what the idea changes alone", "what the idea changes with all others on"
        averaged = "the mean over all pairs of cells that differ in the idea only"
        levels = {idea for factor in self.factors for idea in factor.ideas}
        toggles = tuple(name for name in self.toggles if name not in levels)
        sentences = set()
        for effect in self.effects:
            rest = tuple(name for name in toggles if name != effect.toggle)
            low: set[Subset] = {(), (effect.toggle,)}
            high = {in_study_order((*rest, effect.toggle), self.toggles), rest}
            cells = set(effect.weights)
            both = f"the mean of {alone} and {last}" if cells == low | high else averaged
            sentences.add(alone if cells == low else last if cells == high else both)
        return f"An effect is {sentences.pop() if len(sentences) == 1 else averaged}{against}."


def estimable(
    cells: Sequence[Subset], ideas: Sequence[str], planned: Sequence[Subset] = (), factors: Sequence[Factor] = ()
) -> Estimable:
    """What can be estimated from these cells. An idea that is on in all cells or in none has no effect.

    `planned`: the whole design, of which these are the cells that have results. An effect is estimated from them as it
    is in the design as far as they allow it: from the edges that are left, or by least squares where there were none.
    """
    order = tuple(ideas)
    coding = coding_of(cells, order, factors)
    whole = coding_of(planned, order, factors) if planned else coding
    edges = {idea: edges_of(coding.cells, idea) for idea in order}
    basis: Basis = "regression"
    interactions: tuple[Contrast, ...] = ()
    if coding.orthogonal:
        basis, (effects, interactions) = "orthogonal", from_columns(coding)
    elif all(edges_of(whole.cells, idea) for idea in order):
        basis = "pairs"
        effects = tuple(
            Contrast(idea, _summed([(on, 1 / len(pairs), off) for on, off in pairs]), pairs=len(pairs))
            for idea, pairs in edges.items()
            if pairs
        )
    elif whole.orthogonal:
        effects, interactions = from_columns_left(coding)
    else:
        effects = regression(coding)
    toggles = tuple(idea for idea in order if not any(idea in factor.ideas for factor in factors))
    fitted = bool(interactions)
    if basis != "orthogonal" and not interactions:
        interactions = _from_cells(coding, toggles, edges)
    return Estimable(
        order, effects, interactions, basis, _inestimable(coding, effects, interactions), coding.condition,
        attribution=_shapley(coding.cells, toggles), trends=_trends(effects, factors), factors=tuple(factors),
        with_interactions=fitted,
    )  # fmt: skip


def _inestimable(coding: Coding, effects: Sequence[Contrast], interactions: Sequence[Contrast]) -> tuple[str, ...]:
    names = {effect.toggle for effect in effects}
    names |= {name.removeprefix("-") for each in (*effects, *interactions) for name in each.aliases}
    pairs = (f"{one}:{other}" for one, other in coding.pairs)
    return tuple(name for name in (*coding.ideas, *pairs) if name not in names)


def _trends(effects: Sequence[Contrast], factors: Sequence[Factor]) -> tuple[Contrast, ...]:
    """Of each factor whose levels are ordered and have all their effects."""
    of = {effect.toggle: effect.weights for effect in effects}
    trends = []
    for factor in factors:
        if factor.ascending and set(factor.ideas) <= of.keys():
            weights: dict[Subset, float] = {}
            for level, share in factor.trend().items():
                for cell, weight in of.get(level, {}).items():  # the reference has no effect of its own
                    weights[cell] = weights.get(cell, 0.0) + share * weight
            largest = max(map(abs, weights.values()), default=0.0)
            trends.append(Contrast(factor.name, {c: w for c, w in weights.items() if abs(w) > 1e-12 * largest}))
    return tuple(trends)


def simple_effects(interaction: Contrast) -> dict[str, tuple[Weights, Weights]]:
    """Idea -> its effect without the other side of an interaction, and with it: the two whose half difference it is.

    Of a sum of all of a toggle's interactions the toggle's alone, beside none and beside all others. Empty where the
    contrast is of several interactions, or its halves are no effects of the idea alone, as by least squares.
    """
    if interaction.toggle:
        alone = [cell for cell in interaction.weights if set(cell) <= {interaction.toggle}]
        others = {interaction.toggle: frozenset(interaction.weights) - frozenset(alone)}
    elif len(interaction.aliases) == 1:
        one, other = interaction.aliases[0].removeprefix("-").split(":")
        with_it = {idea: frozenset(cell for cell in interaction.weights if idea in cell) for idea in (one, other)}
        others = {one: with_it[other], other: with_it[one]}
    else:
        return {}
    sign = -2 if interaction.aliases[0].startswith("-") else 2
    halves = dict[str, tuple[Weights, Weights]]()
    for idea, beside in others.items():
        without = {cell: -sign * weight for cell, weight in interaction.weights.items() if cell not in beside}
        joint = {cell: sign * weight for cell, weight in interaction.weights.items() if cell in beside}
        if _is_effect(idea, without) and _is_effect(idea, joint):
            halves[idea] = without, joint
    return halves


def _is_effect(idea: str, weights: Weights) -> bool:
    """Whether it is a mean with the idea less a mean without it, the other ideas and their pairs being on equally often
    in both.
    """
    left: dict[Subset, float] = {}
    for cell, weight in weights.items():
        others = [name for name in cell if name != idea]
        for rest in ((), *((name,) for name in others), *combinations(others, 2)):
            left[rest] = left.get(rest, 0.0) + weight
    on = math.fsum(weight for cell, weight in weights.items() if idea in cell)
    return abs(on - 1) < 1e-9 and all(abs(weight) < 1e-9 for weight in left.values())


# Contrasts from cells that differ in one or two toggles.


def _summed(edges: Sequence[tuple[Subset, float, Subset]]) -> Weights:
    """The contrast of weight * (plus - minus), summed."""
    weights: dict[Subset, float] = {}
    for plus, weight, minus in edges:
        weights[plus] = weights.get(plus, 0.0) + weight
        weights[minus] = weights.get(minus, 0.0) - weight
    return {cell: weight for cell, weight in weights.items() if weight}


def _from_squares(coding: Coding) -> tuple[Contrast, ...]:
    """Mean over all foursomes of cells that differ in two ideas alone, for the pairs that have one."""
    cells, there = coding.cells, set(coding.cells)
    interactions = []
    for one, other in coding.pairs:
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


def _from_cells(coding: Coding, toggles: Subset, edges: _Edges) -> tuple[Contrast, ...]:
    """One by one where there are foursomes; beside them the sums of ideas that are in none."""
    interactions = _from_squares(coding)
    apart = {idea for each in interactions for idea in each.aliases[0].split(":")}
    rest = _with_the_rest(coding.ideas, toggles, edges)
    return interactions + tuple(each for each in rest if each.toggle not in apart)


def _with_the_rest(ideas: Subset, toggles: Subset, edges: _Edges) -> tuple[Contrast, ...]:
    """Half the difference between an idea's effect beside all other toggles and alone, where the cells have both."""
    interactions = []
    for idea in ideas:
        with_it = {off: on for on, off in edges[idea]}
        rest = tuple(name for name in toggles if name != idea)
        if () in with_it and rest in with_it and len(rest) > 1:
            weights = _summed([(with_it[rest], 0.5, rest), ((), 0.5, with_it[()])])
            aliases = tuple(":".join(in_study_order((idea, name), ideas)) for name in rest)
            interactions.append(Contrast(idea, weights, aliases))
    return tuple(interactions)


def _shapley(cells: Sequence[Subset], toggles: Subset) -> dict[str, Weights]:
    """Mean gain of a toggle over all orders in which the toggles can be added (Shapley 1953), of a full factorial.

    Factors are at their reference; empty for any other design.
    """
    there, k = [cell for cell in cells if set(cell) <= set(toggles)], len(toggles)
    if not toggles or len(there) < 2**k:
        return {}

    def orders(before: int) -> float:
        """Share of the orders in which exactly these `before` toggles come first."""
        return math.factorial(before) * math.factorial(k - before - 1) / math.factorial(k)

    edges = {toggle: edges_of(there, toggle) for toggle in toggles}
    return {toggle: _summed([(on, orders(len(off)), off) for on, off in pairs]) for toggle, pairs in edges.items()}
