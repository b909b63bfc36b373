"""A report of a grid that is not finished: what is there, and nothing of what is not."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from harness.report.document.markdown import markdown
from harness.report.document.model import Document
from harness.report.inputs import ReportInputs
from harness.report.terminal import print_comparison
from harness.report.write import build
from harness.terminal.table import UNWRAPPED
from reported import material_of, records_of, study_of, unfinished

PAIR = {("origin", 0), ("img_img_loss", 0)}


def partial(folder: Path, kind: str, done: set[tuple[str, int]] = PAIR) -> ReportInputs:
    study = study_of(folder, kind=kind, seeds=2)
    records = records_of(study)
    kept = [one if (one.run.cell, one.run.seed) in done else unfinished(one, "pending") for one in records]
    return material_of(study, kept)


def first_screen(document: Document) -> str:
    return markdown(Document(document.title, document.answer, ()))


@pytest.mark.parametrize("kind", ["both", "one-at-a-time"])
def test_the_finished_pair_is_told_and_no_dash(tmp_path: Path, kind: str) -> None:
    text = first_screen(build(partial(tmp_path, kind)))
    assert "img_img_loss −" in text and "–" not in text
    assert "transform_w –" not in text


def test_without_a_pair_nothing_is_made_up(tmp_path: Path) -> None:
    text = first_screen(build(partial(tmp_path, "both", {("origin", 0), ("full", 1)})))
    assert "–" not in text and "lowers" not in text and "pending" in text


def test_the_terminal_has_rows_of_what_is_there(tmp_path: Path) -> None:
    for kind in ("both", "one-at-a-time"):
        file = io.StringIO()
        print_comparison(partial(tmp_path, kind).analysis, Console(file=file, width=UNWRAPPED, color_system=None))
        lines = file.getvalue().splitlines()
        rows = [line for line in lines if "insufficient seeds" in line]
        assert len(rows) == 2 and all("img_img_loss" in row and "1/1" in row for row in rows)
        assert [line for line in lines if line.endswith(": 1 done, 1 pending")] == [
            "origin, img_img_loss: 1 done, 1 pending"
        ]
        assert sum(line.endswith(": 2 pending") for line in lines) == 1, "one line for equal states"
