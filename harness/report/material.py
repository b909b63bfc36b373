"""All that a report is made of. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.analysis.costs import CellCost
from harness.analysis.results import Analysis
from harness.report.document.document import Figure, Link
from harness.runs.record import RunRecord

if TYPE_CHECKING:
    from harness.study.schema import Study


@dataclass(frozen=True)
class Material:
    study: Study
    records: tuple[RunRecord, ...]
    analysis: Analysis
    sanity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Row -> recorded metric -> what real images and an untrained generator reach."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    costs: tuple[CellCost, ...] = ()
    equal_time: Analysis | None = None
    """Of what each run had reached when the baseline's time was used up."""
    figures: Mapping[str, tuple[Figure, ...]] = field(default_factory=dict)
    """Kind of figure -> those that could be drawn."""
    captions: tuple[str, ...] = ()
    """Of the columns of the sample sheet."""

    def runs_of(self, cell: str) -> tuple[Link, ...]:
        """The runs of a cell, each by its seed and with the place where the report tells of it."""
        mine = [(record.run.seed, place) for place, record in enumerate(self.records, 1) if record.run.cell == cell]
        return tuple(Link(str(seed), run_anchor(place)) for seed, place in sorted(mine))


def run_anchor(place: int) -> str:
    """Of the run at that place of the records, from 1: ids are text that has no business in an address."""
    return f"run-{place}"
