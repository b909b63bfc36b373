"""A scheduler that does not wait for others: it takes what is free, and leaves what lives alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import fakes
from fakes import make_run
from harness.exit_codes import REQUEUE
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim
from harness.runs.record import Run, Status
from harness.scheduler import ownership, scheduler
from harness.scheduler.slots import Slot

SLOTS = (Slot(0, "cpu", 1),)


def leaving(root: Path, **options: Any) -> scheduler.Scheduler:
    return fakes.scheduler(root, SLOTS, 0, waits=False, **options)


def folder(root: Path, run: Run) -> RunFolder:
    return RunFolder(root / run.id)


def held_elsewhere(root: Path, run: Run) -> Claim:
    """A run that a scheduler on another machine has."""
    folder(root, run).create(run)
    folder(root, run).update(state="running", attempt=1, host="another machine", pid=7, started=1.0)
    claim = Claim(root / run.id)
    assert claim.take()
    path = root / run.id / "claim"
    path.write_text(path.read_text().replace(os.uname().nodename, "another"))
    return claim


def test_what_nobody_has_is_done_in_order_and_seen_only_when_it_is_due(tmp_path: Path) -> None:
    runs = [make_run(f"ok-{number}") for number in range(4)]
    folder(tmp_path, runs[1]).create(runs[1])
    folder(tmp_path, runs[1]).update(state="done")
    started = leaving(tmp_path)
    begun: list[int] = []
    states = started.run(runs, lambda _: begun.append(len([*tmp_path.iterdir()])))
    assert set(states.values()) == {"done"} and [*started.started] == [runs[0].id, runs[2].id, runs[3].id]
    assert begun[0] == 2  # the folders of runs that come later are made later
    assert started.left_to_others == set() and not [*tmp_path.glob("*/claim")]


def test_it_looks_at_each_settled_run_once_and_reads_its_status_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [make_run("ok", seed) for seed in range(300)]
    for run in runs:
        (tmp_path / run.id).mkdir()
        (tmp_path / run.id / "status.json").write_text('{"state": "done"}')
    reads: list[str] = []
    real = ownership.RunFolder.status
    monkeypatch.setattr(ownership.RunFolder, "status", lambda self: reads.append(self.path.name) or real(self))
    states = leaving(tmp_path).run(runs, lambda _: None)
    assert set(states.values()) == {"done"} and sorted(reads) == sorted(run.id for run in runs)


def test_a_failure_since_the_runs_were_asked_for_is_an_answer(tmp_path: Path) -> None:
    old, new = make_run("fail-old"), make_run("fail-new")
    for run in (old, new):
        folder(tmp_path, run).create(run)
        folder(tmp_path, run).update(state="failed", attempt=2)
    states = leaving(tmp_path, attempts_before={old.id: 2, new.id: 1}).run([old, new], lambda _: None)
    assert [fakes.calls(tmp_path / run.id) for run in (old, new)] == [1, 0]
    assert states == {old.id: "failed", new.id: "failed"}


def test_what_a_living_scheduler_elsewhere_has_is_left_once_it_shows_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "HEARTBEAT_S", 0.2)
    theirs, free = make_run("ok-theirs"), make_run("ok-free")
    claim = held_elsewhere(tmp_path, theirs)
    path, ticks = tmp_path / theirs.id / "claim", []

    def tick(statuses: Mapping[str, Status]) -> None:
        ticks.append(statuses[free.id].state if free.id in statuses else "")
        if ticks.count("done") == 3:  # it has lingered, as what it saw so far could be of a machine that is gone
            os.utime(path, (time.time() + 5, time.time() + 5))

    worker = leaving(tmp_path)
    states = worker.run([theirs, free], tick)
    assert ticks.count("done") >= 3
    assert (states[free.id], states[theirs.id]) == ("done", "running") and worker.left_to_others == {theirs.id}
    assert fakes.calls(tmp_path / theirs.id) == 0
    claim.drop()


def test_what_a_dead_scheduler_elsewhere_had_is_taken_when_its_lease_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue starts a worker again at once where its node was lost: it must not leave the run that it had."""
    monkeypatch.setattr(scheduler, "HEARTBEAT_S", 0.2)
    run = make_run("ok")
    claim = held_elsewhere(tmp_path, run)
    path, ticks = tmp_path / run.id / "claim", []

    def tick(statuses: Mapping[str, Status]) -> None:
        ticks.append(1)
        if len(ticks) == 3:  # the lease of two minutes is over
            path.unlink()

    worker = leaving(tmp_path)
    assert worker.run([run], tick) == {run.id: "done"}
    assert len(ticks) > 3 and worker.left_to_others == set()
    claim.drop()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR2, REQUEUE), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_the_code_that_says_what_to_do_next(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run, later = make_run("slow"), make_run("ok")

    def tick(statuses: Mapping[str, Status]) -> None:
        if run.id in statuses and statuses[run.id].step >= 1 and not worker.stop.signal:
            os.kill(os.getpid(), number)

    worker = leaving(tmp_path)
    states = worker.run([run, later], tick)
    assert worker.exit_code == code
    assert states == {run.id: "interrupted"} and not (tmp_path / later.id).exists()
