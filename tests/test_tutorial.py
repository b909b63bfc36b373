"""The tutorial, followed word by word: what it shows is what the tool prints, but for what is measured."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from forked import run_forked

TEXT = (Path(__file__).parent.parent / "docs" / "tutorial.md").read_text(encoding="utf-8")
SESSIONS = re.findall(r"^```console\n\$ harness ([^\n]*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
CHANGES = "".join(re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
SHORTER = {"kimg: 5,": "kimg: 0.064,", "samples: 1000": "samples: 20", "seeds: 2}": "seeds: 1}"}


def changed(study: str) -> str:
    """The study file with the lines of the page in place of its own."""
    for line in CHANGES.splitlines(keepends=True):
        key = line.partition(":")[0]
        study, count = re.subn(
            rf"^{key}:.*\n(?:  - .*\n)*", lambda _, new=line: new, study, count=1, flags=re.MULTILINE
        )
        assert count == 1, key
    return study


def shortened(study: str) -> str:
    for long, short in SHORTER.items():
        assert long in study
        study = study.replace(long, short, 1)
    return study


def words_of(text: str) -> list[str]:
    """Lines of words: ids, numbers and lines that are left out do not count."""
    lines = (" ".join(re.sub(r"\b[0-9a-f]{12}\b", "ID", line).split()) for line in text.splitlines())
    return [line for line in lines if line not in ("", "...")]


def follow(folder: Path, sessions: list[tuple[str, str]]) -> None:
    shared = {"HARNESS_CACHE": os.environ["TESTS_EMOJI_CACHE"], "HARNESS_TIMING": "0", "COLUMNS": "110"}
    path = folder / "study.yaml"
    for command, shown in sessions:
        words = shlex.split(command)
        if words[0] == "run-grid":
            path.write_text(shortened(path.read_text(encoding="utf-8")), encoding="utf-8")
            words += ["--only", "full"]  # one run, which is sampled from
        done = run_forked(words, folder, {**os.environ, **shared})
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if words[0] in ("init", "plan", "terms"):
            printed = iter(words_of(done.stdout + done.stderr))
            assert [line for line in words_of(shown) if line not in printed] == [], command
        if words[0] == "init":
            path.write_text(changed(path.read_text(encoding="utf-8")), encoding="utf-8")


def test_the_tutorial_prints_what_it_shows_until_something_trains(tmp_path: Path) -> None:
    assert [command.split()[0] for command, _ in SESSIONS] == [
        *("init", "plan", "terms", "run-grid", "status", "sample")
    ]
    follow(tmp_path, SESSIONS[:3])


@pytest.mark.slow
def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    follow(tmp_path, SESSIONS)
    assert (tmp_path / "samples.png").exists()
