"""The report of a search of weights, and its answer on the terminal. The same findings give the same bytes.

<folder>/report.md      the answer, the weights, the comparison, the figures, the trials, how it was searched
         report.html    the same in one file that needs nothing else
         tables/        each table for LaTeX (booktabs); tables.tex shows them all
         trials.csv     one row for each trial, with its weights      search.json   all of it
         figures/       each as SVG, PDF and PNG
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text as Styled

from harness.analysis import export
from harness.analysis.export import Frame, as_json
from harness.analysis.results import Analysis
from harness.files import write_json, write_text
from harness.report import provenance
from harness.report.data_files import Value, csv_text
from harness.report.document.model import Block, Document, Figure, Mark, Paragraph, Section, Text, bullets, plain, slug
from harness.report.search import answer, sections
from harness.report.search.figures import objectives, weights
from harness.report.write import Drawing, draw, sections_of, write_document
from harness.study import search_space
from harness.terminal.table import TextTable, print_sentence, print_table
from harness.text import one_line
from harness.tuning.findings import Findings


def write_search(findings: Findings, folder: Path) -> Path:
    """Writes the report into `folder` and returns the path of report.md."""
    write_document(build(findings, draw(drawings(findings), folder / "figures")), folder)
    write_text(folder / "trials.csv", csv_text(*trials(findings)))
    write_json(folder / "search.json", search_json(findings))
    return folder / "report.md"


def build(findings: Findings, figures: Mapping[str, tuple[Figure, ...]]) -> Document:
    """The document, whose figures are drawn already."""
    course = [figure for kind in ("history", "front", "parallel", "slices") for figure in figures.get(kind, ())]
    made = sections_of(
        ("weights", "Weights", [*sections.weights(findings), *figures.get("importances", ())]),
        ("comparison", "Comparison under fresh seeds", sections.comparison(findings)),
        ("search", "The search", course),
        ("trials", "Trials", sections.trials(findings)),
        ("words", "Words", [sections.words(findings)]),
        ("method", "How it was searched", sections.method(findings)),
        ("files", "Files", [provenance.files(findings.search.study, sections.FILES)]),
    )
    fresh: list[Text] = [
        (Mark(verdict.capitalize(), verdict), f": {text}") if verdict else text
        for verdict, text in answer.on_fresh_seeds(findings)
    ]
    gains = [text for _, text in answer.on_gains(findings)]
    first: list[Block] = [Paragraph(answer.progress(findings)), Paragraph(answer.on_tuning_seeds(findings))]
    if fresh:
        first.append(Section("Under fresh seeds", (bullets(fresh),)))
    if gains:
        first.append(Section("Does tuning explain the gain?", (bullets(gains),)))
    return Document(findings.search.study.title, tuple(first), made, "Search of loss weights")


def drawings(findings: Findings) -> Iterator[Drawing]:
    """Which figures there are, what each is called and what it shows in words."""
    figure = Figure("history", "Trial by trial", "History: the objective of every trial and the best so far")
    yield "history", figure, partial(objectives.draw_history, findings)
    figure = Figure("importances", "What matters", "Importance of each weight by two evaluators, as in the table")
    yield "importances", figure, partial(weights.draw_importances, findings)
    alt = "Pareto front: objectives of every trial against each other"
    yield "front", Figure("front", "Objectives against each other", alt), partial(objectives.draw_front, findings)
    for metric in findings.search.objectives:
        stem, title = slug(metric.name), metric.title
        alt = f"Parallel coordinates: the weights of every trial, coloured by {title}"
        figure = Figure(f"parallel-{stem}", f"Weights and {title}", alt)
        yield "parallel", figure, partial(weights.draw_parallel, findings, metric)
        alt = f"Slices: {title} of every trial against each weight"
        figure = Figure(f"slices-{stem}", f"{title} by weight", alt)
        yield "slices", figure, partial(weights.draw_slices, findings, metric)


def print_search(findings: Findings, console: Console) -> None:
    """The answer, then the weights. Fits 80 columns."""
    print_sentence(console, one_line(answer.progress(findings)))
    print_sentence(console, one_line(answer.on_tuning_seeds(findings)))
    for _, text in (*answer.on_fresh_seeds(findings), *answer.on_gains(findings)):
        print_sentence(console, Styled(one_line(text), "bold"))
    if len(findings.search.objectives) > 1:
        # A terminal has no room for two columns for each objective.
        findings = replace(findings, importances={})
    table = sections.weights_table(findings)
    # The last column, the name of the setting, is longer than a terminal is wide; the report has it.
    titles = {one_line(column.title): column.kind for column in table.columns[:-1]}
    shown = TextTable(*titles, numbers=[title for title, kind in titles.items() if kind == "number"])
    for row in table.rows:
        shown.add_row(*(one_line(plain(cell.text)) for cell in row.cells[:-1]))
    print_table(console, shown)
    if note := sections.on_importances(findings):
        print_sentence(console, Styled(note, "dim"))


def trials(findings: Findings) -> tuple[list[str], list[list[Value]]]:
    """Heads of columns, and one row for each trial: its outcome, what it measured, by how much it violates
    constraints, and its weights."""
    search = findings.search
    measured = [metric.name for metric in search.metrics]
    constraints = [metric.name for metric, _ in search.constraints]
    settings = [each.name for each in search.parameters]
    head = ["trial", "outcome", *measured, *(f"excess_{each}" for each in constraints), "seconds", *settings]
    rows: list[list[Value]] = [
        [
            *(row.number, row.outcome, *map(row.measured.get, measured)),
            *(*map(row.excess.get, constraints), row.seconds, *map(row.values.get, settings)),
        ]
        for row in findings.trials
    ]
    return head, rows


def search_json(findings: Findings) -> dict[str, Any]:
    """All of a search, without what depends on the machine or is secret, such as a storage's URL."""
    search, tune = findings.search, asdict(findings.search.tune)
    tune["storage"] = None if search.tune.storage is None else "set"
    return {
        "study": search.study.name,
        "profile": search.study.profile,
        "cell": search.cell.name,
        "toggles": list(search.cell.toggles),
        "search": search.name,
        "tune": tune | {"pruner": search_space.pruner(search.cell.settings, search.tune)},
        "parameters": [asdict(each) for each in search.parameters],
        "objectives": [metric.name for metric in search.objectives],
        "constraints": {metric.name: margin for metric, margin in search.constraints},
        "margins": dict(search.study.margins),
        "seeds": {"trials": list(search.seeds), "comparison": list(search.fresh_seeds)},
        "is_over": findings.is_over,
        "best": findings.best.number if findings.best else None,
        "front": [row.number for row in findings.front],
        "importances": {metric: dict(shares) for metric, shares in findings.importances.items()},
        "trials": [asdict(row) for row in findings.trials],
        "comparison": as_json(findings.comparison) if findings.comparison else None,
        "gains": [
            vars(gain) | {"written": as_json(gain.written), "tuned": as_json(gain.tuned)} for gain in findings.gains
        ],
    }


def is_written(findings: Findings, folder: Path) -> bool:
    """Whether the report in `folder` is of these findings. Gains over other cells, which it may have, do not count."""
    try:
        there = json.loads((folder / "search.json").read_text(encoding="utf-8")) | {"gains": []}
    except (OSError, TypeError, ValueError):
        return False
    now = json.loads(json.dumps(search_json(replace(findings, gains=()))))
    # As text, in which what is not a number equals itself.
    same = json.dumps(there, sort_keys=True) == json.dumps(now, sort_keys=True)
    return same and (folder / "report.md").exists()


def reported_searches(folder: Path) -> set[str]:
    """The search of the report in `folder`, if that has a finished trial."""
    try:
        document = json.loads((folder / "search.json").read_text(encoding="utf-8"))
        is_done = any(trial["outcome"] == "done" for trial in document["trials"])
        return {str(document["search"])} if is_done else set()
    except (OSError, KeyError, TypeError, ValueError):
        return set()


def for_tracker(findings: Findings) -> tuple[dict[str, float], dict[str, Frame]]:
    """What a tracker shows of a search: numbers by name, and the table of its trials."""
    numbers: dict[str, float] = {"trials": float(len(findings.trials)), "trials_with_outcome": float(findings.done)}
    for label, row in (("first", answer.as_written(findings)), ("best", findings.best)):
        if row:
            numbers |= {f"{label}/{each.name}": row.measured[each.name] for each in findings.search.metrics}
    if findings.best:
        numbers["best/trial"] = float(findings.best.number)
    analyses: dict[str, Analysis] = {"comparison": findings.comparison} if findings.comparison else {}
    for gain in findings.gains:
        analyses |= {f"over {gain.over}/written": gain.written, f"over {gain.over}/tuned": gain.tuned}
    for label, analysis in analyses.items():
        numbers |= {f"{label}/{key}": value for key, value in export.numbers(analysis).items()}
    head, rows = trials(findings)
    return numbers, {"trials": {"columns": head, "data": rows}}
