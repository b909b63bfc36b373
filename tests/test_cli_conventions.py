"""What every command has in common: -h, help that is whole at 80 columns, and completion of the study's names."""

from __future__ import annotations

import contextlib
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
from typer.testing import CliRunner

from harness import __version__
from harness.cli import main
from harness.cli.presets import names as presets

STUDY = """\
study: tiny
toggles: [mix_logits, transform_w]
design: {include: [full], seeds: 2}
profiles:
  small: {train: {kimg: 1}}
  smaller: {design: {kind: full}}
"""


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command, and the words that name it."""
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from walk(each, (*path, name))


COMMANDS = dict(walk(typer.main.get_command(main.app)))
RUNS = [path for path, command in COMMANDS.items() if not hasattr(command, "commands")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ablations.yaml").write_text(STUDY)
    return tmp_path


def told(words: tuple[str, ...], **environment: str) -> str:
    done = CliRunner().invoke(main.app, list(words), prog_name="harness", env=environment)
    assert done.exit_code == 0, (words, done.output)
    return str(done.output)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_is_whole_at_80_columns(path: tuple[str, ...]) -> None:
    text = told((*path, "-h"), COLUMNS="80", TERMINAL_WIDTH="80")
    assert text == told((*path, "--help"), COLUMNS="80", TERMINAL_WIDTH="80")
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("\n\n")[2], "cut"
    assert "......" not in text.replace(" ", "")
    words = text.split()
    for parameter in (each for each in COMMANDS[path].params if not getattr(each, "hidden", False)):
        for name in (*parameter.opts, *parameter.secondary_opts) if isinstance(parameter, click.Option) else ():
            assert any(word.rstrip(",") == name for word in words), f"{name} is broken or missing"
        told_of = getattr(parameter, "help", None) or ""
        assert all(word in words for word in told_of.split())
        if isinstance(parameter, click.Option):
            assert told_of.endswith("; may be repeated.") == parameter.multiple
    for name in getattr(COMMANDS[path], "commands", {}):
        assert name in words


@pytest.mark.parametrize("path", RUNS, ids=" ".join)
def test_every_command_has_examples_that_it_accepts(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    lines = [shlex.split(line) for line in (command.help or "").splitlines() if line.strip().startswith("harness ")]
    assert path in [tuple(words[1 : len(path) + 1]) for words in lines], "no example"
    for _, *words in lines:
        named = next(each for each in sorted(RUNS, key=len, reverse=True) if tuple(words[: len(each)]) == each)
        COMMANDS[named].make_context(" ".join(named), words[len(named) :])


def test_the_version() -> None:
    assert told(("--version",)) == f"harness {__version__}\n"


def offered(*words: str) -> set[str]:
    """What bash is offered for the last word."""
    line = shlex.join(("harness", *words))
    asked = {"_HARNESS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    return set(told((), **asked).split())


def options(path: tuple[str, ...]) -> set[str]:
    return {name for each in COMMANDS[path].params for name in each.opts}


@pytest.mark.parametrize("path", RUNS, ids=" ".join)
def test_names_of_the_study_are_completed_wherever_they_are_taken(path: tuple[str, ...]) -> None:
    there = options(path)
    if "--profile" in there:
        assert offered(*path, "--profile", "small") == {"small", "smaller"}
    if "--set" in there:
        assert offered(*path, "--set", "train.kim") == {"train.kimg="}
        assert {"design.seeds=", "design.kind="} <= offered(*path, "--set", "design.")
    for option in there & {"--only", "--cell", "--also"}:
        assert offered(*path, option, "") == {"origin", "mix_logits", "transform_w", "full"}
    if "--preset" in there:
        assert offered(*path, "--preset", "") == set(presets())


def test_completion_knows_the_study_and_profile_of_the_line(folder: Path) -> None:
    (folder / "other.yaml").write_text(STUDY.replace("mix_logits", "img_img_loss"))
    assert "img_img_loss" in offered("run-grid", "other.yaml", "--only", "im")
    assert "mix_logits+transform_w" not in offered("terms", "--cell", "")
    assert offered("terms", "--profile", "smaller", "--cell", "mix") == {"mix_logits"}
    (folder / "ablations.yaml").write_text("study: [")
    assert offered("terms", "--cell", "") == offered("terms", "--profile", "") == set()


TYPED = {
    "--only tau=0.\t": "--only tau=0.1",
    "--set init= --only=mix_logits+ta\t1\t": "--set init= --only=mix_logits+tau=1",
    "--set train.kim\t7": "--set train.kimg=7",
}
"""What is typed after `harness run-grid` in bash, and what stands there then."""


def test_bash_completes_words_with_an_equals_sign(folder: Path) -> None:
    """In a terminal of its own, as bash parts words at `=` only there."""
    (folder / "ablations.yaml").write_text(
        f"{STUDY}levels: {{loss.tau: [0.1, 0.5, 1.0]}}\nloss: {{tau: 0.5}}\nprofile: smaller\n"
    )
    start = "import sys; sys.argv[0] = 'harness'; from harness.cli.main import main; main()"
    (folder / "harness").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{start}" "$@"\n')
    (folder / "harness").chmod(0o755)
    (folder / "rc").write_text('PATH=.:$PATH\nPS1=ready\neval "$(harness --show-completion)"\n')
    ours, its = pty.openpty()
    bash = subprocess.Popen(["bash", "--noprofile", "--rcfile", "rc", "-i"], stdin=its, stdout=its, stderr=its)
    os.close(its)
    seen = b""
    while b"ready" not in seen:
        seen += os.read(ours, 1024)
    # Each line is written to a file in place of being run: Ctrl-A leads to its beginning.
    typed = "".join(f"harness run-grid {words}\x01echo >>told \n" for words in TYPED)
    os.write(ours, f"{typed}exit\n".encode())
    with contextlib.suppress(OSError):  # the end, on Linux
        while os.read(ours, 1024):
            pass
    os.close(ours)
    assert bash.wait() == 0
    lines = (folder / "told").read_text().splitlines()
    assert lines == [f"harness run-grid {words}" for words in TYPED.values()]
