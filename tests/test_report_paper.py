"""The table for a paper: check marks, the best in bold, daggers, and that it fits one column."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from harness.report.document.latex import tex
from harness.report.paper import paper
from harness.report.wording import mean_sd
from reported import HOSTILE, IDEAS, material_of, records_of, study_of, unfinished

DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage[T1]{fontenc}
\usepackage{amssymb,booktabs,graphicx}
\setlength{\columnwidth}{237pt}
\begin{document}
\input{paper.tex}
\end{document}
"""


def analysis_of(folder, ideas=IDEAS, **changes):
    study = study_of(folder, ideas, **changes)
    return material_of(study, records_of(study)).analysis


def rows(text: str) -> list[list[str]]:
    body = text.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    return [re.split(r" & |&", line.strip().removesuffix(r" \\")) for line in body.strip().splitlines()]


def test_every_cell_has_its_marks_numbers_and_verdicts(tmp_path):
    analysis = analysis_of(tmp_path)
    text, found = paper(analysis), analysis.headlines
    table = rows(text)
    cells = sorted(found[0].cells, key=lambda cell: cell.cell != "origin")
    assert len(table) == len(cells) == 10
    best = {
        result.metric.name: min(
            result.cells, key=lambda cell: cell.mean * (1 if result.metric.better == "lower" else -1)
        )
        for result in found
    }
    for row, cell in zip(table, cells, strict=True):
        assert [bool(entry.strip()) for entry in row[:4]] == [idea in cell.toggles for idea in IDEAS]
        for entry, result in zip(row[4:], found, strict=True):
            own = result.cell(cell.cell)
            assert tex(mean_sd(result.metric, own)) in entry
            assert (r"\textbf" in entry) == (best[result.metric.name].cell == cell.cell)
            verdict = own.estimate.verdict if own.estimate else "baseline"
            assert (r"$^{\dagger}$" in entry) == (verdict == "better")
            assert (r"$^{\ddagger}$" in entry) == (verdict == "worse")
    assert r"$^{\dagger}$~better, $^{\ddagger}$~worse than origin ($p < 0.05$ after Holm's correction)." in text
    assert r"Mean $\pm$ sd over 3 seeds; best in bold." in text


def test_cells_without_a_result_have_a_dash_and_one_seed_has_no_verdict(tmp_path):
    study = study_of(tmp_path, IDEAS, seeds=1)
    records = [unfinished(it, "failed") if it.run.cell == "mix_logits" else it for it in records_of(study)]
    analysis = material_of(study, records).analysis
    text = paper(analysis)
    assert "One seed; best in bold.}" in text and "dagger" not in text
    [row] = [row for row in rows(text) if row[3].strip() and not any(entry.strip() for entry in row[:3])]
    assert row[4:] == ["--", "--"]


def test_a_mean_of_fewer_runs_says_of_how_many_and_diverged_runs_are_told(tmp_path):
    study = study_of(tmp_path, IDEAS[:2], "one-at-a-time", seeds=3)
    states = {(IDEAS[0], 1): "diverged", (IDEAS[1], 0): "failed", (IDEAS[1], 2): "failed"}
    every = records_of(study)
    records = [unfinished(it, states[key]) if (key := (it.run.cell, it.run.seed)) in states else it for it in every]
    text = paper(material_of(study, records).analysis)
    origin, diverged, failed = rows(text)
    assert "(" not in origin[2] and "(2)" in diverged[2] and "(1)" in failed[2]
    assert [r"\S" in row[2] for row in (origin, diverged, failed)] == [False, True, False]
    assert r"sd over 3 seeds, or as many as stand in brackets; best in bold." in text
    assert r"$^{\S}$~Some runs diverged, and are not part of the mean." in text
    assert r"\S" not in paper(material_of(study, every).analysis)


def test_cells_that_marks_do_not_tell_apart_are_named(tmp_path):
    analysis = analysis_of(tmp_path, IDEAS[:2], kind="one-at-a-time")
    first = analysis.headlines[0]
    twin = replace(first.cells[1], cell="again", toggles=first.cells[2].toggles)
    named = replace(first, cells=(first.cells[0], twin, first.cells[2]))
    text = paper(replace(analysis, metrics=(named,)))
    assert [row[0] for row in rows(text)] == ["origin", "again", tex(first.cells[2].cell)]


def test_nothing_is_written_before_there_is_a_result(tmp_path):
    study = study_of(tmp_path)
    assert paper(material_of(study, [unfinished(it, "pending") for it in records_of(study)]).analysis) == ""


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize(
    "ideas", [IDEAS, [f"an_idea_with_a_long_name_{place}" for place in range(12)], [HOSTILE, "%$#&", r"\input{x}"]]
)
def test_it_compiles_in_one_column_without_an_overfull_box(tmp_path, ideas):
    study = study_of(tmp_path, ideas, kind="one-at-a-time")
    records = [
        unfinished(it, "diverged") if it.run.cell == ideas[0] and it.run.seed else it for it in records_of(study)
    ]
    (tmp_path / "paper.tex").write_text(paper(material_of(study, records).analysis), encoding="utf-8")
    (tmp_path / "main.tex").write_text(DOCUMENT, encoding="utf-8")
    command = ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout and (tmp_path / "main.pdf").exists()
