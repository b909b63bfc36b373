"""What a script costs, as it is measured and compared, and what it has started that must end with it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.analysis.costs import costs, equal_time
from harness.command.process import Script
from harness.command.usage import Meter, Usage
from harness.grid.jobs import HEAVY
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result, Run, RunRecord, Status
from harness.scheduler import gpus
from harness.scheduler.attempt import Attempt
from harness.scheduler.processes import JOB
from harness.scheduler.slots import Slot
from harness.settings import CommandConfig, Settings

CARD = {"role": "headline", "n": 16, "n_real": 64, "d": 8}


def record(cell: str, seed: int, seconds: float, curve: dict[int, float]) -> RunRecord:
    """A finished run by a script: step -> Fréchet distance."""
    settings = Settings(command=CommandConfig(run=("x",)))
    run = Run(f"{cell}{seed}", "own", cell, seed, () if cell == "origin" else (cell,), settings, {"data": "d"})
    points = tuple(Point(step, step / 1000, 0.0, {"metrics/fd_emoji": value}) for step, value in curve.items())
    result = Result({"fd_emoji": curve[max(curve)]}, {"fd_emoji": CARD}, {"script_seconds": seconds, "seconds": 9e3})
    return RunRecord(run, Status(state="done"), result, points)


def test_the_time_of_a_cell_is_that_of_its_scripts_over_the_baselines_seed_by_seed() -> None:
    records = [record("origin", 0, 10, {1: 9.0}), record("origin", 1, 20, {1: 9.0})]
    records += [record("slow", 0, 40, {1: 9.0}), record("slow", 1, 20, {1: 9.0})]
    assert {it.cell: it.ratio for it in costs(records, "origin")} == {"origin": 1.0, "slow": pytest.approx(2.0)}


def test_at_equal_time_a_slower_script_is_read_where_it_was_by_then_and_nothing_is_made_up() -> None:
    """Half way between 4 and 1 on a scale of logarithms is 2; before the first images nothing is known."""
    origin = [record("origin", seed, 10.0, {5: 16.0, 10: 2.0 + seed}) for seed in (0, 1)]
    slow = [record("slow", seed, 20.0 * 4 / 3, {25: 4.0, 50: 1.0, 100: 0.5}) for seed in (0, 1)]
    late = [record("late", seed, 50.0, {25: 4.0, 50: 1.0, 100: 0.5}) for seed in (0, 1)]
    timed = equal_time([*origin, *slow, *late], "origin", ["slow", "late"])
    assert timed is not None
    (result,) = [it for it in timed.metrics if it.metric.name == "fd_emoji"]
    assert result.cell("slow").mean == pytest.approx(2.0)
    assert result.cell("origin").mean == pytest.approx(2.5)
    assert result.cell("late").mean is None


HUNGRY = """
import subprocess, sys, time
held = bytearray(60_000_000)
child = subprocess.Popen([sys.executable, "-c", "b = bytearray(90_000_000); import time; time.sleep(30)"])
time.sleep(30)
"""


def test_the_memory_of_a_script_is_of_all_its_processes_and_not_of_ours(tmp_path: Path) -> None:
    ballast = bytearray(400_000_000)
    ballast[::4096] = b"x" * len(ballast[::4096])
    script = Script([sys.executable, "-c", HUNGRY], tmp_path, tmp_path / "job.json")
    meter, end = Meter(script, Usage(5.0, 1.0), has_gpu=False), time.monotonic() + 20
    while meter.usage.resident_mb < 150 and time.monotonic() < end:
        meter.look()
        time.sleep(0.1)
    assert script.kill() == -9
    usage = meter.usage
    assert 143 <= usage.resident_mb < 350, "both, and not the process that has started them"
    time.sleep(0.2)
    assert meter.usage == usage and 5 < usage.seconds < 30, "its time ends with it"


def test_what_two_attempts_have_taken() -> None:
    assert Usage(1.0, 5.0, 3.0).then(Usage(2.0, 4.0, 9.0)) == Usage(3.0, 5.0, 9.0)


def test_the_memory_that_processes_hold_of_gpus_is_summed_and_unknown_is_no_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = "12, 700\n12, 24\n9, 5\n13, [N/A]\n[Insufficient Permissions], 3\n\n"
    monkeypatch.setattr(gpus, "_ask_nvidia_smi", lambda *_: answer)
    assert gpus.memory_of_processes() == {12: 724.0, 9: 5.0}


def test_the_time_of_a_script_ends_when_it_ends_though_nobody_looks(tmp_path: Path) -> None:
    script = Script([sys.executable, "-c", "import time; time.sleep(0.3)"], tmp_path, tmp_path / "job.json")
    time.sleep(3)  # as while images are measured
    assert script.wait(0) == 0 and 0.3 <= script.seconds < 2.5


def test_a_run_is_made_by_the_program_that_was_started_and_not_by_files_that_came_since() -> None:
    """What a run of either kind imports of ours is there before the first one begins."""
    imported = "; ".join(f"import {name}" for name in HEAVY)
    before = "before = {name for name in sys.modules if name.startswith('harness.')}"
    after = "import harness.command.session, harness.training.session, harness.grid.jobs"
    new = "print([name for name in sys.modules if name.startswith('harness.') and name not in before])"
    program = "\n".join(["import sys", imported, "import harness.grid.jobs", before, after, new])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_what_a_killed_run_has_started_in_a_session_of_its_own_ends_with_it(tmp_path: Path) -> None:
    """As after a second Ctrl-C: the run's process is gone before it could end anything."""
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    variables = {**os.environ, JOB: str(tmp_path / "script" / "job.json")}
    left = subprocess.Popen(sleep, env=variables, start_new_session=True)
    gone = subprocess.Popen(["true"])
    gone.wait()
    (tmp_path / "log.txt").touch()
    process: Any = SimpleNamespace(pid=gone.pid, exitcode=-9, close=lambda: None)
    run = record("origin", 0, 1.0, {1: 1.0}).run
    time.sleep(0.3)
    Attempt(run, Slot(0, "cpu", 1), RunFolder(tmp_path), process, 0, 0).end()
    assert left.wait(10) == -9
