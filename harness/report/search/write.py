"""The report of a search of weights. The same findings give the same bytes. No torch here.

<folder>/report.md      the answer, the weights, the comparison, the figures, the trials, how it was searched
         report.html    the same in one file that needs nothing else
         tables/        each table for LaTeX (booktabs); tables.tex shows them all
         trials.csv     a row a trial, with its weights      search.json   all of it
         figures/       each as SVG, PDF and PNG
"""

from __future__ import annotations

from pathlib import Path

from harness.files import write_json, write_text
from harness.report.document.document import Block, Document, Mark, Paragraph, Section, Text, bullets, tables
from harness.report.document.html import html
from harness.report.document.markdown import markdown
from harness.report.search import answer, drawing, files, method, sections
from harness.report.search.sections import Figures
from harness.report.write import write_tables
from harness.tuning.findings import Findings

_SECTIONS = (
    sections.weights,
    sections.comparison,
    sections.course,
    sections.trials,
    method.method,
)
"""In the order of the report; each may have nothing to say."""


def write_search(found: Findings, folder: Path) -> Path:
    """Writes the report into `folder` and returns the path of report.md."""
    folder.mkdir(parents=True, exist_ok=True)
    document = build(found, drawing.draw(found, folder / "figures"))
    write_text(folder / "report.md", markdown(document))
    write_text(folder / "report.html", html(document, folder / "figures"))
    write_tables(tables(document.sections), folder)
    write_text(folder / "trials.csv", files.trials_csv(found))
    write_json(folder / "search.json", files.search_json(found))
    return folder / "report.md"


def build(found: Findings, figures: Figures) -> Document:
    """The document, whose figures are drawn already."""
    study = found.search.study
    made = (section(found, figures) for section in _SECTIONS)
    return Document(
        title=study.title,
        answer=_answer(found),
        sections=tuple(section for section in made if section is not None),
        kind="Search of loss weights",
    )


def _answer(found: Findings) -> tuple[Block, ...]:
    blocks: list[Block] = [Paragraph(answer.state(found)), Paragraph(answer.on_tuning_seeds(found))]
    fresh, gains = answer.on_fresh_seeds(found), [told for _, told in answer.on_gains(found)]
    told: dict[str, list[Text]] = {
        "Under fresh seeds": list(map(_item, fresh)),
        "Does tuning explain the gain?": list(gains),
    }
    blocks += [Section(title, (bullets(items),)) for title, items in told.items() if items]
    return tuple(blocks)


def _item(finding: answer.Finding) -> Text:
    verdict, told = finding
    return (Mark(verdict.capitalize(), verdict), f": {told}") if verdict else told
