"""All that the report of a study is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.analysis.costs import CellCost, costs, equal_time
from harness.analysis.results import Analysis
from harness.files import read
from harness.report.document.model import Figure, Link
from harness.runs.record import RunRecord
from harness.study.looks import Look, read_looks

if TYPE_CHECKING:
    from harness.study.schema import Study


MOST_RUNS = 1000
"""With more runs than this a document lists some of those without a result; runs.csv has every run."""


@dataclass(frozen=True)
class ReportInputs:
    study: Study
    records: tuple[RunRecord, ...]
    analysis: Analysis
    sanity: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Row -> recorded metric -> what real images and a generator before training reach."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    costs: tuple[CellCost, ...] = ()
    equal_time: Analysis | None = None
    """Of what each run had reached when the baseline's training time was used up."""
    figures: Mapping[str, tuple[Figure, ...]] = field(default_factory=dict)
    """Kind of figure -> those that could be drawn."""
    captions: tuple[str, ...] = ()
    """Of the columns of the sample sheet."""
    looks: tuple[Look, ...] = ()
    """Those at a study whose seeds were added, in the order in which they were taken, whatever its seeds are now."""

    def runs_of(self, cell: str) -> tuple[Link, ...]:
        """Links to the runs of a cell in the table of runs, each by its seed; none where not all runs are listed."""
        if len(self.records) > MOST_RUNS:
            return ()
        own = [(record.run.seed, place) for place, record in enumerate(self.records, 1) if record.run.cell == cell]
        return tuple(Link(str(seed), run_anchor(place)) for seed, place in sorted(own))


def run_anchor(place: int) -> str:
    """Of the run at that place of the records, from 1: ids hold names, which are not safe in an address."""
    return f"run-{place}"


def collect(study: Study, records: Sequence[RunRecord], analysis: Analysis) -> ReportInputs:
    """The runs and their analysis with the scale and the provenance that the grid left beside the run folders."""
    # Only here: it loads matplotlib, which those who show a comparison on the terminal do not need.
    from harness.report.figures.sheet import sample_captions

    grid = read(study.root / "grid.json", dict[str, Any], "delete it, and run-grid writes it again") or {}
    margins = {result.metric.name: result.margin for result in analysis.metrics if result.margin is not None}
    return ReportInputs(
        study,
        tuple(records),
        analysis,
        sanity=grid.get("sanity", {}),
        provenance=grid.get("provenance", {}),
        costs=costs(records, analysis.baseline),
        equal_time=equal_time(records, analysis.baseline, analysis.toggles, margins, analysis.factors, analysis.rule),
        captions=sample_captions(records),
        looks=read_looks(study.root, {record.run.id for record in records}),
    )
