"""The page on own ideas, followed word by word, and its tables beside the code."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from forked import run_forked
from harness.ideas.forms import FORMS, TYPES

PAGE = Path(__file__).parent.parent / "docs" / "own-ideas.md"
TEXT = PAGE.read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^    \$ harness (.*)$", TEXT, re.MULTILINE)
SHORTER = ["--set", "train.kimg=0.064", "--set", "metrics.samples=20", "--set", "design.seeds=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with the page's files."""
    folder = tmp_path_factory.mktemp("own")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_the_page_on_own_ideas_works_as_written(folder: Path) -> None:
    assert set(FILES) == {"my_ideas.py", "mine.yaml"} and [command.split()[0] for command in COMMANDS] == [
        *("plan", "terms", "run-grid")
    ]
    environment = {
        **os.environ,
        "HARNESS_CACHE": os.environ["TESTS_EMOJI_CACHE"],
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "200",
    }
    for command in COMMANDS:
        shorter = SHORTER if command.startswith("run-grid") else []
        done = run_forked([*shlex.split(command), *shorter], folder, environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if command.startswith("terms"):
            (line,) = re.findall(r"^     (discriminator .*)$", TEXT, re.MULTILINE)
            assert line.split() in [printed.split() for printed in done.stdout.splitlines()]
    (report,) = (folder / "reports").glob("mine.*/report.md")
    assert "3 runs: 3 done" in report.read_text(encoding="utf-8")
    runs = [json.loads(path.read_text()) for path in (folder / "runs").rglob("run.json")]
    assert {run["cell"]: set(run["source"]) for run in runs} == {
        "origin": set(),
        "mismatched": {"my_ideas.py"},
        "heavy": {"my_ideas.py"},
    }


def test_the_table_of_marks_has_every_mark_and_what_it_gets() -> None:
    rows = re.findall(r"^\| `(?:@|NAME = )(\w+)(?:\(([^)]*)\))?` \| (\w+) \| (.*?) \|", TEXT, re.MULTILINE)
    assert [kind for kind, *_ in rows] == list(FORMS)
    for kind, arguments, stands_on, gets in rows:
        form = FORMS[kind]
        names = [argument.split("=")[0].strip() for argument in (arguments or "").split(",") if argument]
        assert names == list(dict.fromkeys([form.first, *form.settings] if form.first else []))
        assert stands_on == ("nothing" if kind == "feature" else "class" if form.makes else "function")
        for name in (*(form.makes or ()), *form.calls):
            assert f"`{name}`" in gets


def test_the_page_names_every_type_of_a_setting() -> None:
    assert {name for name in TYPES if f"`{name}`" not in TEXT} == set()


def test_the_gallery_of_the_page_is_the_folder() -> None:
    folder = PAGE.parent / "ideas"
    listed = set(re.findall(r"\(ideas/(\w+\.py)\)", TEXT.split("## A gallery")[1]))
    assert listed == {path.name for path in folder.glob("*.py")}
    for path in folder.glob("*.py"):
        assert 10 <= len(path.read_text(encoding="utf-8").splitlines()) <= 60
        for name in re.findall(r"^(?:@\w+.*\n(?:def|class) )(\w+)", path.read_text(encoding="utf-8"), re.MULTILINE):
            assert f"`{name}`" in TEXT.split("## A gallery")[1], name
