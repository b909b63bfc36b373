"""Several schedulers on one study: each run is executed once at a time, and taken over when its scheduler dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fakes
from fakes import make_run
from harness.runs import lease
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim, holder, live_status
from harness.runs.record import State, Status
from harness.scheduler import scheduler as module
from harness.scheduler import worker
from harness.scheduler.ownership import Ownership
from harness.scheduler.processes import node
from harness.scheduler.slots import Slot
from waiting import alive, until

TESTS = Path(__file__).parent
SLOTS = (Slot(0, "cpu", 1), Slot(1, "cpu", 1))


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a scheduler of these cells in a process of its own, with two slots."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*cells: str, grace_s: float = 10.0) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(TESTS / "grid_process.py"), str(tmp_path), str(grace_s), "2", *cells]
        started.append(subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(TESTS.parent)}))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def folder(root: Path, cell: str) -> RunFolder:
    return RunFolder(root / make_run(cell).id)


def test_two_schedulers_share_fifty_runs(tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]) -> None:
    cells = [f"ok-{number}" for number in range(50)]
    both = [grid(*cells), grid(*cells)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert {cell: fakes.calls(folder(tmp_path, cell).path) for cell in cells} == dict.fromkeys(cells, 1)
    assert {folder(tmp_path, cell).status().state for cell in cells} == {"done"}
    assert not list(tmp_path.glob("*/claim"))


def test_both_have_a_part_and_each_waits_for_the_others(
    tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]
) -> None:
    cells = [f"steady-{number}" for number in range(4)]
    both = [grid(*cells), grid(*cells)]
    until(lambda: sum(holder(folder(tmp_path, cell).path) is not None for cell in cells) == 4)
    found = [holder(folder(tmp_path, cell).path) for cell in cells]
    assert sorted(it.pid for it in found if it) == sorted([process.pid for process in both] * 2)
    assert [process.wait(60) for process in both] == [0, 0]
    assert {fakes.calls(folder(tmp_path, cell).path) for cell in cells} == {1}


def test_a_scheduler_takes_over_what_a_killed_one_had(
    tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]
) -> None:
    first = grid("sleep-1", "sleep-2")
    until(lambda: folder(tmp_path, "sleep-1").status().step and folder(tmp_path, "sleep-2").status().step)
    second = grid("sleep-1", "sleep-2")
    time.sleep(1.5)
    assert fakes.calls(folder(tmp_path, "sleep-1").path) == 1, "a living scheduler's run is left alone"
    first.kill()
    first.wait()
    until(lambda: folder(tmp_path, "sleep-1").status().attempt == 2)
    assert (folder(tmp_path, "sleep-1").path / "checkpoint").exists(), "its orphan ended with a checkpoint"
    second.send_signal(signal.SIGINT)
    assert second.wait(20) == 130
    assert folder(tmp_path, "sleep-1").status().state == "interrupted"


def test_a_failure_that_another_met_meanwhile_is_an_answer(tmp_path: Path) -> None:
    run = make_run("fail")
    ownership = Ownership(tmp_path, 1.0, {})
    assert ownership.enter(run)
    fakes.scheduler(tmp_path, SLOTS, 0).run([run], lambda statuses: None)
    assert not ownership.take(run.id) and ownership.has_ended(run.id)
    again = Ownership(tmp_path, 1.0, {})
    assert again.enter(run) and again.take(run.id), "asked for anew, it is tried anew"
    again.drop_all()


def test_a_run_that_died_after_its_result_is_done(tmp_path: Path) -> None:
    run = make_run("fail")
    here = RunFolder(tmp_path / run.id)
    here.create(run)
    here.update(state="running", attempt=1, host=node(), pid=2**22 + 1)
    fakes.finish(here.path)
    assert fakes.scheduler(tmp_path, SLOTS, 0).run([run], lambda statuses: None) == {run.id: "done"}
    assert fakes.calls(here.path) == 0


@pytest.mark.parametrize(("host", "failure"), [(node(), "killed"), ("far-away pid:[1]", "lost_node")])
def test_what_became_of_the_last_scheduler_is_said(tmp_path: Path, host: str, failure: str) -> None:
    run = make_run("ok")
    here = RunFolder(tmp_path / run.id)
    here.create(run)
    here.update(state="running", attempt=1, host=host, pid=2**22 + 1)
    seen: list[Status] = []

    def tick(found: dict[str, Status]) -> None:
        seen.append(found[run.id])

    fakes.scheduler(tmp_path, SLOTS, 0).run([run], tick)  # type: ignore[arg-type]
    assert (seen[0].state, seen[0].failure) == ("interrupted", failure)
    assert host.split()[0] in seen[0].error
    assert (seen[-1].state, seen[-1].failure, seen[-1].error) == ("done", "", "")


def test_who_sleeps_through_its_lease_loses_the_run_and_writes_no_more(
    tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler is stopped, not dead: its claim runs out, and its run, still at work, must not write."""
    run = make_run("eager")
    here = RunFolder(tmp_path / run.id)
    sleeper = grid("eager")
    until(lambda: here.points())
    worker = here.status().pid
    sleeper.send_signal(signal.SIGSTOP)
    os.kill(worker, signal.SIGSTOP)
    old = here.path / "claim"
    old.unlink()  # as a scheduler does that has waited long enough
    taken = Claim(here.path)
    assert taken.take()
    before = (here.path / "metrics.jsonl").read_bytes()
    os.kill(worker, signal.SIGCONT)
    until(lambda: not alive(worker))
    assert (here.path / "metrics.jsonl").read_bytes() == before
    here.update(state="running", attempt=7)
    sleeper.send_signal(signal.SIGCONT)
    until(lambda: "Lost" in (here.path / "log.txt").read_text())
    time.sleep(2)
    assert here.status().attempt == 7, "the state is the new holder's to write"
    taken.drop()


def test_leases_run_out_where_a_process_cannot_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "LEASE_S", 0.6)
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.1)
    live, other = Claim(tmp_path), Claim(tmp_path)
    assert live.take()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        assert not other.take(), "a refreshed claim holds"
        time.sleep(0.05)
    live.drop()
    text = (tmp_path / "claim").read_text() if (tmp_path / "claim").exists() else ""
    assert text == ""
    assert live.take()
    silent = (tmp_path / "claim").read_text().replace("host=", "host=far-")
    live.drop()
    (tmp_path / "claim").write_text(silent)
    assert not other.take() and holder(tmp_path) is not None
    until(other.take, "the silent holder has lost it", limit_s=3)


def test_a_silent_holder_that_cannot_be_seen_keeps_its_run_for_the_whole_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for a job that its queue starts a second time while the first still trains, on a node out of reach."""
    assert lease.HEARTBEAT_S + worker.LOOK_S + module.Scheduler.grace_s < lease.LEASE_S, (
        "a run may need that for its last checkpoint"
    )
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    live, other = Claim(tmp_path), Claim(tmp_path)
    assert live.take()
    silent = (tmp_path / "claim").read_text().replace("host=", "host=far-")
    live.drop()
    (tmp_path / "claim").write_text(silent)
    assert not other.take()
    now, passed_s = time.monotonic, 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now() + passed_s)
    passed_s = lease.LEASE_S - 2
    assert not other.take()
    passed_s = lease.LEASE_S + 1
    assert other.take()
    other.drop()


def of_another_boot(folder: Path) -> None:
    """Make the claim in `folder` one of a machine of this one's name, where its process has a number free here."""
    here = Claim(folder)
    assert here.take()
    text = (folder / "claim").read_text()
    here.drop()
    text = re.sub(r"(?m)^pid=.*$", f"pid={2**22 + 1}", text)
    (folder / "claim").write_text(re.sub(r"(?m)^start=(.*)$", lambda found: f"start={int(found[1]) ^ 1 << 70}", text))


def test_a_machine_of_the_same_name_keeps_its_run(tmp_path: Path) -> None:
    """Copies of one image may all be called alike: a process that is not here is no proof that it is gone."""
    of_another_boot(tmp_path)
    other, path = Claim(tmp_path), tmp_path / "claim"
    assert not other.take() and holder(tmp_path) is not None
    assert live_status(tmp_path, Status(state="running")).state == "running"
    old = path.stat().st_mtime - lease.LEASE_S - 1
    os.utime(path, (old, old))
    assert holder(tmp_path) is None, "as after a loss of power here"
    assert other.take()
    other.drop()


@pytest.mark.parametrize("ahead_s", [-3600.0, 3600.0])
def test_a_clock_that_differs_from_the_file_servers_calls_nobody_silent_and_hides_nobody(
    ahead_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live, now = Claim(tmp_path), time.time
    assert live.take()
    far = (tmp_path / "claim").read_text().replace("host=", "host=far-")
    live.drop()
    path = tmp_path / "claim"
    path.write_text(far)
    monkeypatch.setattr(time, "time", lambda: now() + ahead_s)
    running = Status(state="running")
    its = holder(tmp_path)
    assert its is not None and its.silent_s < 60 and live_status(tmp_path, running).state == "running"
    old = path.stat().st_mtime - 2 * lease.LEASE_S - 1
    os.utime(path, (old, old))
    assert live_status(tmp_path, running).state == "interrupted"
    assert [each.name for each in tmp_path.iterdir()] == ["claim"]


def test_a_claim_that_was_never_written_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scheduler was killed after it made the file and before it wrote its name."""
    monkeypatch.setattr(lease, "UNWRITTEN_S", 0.3)
    (tmp_path / "claim").touch()
    first, second = Claim(tmp_path), Claim(tmp_path)
    assert not first.take() and not second.take(), "it may be written yet"
    time.sleep(0.4)
    assert not first.take(), "removed, to be asked for once more"
    assert second.take() and not first.take()
    time.sleep(0.4)
    assert not first.take() and not Claim(tmp_path).take(), "a claim that is written stays"
    assert second.token and not list(tmp_path.glob(".claim*"))
    second.drop()
    assert first.take()
    first.drop()


def test_status_says_who_has_what_and_a_dead_ones_run_is_interrupted(tmp_path: Path) -> None:
    run = make_run("ok")
    here = RunFolder(tmp_path / run.id)
    here.create(run)
    here.update(state="running", attempt=1, pid=1, host="somewhere")
    assert live_status(here.path, here.status()).state == "interrupted" and here.status().state == "running"
    claim = Claim(here.path)
    assert claim.take()
    assert live_status(here.path, here.status()).state == "running"
    assert str(holder(here.path)).endswith(f":{os.getpid()}")
    claim.drop()
    assert holder(here.path) is None


def test_sigusr1_reaches_the_runs_and_the_grid_goes_on(
    tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = grid("save")
    until(lambda: folder(tmp_path, "save").status().step)
    time.sleep(1.2)  # the scheduler has seen the process's name
    process.send_signal(signal.SIGUSR1)
    assert process.wait(20) == 0
    assert folder(tmp_path, "save").status().state == "done"


def test_no_room_for_states_is_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full when a run ends: its state is written when there is room."""
    real, full = RunFolder.put, [True]

    def put(self: RunFolder, status: Status) -> Status:
        if full[0] and status.state == "done":
            raise OSError(28, "No space left on device", str(self.path))
        return real(self, status)

    monkeypatch.setattr(RunFolder, "put", put)
    monkeypatch.setattr(module, "TICK_S", 0.05)
    runs = [make_run("ok"), make_run("slow")]
    states: list[State] = []

    def tick(found: dict[str, Status]) -> None:
        states.append(folder(tmp_path, "ok").status().state)
        if found[runs[0].id].state == "done":
            assert not full[0] or not Claim(folder(tmp_path, "ok").path).take(), (
                "nobody else has it until it is written"
            )
            full[0] = False

    fakes.scheduler(tmp_path, SLOTS, 0).run(runs, tick)  # type: ignore[arg-type]
    assert states[-1] == "done" and folder(tmp_path, "ok").status().state == "done"
    assert json.loads((folder(tmp_path, "ok").path / "status.json").read_text())["pid"] == 0
