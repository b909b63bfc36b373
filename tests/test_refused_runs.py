"""What is said of a damaged run: the file and the fix, before a grid begins, and beside all other runs afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fakes import make_run
from harness.errors import RecordError
from harness.files import write_json
from harness.grid.run import run_grid
from harness.runs.folders import RunFolder
from harness.runs.record import state_of
from harness.runs.snapshot import Snapshot
from harness.study.load import load_study
from harness.study.plan import make_plan
from hostile import SMALL, untouched, write_images


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("status.json", b'{"state": "won"}', r"status\.json: .*state.*delete the file"),
        ("status.json", b'{"state": "done", "step": "3"}', r"status\.json: .*step.*delete the file"),
        ("status.json", b'{"state": "done", "pid": -1}', r"status\.json: .*pid"),
        ("status.json", b'{"state": "done", "seconds": NaN}', r"status\.json: .*seconds"),
        ("status.json", b'{"state": "done", "colour": 3}', r"status\.json: .*colour"),
        ("metrics.jsonl", b'{"step": 1\n', r"metrics\.jsonl: line 1: .*delete the line"),
        ("metrics.jsonl", b'{"step": 1, "kimg": 1, "time": 1, "values": {"a": "b"}}\n', "line 1: .*values"),
        ("metrics.jsonl", b'{"step": 1, "kimg": 1e400, "time": 1, "values": {}}\n', "line 1: .*kimg"),
        ("result.json", b'{"metrics": {"fd": 1.0}, "cost": {}}', r"result\.json: .*cards.*move the folder away"),
        ("result.json", b'{"metrics": {"fd": "low"}, "cards": {}, "cost": {}}', r"result\.json: .*metrics\.fd"),
        ("run.json", b'{"id": "other"}', r"run\.json: .*move the folder away"),
        ("run.json", b"\xff\xfe", r"run\.json: .*move the folder away"),
    ],
)
def test_a_grid_refuses_before_it_runs_and_the_report_tells(tmp_path: Path, name: str, text: bytes, told: str) -> None:
    runs = [make_run("ok"), make_run("ok-damaged")]
    folder = RunFolder(tmp_path / runs[1].id)
    folder.create(runs[1])
    (folder.path / name).write_bytes(text)
    with pytest.raises(RecordError, match=told):
        Snapshot(tmp_path, runs).refuse_damaged(runs)
    first, second = Snapshot(tmp_path, runs).records
    assert first.status.state == "pending"
    assert (second.status.state, second.status.failure, second.run) == ("failed", "data", runs[1])
    assert re.search(told, second.status.error)


@pytest.mark.parametrize("change", [{"id": "f" * 12}, {"seed": 7}, {"settings": {}}, {"fingerprints": {"data": "x"}}])
def test_a_run_that_was_made_another_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    run = make_run("ok")
    folder = RunFolder(tmp_path / run.id)
    folder.create(run)
    write_json(folder.path / "run.json", {**json.loads((folder.path / "run.json").read_text()), **change})
    with pytest.raises(RecordError, match=f"holds a run with other {next(iter(change))}; move the folder away"):
        folder.create(run)


def test_numbers_that_are_none_are_divergence(tmp_path: Path) -> None:
    run = make_run("ok")
    folder = RunFolder(tmp_path / run.id)
    folder.create(run)
    folder.update(state="done")
    (folder.path / "result.json").write_text('{"metrics": {"fd": 1e400, "kid": NaN}, "cards": {}, "cost": {}}')
    whole, torn = b'{"step":1,"kimg":0.1,"time":1,"values":{"metrics/a":NaN}}', b'{"step": 2, "ki\0\0'
    (folder.path / "metrics.jsonl").write_bytes(whole + b"\n" + torn)
    (found,) = Snapshot(tmp_path, (run,)).records
    assert state_of(found) == "diverged" and [point.step for point in found.points] == [1]


CARD = {"role": "headline", "n": 32, "n_real": 8, "d": 16, "extractor": "resnet"}


@pytest.mark.parametrize(
    "change", [{"role": "king"}, {"n": "many"}, {"n": -1}, {"n_real": [1]}, {"d": 1.5}, {"d": None}]
)
def test_a_card_that_cannot_be_computed_with_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path)
    write_json(tmp_path / "result.json", {"metrics": {"fd_a": 1.0}, "cards": {"fd_a": CARD}, "cost": {}})
    found = folder.result()
    assert found is not None and found.cards == {"fd_a": CARD}, "what is only shown is kept"
    write_json(tmp_path / "result.json", {"metrics": {"fd_a": 1.0}, "cards": {"fd_a": {**CARD, **change}}, "cost": {}})
    with pytest.raises(
        RecordError, match=rf"result\.json: .*cards\.fd_a\.{next(iter(change))}: .*move the folder away"
    ):
        folder.result()


@pytest.mark.parametrize("cost", [-1.0, float("nan"), float("inf"), "3"])
def test_a_cost_that_cannot_be_is_refused(tmp_path: Path, cost: Any) -> None:
    (tmp_path / "result.json").write_text(json.dumps({"metrics": {}, "cards": {}, "cost": {"s_per_kimg": cost}}))
    with pytest.raises(RecordError, match=r"result\.json: .*cost\.s_per_kimg"):
        RunFolder(tmp_path).result()


def test_every_damaged_run_is_named_and_none_that_is_whole(tmp_path: Path) -> None:
    runs = [make_run(f"ok-{name}") for name in ("new", "whole", "torn", "done")]
    for run in runs[1:]:
        RunFolder(tmp_path / run.id).create(run)
    Snapshot(tmp_path, runs).refuse_damaged(runs)
    (tmp_path / runs[2].id / "metrics.jsonl").write_text("{]\n")
    RunFolder(tmp_path / runs[3].id).update(state="done")
    with pytest.raises(RecordError) as refused:
        Snapshot(tmp_path, runs).refuse_damaged(runs)
    torn, done = str(refused.value).splitlines()
    assert runs[2].id in torn and "line 1" in torn and "delete the line" in torn
    assert runs[3].id in done and "result.json is not there; delete status.json" in done
    states = [(state_of(found), found.status.error) for found in Snapshot(tmp_path, runs).records]
    assert states == [("pending", ""), ("pending", ""), ("failed", torn), ("failed", done)]


def test_a_grid_with_a_damaged_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    (tmp_path / "study.yaml").write_text(SMALL)
    study = load_study(tmp_path / "study.yaml")
    run = make_plan(study).runs[0]
    folder = RunFolder(study.root / run.id)
    folder.create(run)
    folder.update(state="done")
    (folder.path / "result.json").write_text("")
    with untouched(tmp_path), pytest.raises(RecordError, match=rf"{run.id}/result\.json: cannot be used"):
        run_grid(study, only=[], slots=1, fail_fast=False)
