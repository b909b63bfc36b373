"""The process of a script: how it is started, stopped and ended, and how its failure is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.command.outcome import begin_line, changes, end_badly, failure_of, files_below, last_lines
from harness.command.process import Script
from harness.errors import HarnessError
from harness.scheduler.processes import JOB
from waiting import alive


def wait_for(path: Path) -> str:
    until = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith("\n")):
        assert time.monotonic() < until, f"{path} did not come"
        time.sleep(0.02)
    return path.read_text()


FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
one, other = subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)
open("pids", "w").write(f"{os.getpid()} {one.pid} {other.pid}\\n")
time.sleep(600)
"""


def test_a_script_that_heeds_no_request_is_killed_with_all_that_it_has_started(tmp_path: Path) -> None:
    script = Script([sys.executable, "-c", FAMILY], tmp_path, tmp_path / "job.json")
    pids = [int(word) for word in wait_for(tmp_path / "pids").split()]
    assert script.wait(0) is None and all(map(alive, pids))
    assert script.stop(grace_s=0.3) == -9
    until = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, pids)), "also what is in a session of its own"


def test_what_an_earlier_attempt_has_left_is_ended_before_the_next_begins(tmp_path: Path) -> None:
    job = tmp_path / "job.json"
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    left = subprocess.Popen(sleep, env={**os.environ, JOB: str(job)}, start_new_session=True)
    other = subprocess.Popen(sleep, env={**os.environ, JOB: f"{job}x"})
    try:
        time.sleep(0.3)
        script = Script([sys.executable, "-c", "pass"], tmp_path, job)
        assert left.wait(10) == -9 and other.poll() is None
        assert script.wait(20) == 0 and script.kill() == 0
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-45, "was killed by signal 45"),
        (128 + 45, "ended with exit code 173, as after signal 45"),
        (143, "ended with exit code 143, as after SIGTERM, without having been asked to stop"),
        (128 + 65, "ended with exit code 193"),
    ],
)
def test_a_signal_without_a_name_is_told_by_its_number(
    code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    with pytest.raises(SystemExit):
        end_badly(code, tmp_path / "log.txt", ["the last line"], False)
    assert capsys.readouterr().err == f"error: the script {told}: the last line\n"


@pytest.mark.parametrize(("name", "is_told"), [("data/train.txt", True), ("/data/train.txt", False)])
def test_a_file_that_the_copy_of_the_script_lacks_is_told_with_the_way_to_name_it(
    name: str, is_told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        end_badly(1, tmp_path / "log.txt", [f"FileNotFoundError: [Errno 2] No such file or directory: '{name}'"], False)
    told = capsys.readouterr().err
    assert f"'{name}'" in told and ("the files of command.code: name other files by {study}" in told) is is_told


@pytest.mark.parametrize(("first", "mode"), [("echo hi", 0o644), ("#!/no/such/shell", 0o755)])
def test_a_file_that_no_program_reads_says_what_its_first_line_must_be(tmp_path: Path, first: str, mode: int) -> None:
    (tmp_path / "train.sh").write_text(f"{first}\n")
    (tmp_path / "train.sh").chmod(mode)
    with pytest.raises(HarnessError, match=r"train\.sh cannot be started .*; its first line must be #!"):
        Script(["./train.sh"], tmp_path, tmp_path / "job.json")


def test_arguments_that_are_too_long_together_are_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"Argument list too long.*; give it fewer or shorter arguments"):
        Script([sys.executable, "-c", "pass", *["x" * 100_000] * 100], tmp_path, tmp_path / "job.json")


@pytest.mark.parametrize("word", ["no-such-program", "./train.sh"])
def test_a_program_that_is_not_there_is_named(tmp_path: Path, word: str) -> None:
    with pytest.raises(HarnessError, match=rf"command\.run: {word} cannot be started .*\{{python\}}"):
        Script([word], tmp_path, tmp_path / "job.json")


def test_the_reason_is_the_last_line_of_the_script_and_not_what_we_have_printed_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"of an earlier attempt\n" + b"x" * 3_000_000 + b"\nwrong lr\nours\n\n" + b"y" * 3000)
    lines = last_lines(log, 22, {"ours"})
    assert lines[-2:] == ["wrong lr", "y" * 500] and "ours" not in lines and max(map(len, lines)) <= 500
    assert last_lines(log, log.stat().st_size, ()) == []
    begin_line(log)
    assert capsys.readouterr().out == "\n", "what we print next is a line of its own"
    log.write_bytes(b"whole\n")
    begin_line(log)
    begin_line(tmp_path / "nowhere")
    assert capsys.readouterr().out == ""


def test_what_another_process_writes_is_not_taken_for_the_work_of_a_script(tmp_path: Path) -> None:
    """As the log of `harness run-grid > log` in the study's folder, or of `| tee log`."""
    before = files_below(tmp_path)
    for name in ("log", "of_script", "of_other_script", "read"):
        (tmp_path / name).write_text("x")
    wait, others = "print(flush=True); input()", []
    for name, mode, job in (("log", "a", ""), ("of_other_script", "a", "other/job.json"), ("read", "r", "")):
        code = f"file = open({name!r}, {mode!r}); {wait}"
        environment = {**os.environ, **({JOB: job} if job else {})}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        others.append(subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment, **pipes))
    try:
        for other in others:
            assert other.stdout is not None and other.stdout.readline() == b"\n"
        assert changes(before, files_below(tmp_path), tmp_path) == ["of_other_script", "of_script", "read"]
    finally:
        for other in others:
            other.communicate(b"\n")


@pytest.mark.parametrize(
    ("code", "lines", "short", "failure"),
    [
        (1, ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"], False, "out_of_memory"),
        (1, ["numpy._core._exceptions._ArrayMemoryError: Unable to allocate 9 GiB"], False, "out_of_memory"),
        (1, ["MemoryError"], False, "out_of_memory"),
        (1, ["RuntimeError: CUDA error: unspecified launch failure"], False, "device"),
        (1, ["ValueError: wrong lr"], False, "code"),
        (5, ["my own code 5"], False, "code"),
        (2, ["usage: train.py [--lr LR]"], False, "code"),
        (-9, ["step 3"], False, "killed"),
        (-9, ["step 3"], True, "out_of_memory"),
        (-11, [], False, "code"),
    ],
)
def test_how_a_script_has_failed_is_told_from_what_it_says(
    code: int, lines: list[str], short: bool, failure: str
) -> None:
    assert failure_of(code, lines, short) == failure
