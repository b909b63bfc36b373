"""The report of a study, made from its run folders alone. The same records give the same bytes. No torch here.

<folder>/report.md      the answer, the tables, the figures, how it was measured and where it came from
         report.html    the same in one file that needs nothing else
         tables/        each table for LaTeX (booktabs); tables.tex shows them all
         effects.csv    a row a metric and toggle      cells.csv    a row a metric and cell
         interactions.csv   a row an interaction       runs.csv     a row a run
         analysis.json  all of the analysis            study.json   the study, resolved
         figures/       each as SVG, PDF and PNG
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.analysis.costs import costs, equal_time
from harness.analysis.export import as_json
from harness.analysis.results import Analysis
from harness.files import read, write_json, write_text
from harness.report import drawing, files, origin
from harness.report.build import build
from harness.report.document.document import Table, tables
from harness.report.document.html import html
from harness.report.document.latex import all_tables, tabular
from harness.report.document.markdown import markdown
from harness.report.figures.sheet import sample_captions
from harness.report.material import Material
from harness.runs.record import RunRecord

if TYPE_CHECKING:
    from harness.study.schema import Study


def gather(study: Study, records: Sequence[RunRecord], analysis: Analysis) -> Material:
    """What a report is made of, with the scale and the provenance that the grid left beside its run folders."""
    grid = read(study.root / "grid.json", dict[str, Any], "delete it, and run-grid writes it again") or {}
    margins = {result.metric.name: result.margin for result in analysis.metrics if result.margin is not None}
    return Material(
        study,
        tuple(records),
        analysis,
        sanity=grid.get("sanity", {}),
        provenance=grid.get("provenance", {}),
        costs=costs(records, analysis.baseline),
        equal_time=equal_time(records, analysis.baseline, analysis.toggles, margins),
        captions=sample_captions(records),
    )


def write_report(material: Material, folder: Path) -> Path:
    """Writes the report into `folder` and returns the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    material = replace(material, figures=drawing.draw(material, folder / "figures"))
    document = build(material)
    write_text(folder / "report.md", markdown(document))
    write_text(folder / "report.html", html(document, folder / "figures"))
    write_tables(tables(document.sections), folder)
    _write_data(material, folder)
    return folder / "report.md"


def write_tables(found: Sequence[Table], folder: Path) -> None:
    """Each table as tables/<name>.tex, and tables.tex, which shows them all."""
    (folder / "tables").mkdir(exist_ok=True)
    for table in found:
        write_text(folder / "tables" / f"{table.name}.tex", tabular(table))
    write_text(folder / "tables.tex", all_tables(found))


def _write_data(material: Material, folder: Path) -> None:
    analysis = material.analysis
    write_text(folder / "effects.csv", files.effects_csv(analysis))
    write_text(folder / "cells.csv", files.cells_csv(analysis))
    write_text(folder / "interactions.csv", files.interactions_csv(analysis))
    write_text(folder / "runs.csv", files.runs_csv(material.records, analysis.toggles))
    write_json(folder / "analysis.json", as_json(analysis))
    write_json(folder / "study.json", origin.resolved(material.study))
