"""A run that several processes share: stopped, gone on with, and ended by whatever ends one of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from executed import RUN, STEPS, left
from harness.exit_codes import INTERRUPTED
from harness.runs.folders import RunFolder
from harness.scheduler.failures import POLICIES
from harness.training import team

PROGRAM = Path(__file__).with_name("shared_run.py")


def share(folder: Path, ranks: int, *acts: str) -> subprocess.CompletedProcess[str]:
    """The run in that folder, shared by so many processes; none of them is left."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), str(folder), str(ranks), *acts],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        out, error = process.communicate(timeout=120)
    deadline = time.monotonic() + 10
    while [each for each in psutil.pids() if _session(each) == process.pid]:
        assert time.monotonic() < deadline, "a process is left"
        time.sleep(0.1)
    hidden = {path.name for path in folder.glob(".*")}
    # Removed by the scheduler, as all files of a process that was killed.
    assert hidden == ({f".ranks.{process.pid}-0.tmp"} if "step:4:0:9" in acts else set())
    return subprocess.CompletedProcess([], process.returncode, out, error)


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return 0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed") / RUN.id
    done = share(folder, 2)
    assert done.returncode == 0, done.stderr
    return left(folder)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its fourth step."""
    folder = tmp_path_factory.mktemp("stopped") / RUN.id
    assert share(folder, 2, "step:3:0:stop").returncode == INTERRUPTED
    return folder


def test_only_one_process_writes_and_points_and_status_are_those_of_any_run(undisturbed: dict[str, Any]) -> None:
    assert undisturbed["names"] == [
        *("checkpoint", "generator.safetensors", "metrics.jsonl", "result.json", "run.json", "samples", "status.json")
    ]
    steps = [step for step, _, _ in undisturbed["points"]]
    assert steps == sorted(steps) and steps[-1] == STEPS and len({*steps}) == STEPS + 1


def test_a_stopped_run_goes_on_to_the_same_bytes(stopped: Path, tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    assert [path.name for path in (stopped / "checkpoint").iterdir()] == ["000000004.safetensors"], "one checkpoint"
    folder = Path(shutil.copytree(stopped, tmp_path / RUN.id))
    done = share(folder, 2)
    assert (done.returncode, done.stdout) == (0, "")
    assert left(folder) == undisturbed


def test_another_number_of_processes_may_go_on_and_is_told(
    stopped: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    folder = Path(shutil.copytree(stopped, tmp_path / RUN.id))
    done = share(folder, 1)
    assert done.returncode == 0
    assert done.stdout == "goes on at step 4 in 1 process, 2 before: the same but for rounding\n"
    assert RunFolder(folder).status().ranks == 1
    ours, theirs = left(folder)["metrics"], undisturbed["metrics"]
    assert ours == pytest.approx(theirs, rel=1e-4) and ours != theirs


@pytest.mark.parametrize(
    ("act", "code", "message"),
    [
        ("step:4:1:9", -9, "process 2 of the 2 of this run (on cpu) was killed by SIGKILL"),
        pytest.param(
            *("step:4:1:19", -9, "process 2 of the 2 of this run (on cpu) hangs: it gives no sign of life"),
            marks=pytest.mark.slow,
        ),
        ("step:4:1:memory", POLICIES["out_of_memory"].exit_code, "CUDA out of memory. Tried to allocate 2.00 GiB"),
        ("step:4:1:eof", POLICIES["code"].exit_code, "EOFError: a file ends early"),
        ("prepare:0:1:11", -11, "process 2 of the 2 of this run (on cpu) was killed by SIGSEGV"),
    ],
    ids=["killed", "halted", "out of memory", "an end of a file", "crashed before it began"],
)
def test_what_ends_one_process_ends_the_run_in_the_same_way(act: str, code: int, message: str, tmp_path: Path) -> None:
    begun = time.monotonic()
    ended = share(tmp_path / RUN.id, 2, act)
    assert ended.returncode == code and message in ended.stderr
    assert team.SIGN_S * (team.SILENT_LOOKS + 2) < 10
    assert time.monotonic() - begun < 60  # with its start on a busy machine


def test_when_the_runs_own_process_dies_no_other_is_left(tmp_path: Path) -> None:
    assert share(tmp_path / RUN.id, 2, "step:4:0:9").returncode == -9
