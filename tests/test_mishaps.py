"""What goes wrong beside the runs of a scheduler, at the worst moment: it costs no run, and no other."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import psutil
import pytest

import fakes
from fakes import make_run
from harness.runs.record import Status
from harness.scheduler import scheduler as module
from harness.scheduler.ownership import Ownership
from harness.scheduler.slots import Slot
from waiting import until

SLOT = (Slot(0, "cpu", 1),)


def test_trouble_with_the_folder_is_no_failure_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, stale = Ownership.take, [OSError(errno.ESTALE, "Stale file handle")]

    def take_late(self: Ownership, name: str) -> bool:
        if stale:
            raise stale.pop()
        return take(self, name)

    monkeypatch.setattr(Ownership, "take", take_late)
    monkeypatch.setattr(module, "pause_s", lambda failures: 0.01)
    states = fakes.scheduler(tmp_path, SLOT, 1).run([make_run("flaky")], lambda statuses: None)
    assert list(states.values()) == ["done"], "its one failure was tried again"


def test_a_run_that_ends_as_checkpoints_are_asked_for_ends_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid, wait, unseen = fakes.scheduler(tmp_path, SLOT, 0), module.wait, list[int]()

    def wait_unseeing(sentinels: list[int], timeout: float) -> list[int]:
        """As if the process had ended just afterwards."""
        if unseen:
            unseen.clear()
            return []
        return wait(sentinels, timeout)

    def tick(found: dict[str, Status]) -> None:
        sleeper = found.get(make_run("sleep").id)
        if sleeper and sleeper.step and sleeper.state == "running" and psutil.pid_exists(sleeper.pid):
            os.kill(sleeper.pid, signal.SIGKILL)
            until(lambda: not psutil.pid_exists(sleeper.pid))
            unseen.append(sleeper.pid)
            grid.stop.heed(signal.SIGUSR1)

    monkeypatch.setattr(module, "wait", wait_unseeing)
    states = grid.run([make_run("sleep"), make_run("ok")], tick)
    assert list(states.values()) == ["failed", "done"]
