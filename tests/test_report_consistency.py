"""Where little moved, or runs were lost, sentences, tables and files of a report go on saying the same."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from typer.testing import CliRunner

import harness
from harness.analysis.results import Control
from harness.cli.main import app
from harness.metrics.definitions import METRICS
from harness.report import wording
from harness.report.answer import agreeing_seeds
from harness.report.caveats import caveats
from harness.report.document.model import plain
from harness.report.matrix import verdict_sentence
from harness.report.tables import NO_ESTIMATE
from harness.report.terminal import print_comparison
from harness.report.write import write_page, write_report
from reported import material_of, records_of, study_of, unfinished

TWO = ("img_img_loss", "transform_w")


def printed(analysis: harness.Analysis) -> str:
    console = Console(width=120, file=io.StringIO(), color_system=None)
    print_comparison(analysis, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("seeds", [1, 4])
def test_one_whole_seed_beside_others_is_not_said_to_give_no_verdict(tmp_path: Path, seeds: int) -> None:
    """Of four seeds three lack a cell each; the fit uses what is left of them, and verdicts are made."""
    study = study_of(tmp_path, TWO, "full", seeds)
    lost = {("origin", 1), ("img_img_loss", 2), ("full", 3)}
    records = [
        unfinished(it, "failed", "boom") if (it.run.cell, it.run.seed) in lost else it for it in records_of(study)
    ]
    found = material_of(study, records)
    told = " ".join(map(plain, caveats(found)))
    assert {estimate.n for _, estimate in found.analysis.of("fd_emoji").compared} == {1}
    assert ("One seed gives no verdict" in told) == (seeds == 1) and "Two seeds are few" not in told


def test_a_picture_may_have_points_in_its_name(tmp_path: Path) -> None:
    rows = [(a, b, s, 30 + a - b + 0.1 * s) for a, b in product((0, 1), repeat=2) for s in range(3)]
    pd.DataFrame(rows, columns=["a", "b", "seed", "fid"]).to_csv(tmp_path / "r.csv", index=False)
    (tmp_path / "results.svg").write_text("mine")
    picture = str(tmp_path / "results.v2.svg")
    assert CliRunner().invoke(app, ["analyze", str(tmp_path / "r.csv"), "--picture", picture]).exit_code == 0
    assert {path.name for path in tmp_path.glob("results.v2.*")} == {f"results.v2.{k}" for k in ("svg", "pdf", "png")}
    assert (tmp_path / "results.svg").read_text() == "mine" and not (tmp_path / "results.pdf").exists()


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("fd", -0.031, "−0.03 %"),
        ("fd", 0.05, "+0.1 %"),
        ("fd", 1e-13, "0.0 %"),
        ("clip_score", 0.003, "+0.003"),
        ("fd", -99.93, "−99.93 %"),
        ("fd", -99.99989, "−99.9999 %"),
        ("fd", -99.8, "−99.8 %"),
        ("fd", -100 + 1e-9, "−100.0 %"),
        ("clip_score", 0.0, "0.00"),
    ],
)
def test_a_small_change_is_not_shown_as_none(metric: str, value: float, text: str) -> None:
    assert wording.signed(METRICS[metric], value) == text


def test_an_interval_that_excludes_zero_shows_it() -> None:
    assert wording.interval(METRICS["fd"], -12.0, -0.04) == "−12.0 to −0.04 %"


@pytest.mark.parametrize(
    ("p", "text"), [(0.0497, "0.0497"), (0.0503, "0.0503"), (0.04999, "0.04999"), (0.05, "0.050"), (0.2, "0.200")]
)
def test_p_shows_on_which_side_of_the_level_it_is(p: float, text: str) -> None:
    assert wording.p_value(p) == text


def test_a_seed_without_a_change_agrees_with_neither_side() -> None:
    changes = (0.0, -0.5, -0.5, -0.5, -0.5)
    worse = replace(NO_ESTIMATE, value=-0.4, seeds=(0, 1, 2, 3, 4), by_seed=changes, improved=0, verdict="worse")
    assert agreeing_seeds(worse) == "4 of 5 seeds"
    assert agreeing_seeds(replace(worse, by_seed=(-0.1, *changes[1:]))) == "5 of 5 seeds"


def test_a_cell_that_shares_no_seed_with_the_origin_keeps_its_row() -> None:
    rng, rows = np.random.default_rng(0), []
    for cell, seeds in {(0, 0): (0, 1, 2), (1, 0): (3, 4, 5), (0, 1): range(6), (1, 1): range(6)}.items():
        rows += [(*cell, s, 50 + 4 * cell[0] - 9 * cell[0] * cell[1] + 0.1 * rng.standard_normal()) for s in seeds]
    columns = harness.CsvColumns(higher=("score",))
    text = printed(harness.analyse(pd.DataFrame(rows, columns=["a", "b", "seed", "score"]), columns=columns))
    assert "\n a alone " in text and "\n b alone " in text and "\n full " in text


def test_what_changes_nothing_at_all_is_not_judged_by_margins(tmp_path: Path) -> None:
    study = study_of(tmp_path, TWO, "one-at-a-time")
    records = records_of(study, lambda cell: -0.2 * ("transform_w" in cell))
    records = [replace(it, result=replace(it.result, weights=f"{place:064x}")) for place, it in enumerate(records)]
    of_origin = {it.run.seed: it.result for it in records if it.run.cell == "origin"}
    records = [replace(it, result=of_origin[it.run.seed]) if it.run.cell == TWO[0] else it for it in records]
    told = plain(verdict_sentence(material_of(study, records).analysis))
    assert "img_img_loss changes nothing" in told and "margins" not in told


def test_files_are_linked_once_they_are_there(tmp_path: Path) -> None:
    study = study_of(tmp_path, TWO, "full")
    found = material_of(study, records_of(study))
    page = write_page(found, tmp_path / "page").read_text(encoding="utf-8")
    report = write_report(found, tmp_path / "whole").with_suffix(".html").read_text(encoding="utf-8")
    for name in ("tables.tex", "figures/matrix.svg", "tables/paper.tex", "runs.csv", "analysis.json"):
        for text, folder in ((page, "page"), (report, "whole")):
            assert (f'href="{name}"' in text) == (tmp_path / folder / name).exists(), f"{name} of {folder}"


def test_a_control_of_one_seed_has_no_interval() -> None:
    rows = [(a, s, 20 + a + 0.1 * s * (1 + a)) for a in (0, 1) for s in range(3)]
    analysis = harness.analyse(pd.DataFrame(rows, columns=["a", "seed", "fid"]))
    result = analysis.of("fid")
    one = wording.control(replace(result, control=Control((7,), -3.1)), "origin")
    assert one.startswith("Control: origin under seed 7 against origin itself: −3.1 %, without an interval")
    two = wording.control(replace(result, control=Control((7, 8), -3.1, -5.0, 1.0, 0.2)), "origin")
    assert "under seeds 7 and 8 against" in two and "−5.0 to +1.0 %, p 0.200" in two
