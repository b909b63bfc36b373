"""Where results came from, over several calls."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from harness.code import checkout
from harness.files import read_json, write_json
from harness.report.inputs import ReportInputs
from harness.report.provenance import provenance as shown
from harness.study.schema import Study
from harness.tracking import provenance
from mirrored import make_study

DATA = {"images": 3}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path)


def calls(monkeypatch: pytest.MonkeyPatch, study: Study, path: Path, commits: str) -> list[str]:
    for commit in commits:
        monkeypatch.setattr(provenance, "code", lambda commit=commit: {"commit": commit, "dirty": False})
        provenance.add(path, study, "run-grid", DATA)
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


def test_the_noted_command_can_be_pasted(study) -> None:
    changed = replace(study, profile="my own", overrides=("toggles=[a, b]",))
    for name in ("run-grid", "tune"):
        words = ["harness", name, study.path.name, "--profile", "my own", "--set", "toggles=[a, b]"]
        assert shlex.split(provenance.provenance(changed, name)["command"]) == words


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a few committed files, in place of the harness's own."""
    home = tmp_path / "checkout"
    (home / "harness").mkdir(parents=True)
    for name in ("harness/a.py", "harness/b c.py", "ä.py", "token=abcdef123.py", *(f"m{n:03}.py" for n in range(130))):
        (home / name).write_text("1\n")
    git(home, "init", "-q")
    git(home, "add", "-A")
    git(home, "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "first")
    monkeypatch.setattr(checkout, "_PACKAGE", home / "harness")
    return home


def git(home: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(home), *words], check=True, capture_output=True)


def line(study: Study, code: dict) -> str:
    """What the report says of a call by this code."""
    made: object = ReportInputs(study, (), None, provenance={"calls": [{"code": code, "command": "harness"}]})  # type: ignore[arg-type]
    items, *_ = shown(made)  # type: ignore[arg-type]
    found = (str(text[0]) for _, text in items.items if str(text[0]).startswith("code:"))  # type: ignore[union-attr]
    return next(found).removesuffix("; ")


def test_files_that_differ_from_the_commit_are_named(repository: Path, study: Study) -> None:
    assert checkout.code()["dirty"] is False and "changed" not in checkout.code()
    assert line(study, checkout.code()).endswith("as committed")
    (repository / "new.py").write_text("not in git")
    (repository / "harness/b c.py").write_text("2\n")
    assert checkout.code()["changed"] == {"count": 1, "files": ["harness/b c.py"]}
    assert line(study, checkout.code()).endswith("with uncommitted changes in 1 file: harness/b c.py")
    (repository / "harness/a.py").unlink()
    (repository / "ä.py").rename(repository / "moved.py")
    git(repository, "add", "moved.py")
    (repository / "token=abcdef123.py").write_text("2\n")
    assert checkout.code()["changed"] == {
        "count": 5, "files": ["harness/a.py", "harness/b c.py", "moved.py", "token=***", "ä.py"],
    }  # fmt: skip


def test_of_many_changed_files_the_rest_is_counted(repository: Path, study: Study) -> None:
    for n in range(130):
        (repository / f"m{n:03}.py").write_text("2\n")
    found = checkout.code()["changed"]
    assert found["count"] == 130 and found["files"] == [f"m{n:03}.py" for n in range(100)]
    told = line(study, checkout.code())
    assert told.endswith("in 130 files: m000.py, m001.py, m002.py, m003.py, m004.py and 125 more")


def test_outside_a_checkout_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Study) -> None:
    monkeypatch.setattr(checkout, "_PACKAGE", tmp_path / "harness")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert checkout.code() == {"commit": None, "dirty": None}
    assert line(study, checkout.code()).endswith("commit unknown, unknown changes")
    assert line(study, {"commit": "abc", "dirty": True}).endswith("(in which files was not noted)")


def test_a_copy_tells_of_the_checkout_that_it_was_made_in(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's copy of the code lies in the folder of runs, which may be inside another repository."""
    (repository / "harness/a.py").write_text("2\n")
    here, copy = checkout.code(), repository / "runs" / "code"
    (copy / "harness").mkdir(parents=True)
    write_json(copy / checkout.OF_COPY, {**here, "copy": "c0ffee"})
    (repository / "harness/b c.py").write_text("2\n")
    monkeypatch.setattr(checkout, "_PACKAGE", copy / "harness")
    assert checkout.code() == {**here, "copy": "c0ffee"} and here["changed"]["files"] == ["harness/a.py"]
    assert checkout.diff() == ""


def test_the_patch_is_of_the_package_alone(repository: Path) -> None:
    """Reports and data of the same checkout, which a grid writes, may be megabytes, and are no code."""
    (repository / "harness/a.py").write_text("changed\n")
    (repository / "m001.py").write_text("a report\n")
    assert "+changed" in checkout.diff() and "a report" not in checkout.diff()
