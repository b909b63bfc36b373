"""A design as one thing: its name, its cells, what can be estimated from them, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.design.contrasts import Estimable, estimable
from harness.design.factors import Factor, levels_of
from harness.design.fractions import Fraction, roman
from harness.design.kinds import KINDS, DesignConfig, Layout, Subset, expand, fraction_of
from harness.text import shortened


@dataclass(frozen=True)
class Design:
    """The `design` section of a study over its toggles and factors."""

    config: DesignConfig
    toggles: Subset
    factors: tuple[Factor, ...] = ()

    @property
    def name(self) -> str:
        """The kind and what is special about it: `fractional, resolution IV`, `one-at-a-time + full`."""
        kind = self.config.kind + (f", resolution {roman(self.fraction.resolution)}" if self.fraction else "")
        of_kind = set(KINDS[self.config.kind](self.toggles, self.config, self.factors))
        more = [cell.name for cell in self.layout.cells if cell.toggles not in of_kind]
        return " + ".join([kind, *more]) if len(more) < 3 else f"{kind} + {len(more)} cells"

    @cached_property
    def layout(self) -> Layout:
        """The cells, and those that the rules drop."""
        return expand(self.config, self.toggles, self.factors)

    @property
    def cells(self) -> tuple[Subset, ...]:
        return tuple(cell.toggles for cell in self.layout.cells)

    @cached_property
    def estimable(self) -> Estimable:
        """The effects and interactions that can be estimated from the cells."""
        return estimable(self.cells, (*self.toggles, *levels_of(self.factors)), factors=self.factors)

    @cached_property
    def fraction(self) -> Fraction | None:
        """Generators and aliases of the kind `fractional`, whatever is included or dropped; None for other kinds."""
        return fraction_of(self.toggles, self.config) if self.config.kind == "fractional" else None

    @property
    def runs(self) -> int:
        """What it costs: cells times seeds, and the control."""
        return len(self.cells) * len(self.config.seeds) + self.config.control

    def warnings(self) -> list[str]:
        """What a reader would expect of this design and cannot have."""
        now, lines = self.estimable, []
        if lost := [name for name in now.inestimable if ":" not in name]:
            why = "no cells show what turning it on does by itself"
            lines.append(f"no effect can be estimated of {shortened(lost)}: {why}")
        # Compared with the same design without its own cells and rules, if it has any.
        bare = replace(self.config, include=(), exclude=(), require={})
        if bare == self.config or (bare.kind == "list" and not bare.cells):
            return lines
        before = Design(bare, self.toggles, self.factors).estimable
        if lost := [name for name in now.inestimable if ":" in name and name not in before.inestimable]:
            cause = "the rules drop cells" if self.layout.dropped else "the cells added break the pattern"
            lines.append(f"{cause}: no interaction can be estimated of {shortened(lost)}")
        if before.basis == "orthogonal" != now.basis:
            size = "without limit" if now.condition is None else f"{now.condition:.3g}"
            read = {"pairs": "pairs of cells that differ in one toggle", "regression": "a regression on main effects"}
            how = f"effects are read from {read[now.basis]}, with wider intervals"
            lines.append(f"no longer orthogonal (condition number {size}; 1 is orthogonal): {how}")
        return lines

    def as_dict(self) -> dict[str, Any]:
        """JSON of what can be estimated from the cells.

        {"name", "runs", "fraction": null or {"letters", "generators", "defining", "resolution", "aliases"},
         "basis": orthogonal, pairs or regression, "condition": number or null,
         "effects": [{"toggle": a toggle or a level, "aliases", "pairs"}], "interactions": [{"aliases", "toggle"}],
         "trends": [factor], "inestimable": [toggle, level or a:b], "warnings": [text]}
        """
        can = self.estimable
        return {
            "name": self.name,
            "runs": self.runs,
            "fraction": self.fraction.as_dict() if self.fraction else None,
            "basis": can.basis,
            "condition": can.condition,
            "effects": [{"toggle": e.toggle, "aliases": e.aliases, "pairs": e.pairs} for e in can.effects],
            "interactions": [{"aliases": group.aliases, "toggle": group.toggle} for group in can.interactions],
            "trends": [trend.toggle for trend in can.trends],
            "inestimable": can.inestimable,
            "warnings": self.warnings(),
        }
