"""A cell that a reader hides is named nowhere on the page, whatever the report tells of its runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.code.engine import Engine, today
from harness.report.write import write_report
from harness.runs.record import RunRecord
from reported import IDEAS, material_of, records_of, study_of
from test_machines import OTHER, A
from test_page_marks import hide
from test_report_page import CHROMIUM, WIDE, browser, load, tabs  # noqa: F401

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
HIDDEN = "transform_w"
NOTES = {"a line that is no JSON": 3}
NAMED = f"""[document.body].flatMap(root => {{
  const walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT), found = [];
  while (walk.nextNode()) {{
    const at = walk.currentNode.parentElement;
    if (/(^|[^\\w-]){HIDDEN}(?![\\w-])/.test(walk.currentNode.data) && at.getClientRects().length
        && getComputedStyle(at).visibility !== "hidden" && !at.closest(".shown, [role=status], pre"))
      found.push(at.closest("li, p, td, th, figure, summary, dd, h2, h3")?.innerText ?? walk.currentNode.data);
  }}
  return found;
}})"""
"""The text of all that can be seen and names the cell, but for the boxes that hide cells, what says which are, and the
settings as written."""


def told_of(record: RunRecord) -> RunRecord:
    """Each of the cell's runs has something that the caveats tell, one of them with a run of another cell."""
    run, status = replace(record.run, engine=today(), machines=(A,)), record.status
    if run.cell in (HIDDEN, "full") and run.seed == 0:
        return replace(record, run=replace(run, engine=Engine("0" * 12, "1" * 12)))
    if (run.cell, run.seed) == ("origin", 1):
        return replace(record, run=replace(run, engine=Engine("2" * 12, today().measuring)))
    if run.cell != HIDDEN:
        return replace(record, run=run)
    if run.seed == 1:
        return replace(record, run=replace(run, machines=(OTHER,)))
    return replace(record, run=run, status=replace(status, script_notes=NOTES, attempt=2, error="boom"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    study = study_of(tmp_path_factory.mktemp("study"), IDEAS[:3])
    material = material_of(study, [told_of(record) for record in records_of(study)])
    return write_report(material, tmp_path_factory.mktemp("hidden") / "report").parent


@pytest.fixture
def page(tabs, folder: Path) -> Iterator:  # noqa: F811
    load(tabs[0], folder / "report.html", WIDE)
    yield tabs[0]
    tabs[0].goto("about:blank")


def test_no_sentence_names_a_hidden_cell(page) -> None:
    page.evaluate("document.querySelectorAll('details:not(nav details)').forEach(each => each.open = true)")
    before = "\n".join(page.evaluate(NAMED))
    for told in ("trained by the same code", "on the same device", "a line that is no JSON"):
        assert re.search(rf"{told}.*{HIDDEN} seed ", before), told
    hide(page, HIDDEN)
    assert page.evaluate(NAMED) == []
    begins = r"trained by the same code: \d+ by today's \(\w+\); origin seed 1 by 2{12}"
    assert re.search(rf"{begins}; full seed 0 by 0{{12}}\. A", page.locator("body").inner_text())
    page.get_by_role("checkbox", name="full", exact=True).uncheck()
    assert re.search(rf"{begins}\. A", page.locator("body").inner_text())
