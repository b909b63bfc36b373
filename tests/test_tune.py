"""`harness tune` on the embedded data: real encoders, real processes, a real tracking store, runs of a few steps."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from conftest import trained_once
from harness.files import read_json
from harness.study.load import load_study
from test_grid import STUDY as GRID
from test_grid import harness, start

TUNE = "tune: {trials: 4, confirm: 1, parameters: [loss.tau, train.r1_gamma], pruner: none}\n"
STUDY = GRID.replace("kimg: 0.24", "kimg: 0.04").replace("snapshots: 2", "snapshots: 1") + TUNE
ROOT = Path("runs/tiny.tune-full")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search that was stopped in the middle, asked for again, and applied."""
    return trained_once("tune", search, tmp_path_factory.mktemp("tune"))


def search(folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY)
    first = start(folder, "tune", "study.yaml")
    until = time.monotonic() + 270
    while not list((folder / ROOT).glob("*/result.json")):
        assert first.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    done = harness(folder, "tune", "study.yaml", "--apply")
    assert done.returncode == 0, done.stderr
    (folder / "told.txt").write_text(done.stdout)


def test_the_search_comes_to_its_total_and_is_told(folder: Path) -> None:
    told = read_json(folder / "reports" / "tiny.tune-full" / "search.json")
    assert [trial["number"] for trial in told["trials"]] == [0, 1, 2, 3]
    assert {trial["outcome"] for trial in told["trials"]} == {"done"}
    assert told["trials"][0]["values"] == {"loss.tau": 0.5, "train.r1_gamma": 10.0}
    runs = [read_json(path) for path in (folder / ROOT).glob("*/run.json")]
    trials = [run for run in runs if run["cell"].startswith("trial-")]
    assert len(trials) == 4 and all(run["fingerprints"]["data"].endswith("-tuning") for run in trials)
    assert "4 of 4 trials have an outcome (4 done)" in " ".join((folder / "told.txt").read_text().split())


def test_trials_hold_out_other_images_than_the_report(folder: Path) -> None:
    captions = {}
    for path in (folder / ROOT).glob("*/run.json"):
        shown = read_json(path.parent / "samples" / "captions.json")
        captions.setdefault(read_json(path)["cell"][:5], set()).update(each["image_id"] for each in shown)
    assert len(captions["trial"]) == 16 and not captions["trial"] & captions.get("tuned", set())


def test_asking_again_does_nothing(folder: Path) -> None:
    before = (folder / ROOT / "optuna.log").read_bytes()
    text = (folder / "study.yaml").read_bytes()
    done = harness(folder, "tune", "study.yaml", "--apply")
    assert done.returncode == 0 and "nothing to do: 4 trials" in done.stderr
    assert (folder / "study.yaml").read_bytes() == text
    again = (folder / ROOT / "optuna.log").read_bytes()
    assert again.startswith(before) and again.count(b'"op_code":4') == before.count(b'"op_code":4')


def test_mlflow_has_a_parent_and_a_child_for_each_run(folder: Path) -> None:
    with sqlite3.connect(folder / "mlflow.db") as store:
        names = [name for (name,) in store.execute("select name from runs where status = 'FINISHED'")]
    runs = [read_json(path) for path in (folder / ROOT).glob("*/run.json")]
    expected = [f"{run['cell']}/seed{run['seed']}" for run in runs]
    assert sorted(names) == sorted([*expected, "tiny.tune-full"])


def test_the_weights_are_a_profile_of_the_study(folder: Path) -> None:
    told = read_json(folder / "reports" / "tiny.tune-full" / "search.json")
    best = min(told["trials"], key=lambda trial: trial["measured"]["fd_emoji"])
    text = (folder / "study.yaml").read_text()
    assert text.startswith(STUDY)
    if best["number"] == 0:
        assert "profiles" not in text
        return
    study = load_study(folder / "study.yaml", "tuned-full")
    assert {"loss.tau": study.settings.loss.tau, "train.r1_gamma": study.settings.train.r1_gamma} == best["values"]
    assert study.tuned["full"].trials == 4


def test_a_grid_beside_it_knows_nothing_of_the_trials(folder: Path) -> None:
    rows = json.loads(harness(folder, "status", "study.yaml", "--json").stdout)["runs"]
    assert {row["state"] for row in rows} == {"pending"} and len(rows) == 3
    listed = harness(folder, "ls", "study.yaml").stdout
    assert "search of weights" in listed and str(ROOT) in listed


def test_a_mistake_is_told_before_anything_runs(folder: Path) -> None:
    before = sorted(path.name for path in (folder / "runs").iterdir())
    for words, told in (
        (("--cell", "ful"), "unknown cell 'ful'; did you mean 'full'?"),
        (("--also", "orign"), "unknown cell 'orign'"),
        (("--timeout", "soon"), "--timeout soon: must be a time such as 12h"),
        (("--set", "tune.ranges={loss.tau: [0, 1]}"), "must begin above 0"),
    ):
        done = harness(folder, "tune", "study.yaml", *words)
        assert done.returncode == 2 and told in " ".join(done.stderr.split()), done.stderr
        assert "Traceback" not in done.stderr
    assert sorted(path.name for path in (folder / "runs").iterdir()) == before
