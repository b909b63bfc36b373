"""Files of records are replaced whole, whoever writes them at once."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.errors import RecordError
from harness.files import write_text
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.settings import Settings, TrainConfig


def test_threads_may_replace_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: write_text(path, f"{number}\n" * 1000), range(500)))
    assert len(set(path.read_text().splitlines())) == 1 and list(tmp_path.iterdir()) == [path]


def test_statuses_are_those_of_the_folders_and_damage_is_said(tmp_path: Path) -> None:
    runs = [Run(name, "study", "origin", place, (), Settings(), {}) for place, name in enumerate("abc")]
    RunFolder(tmp_path / "a").create(runs[0])
    RunFolder(tmp_path / "b").create(runs[1])
    RunFolder(tmp_path / "b").update(state="failed", error="why")
    found = Snapshot(tmp_path, runs).statuses
    assert [found[name].state for name in "abc"] == ["pending", "failed", "pending"]
    assert found["b"] == RunFolder(tmp_path / "b").status()
    assert Snapshot(tmp_path / "gone", runs).statuses["a"].state == "pending"
    (tmp_path / "a" / "status.json").write_text("{")
    with pytest.raises(RecordError, match=r"status\.json: cannot be used .*; delete the file to run again"):
        RunFolder(tmp_path / "a").status()
    found = Snapshot(tmp_path, runs).statuses
    assert [found[name].state for name in "abc"] == ["failed", "failed", "pending"]
    assert str(tmp_path / "a" / "status.json") in found["a"].error and found["b"].error == "why"


def test_other_runs_are_read_as_their_folders_read_them(tmp_path: Path) -> None:
    settings = Settings(train=TrainConfig(kimg=2.0))
    runs = [Run(f"r{seed}", "study", "a+b", seed, ("a", "b"), settings, {"data": "d"}) for seed in range(3)]
    for run in runs:
        RunFolder(tmp_path / run.id).create(run)
    runs = [replace(run, begun=RunFolder(tmp_path / run.id).run().begun) for run in runs]
    (tmp_path / "r1" / "run.json").write_text(json.dumps(dict(reversed(asdict(runs[1]).items()))))
    found = list(Snapshot(tmp_path, runs[:1]).other_runs)
    assert found == runs[1:] == [RunFolder(tmp_path / run.id).run() for run in found]
    (tmp_path / "r1" / "run.json").write_text('{"cell": "a", "settings": {}')
    assert list(Snapshot(tmp_path, runs[:1]).other_runs) == runs[2:], "what is cut short is passed over"
    assert Snapshot(tmp_path / "gone", ()).other_runs == ()
