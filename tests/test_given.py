"""What a Python program hands over wrongly is refused by name, before anything is done."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import harness
from forked import run_forked

STUDY = harness.load("ablations.yaml")
ROWS = pd.DataFrame({"a": [0, 1, 0, 1], "seed": [0, 0, 1, 1], "fid": [30.0, 28.0, 31.0, 29.0]})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: harness.load(None), "path: must be a path, not NoneType"),
        (lambda: harness.load(b"study.yaml"), "path: must be a path, not bytes"),
        (lambda: harness.load("ablations.yaml", overrides=[1]), "overrides: must be a list of texts, and each"),
        (lambda: harness.load("ablations.yaml", overrides="design.seeds=2"), r"such as \['design.seeds=2'\], not a t"),
        (lambda: harness.load("ablations.yaml", 3), "profile: must be the name of a profile or None, not int"),
        (lambda: harness.plan("study.yaml"), "study: must be a study, from harness.load, not str"),
        (lambda: harness.plan(STUDY, seconds_per_kimg="3"), "seconds_per_kimg: must be a number or None, not str"),
        (lambda: harness.plan(STUDY, sd=True), "sd: must be a number or None, not bool"),
        (lambda: harness.first_weights(harness.plan(STUDY)), "plan: must be the .plan of what harness.plan returns"),
        (lambda: harness.compare_designs(harness.plan(STUDY), None), "budget: must be seconds or a text such as"),
        (lambda: harness.compare_designs(STUDY, 3), "forecast: must be a forecast, from harness.plan, not LoadedStudy"),
        (lambda: harness.run_grid(STUDY, slots="2"), "slots: must be a whole number or None, not str"),
        (lambda: harness.run_grid(STUDY, "origin"), r"only: must be a list of texts, such as \['origin'\]"),
        (lambda: harness.write_report(STUDY, only="origin"), r"only: must be a list of texts, such as \['origin'\]"),
        (lambda: harness.tune(STUDY, "full"), r"cells: must be a list of texts, such as \['full'\]"),
        (lambda: harness.import_weights("nix.pkl", "x"), "nix.pkl: No such file"),
        (lambda: harness.import_weights(".", "x"), "is a folder, not a network pickle"),
        (lambda: harness.effect_table(STUDY), "analysis: must be an analysis, from harness.analyse"),
        (lambda: harness.analyse(STUDY, margins=5), "margins: must be a mapping of metric to number, or None, not int"),
        (lambda: harness.analyse(STUDY, columns=harness.CsvColumns()), "columns is for a CSV or a table"),
        (lambda: harness.analyse(STUDY, looks=harness.Looks(first=3, most=8)), "looks is for a CSV or a table"),
        (lambda: harness.analyse(STUDY, margins={"fd": "5"}), "margins: fd: must be a number, not str"),
        (lambda: harness.analyse(ROWS, margins={"fid": True}), "margins: fid: must be a number, not bool"),
        (lambda: harness.analyse(ROWS, margins={1: 5}), "margins: must be a mapping of metric to number, and each"),
        (lambda: harness.analyse(ROWS, looks=(3, 8)), r"looks: must be harness.Looks, .* or None, not tuple"),
        (lambda: harness.Looks(3.0, 8.0), r"looks from 3.0 to 8.0 seeds: whole numbers with"),
        (lambda: harness.Looks("3", 8), "looks from 3 to 8 seeds: whole numbers with"),
        (lambda: harness.analyse(ROWS, columns={"seed": "s"}), "columns: must be harness.CsvColumns or None, not dict"),
        (lambda: harness.analyse(ROWS, columns=harness.CsvColumns(seed=0)), "columns.seed: must be the name of a col"),
        (lambda: harness.analyse(ROWS, columns=harness.CsvColumns(lower="m")), r"columns.lower: .* such as \['m'\]"),
        (
            lambda: harness.analyse(ROWS, columns=harness.CsvColumns(toggles=[1])),
            "columns.toggles: must be a list of t",
        ),
        (
            lambda: harness.analyse(ROWS, columns=harness.CsvColumns(lower=("fid",), higher=("fid",))),
            "the table: --lower and --higher both name fid; keep one",
        ),
        (lambda: harness.pack("study.yaml"), "study: must be a study"),
        (lambda: harness.unpack(3), "path: must be a path, not int"),
        (lambda: STUDY.samples(None, 0), "cell: must be the name of a cell, not NoneType"),
        (lambda: STUDY.samples("origin", "0"), "seed: must be a whole number, not str"),
        (lambda: STUDY.samples("origin", False), "seed: must be a whole number, not bool"),
        (lambda: STUDY.samples("origin", 0, "5"), "step: must be a whole number or None, not str"),
    ],
)
def test_it_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(harness.HarnessError, match=message):
        call()


def test_numbers_of_numpy_are_numbers() -> None:
    assert harness.plan(STUDY, seconds_per_kimg=np.float32(6)).total == harness.plan(STUDY, seconds_per_kimg=6).total


@pytest.mark.parametrize("named", [".", "/", ""])
def test_import_of_what_is_no_file_is_refused(tmp_path: Path, named: str) -> None:
    done = run_forked(("import", named), tmp_path, {**os.environ, "COLUMNS": "200"})
    assert done.returncode == 2 and "is a folder, not a network pickle" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


def test_tables_without_rows_have_the_types_of_those_with_rows() -> None:
    from harness.notebook.tables import curves_table, looks_table

    kinds = curves_table([]).dtypes
    assert [str(kinds[name]) for name in ("seed", "step", "kimg", "time", "value")] == ["int64"] * 2 + ["float64"] * 3

    class Nothing:
        looks, headlines = (), ()

    found = looks_table(Nothing())  # type: ignore[arg-type]
    assert isinstance(found, pd.DataFrame) and list(map(str, found.dtypes[["seeds", "decided"]])) == ["int64", "bool"]


def test_a_script_reports_numbers_of_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.script import Job

    job = {"args": {}, "seed": 0, "resolution": 8, "snapshots": 1, "study": "", "folder": str(tmp_path), "samples": ""}
    (tmp_path / "prompts").write_text("")
    (tmp_path / "job").write_text(
        json.dumps({**job, "prompts": str(tmp_path / "prompts"), "metrics": str(tmp_path / "m")})
    )
    monkeypatch.setenv("HARNESS_JOB", str(tmp_path / "job"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    Job().report(1, 2, loss=np.float32(0.5), rate=np.array(2.0), plain=3)
    assert json.loads((tmp_path / "m").read_text()) == {"step": 1, "total": 2, "loss": 0.5, "rate": 2.0, "plain": 3}
