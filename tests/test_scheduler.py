"""The scheduler, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

import fakes
from fakes import make_run
from harness.errors import DataError
from harness.ideas.read import CodeError
from harness.runs.folders import RunFolder
from harness.runs.lease import live_status
from harness.runs.record import State, Status
from harness.scheduler import scheduler as module
from harness.scheduler.attempt import outcome
from harness.scheduler.forkserver import run_apart
from harness.scheduler.processes import Stop, living, node
from harness.scheduler.slots import Slot
from waiting import alive, until

TESTS = Path(__file__).parent
SLOTS = (Slot(0, "cpu", 1), Slot(1, "cpu", 1))


def run_all(root: Path, *cells: str, retries: int = 0, slots: tuple[Slot, ...] = SLOTS) -> dict[str, State]:
    """States by cell."""
    runs = [make_run(cell) for cell in cells]
    states = fakes.scheduler(root, slots, retries).run(runs, lambda statuses: None)
    return {run.cell: states[run.id] for run in runs}


def folder(root: Path, cell: str) -> Path:
    return root / make_run(cell).id


def status(root: Path, cell: str) -> Status:
    return RunFolder(folder(root, cell)).status()


def gone(pid: int) -> bool:
    return not alive(pid)


def pids(root: Path) -> list[int]:
    """Of every process that executed a run here, or that one of them started."""
    lines = [line for path in root.glob("*/calls") for line in path.read_text().splitlines()]
    return [int(line.split()[0]) for line in lines] + [int(path.read_text()) for path in root.glob("*/child")]


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start a grid in a process of its own and wait until every run of it is training."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*cells: str, grace_s: float = 10.0) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(TESTS / "grid_process.py"), str(tmp_path), str(grace_s), str(len(cells)), *cells]
        environment = {**os.environ, "PYTHONPATH": str(TESTS.parent)}
        started.append(subprocess.Popen(command, env=environment))
        until(lambda: all(status(tmp_path, cell).step for cell in cells))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_every_run_is_executed_once_and_a_crash_costs_one_run(tmp_path: Path) -> None:
    cells = ["ok-1", "fail", "killed", "diverge", "segfault", "survived", "ok-2", "ok-3"]
    states = run_all(tmp_path, *cells)
    assert states == {
        "ok-1": "done",
        "fail": "failed",
        "killed": "failed",
        "diverge": "diverged",
        "segfault": "failed",
        "survived": "done",
        "ok-2": "done",
        "ok-3": "done",
    }
    assert [fakes.calls(folder(tmp_path, cell)) for cell in cells] == [1] * len(cells)
    until(lambda: all(map(gone, pids(tmp_path))))


def test_failures_say_why(tmp_path: Path) -> None:
    run_all(tmp_path, "fail", "killed", "diverge", "segfault", "nameless")
    assert status(tmp_path, "fail").error.splitlines()[0] == "exit code 1"
    assert status(tmp_path, "fail").error.endswith("ValueError: the data is upside down")
    assert status(tmp_path, "killed").error == "killed by SIGKILL"
    assert status(tmp_path, "nameless").error == f"killed by signal {signal.SIGRTMIN + 11}"
    assert status(tmp_path, "segfault").error.startswith("killed by SIGSEGV\n")
    assert status(tmp_path, "diverge").error.endswith("step 7: the generator's loss is nan")
    log = (folder(tmp_path, "fail") / "log.txt").read_text()
    assert log.startswith("--- attempt 1 on cpu") and "about to fail" in log and "Traceback" in log


def test_a_failed_run_is_retried_from_its_checkpoint(tmp_path: Path) -> None:
    assert run_all(tmp_path, "flaky", "ok", retries=1) == {"flaky": "done", "ok": "done"}
    after = status(tmp_path, "flaky")
    assert (after.attempt, after.step, after.error) == (2, 10, "")
    assert (fakes.calls(folder(tmp_path, "flaky")), fakes.calls(folder(tmp_path, "ok"))) == (2, 1)


def test_retries_end_and_a_divergence_is_no_failure(tmp_path: Path) -> None:
    assert run_all(tmp_path, "killed", "diverge", retries=2) == {"killed": "failed", "diverge": "diverged"}
    assert (fakes.calls(folder(tmp_path, "killed")), fakes.calls(folder(tmp_path, "diverge"))) == (3, 1)
    assert (folder(tmp_path, "killed") / "log.txt").read_text().count("--- attempt") == 3


def test_asking_again_repeats_failures_only(tmp_path: Path) -> None:
    for expected in (1, 2):
        run_all(tmp_path, "ok", "fail", "diverge")
        counts = {cell: fakes.calls(folder(tmp_path, cell)) for cell in ("ok", "fail", "diverge")}
        assert counts == {"ok": 1, "fail": expected, "diverge": 1}


def test_a_child_has_its_slot_to_itself(tmp_path: Path) -> None:
    run_all(tmp_path, "environment", slots=(Slot(0, "GPU-1", 3),))
    text = (folder(tmp_path, "environment") / "environment").read_text().splitlines()
    assert text[:-1] == ["CUDA_VISIBLE_DEVICES=GPU-1", "OMP_NUM_THREADS=3", "session=True", "preloaded=True"]


def test_runs_of_two_grids_come_from_one_warm_server(tmp_path: Path) -> None:
    for grid in ("1", "2"):
        run_all(tmp_path / grid, f"environment-{grid}")
    lines = [path.read_text().splitlines() for path in tmp_path.glob("*/*/environment")]
    servers = {line for found in lines for line in found if line.startswith("server=")}
    assert len(lines) == 2 and len(servers) == 1
    assert all("preloaded=True" in found for found in lines)


def test_ticks_go_on_and_show_progress(tmp_path: Path) -> None:
    seen: list[tuple[State, int]] = []
    run = make_run("slow")

    def tick(found: dict[str, Status]) -> None:
        seen.append((found[run.id].state, found[run.id].step))

    fakes.scheduler(tmp_path, SLOTS, 0).run([run], tick)  # type: ignore[arg-type]
    assert seen[0][0] == "pending" and seen[-1] == ("done", fakes.TOTAL_STEPS)
    assert any(0 < step < fakes.TOTAL_STEPS for _, step in seen)


def test_what_a_tick_raises_ends_the_runs(tmp_path: Path) -> None:
    def tick(found: dict[str, Status]) -> None:
        if any(each.step for each in found.values()):
            raise KeyError("a fault of ours")

    with pytest.raises(KeyError):
        fakes.scheduler(tmp_path, SLOTS, 0).run([make_run("sleep")], tick)  # type: ignore[arg-type]
    assert status(tmp_path, "sleep").state == "interrupted"
    until(lambda: all(map(gone, pids(tmp_path))))


def test_out_of_memory_is_retried_with_the_device_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[set[str]] = []
    monkeypatch.setattr(module, "TICK_S", 0.01)
    runs = [make_run(cell) for cell in ("flaky", "ok-1", "ok-2", "ok-3")]
    names = {run.id: run.cell for run in runs}

    def tick(found: dict[str, Status]) -> None:
        running = {names[name] for name, each in found.items() if each.state == "running"}
        if found[runs[0].id].attempt == 2:
            together.append(running)

    fakes.scheduler(tmp_path, SLOTS, 1).run(runs, tick)  # type: ignore[arg-type]
    assert together and all(running <= {"flaky"} for running in together)


def test_ctrl_c_stops_with_checkpoints(tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = grid("sleep-1", "sleep-2", "brood")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    for cell in ("sleep-1", "sleep-2", "brood"):
        assert status(tmp_path, cell).state == "interrupted"
        assert (folder(tmp_path, cell) / "checkpoint").exists()
    until(lambda: all(map(gone, pids(tmp_path))))


def test_a_second_ctrl_c_stops_now(tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = grid("stubborn", "sleep", grace_s=60)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)  # as passed on by a wrapper: the same key press
    until(lambda: status(tmp_path, "sleep").state == "interrupted")
    time.sleep(0.7)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert status(tmp_path, "stubborn").state == "interrupted"
    until(lambda: all(map(gone, pids(tmp_path))))


def test_sigterm_stops_like_ctrl_c_and_grace_ends(tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]) -> None:
    process = grid("stubborn", grace_s=0.5)
    process.terminate()
    assert process.wait(10) == 143
    assert status(tmp_path, "stubborn").state == "interrupted"
    until(lambda: all(map(gone, pids(tmp_path))))


def test_no_orphans_of_a_killed_parent_and_the_next_call_repairs(
    tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = grid("brood", "stubborn", grace_s=1.0)
    process.kill()
    process.wait()
    until(lambda: all(map(gone, pids(tmp_path))))
    assert (folder(tmp_path, "brood") / "checkpoint").exists()
    assert status(tmp_path, "brood").state == "running"
    assert live_status(folder(tmp_path, "brood"), RunFolder(folder(tmp_path, "brood")).status()).state == "interrupted"
    with pytest.raises(ZeroDivisionError):
        fakes.scheduler(tmp_path, SLOTS, 0).run([make_run("brood")], lambda found: 1 / 0)  # type: ignore[arg-type]
    assert (status(tmp_path, "brood").state, status(tmp_path, "brood").failure) == ("interrupted", "killed")


def test_an_orphan_is_ended_before_its_run_goes_on(
    tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = grid("stubborn", grace_s=60)
    process.kill()
    process.wait()
    assert not gone(pids(tmp_path)[0])
    run, seen = make_run("stubborn"), []

    def tick(found: dict[str, Status]) -> None:
        seen.append((found[run.id].attempt, gone(pids(tmp_path)[0])))
        if found[run.id].attempt == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fakes.scheduler(tmp_path, SLOTS, 0, grace_s=0.2).run([run], tick)  # type: ignore[arg-type]
    assert seen[0] == (1, False) and seen[-1] == (2, True)


def test_work_apart_raises_here_and_ends_with_its_parent(tmp_path: Path) -> None:
    run_apart(fakes.touch, tmp_path / "there")
    assert (tmp_path / "there").exists()
    with pytest.raises(DataError, match="no such data"):
        run_apart(fakes.refuse)
    with pytest.raises(CodeError, match="a mistake") as refused:
        run_apart(fakes.refuse_code)
    assert (refused.value.problems, len(refused.value.of_names)) == (("ideas.py:3: a mistake",), 1)
    with pytest.raises(EOFError, match="the file ends early"):
        run_apart(fakes.read_half_a_file)
    with pytest.raises(RuntimeError, match="die: the process was killed by SIGKILL"):
        run_apart(fakes.die)
    assert run_apart(fakes.leave_a_thread) == 7
    program = (
        "import fakes, sys; from harness.scheduler.forkserver import run_apart; run_apart(fakes.linger, sys.argv[1])"
    )
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    command = [sys.executable, "-c", program, str(tmp_path / "pid")]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths})
    until((tmp_path / "pid").exists)
    process.kill()
    process.wait()
    until(lambda: gone(int((tmp_path / "pid").read_text())))


def test_an_event_loop_hears_of_signals_again_after_a_grid() -> None:
    async def caller() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
        with Stop(), Stop():
            pass
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(heard.wait(), 20)

    asyncio.run(caller())


def test_the_death_of_the_fork_server_costs_the_runs_of_the_moment(tmp_path: Path) -> None:
    run = make_run("sleep")

    def tick(found: dict[str, Status]) -> None:
        server = forkserver._forkserver._forkserver_pid
        if found[run.id].pid and psutil.Process(found[run.id].pid).ppid() == server:
            os.kill(server, signal.SIGKILL)

    states = fakes.scheduler(tmp_path, SLOTS, 0).run([run], tick)  # type: ignore[arg-type]
    assert states == {run.id: "failed"}
    until(lambda: all(map(gone, pids(tmp_path))))
    assert run_all(tmp_path, "ok") == {"ok": "done"}


def test_a_number_that_belongs_to_another_process_by_now_is_not_the_runs(tmp_path: Path) -> None:
    me = psutil.Process()
    assert living(Status(host=node(), pid=me.pid, started=me.create_time() - 60)) is None
    assert living(Status(host=node(), pid=0)) is None
    child = subprocess.Popen(["sleep", "30"], start_new_session=True)
    assert living(Status(host=node(), pid=child.pid, started=time.time())) is not None
    assert living(Status(host="another machine", pid=child.pid, started=time.time())) is None
    child.kill()
    child.wait()
    assert living(Status(host=node(), pid=child.pid, started=time.time())) is None


def test_unusable_input_is_told_once_and_not_tried_again(tmp_path: Path) -> None:
    assert run_all(tmp_path, "unusable", retries=3) == {"unusable": "failed"}
    assert fakes.calls(folder(tmp_path, "unusable")) == 1
    error = status(tmp_path, "unusable").error
    assert "error: cat.png: not an image" in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("code", "asked", "state"),
    [
        (0, False, "done"),
        (0, True, "done"),
        (4, False, "diverged"),
        (143, True, "interrupted"),
        (143, False, "failed"),
        (1, True, "failed"),
        (-signal.SIGTERM, True, "interrupted"),
        (-signal.SIGKILL, True, "interrupted"),
        (-signal.SIGKILL, False, "failed"),
        (255, False, "failed"),
    ],
)
def test_outcomes(code: int, asked: bool, state: State) -> None:
    assert outcome(code, asked) == state


def test_sigterm_to_the_whole_process_group_checkpoints_too(
    tmp_path: Path, grid: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """As batch systems and `timeout` send it: to the fork server as well."""
    process = grid("sleep-1", "sleep-2")
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children())]
    for pid in family:
        os.kill(pid, signal.SIGTERM)
    assert process.wait(20) == 143
    for cell in ("sleep-1", "sleep-2"):
        assert status(tmp_path, cell).state == "interrupted"
        assert (folder(tmp_path, cell) / "checkpoint").exists()
