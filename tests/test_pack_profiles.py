"""`harness pack` of a study with profiles: each that has runs is in it, and no runs are lost without a word."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

import harness
from harness.cli.main import app
from packs import STUDY, away, content, home, run, told, train

__all__ = ["away", "home"]


def test_profiles_and_what_command_lines_changed(home: Path, away: Any, tmp_path: Path) -> None:
    train(home, profile="long", cells=("origin", "full"))
    train(home, "data.resolution=16", "train.kimg=0.08")
    variants: list[list[str]] = [["-p", "long"], ["--set", "train.kimg=0.08", "--set", "data.resolution=16"]]
    for words in (*variants, []):
        run("report", "study.yaml", *words)
    before = [told("status", "study.yaml", *words) for words in variants]
    report = content(home / "reports")
    assert len({path.split("/")[0] for path in report}) == 3
    run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip"))
    folder = away(tmp_path / "mine.zip")
    assert [told("status", "study.yaml", *words) for words in variants] == before
    for words in ([], *variants):
        run("report", "study.yaml", *words)
    assert content(folder / "reports") == report
    message = run("status", "study.yaml", "--set", "data.resolution=32", code=2)
    assert f"there is no {folder / 'images'}" in message


def test_one_profile_alone(home: Path, tmp_path: Path) -> None:
    train(home, profile="long", cells=("origin",))
    run("pack", "study.yaml", "-p", "long")
    with zipfile.ZipFile("tiny-long.zip") as archive:
        assert {name.split("/")[1] for name in archive.namelist() if name.startswith("runs/")} == {"tiny-long"}


def test_runs_of_a_profile_that_the_file_no_longer_has_are_named_and_not_lost(home: Path, tmp_path: Path) -> None:
    train(home, profile="long", cells=("origin",))
    (home / "runs" / "tiny").rename(home / "runs" / "tiny.tune-full")  # a search alone is packed too
    train(home, "study=tiny-other", profile="long", cells=("full",))
    run("pack", "study.yaml", "-o", str(tmp_path / "one.zip"))
    earlier = (tmp_path / "one.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {name.split("/")[1] for name in archive.namelist() if name.endswith("run.json")} == {
            "tiny-long",
            "tiny.tune-full",
        }
    (home / "study.yaml").write_text(STUDY.replace("{long:", "{longer:"))
    (home / "runs" / "tiny.tune-full").rename(home / "runs" / "tiny-long.tune-full")
    done = CliRunner().invoke(app, ["pack", "study.yaml", "-o", str(tmp_path / "one.zip")])
    said = " ".join(done.output.split())
    named = "left out: 8 runs in runs/tiny-long.tune-full, to which no profile of study.yaml leads"
    assert named in said and "left out: 2 runs in runs/tiny-long," in said and "other" not in said
    assert "is an earlier pack that has runs, and this one would have none" in str(done.exception)
    assert (tmp_path / "one.zip").read_bytes() == earlier
    assert harness.pack(harness.load("study.yaml"), tmp_path / "two.zip").runs == 0
