"""What is kept for later is not taken over from other code: pixels, features and the scale of the metrics."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.code import engine as engines
from harness.code.engine import Engine, loaded
from harness.data import features
from harness.data.packed import Index, find_prepared
from harness.grid.outcome import scale_path
from harness.runs.record import Result, RunRecord, Status
from harness.runs.scale import scale_name
from harness.storage.caches import entries, reads_of
from harness.storage.usage import Meter
from harness.study.plan import Plan
from kept import encoded, plan, prepared

__all__ = ["plan"]


def by_other_code(monkeypatch: pytest.MonkeyPatch, *parts: engines.Part) -> None:
    for part in parts:
        monkeypatch.setitem(engines._loaded, part, "other")


def test_features_by_other_code_are_computed_again(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, about = features.feature_folder("clip-text", "data", "embedded:clip-guide")
    assert about["engine"] == loaded("encoding")
    by_other_code(monkeypatch, "encoding")
    assert features.feature_folder("clip-text", "data", "embedded:clip-guide")[0] != mine


def test_pixels_by_other_code_are_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path, "0123456789abcdef", "0" * 32)
    index = Index("0123456789abcdef", 4, 2, 1, (), "nobody", pixels=loaded("pixels"))
    (folder / "index.json").write_text(json.dumps(vars(index)))
    (tmp_path / "data" / "found").mkdir()
    (tmp_path / "data" / "found" / index.fingerprint).write_text(folder.name)
    assert find_prepared(index.fingerprint, tmp_path) == (folder, index)
    by_other_code(monkeypatch, "pixels")
    assert find_prepared(index.fingerprint, tmp_path) is None


def test_the_scale_of_a_report_is_of_the_code_that_measured_its_runs(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan.runs[0]
    today = scale_name(run)
    assert scale_name(run, loaded("measuring")) == today != scale_name(run, "old")
    result = Result({"fd": 1.0}, {}, {})
    old = [
        RunRecord(replace(each, engine=Engine("t", "older+old")), Status(state="done"), result)
        for each in plan.runs[:2]
    ]
    assert scale_path(plan, old).name == today
    (plan.study.root / scale_name(run, "old")).write_text("{}")
    assert scale_path(plan, old).name == scale_name(run, "old") and scale_path(plan).name == today
    by_other_code(monkeypatch, "measuring")
    assert scale_name(run) == scale_name(run, "other") != today


def test_features_of_other_code_are_of_no_use_and_all_others_as_before(plan: Plan, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run = plan.runs[0]
    folders = [
        encoded(cache, run.fingerprints["data"], run.fingerprints[name]) for name in run.fingerprints if "." in name
    ]
    for folder, code in zip(folders, (loaded("encoding"), "other", None), strict=True):
        about = json.loads((folder / "about.json").read_text())
        (folder / "about.json").write_text(json.dumps(about | ({"engine": code} if code else {})))
    reads = reads_of(plan.runs)
    kept = {entry.name for entry in entries(cache, Meter()) if entry.is_read(reads)}
    assert kept == {folders[0].name, folders[2].name}


def test_files_that_change_while_a_process_works_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loaded("pixels")
    monkeypatch.setattr(engines, "engine", lambda part: "changed")
    assert loaded("pixels") == before
