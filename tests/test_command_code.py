"""The files of a script: which they are and where, and the hash that decides whether its runs are new ones."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.command.files import digest, read_files, wrong_pattern
from harness.command.job import job_of
from harness.errors import SpecError


def test_patterns_name_source_and_nothing_that_runs_have_made(tmp_path: Path) -> None:
    kept = {"train.py": "a", "pkg/net.py": "b", "pkg/deep/er.py": "c", "conf/x.yaml": "d"}
    others = ("runs/s/1/script/code/train.py", ".git/x.py", "pkg/__pycache__/net.py", "reports/r.py", "notes.txt")
    for name, text in [*kept.items(), *((name, "-") for name in others)]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "pkg" / "loop").symlink_to(tmp_path)
    assert read_files(["**/*.py", "conf/*"], tmp_path) == dict(sorted(kept.items()))
    assert list(read_files(["*.py"], tmp_path)) == ["train.py"]
    assert list(read_files(["pkg/**"], tmp_path)) == ["pkg/deep/er.py", "pkg/net.py"]
    with pytest.raises(SpecError, match=r"nothing\.py: names no file"):
        read_files(["*.py", "nothing.py"], tmp_path)
    (tmp_path / "net.bin").write_bytes(b"\xff\xfe\0")
    with pytest.raises(SpecError, match="no text in UTF-8"):
        read_files(["net.bin"], tmp_path)
    for wrong in ("/etc/x.py", "../x.py", "a/../../x", "~/x.py", "http://a/b.py", "a\\b.py", ""):
        assert wrong_pattern(wrong), wrong


def test_a_file_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.py")).write_text("x = 1")
    with pytest.raises(
        SpecError, match=r"^command\.code: .*caf.*e9\.py: the name is not UTF-8; rename the file$"
    ) as told:
        read_files(["*.py"], tmp_path)
    str(told.value).encode()


def test_the_digest_moves_with_names_and_contents() -> None:
    same = digest({"a": "1", "b": "2"})
    assert digest({"b": "2", "a": "1"}) == same
    assert len({same, digest({"a": "1", "b": "3"}), digest({"a": "1", "c": "2"}), digest({"a": "12"})}) == 4


SOURCE = (
    '#!/usr/bin/env python3\n"""About."""\n# a note\nx = 1  # of x\n\n\ndef f():\n    """Of f."""\n    return "# no"\n'
)


def of_python(text: str, name: str = "t.py") -> str:
    return digest({name: text})


@pytest.mark.parametrize(
    ("old", "new"),
    [("# a note", "# another"), ("  # of x", ""), ("About.", "A word."), ("Of f.", "\nOf\nf."), ("\n\n\n", "\n")],
)
def test_a_comment_in_a_script_makes_no_new_run_and_one_that_is_no_python_counts_whole(old: str, new: str) -> None:
    assert old in SOURCE
    changed = SOURCE.replace(old, new, 1)
    assert of_python(changed) == of_python(SOURCE)
    assert of_python(f"\ufeff{changed}") == of_python(SOURCE), "a mark of editors on Windows"
    assert of_python(f"\ufeff{SOURCE}", "t.sh") != of_python(SOURCE, "t.sh") != of_python(changed, "t.sh")
    broken, by_hand = f"{SOURCE}print 'x'\n", f"{SOURCE}print(__doc__)\n"
    for text in (broken, by_hand):  # Python 2, and a script whose options are read from its docstring
        assert of_python(text.replace(old, new, 1)) != of_python(text)


@pytest.mark.parametrize(
    ("old", "new"),
    [("x = 1", "x = 2"), ("# no", "# yes"), ("python3", "pypy3"), ("# a note", "# coding: latin-1\n# a note")],
)
def test_what_a_script_does_and_how_it_is_read_makes_new_runs(old: str, new: str) -> None:
    source = SOURCE.replace('"""About."""\n', "")
    assert old in source and of_python(source.replace(old, new, 1)) != of_python(source)
    assert of_python(source.replace("# a note", "# a note\n# coding: x")) == of_python(source), "too late to count"
    for text in ("x = (", "\0", "x = 1\n  y = 2", "'" * 5, "(" * 10_000):
        assert of_python(text) != of_python(text + "#")


def test_the_studys_folder_is_found_whatever_is_called_as_folders_of_ours() -> None:
    names = ("own", "runs", "anew")
    for study, name, profile, part in product(names, names, ("", "-runs"), ("", "anew")):
        run: Any = SimpleNamespace(study=name)
        folder = Path("/runs", study, "runs", f"{name}{profile}", part, "3f2a9c41d07b")
        assert job_of(run, folder).study == Path("/runs", study), folder
