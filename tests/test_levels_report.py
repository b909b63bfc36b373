"""Levels in a report, its files and the terminal, and read back from its runs.csv."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from harness.analysis.export import numbers
from harness.analysis.from_records import analyse_records
from harness.cli.main import app
from harness.design.factors import Factor
from harness.report.document.model import Paragraph, plain
from harness.report.effects import effects
from harness.report.figures import pairs
from harness.report.figures.forest import rows
from harness.report.inputs import ReportInputs, collect
from harness.report.terminal import print_comparison
from harness.report.write import write_report
from harness.runs.record import RunRecord
from reported import _run, study_of

TAU = Factor("tau", ("tau=0.1", "tau=0.5", "tau=1"), "tau=0.5", (0.1, 0.5, 1.0), "loss.tau")
SHIFTS = {"mix_logits": 0.05, "transform_w": -0.2, "tau=0.1": 0.1, "tau=1": -0.3}


def inputs_of(folder: Path, kind: str = "full", lost: str = "") -> ReportInputs:
    study = replace(study_of(folder, ("mix_logits", "transform_w"), kind), factors=(TAU,))
    records: list[RunRecord] = []
    for place, cell in enumerate(study.layout.cells):
        for seed in study.design.seeds:
            noise = 0.01 * ((7 * place + 5 * seed) % 11 - 5) / 5
            record = _run(
                study, cell.name, cell.toggles, seed, sum(SHIFTS[on] for on in cell.toggles) + noise + 0.1 * seed
            )
            record = replace(record, run=replace(record.run, id=f"{place:06x}{seed:06x}"))
            gone = cell.name == lost and seed == 1
            records.append(
                replace(record, result=None, status=replace(record.status, state="failed")) if gone else record
            )
    margins = {"fd_emoji": 5.0, "clip_score": 1.0}
    return collect(study, records, analyse_records(records, "origin", study.ideas, margins, study.factors))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("levels")
    return write_report(inputs_of(folder), folder / "report").parent


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(path.read_text())))


def test_every_table_has_the_levels(report: Path) -> None:
    text = (report / "report.md").read_text()
    for words in ("tau=0.1", "full+tau=1", "mix_logits × tau=0.1", "trend, lowest to highest", "p (not corrected)"):
        assert words in text, words
    plain = " ".join(text.split())
    assert "is compared with the reference level of its factor: tau=0.5" in plain
    assert "The correction is over all toggles and all levels of a table together." in plain
    assert "outside the corrected family" in plain
    assert "a value of a setting that has several; the origin has the reference level: tau=0.5" in plain
    assert "Everything on (full)" in plain and "the cell with every toggle on" in plain


def test_levels_are_explained_by_one_of_the_study(tmp_path: Path) -> None:
    made = inputs_of(tmp_path)
    shift = Factor("shift", ("shift=-20", "shift=0", "shift=20"), "shift=0", (-20, 0, 20))
    analysis = replace(made.analysis, design=replace(made.analysis.design, factors=(shift,)))
    told = [plain(it.text) for it in effects(replace(made, analysis=analysis)) if isinstance(it, Paragraph)]
    assert any(text.startswith("A level such as shift=-20 is compared with the reference level") for text in told)


def test_the_files_for_machines(report: Path) -> None:
    assert {row["toggle"] for row in read(report / "effects.csv")} == set(SHIFTS)
    assert {row["cell"] for row in read(report / "cells.csv")} >= {"tau=0.1", "full+tau=1"}
    assert "mix_logits:tau=1" in {row["aliases"] for row in read(report / "interactions.csv")}
    runs = read(report / "runs.csv")
    assert {row["tau"] for row in runs} == {"0.1", "0.5", "1"} and "tau=0.1" not in runs[0]
    assert {(row["cell"], row["mix_logits"], row["tau"]) for row in runs} >= {("mix_logits+tau=1", "1", "1")}
    trend = next(row for row in read(report / "trends.csv") if row["metric"] == "fd_emoji")
    assert (trend["factor"], trend["levels"]) == ("tau", "tau=0.1 tau=0.5 tau=1") and float(trend["value"]) < -30
    assert json.loads((report / "study.json").read_text())["levels"] == {"loss.tau": [0.1, 0.5, 1.0]}
    assert "trends.csv" in (report / "report.html").read_text()


def test_its_runs_read_back_give_the_same_analysis(report: Path) -> None:
    done = CliRunner().invoke(app, ["analyze", str(report / "runs.csv"), "--levels", "tau", "--json"])
    assert done.exit_code == 0, done.output
    again, first = json.loads(done.stdout), json.loads((report / "analysis.json").read_text())
    for name, metric in first["metrics"].items():
        for part, key in (("effects", "toggle"), ("interactions", "aliases"), ("trends", "factor"), ("cells", "cell")):
            ours = {str(each[key]): each for each in metric[part]}
            theirs = {str(each[key]): each for each in again["metrics"][name][part]}
            assert ours.keys() == theirs.keys()
            for each in ours:
                value = "difference" if part == "cells" else "effect"
                assert theirs[each][value] == pytest.approx(ours[each][value], abs=1e-9), (name, each)
                assert theirs[each]["p"] == pytest.approx(ours[each]["p"], abs=1e-9)
                assert theirs[each].get("p_holm") == pytest.approx(ours[each].get("p_holm"), abs=1e-9)
    assert [each["levels"] for each in again["levels"]] == [each["levels"] for each in first["levels"]]


def test_the_forest_plot_has_ideas_from_best_to_worst_then_the_full_cell(tmp_path: Path) -> None:
    analysis = inputs_of(tmp_path).analysis
    labels = [row.label for row in rows(analysis, analysis.of("fd_emoji"))]
    assert (
        labels[:4] == sorted(SHIFTS, key=SHIFTS.__getitem__)
        and labels[-3:] == ["full", "full+tau=0.1", "full+tau=1"]
        and len(labels) == 11
    )
    listed = replace(analysis.of("fd_emoji"), cells=analysis.of("fd_emoji").cells * 2)
    assert {row.label for row in rows(analysis, listed)[4:]} == {"full"}  # of too many cells, the one with all toggles


def test_an_interaction_plot_compares_a_level_with_the_reference(tmp_path: Path) -> None:
    analysis = inputs_of(tmp_path).analysis
    found = {one.pair: one for one in pairs.pair_means(analysis.of("fd_emoji"), 9, analysis.factors)}
    means = found[("transform_w", "tau=1")].means
    assert found[("transform_w", "tau=1")].states == ("0.5", "1")
    assert found[("mix_logits", "transform_w")].states == ("off", "on")
    assert means[1] - means[0] == pytest.approx(SHIFTS["tau=1"], abs=0.02)
    assert means[2] - means[0] == pytest.approx(SHIFTS["transform_w"], abs=0.02)
    both = inputs_of(tmp_path, "both").analysis
    ends = pairs.two_ends(both.of("fd_emoji"), both.full)
    assert {one.toggle for one in ends} == {"tau=0.1", "tau=1"}


@pytest.mark.parametrize("width", [80, 140])
def test_the_terminal_shows_levels_and_the_trend(tmp_path: Path, width: int) -> None:
    console = Console(width=width, file=StringIO(), force_terminal=False)
    print_comparison(inputs_of(tmp_path, lost="tau=1").analysis, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= width
    assert "Trend from tau=0.1 to tau=1: −" in " ".join(shown.split()) and "(not corrected)" in shown
    assert "tau=0.1" in shown and "tau=1: 2 done, 1 failed" in shown


def test_names_of_tracked_numbers_have_no_sign_that_trackers_refuse(tmp_path: Path) -> None:
    analysis = inputs_of(tmp_path).analysis
    named = numbers(analysis)
    assert "mix_logits tau 0.1/fd_emoji/mean" in named and not any(set("=+") & set(name) for name in named)
    assert {name.split("/")[1] for name in named} == {result.metric.name for result in analysis.headlines}
    assert len(named) <= 2 * len(analysis.cells) * len(analysis.headlines) < len(analysis.cells) * len(analysis.metrics)
