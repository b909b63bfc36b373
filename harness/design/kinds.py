"""Designs: which subsets of the toggles become cells.

A kind of design is one function from the toggles (and the study's `design` section) to subsets, in order; one row of
`KINDS` makes it known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Annotated

from annotated_types import Interval

from harness.design.fractions import DEFAULT, Fraction, Resolution, smallest

ORIGIN = "origin"
FULL = "full"
FULL_MINUS = "full-minus-"
MAX_CELLS = 4096
MAX_RUNS = 50_000
"""A plan of so many takes seconds, and a year to train."""

Subset = tuple[str, ...]
"""Toggles that are on, in the study's order."""


@dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """The `design` section of a study file."""

    kind: str = "one-at-a-time"
    """One of `KINDS`."""
    include: tuple[str, ...] = ()
    """Names of cells to add to those of the kind."""
    seeds: tuple[int, ...] = (0,)
    """Every cell is trained once under each. In the file also a number n: 0..n-1."""
    cells: tuple[tuple[str, ...] | dict[str, tuple[str, ...]], ...] = ()
    """Cells of the kind `list`: lists of toggles, or one name and its list of toggles."""
    exclude: tuple[tuple[str, str], ...] = ()
    """Pairs of toggles that are never on together."""
    require: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """toggle -> toggles without which it is never on."""
    resolution: Resolution | None = None
    """Of the kind `fractional`: the smallest fraction of at least this resolution; null: IV, without `generators`."""
    generators: tuple[str, ...] = ()
    """Of the kind `fractional`, in place of a resolution: E=ABC, letters in the order of the toggles, without I."""
    control: Annotated[int, Interval(ge=0, le=1000)] = 0
    """Further seeds under which the baseline alone is trained, to be compared with itself (A/A)."""

    @property
    def control_seeds(self) -> tuple[int, ...]:
        """The seeds after the last of `seeds`."""
        first = max(self.seeds) + 1
        return tuple(range(first, first + self.control))

    def listed(self, toggles: Subset) -> dict[str, Subset]:
        """The cells of `cells` that have a name of their own, by that name."""
        named = (cell for cell in self.cells if isinstance(cell, dict))
        return {name: in_study_order(on, toggles) for cell in named for name, on in cell.items()}


@dataclass(frozen=True)
class DesignCell:
    """One combination of toggles."""

    name: str
    toggles: Subset


@dataclass(frozen=True)
class Layout:
    """The cells of a design, in order."""

    cells: tuple[DesignCell, ...]
    dropped: Mapping[str, str]
    """Cell that the kind of design asks for -> why `exclude` or `require` forbids it."""


def one_at_a_time(toggles: Subset, design: DesignConfig) -> list[Subset]:
    """The origin, then each toggle alone: k + 1 cells."""
    return [(), *((toggle,) for toggle in toggles)]


def leave_one_out(toggles: Subset, design: DesignConfig) -> list[Subset]:
    """All toggles, then all but each: k + 1 cells."""
    return [toggles, *_all_but_one(toggles).values()]


def both(toggles: Subset, design: DesignConfig) -> list[Subset]:
    """Each idea at both ends, alone and as the only one missing: 2 (k + 1) cells."""
    return [*one_at_a_time(toggles, design), *leave_one_out(toggles, design)]


def full(toggles: Subset, design: DesignConfig) -> list[Subset]:
    """Every subset, the small ones first: 2^k cells."""
    return [subset for size in range(len(toggles) + 1) for subset in combinations(toggles, size)]


def fractional(toggles: Subset, design: DesignConfig) -> list[Subset]:
    """A regular fraction of the full factorial, which holds the origin: 2^(k - p) cells. Raises SpecError."""
    return fraction_of(toggles, design).subsets()


def listed(toggles: Subset, design: DesignConfig) -> list[Subset]:
    """The cells that the study lists."""
    cells = (cell if isinstance(cell, tuple) else next(iter(cell.values())) for cell in design.cells)
    return [in_study_order(names, toggles) for names in cells]


KINDS: dict[str, Callable[[Subset, DesignConfig], list[Subset]]] = {
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


def expand(design: DesignConfig, toggles: Subset) -> Layout:
    """The cells of a design, the origin first if it is one of them. Names in `design` must be checked before."""
    named = design.listed(toggles)
    included = [toggles_of(name, toggles, named) or () for name in design.include]
    subsets = dict.fromkeys([*KINDS[design.kind](toggles, design), *included])
    # Only the origin has no toggles, so that sorting by `bool` puts it first and leaves the others in their order.
    cells = [DesignCell(name_of(subset, toggles, named), subset) for subset in sorted(subsets, key=bool)]
    dropped = {cell.name: reason for cell in cells if (reason := conflict(cell.toggles, design))}
    return Layout(tuple(cell for cell in cells if cell.name not in dropped), dropped)


def conflict(subset: Subset, design: DesignConfig) -> str:
    """Why these toggles cannot be on together, or nothing."""
    for first, second in design.exclude:
        if first in subset and second in subset:
            return f"{first} and {second} exclude each other"
    for toggle, needed in design.require.items():
        missing = [name for name in needed if name not in subset]
        if toggle in subset and missing:
            return f"{toggle} requires {' and '.join(missing)}"
    return ""


def name_of(subset: Subset, toggles: Subset, named: Mapping[str, Subset]) -> str:
    """The name that the study gave to the cell, else origin, a toggle, full, full-minus-<toggle> or a+b."""
    own = [name for name, on in named.items() if on == subset]
    if own or len(subset) < 2:
        return (*own, *subset, ORIGIN)[0]
    missing = [toggle for toggle in toggles if toggle not in subset]
    return FULL if not missing else FULL_MINUS + missing[0] if len(missing) == 1 else "+".join(subset)


def toggles_of(name: str, toggles: Subset, named: Mapping[str, Subset]) -> Subset | None:
    """The toggles of the cell that `name` stands for, whether or not the design holds it; None if it is no name."""
    fixed: dict[str, Subset] = {ORIGIN: (), FULL: toggles}
    fixed |= {FULL_MINUS + toggle: rest for toggle, rest in _all_but_one(toggles).items()} | {**named}
    if name in fixed:
        return fixed[name]
    parts = name.split("+")
    valid = all(part in toggles for part in parts) and len(set(parts)) == len(parts)
    return in_study_order(parts, toggles) if valid else None


def canonical_name(name: str, toggles: Subset, design: DesignConfig) -> str:
    """The name that the design itself gives to the cell that `name` stands for; `name` if it stands for none."""
    named = design.listed(toggles)
    subset = toggles_of(name, toggles, named)
    return name if subset is None else name_of(subset, toggles, named)


def in_study_order(names: Iterable[str], toggles: Subset) -> Subset:
    """`names` in the study's order."""
    chosen = set(names)
    return tuple(toggle for toggle in toggles if toggle in chosen)


def _all_but_one(toggles: Subset) -> dict[str, Subset]:
    """By the one that is missing."""
    return {absent: tuple(toggle for toggle in toggles if toggle != absent) for absent in toggles}
