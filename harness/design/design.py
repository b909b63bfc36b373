"""A design as one thing: its name, cells, what they can say, and what it costs. No torch here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.design.contrasts import Estimable, estimable
from harness.design.fractions import Fraction, roman
from harness.design.kinds import KINDS, DesignConfig, Layout, Subset, expand, fraction_of, some


@dataclass(frozen=True)
class Design:
    """The `design` section of a study over its toggles."""

    config: DesignConfig
    toggles: Subset

    @property
    def name(self) -> str:
        """The kind and what is special about it: `fractional, resolution IV`, `one-at-a-time + full`."""
        kind = self.config.kind + (f", resolution {roman(self.fraction.resolution)}" if self.fraction else "")
        of_kind = set(KINDS[self.config.kind](self.toggles, self.config))
        more = [cell.name for cell in self.layout.cells if cell.toggles not in of_kind]
        return " + ".join([kind, *more]) if len(more) < 3 else f"{kind} + {len(more)} cells"

    @cached_property
    def layout(self) -> Layout:
        """The cells, and those that the rules drop."""
        return expand(self.config, self.toggles)

    @property
    def cells(self) -> tuple[Subset, ...]:
        return tuple(cell.toggles for cell in self.layout.cells)

    @cached_property
    def can(self) -> Estimable:
        """What the cells can say."""
        return estimable(self.cells, self.toggles)

    @cached_property
    def fraction(self) -> Fraction | None:
        """Generators and aliases of the kind `fractional`, whatever is included or dropped; None for other kinds."""
        return fraction_of(self.toggles, self.config) if self.config.kind == "fractional" else None

    @property
    def runs(self) -> int:
        """What it costs: cells times seeds, and the control."""
        return len(self.cells) * len(self.config.seeds) + self.config.control

    def warnings(self) -> tuple[str, ...]:
        """What a reader would expect of this design and cannot have."""
        told = []
        lost = [name for name in self.can.inestimable if ":" not in name]
        if lost:
            told.append(f"nothing can be said of {some(lost)}: no cells tell what turning it on does by itself")
        bare = replace(self.config, include=(), exclude=(), require={})
        if bare == self.config or (bare.kind == "list" and not bare.cells):
            return tuple(told)
        before = Design(bare, self.toggles).can
        return (*told, *self._interactions_lost(before), *self._no_longer_orthogonal(before))

    def _interactions_lost(self, before: Estimable) -> Sequence[str]:
        lost = [name for name in self.can.inestimable if ":" in name and name not in before.inestimable]
        cause = "the rules drop cells" if self.layout.dropped else "the cells added break the pattern"
        return [f"{cause}: no interaction can be estimated of {some(lost)}"] if lost else []

    def _no_longer_orthogonal(self, before: Estimable) -> Sequence[str]:
        if before.basis != "orthogonal" or self.can.basis == "orthogonal":
            return []
        reading = {"pairs": "pairs of cells that differ in one toggle", "regression": "a regression on main effects"}
        size = "without limit" if math.isinf(self.can.condition) else f"{self.can.condition:.3g}"
        told = f"no longer orthogonal (condition number {size}; 1 is orthogonal)"
        return [f"{told}: effects are read from {reading[self.can.basis]}, with wider intervals"]

    def as_dict(self) -> dict[str, Any]:
        """JSON of what the cells can say.

        {"name", "runs", "fraction": null or {"letters", "generators", "defining", "resolution", "aliases"},
         "basis": orthogonal, pairs or regression, "condition": number or null,
         "effects": [{"toggle", "aliases", "pairs"}], "interactions": [{"aliases", "toggle"}],
         "inestimable": [toggle or a:b], "warnings": [text]}
        """
        can = self.can
        return {
            "name": self.name,
            "runs": self.runs,
            "fraction": self.fraction.as_dict() if self.fraction else None,
            "basis": can.basis,
            "condition": can.condition if math.isfinite(can.condition) else None,
            "effects": [{"toggle": e.toggle, "aliases": e.aliases, "pairs": e.pairs} for e in can.effects],
            "interactions": [{"aliases": group.aliases, "toggle": group.toggle} for group in can.interactions],
            "inestimable": can.inestimable,
            "warnings": self.warnings(),
        }
