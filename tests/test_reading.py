"""The page on how to read the report: its examples are what the tool writes, and it names all that the tables have.

To write the examples anew: python tests/test_reading.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from harness.analysis.results import Verdict
from harness.report.document.markdown import markdown
from harness.report.document.model import Block, Document, Section, Table, tables
from harness.report.write import build
from reported import material_of, records_of, study_of, unfinished
from test_levels_report import inputs_of

PAGE = Path(__file__).parent.parent / "docs" / "reading.md"
TABLES = ("effects", "interactions", "cells")
PARTS = ("verdict", "matrix", "answer", *TABLES)
OF_LEVELS = {"levels": "effects", "trend": "trends", "levels-interactions": "interactions"}
"""Part of the page -> table of the example with levels."""


def example() -> Document:
    study = study_of(Path("made-up"))
    records = records_of(study)
    records[4] = unfinished(records[4], "diverged", "Diverged: loss/g is not finite")
    return build(material_of(study, records))


def rebuilt(page: str, document: Document) -> str:
    """The page with its examples as the document, and one with levels, have them."""
    blocks: dict[str, Block] = {
        "verdict": document.answer[0],
        "matrix": next(one for one in document.answer if isinstance(one, Table)),
        "answer": next(one for one in document.answer if isinstance(one, Section)),
    }
    blocks |= {name: table_of(document, f"{name}-fd-emoji") for name in TABLES}
    with_levels = build(inputs_of(Path("made-up-levels")))
    blocks |= {part: table_of(with_levels, f"{table}-fd-emoji") for part, table in OF_LEVELS.items()}
    for name, block in blocks.items():
        shown = markdown(Document("", (block,), ())).partition("\n\n")[2].strip().replace("## ", "### ")
        page = re.sub(
            rf"<!-- {name} -->.*?<!-- end -->",
            lambda _, name=name, shown=shown: f"<!-- {name} -->\n{shown}\n<!-- end -->",
            page,
            flags=re.DOTALL,
        )
    return page


def table_of(document: Document, name: str) -> Table:
    return next(table for table in tables(document.sections) if table.name == name)


def test_the_examples_are_what_the_tool_writes():
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"<!-- {name} -->\n" in page for name in (*PARTS, *OF_LEVELS))
    assert page == rebuilt(page, example())


def test_every_column_and_verdict_is_explained():
    page = PAGE.read_text(encoding="utf-8")
    told = set(re.split(r", |\n", "\n".join(re.findall(r"^\| ([^|]+?) \|", page, re.MULTILINE))))
    columns = {column.title for column in table_of(example(), "effects-fd-emoji").columns} - {"idea"}
    assert columns | set(get_args(Verdict)) <= told


if __name__ == "__main__":
    PAGE.write_text(rebuilt(PAGE.read_text(encoding="utf-8"), example()), encoding="utf-8")
