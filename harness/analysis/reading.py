"""What a design's cells can say, in a sentence. No torch here."""

from __future__ import annotations

import math

from harness.analysis.results import Design
from harness.design.contrasts import Estimable, Weights


def design_of(tells: Estimable) -> Design:
    condition = tells.condition if math.isfinite(tells.condition) else None
    return Design(tells.basis, reading_of(tells), tells.inestimable, condition)


def reading_of(tells: Estimable) -> str:
    """What an effect is."""
    if not tells.effects:
        return "No idea is on in some cells and off in others, so there is no effect to estimate."
    if tells.basis == "orthogonal":
        half = len(tells.effects[0].weights) // 2
        return f"An effect is the mean of the {half} cells with the idea less the mean of the {half} without it."
    if tells.basis == "regression":
        beside = "beside the interactions that they tell" if tells.interactions else "interactions set to none"
        return f"An effect is the least-squares main effect over the cells that there are, {beside}."
    return f"An effect is {_pairs(tells)}."


def _pairs(tells: Estimable) -> str:
    every = set(tells.toggles)
    sides = {_side(effect.weights, effect.toggle, every) for effect in tells.effects}
    alone, last = "what the idea does alone, on top of nothing", "what it does on top of all others"
    if sides == {"alone"}:
        return alone
    if sides == {"last"}:
        return last
    if sides == {"both"}:
        return f"the mean of {alone}, and {last}"
    return "the mean over all pairs of cells that differ in the idea alone"


def _side(weights: Weights, toggle: str, every: set[str]) -> str:
    cells = {frozenset(cell) for cell in weights}
    low, high = {frozenset[str](), frozenset({toggle})}, {frozenset(every), frozenset(every - {toggle})}
    return {(True, False): "alone", (False, True): "last"}.get((cells == low, cells == high)) or (
        "both" if cells == low | high else "other"
    )
