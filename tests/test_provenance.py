"""Where results came from, over several calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import provenance
from harness.reading import read_json
from harness.study.definition import Study
from harness.writing import write_json
from mirrored import make_study

DATA = {"images": 3}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path)


def calls(monkeypatch: pytest.MonkeyPatch, study: Study, path: Path, commits: str) -> list[str]:
    for commit in commits:
        monkeypatch.setattr(provenance, "code", lambda commit=commit: {"commit": commit, "dirty": False})
        provenance.add(path, study, DATA)
    return [call["code"]["commit"] for call in read_json(path)["calls"]]


def test_every_call_that_differs_is_told_and_the_last_is_last(study, tmp_path, monkeypatch) -> None:
    path = tmp_path / "provenance.json"
    assert calls(monkeypatch, study, path, "aaba") == ["b", "a"]
    assert read_json(path)["data"] == DATA


def test_a_file_of_one_call_is_the_first_of_several(study, tmp_path, monkeypatch) -> None:
    path = tmp_path / "provenance.json"
    write_json(path, {"command": "harness run-grid", "data": "Twemoji", "code": {"commit": "old"}})
    assert calls(monkeypatch, study, path, "n") == ["old", "n"]
    assert "data" not in read_json(path)["calls"][0]
