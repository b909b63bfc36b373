"""Designs: which subsets of the ideas become cells.

A kind of design is one function from the toggles, the study's `design` section and the factors to subsets, in order;
one row of `KINDS` makes it known. An idea is a toggle, or a level of a factor other than its reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Annotated

from annotated_types import Interval

from harness.design.factors import Factor, crossed, levels_of
from harness.design.fractions import DEFAULT, Fraction, Resolution, smallest

ORIGIN = "origin"
FULL = "full"
FULL_MINUS = "full-minus-"
MAX_CELLS = 4096
MAX_RUNS = 50_000
"""A plan of so many takes seconds, and a year to train."""
FIRST_LOOK = 3
"""Whole seeds before the first comparison that may decide, where seeds are added until all is decided."""
MOST_SEEDS = 8
"""Up to so many are added where the study does not say how many."""
LARGEST_MOST = 64
CONTROL_AFTER_AUTO = 1000
"""The first seed of the control where seeds are added: no later seed can be the same."""

Subset = tuple[str, ...]
"""Ideas that are on, in the study's order: toggles, then levels."""
Factors = Sequence[Factor]


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """The `design` section of a study file."""

    kind: str = "one-at-a-time"
    """One of `KINDS`."""
    include: tuple[str, ...] = ()
    """Names of cells to add to those of the kind."""
    seeds: tuple[int, ...] = (0,)
    """Every cell is trained once under each. In the file also a number n: 0..n-1; or auto: whole seeds are added to the
    first 3 until the effects are decided, or `max_seeds` are there."""
    max_seeds: int | None = None
    """With `seeds: auto` the most seeds, null: 8; with other seeds it has no meaning and stays null."""
    cells: tuple[tuple[str, ...] | dict[str, tuple[str, ...]], ...] = ()
    """Cells of the kind `list`: lists of toggles and levels, or one name and its list of them."""
    exclude: tuple[tuple[str, str], ...] = ()
    """Pairs of toggles or levels that are never on together."""
    require: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """toggle or level -> those without which it is never on."""
    resolution: Resolution | None = None
    """Of the kind `fractional`: the smallest fraction of at least this resolution; null: IV, without `generators`."""
    generators: tuple[str, ...] = ()
    """Of the kind `fractional`, in place of a resolution: E=ABC, letters in the order of the toggles, without I."""
    control: Annotated[int, Interval(ge=0, le=1000)] = 0
    """Further seeds under which the baseline alone is trained, to be compared with itself (A/A)."""

    @property
    def control_seeds(self) -> tuple[int, ...]:
        """The seeds after the last of `seeds`; where seeds are added, after all that could be."""
        first = max(self.seeds) + 1 if self.max_seeds is None else CONTROL_AFTER_AUTO
        return tuple(range(first, first + self.control))

    def listed(self, ideas: Subset) -> dict[str, Subset]:
        """The cells of `cells` that have a name of their own, by that name."""
        named = (cell for cell in self.cells if isinstance(cell, dict))
        return {name: in_study_order(on, ideas) for cell in named for name, on in cell.items()}


@dataclass(frozen=True)
class DesignCell:
    """One combination of ideas."""

    name: str
    toggles: Subset


@dataclass(frozen=True)
class Layout:
    """The cells of a design, in order."""

    cells: tuple[DesignCell, ...]
    dropped: Mapping[str, str]
    """Cell that the kind of design asks for -> why `exclude` or `require` forbids it."""


def one_at_a_time(toggles: Subset, design: DesignConfig, factors: Factors = ()) -> list[Subset]:
    """The origin, then each idea alone."""
    return [(), *((idea,) for idea in (*toggles, *levels_of(factors)))]


def leave_one_out(toggles: Subset, design: DesignConfig, factors: Factors = ()) -> list[Subset]:
    """All toggles, then all but each, then all with each level in place of the reference."""
    return [toggles, *_all_but_one(toggles).values(), *((*toggles, level) for level in levels_of(factors))]


def both(toggles: Subset, design: DesignConfig, factors: Factors = ()) -> list[Subset]:
    """Each idea at both ends: alone, and as the only toggle missing or the only level beside all toggles."""
    return [*one_at_a_time(toggles, design, factors), *leave_one_out(toggles, design, factors)]


def full(toggles: Subset, design: DesignConfig, factors: Factors = ()) -> list[Subset]:
    """Every subset of the toggles with every combination of levels, the small ones first."""
    return crossed((it for size in range(len(toggles) + 1) for it in combinations(toggles, size)), factors)


def fractional(toggles: Subset, design: DesignConfig, factors: Factors = ()) -> list[Subset]:
    """A regular fraction over the toggles, which holds the origin, times all combinations of levels.

    Raises SpecError.
    """
    return crossed(fraction_of(toggles, design).subsets(), factors)


def listed(toggles: Subset, design: DesignConfig, factors: Factors = ()) -> list[Subset]:
    """The cells that the study lists."""
    cells = (cell if isinstance(cell, tuple) else next(iter(cell.values())) for cell in design.cells)
    return [in_study_order(names, (*toggles, *levels_of(factors))) for names in cells]


KINDS: dict[str, Callable[[Subset, DesignConfig, Factors], list[Subset]]] = {
    "one-at-a-time": one_at_a_time,
    "leave-one-out": leave_one_out,
    "both": both,
    "full": full,
    "fractional": fractional,
    "list": listed,
}


def fraction_of(toggles: Subset, design: DesignConfig) -> Fraction:
    """The fraction that a design of the kind `fractional` asks for. Raises SpecError."""
    if design.generators:
        return Fraction(toggles, design.generators)
    return smallest(toggles, design.resolution or DEFAULT)


def expand(design: DesignConfig, toggles: Subset, factors: Factors = ()) -> Layout:
    """The cells of a design, the origin first if it is one of them. Names in `design` must be checked before."""
    named = design.listed((*toggles, *levels_of(factors)))
    included = [toggles_of(name, toggles, named, factors) or () for name in design.include]
    subsets = dict.fromkeys([*KINDS[design.kind](toggles, design, factors), *included])
    # Only the origin has no ideas, so that sorting by `bool` puts it first and leaves the others in their order.
    cells = [DesignCell(name_of(subset, toggles, named, factors), subset) for subset in sorted(subsets, key=bool)]
    dropped = {cell.name: reason for cell in cells if (reason := conflict(cell.toggles, design))}
    return Layout(tuple(cell for cell in cells if cell.name not in dropped), dropped)


def conflict(subset: Subset, design: DesignConfig, factors: Factors = ()) -> str:
    """Why these ideas cannot be on together, or nothing."""
    for factor in factors:
        if len(levels := [idea for idea in factor.ideas if idea in subset]) > 1:
            return f"{' and '.join(levels)} are levels of one factor"
    for first, second in design.exclude:
        if first in subset and second in subset:
            return f"{first} and {second} exclude each other"
    for toggle, needed in design.require.items():
        missing = [name for name in needed if name not in subset]
        if toggle in subset and missing:
            return f"{toggle} requires {' and '.join(missing)}"
    return ""


def name_of(subset: Subset, toggles: Subset, named: Mapping[str, Subset], factors: Factors = ()) -> str:
    """The name that the study gave to the cell, else origin, an idea, full, full-minus-<toggle> or a+b.

    Levels follow the name of the toggles: full+tau=0.1.
    """
    own = [name for name, on in named.items() if on == subset]
    if own or len(subset) < 2:
        return (*own, *subset, ORIGIN)[0]
    if levels := in_study_order(subset, levels_of(factors)):
        rest = in_study_order(subset, toggles)
        return "+".join([*([name_of(rest, toggles, {})] if rest else []), *levels])
    missing = [toggle for toggle in toggles if toggle not in subset]
    return FULL if not missing else FULL_MINUS + missing[0] if len(missing) == 1 else "+".join(subset)


def toggles_of(name: str, toggles: Subset, named: Mapping[str, Subset], factors: Factors = ()) -> Subset | None:
    """The ideas of the cell that `name` stands for, whether or not the design holds it; None if it is no name."""
    fixed: dict[str, Subset] = {ORIGIN: (), FULL: toggles}
    fixed |= {FULL_MINUS + toggle: rest for toggle, rest in _all_but_one(toggles).items()} | {**named}
    if name in fixed:
        return fixed[name]
    parts = name.split("+")
    levels = {part: factor for part in parts for factor in factors if part not in toggles and factor.level(part)}
    rest = [part for part in parts if part not in levels]
    # Each toggle once, and one level of each factor; beside levels, origin, full and full-minus-x stand for toggles.
    if len(rest) + len(set(levels.values())) < len(parts):
        return None
    if levels and len(rest) == 1 and rest[0] in fixed:
        rest = [*fixed[rest[0]]]
    if len(set(rest)) < len(rest) or not all(part in toggles for part in rest):
        return None
    return in_study_order(
        [*rest, *(factor.level(part) or "" for part, factor in levels.items())], (*toggles, *levels_of(factors))
    )


def canonical_name(name: str, toggles: Subset, design: DesignConfig, factors: Factors = ()) -> str:
    """The name that the design itself gives to the cell that `name` stands for; `name` if it stands for none."""
    named = design.listed((*toggles, *levels_of(factors)))
    subset = toggles_of(name, toggles, named, factors)
    return name if subset is None else name_of(subset, toggles, named, factors)


def with_level_names(design: DesignConfig, factors: Factors) -> DesignConfig:
    """The design with each level under its own name, `tau=0.1` for tau=0.10; a listed cell needs no reference level."""

    def own(name: str) -> str:
        return next((level for factor in factors if (level := factor.level(name))), name)

    references = {factor.reference for factor in factors}

    def members(names: Iterable[str]) -> Subset:
        return tuple(level for name in names if (level := own(name)) not in references)

    return replace(
        design,
        cells=tuple(
            {name: members(on) for name, on in cell.items()} if isinstance(cell, dict) else members(cell)
            for cell in design.cells
        ),
        exclude=tuple((own(one), own(other)) for one, other in design.exclude),
        require={own(name): tuple(map(own, needed)) for name, needed in design.require.items()},
    )


def in_study_order(names: Iterable[str], ideas: Subset) -> Subset:
    """`names` in the study's order."""
    chosen = set(names)
    return tuple(idea for idea in ideas if idea in chosen)


def _all_but_one(toggles: Subset) -> dict[str, Subset]:
    """By the one that is missing."""
    return {absent: tuple(toggle for toggle in toggles if toggle != absent) for absent in toggles}
