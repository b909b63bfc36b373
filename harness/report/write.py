"""The report of a study, made from its run folders alone. The same records give the same bytes.

<folder>/report.md      the answer, the tables, the figures, how it was measured and where it came from
         report.html    the same in one file that needs nothing else
         tables/        each table for LaTeX (booktabs), which tables.tex shows; paper.tex for one column of a paper
         effects.csv    one row for each metric and idea        cells.csv    one for each metric and cell
         interactions.csv   one for each interaction            runs.csv     one for each run
         trends.csv     one for each metric and factor of numbers
         analysis.json  all of the analysis                     study.json   the study, resolved
         figures/       each as SVG, PDF and PNG; matrix is the table of the answer as one picture, for a README
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Set
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.analysis.costs import SPEED
from harness.analysis.export import as_json
from harness.errors import HarnessError
from harness.files import named, write_json, write_text
from harness.report import answer, context, data_files, effects, interactions, paper, provenance
from harness.report import curves as by_seed
from harness.report.document.html import html
from harness.report.document.latex import all_tables, tabular
from harness.report.document.markdown import markdown
from harness.report.document.model import Block, Document, Figure, Section, slug, tables
from harness.report.figures import curves, forest, glance, half_normal, reported, sheet, style, tradeoff
from harness.report.figures import interactions as interaction_plot
from harness.report.inputs import ReportInputs
from harness.report.matrix import subjects
from harness.report.own_code import own_code
from harness.runs.record import state_of
from harness.text import quantity

FILES = ("runs.csv", "cells.csv", "effects.csv", "interactions.csv", "analysis.json", "study.json", "tables.tex")
"""Beside every report."""
TRENDS = "trends.csv"
"""As well, where a factor has levels that are numbers."""
PICTURE = "matrix"
"""In figures/: no part of the report, as its table says the same."""
_LATER = ("tables.tex", f"figures/{PICTURE}.svg")
"""What `write_page` leaves to the end."""
Drawing = tuple[str, Figure, Callable[[Path], bool]]
"""The kind of figure, what it is called, and what draws it at a path without ending: False if nothing was drawn."""


def write_report(inputs: ReportInputs, folder: Path) -> Path:
    """Writes the report into `folder` and returns the path of report.md."""
    inputs = replace(inputs, figures=draw(_drawings(inputs), folder / "figures"))
    glance.draw(inputs.analysis, inputs.equal_time, folder / "figures" / PICTURE)
    write_document(build(inputs), folder)
    _write_data(inputs, folder)
    return folder / "report.md"


def write_page(inputs: ReportInputs, folder: Path) -> Path:
    """Writes report.html, whose path it returns, and its data while runs train; what takes long, and nobody looks at
    before the end, is left to `write_report`."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch, style.for_page_alone():
        figures = Path(scratch)
        inputs = replace(inputs, figures=draw(_drawings(inputs), figures))
        document = build(inputs, _LATER)
        done = sum(state_of(record) == "done" for record in inputs.records)
        title = f"{document.title}: {done:,} of {quantity(len(inputs.records), 'run')}"
        write_text(folder / "report.html", html(replace(document, title=title), figures))
    _write_data(inputs, folder)
    return folder / "report.html"


def _write_data(inputs: ReportInputs, folder: Path) -> None:
    """The tables and numbers beside the report, for programs."""
    analysis = inputs.analysis
    write_text(folder / "effects.csv", data_files.effects_csv(analysis))
    write_text(folder / "cells.csv", data_files.cells_csv(analysis))
    write_text(folder / "interactions.csv", data_files.interactions_csv(analysis))
    _write_if_any(folder / TRENDS, data_files.trends_csv(analysis) if _has_trends(inputs) else "")
    write_text(folder / "runs.csv", data_files.runs_csv(inputs.records, analysis.full, analysis.factors))
    _write_if_any(folder / "tables" / paper.NAME, paper.paper(analysis))
    write_json(folder / "analysis.json", as_json(analysis))
    write_json(folder / "study.json", provenance.resolved(inputs.study))


def _write_if_any(path: Path, text: str) -> None:
    """Without a text no file is there, not even one of an earlier report."""
    if text:
        path.parent.mkdir(exist_ok=True)
        write_text(path, text)
    else:
        path.unlink(missing_ok=True)


def build(inputs: ReportInputs, later: Collection[str] = ()) -> Document:
    """The document, whose figures are drawn already. `later`: files beside it that are not written yet."""
    every_seed = by_seed.curves(inputs.analysis, inputs.records)
    sections = sections_of(
        ("effects", "Effects", effects.effects(inputs)),
        ("interactions", "Interactions", interactions.interactions(inputs)),
        ("attribution", "Attribution", interactions.attribution(inputs)),
        ("unreplicated", "Contrasts without replication", interactions.unreplicated(inputs)),
        ("cells", "Cells", effects.cells(inputs)),
        ("curves", "Learning curves", [*inputs.figures.get("curves", ()), *([every_seed] if every_seed else [])]),
        ("samples", "Samples", context.samples(inputs)),
        ("cost", "Cost", context.cost(inputs)),
        ("scale", "Scale", context.scale(inputs)),
        ("runs", "Runs", context.runs(inputs)),
        ("words", "Words", [provenance.words(inputs)]),
        ("measured", "How it was measured", provenance.how_measured(inputs)),
        ("code", "Code of the study", own_code(inputs)),
        ("provenance", "Where it came from", provenance.provenance(inputs)),
        ("files", "Files", [provenance.files(inputs.study, [name for name in _files(inputs) if name not in later])]),
    )
    return Document(inputs.study.title, tuple(answer.answer(inputs)), sections)


def _files(inputs: ReportInputs) -> tuple[str, ...]:
    """Beside the report, as it lists them."""
    has_picture = len(subjects(inputs.analysis)) > 1
    more = {
        TRENDS: _has_trends(inputs),
        f"tables/{paper.NAME}": bool(paper.paper(inputs.analysis)),
        f"figures/{PICTURE}.svg": has_picture,
    }
    return (*FILES, *(name for name, there in more.items() if there))


def _has_trends(inputs: ReportInputs) -> bool:
    return any(result.trends for result in inputs.analysis.metrics)


def sections_of(*parts: tuple[str, str, Iterable[Block]]) -> tuple[Section, ...]:
    """Of (anchor, title, blocks), those that have a block."""
    sections = (Section(title, tuple(blocks), anchor) for anchor, title, blocks in parts)
    return tuple(section for section in sections if section.blocks)


def write_document(document: Document, folder: Path) -> None:
    """report.md, report.html, each table as tables/<name>.tex, and tables.tex, which shows them all.

    Tables and figures of the report that was there before are deleted if this one names them no more.
    """
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    earlier = _named_in(folder)
    write_text(folder / "report.md", markdown(document))
    write_text(folder / "report.html", html(document, folder / "figures"))
    every = tables((*document.answer, *document.sections))
    for table in every:
        write_text(folder / "tables" / f"{table.name}.tex", tabular(table))
    write_text(folder / "tables.tex", all_tables(every))
    for name in earlier - _named_in(folder):
        for suffix in (".tex", ".svg", ".pdf", ".png"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)


def _named_in(folder: Path) -> set[str]:
    """The tables and figures of the report in `folder`, without suffixes; a user's own files are not among them."""
    there = (path for path in (folder / "report.md", folder / "tables.tex") if path.is_file())
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in there)
    return {name for text in texts for name in re.findall(r"((?:tables|figures)/[\w-]+)\.(?:tex|svg|png)", text)}


def draw(drawings: Iterable[Drawing], folder: Path) -> dict[str, tuple[Figure, ...]]:
    """Draws all that there is to draw as SVG, PDF and PNG; kind of figure -> its figures."""
    folder.mkdir(parents=True, exist_ok=True)
    figures: dict[str, tuple[Figure, ...]] = {}
    with named(folder):
        for kind, figure, draw_at in drawings:
            if draw_at(folder / figure.stem):
                figures[kind] = (*figures.get(kind, ()), figure)
    return figures


def _drawings(inputs: ReportInputs) -> Iterator[Drawing]:
    analysis, records = inputs.analysis, inputs.records
    speeds = {cost.cell: cost.means[SPEED] for cost in inputs.costs if SPEED in cost.means}
    alt = "Forest plot: the effect of each idea with its 95 % interval and its seeds, as in the tables that follow"
    yield "effects", Figure("effects", "Effects at a glance", alt), partial(forest.draw, analysis)
    alt = "Interaction plot: pairs of ideas, as in the tables that follow"
    figure = Figure("interactions", "Interactions at a glance", alt)
    yield "interactions", figure, partial(interaction_plot.draw, analysis)
    alt = "Distance against CLIP score: one point for each cell, whose size is the time for equal images"
    yield "tradeoff", Figure("tradeoff", "Quality and cost", alt), partial(tradeoff.draw, analysis, speeds)
    alt = "Sample sheet: real images on top, then one row for each cell; the captions are listed below"
    figure = Figure("samples", "Same caption and latent in each column", alt, photographs=True)
    yield "samples", figure, partial(sheet.draw, records)
    alt = "What the script has reported while it trained: one line for each cell"
    figure = Figure("reported", "What the script reports", alt)
    yield "curves", figure, partial(reported.draw, analysis, records)
    for result in analysis.headlines:
        name, title = slug(result.metric.name), result.metric.title
        alt = f"Learning curves: {title} against training images, for every cell"
        yield (
            "curves",
            Figure(f"curves-{name}", title, alt, metric=result.metric.name),
            partial(curves.draw, analysis, records, result),
        )
        alt = f"Half-normal plot of the contrasts on {title}, as in the table"
        yield (
            "half-normal",
            Figure(f"half-normal-{name}", title, alt, metric=result.metric.name),
            partial(half_normal.draw, result),
        )


class ReportIsKept(HarnessError):
    """The report that is there has results, the new one has none."""


def set_aside(folder: Path, kind: str, reported: Set[str], now: Set[str], finished: Set[str]) -> Path | None:
    """Rename the report in `folder` if the new one does not cover all of it; the new path, or None if it stays.

    `kind`: run or search. `reported`: those with results in the report that is there; `now`, `finished`: all of the new
    one, and those of them with results. Raises ReportIsKept where the new report would have no result at all.
    """
    if reported and not finished:
        raise ReportIsKept(
            f"{folder}: the report there is of {quantity(len(reported), kind)} with results, and now there is none; "
            "it is left as it is: finish runs first, or delete it"
        )
    if reported <= now:
        return None
    names = (f"{folder.name}.earlier{f'-{number}' if number > 1 else ''}" for number in count(1))
    place = next(place for place in map(folder.with_name, names) if not place.exists())
    return folder.rename(place)


def reported_runs(folder: Path) -> set[str]:
    """The finished runs in the report of a study in `folder`; none where there is no report."""
    try:
        with (folder / "runs.csv").open(encoding="utf-8", newline="") as file:
            return {row["run"] for row in csv.DictReader(file) if row["state"] == "done"}
    except (OSError, KeyError, UnicodeError, csv.Error):
        return set()
