"""Runs of a script of the study's own that are stopped, shared by two calls, or whose code changes: they go on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from command_script import SCRIPT
from forked import Forked
from harness.files import read_json
from harness.runs.folders import RunFolder
from mirrored import connect
from test_command import environment, harness, run_of, script_points, study
from waiting import until


def start(folder: Path, *words: str) -> Forked:
    return Forked(["run-grid", "study.yaml", *words], folder, environment())


def test_stopped_and_asked_again_it_goes_on_with_the_code_that_it_was_asked_with(tmp_path: Path) -> None:
    folder = study(tmp_path / "s", "toggles: []\ndesign: {kind: list, cells: [[]], seeds: 1}\n")
    call = start(folder, "--set", "command.args.steps=40", "--set", "command.args.pause=0.1")
    metrics = "runs/own/*/script/metrics.jsonl"
    until(lambda: any(len(path.read_text().splitlines()) > 3 for path in folder.glob(metrics)))
    call.send_signal(signal.SIGINT)
    assert call.wait(90) == 130, call.communicate()
    run = run_of(folder, "origin")
    assert run.status().state == "interrupted"
    saved = read_json(run.path / "script" / "state.json")
    assert 0 < saved < 40
    again = harness(
        folder, "run-grid", "study.yaml", "--set", "command.args.steps=40", "--set", "command.args.pause=0.1"
    )
    assert again.returncode == 0, again.stderr
    assert [step for step, _ in script_points(run)] == list(range(1, 41))
    client = connect(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("own").experiment_id
    (row,) = [it for it in client.search_runs([experiment]) if "mlflow.parentRunId" in it.data.tags]
    history = client.get_metric_history(row.info.run_id, "script/loss")
    unit = run.run().settings.step_size
    assert [(it.step, it.value) for it in history] == [(step * unit, 1 / step) for step in range(1, 41)], "each once"
    result = run.result()
    assert result is not None and row.info.status == "FINISHED"
    assert {name: row.data.metrics.get(name) for name in result.metrics} == pytest.approx(result.metrics, nan_ok=True)
    costs = {name: float(row.data.tags[f"cost.{name}"]) for name in result.cost}
    assert costs == pytest.approx(result.cost, 1e-5, nan_ok=True)
    assert f"begins after {saved}" in (run.path / "log.txt").read_text()


def test_code_that_is_changed_while_a_run_waits_does_not_reach_it(tmp_path: Path) -> None:
    """The first run, which is of the older code, changes the file: the second still runs its own copy."""
    change = 'open(job["study"] + "/train.py", "a").write("\\nraise SystemExit(9)\\n")\n'
    folder = study(tmp_path / "s", "toggles: []\ndesign: {kind: list, cells: [[]], seeds: 2}\n", SCRIPT + change)
    done = harness(folder, "run-grid", "study.yaml", "--slots", "1")
    assert done.returncode == 0, done.stderr
    assert (folder / "train.py").read_text().count("SystemExit(9)") > 2
    plan = harness(folder, "plan", "study.yaml")
    assert "the content of command.code" in plan.stdout


@pytest.mark.slow
def test_two_calls_share_the_runs_and_a_time_limit_ends_one(tmp_path: Path) -> None:
    more = "toggles: [{forever: {command.args.mode: forever}}]\ndesign: {kind: full, seeds: 2}\n"
    folder = study(tmp_path / "s", more)
    limit = ("--set", "command.hours=0.001", "--slots", "1")
    calls = [start(folder, *limit), start(folder, *limit)]
    assert [call.wait(150) for call in calls] == [3, 3]
    runs = [RunFolder(path.parent) for path in (folder / "runs" / "own").glob("*/run.json")]
    ends = {(run.run().cell, run.run().seed): run.status() for run in runs}
    assert {key: it.state for key, it in ends.items()} == {
        ("origin", 0): "done", ("origin", 1): "done", ("forever", 0): "failed", ("forever", 1): "failed",
    }  # fmt: skip
    assert all("longer than command.hours = 0.001" in ends["forever", seed].error for seed in (0, 1))
    assert [ends["origin", seed].attempt for seed in (0, 1)] == [1, 1]
