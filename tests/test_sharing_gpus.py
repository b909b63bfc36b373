"""Many runs on one GPU: as memory allows, by MPS or in turns; with stand-ins for NVIDIA's programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fakes import make_run
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.scheduler import mps as mps_module
from harness.scheduler import scheduler as module
from harness.scheduler.attempt import Attempt, End
from harness.scheduler.devices import Devices
from harness.scheduler.gpus import Card
from harness.scheduler.memory import GpuMemory, Held
from harness.scheduler.mps import Mps
from harness.scheduler.scheduler import Feed, Scheduler
from harness.scheduler.slots import Slot
from nvidia_tools import NVIDIA, Nvidia, act
from waiting import until

GPU = "GPU-aaaa-0001"
FOUR = tuple(Slot(index, GPU, 1) for index in range(4))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pause_s", lambda failures: 0.01)
    monkeypatch.setattr(module, "TICK_S", 0.05)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nvidia:
    """With one GPU of 24 GiB."""
    return Nvidia(tmp_path / NVIDIA, monkeypatch, {GPU: 24_000})


def grid(root: Path, runs: list[Run], slots: tuple[Slot, ...] = FOUR, **options: Any) -> list[list[str]]:
    """The calls of each run: how many were on its GPU, how it shared it, where its daemon of MPS was."""
    scheduler = Scheduler(root, slots, act, 1, ("colorsys",), **options)
    scheduler.run(runs, lambda statuses: None)
    return [(root / run.id / "calls").read_text().splitlines() for run in runs]


def states(root: Path, runs: list[Run]) -> list[str]:
    return [RunFolder(root / run.id).status().state for run in runs]


class TestMemory:
    def test_the_first_run_is_alone_until_it_has_shown_its_memory_and_then_as_many_join_as_fit(
        self, machine: Nvidia, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        # 6,000 MiB held become 6,000 x 1.2 + 600 = 7,800 that may be needed, and 3 x 7,800 > 24,000 - 1,024.
        runs = [make_run("fair-6000-2", seed) for seed in range(4)]
        with caplog.at_level("INFO", logger="harness"):
            calls = grid(tmp_path / "runs", runs, memory=GpuMemory())
        assert set(states(tmp_path / "runs", runs)) == {"done"}
        assert [line[0] for lines in calls[:2] for line in lines] == ["0", "1"]
        assert all(lines[0][0] in "01" for lines in calls)
        assert "fair-6000-2 seed 0 holds 5.9 GiB of GPU-aaaa-0001: with 7.6 GiB a run as many" in caplog.text

    def test_memory_of_others_counts(self, machine: Nvidia, tmp_path: Path) -> None:
        machine.use(GPU, 16_000)
        runs = [make_run("fair-2000-2", seed) for seed in range(3)]
        calls = grid(tmp_path / "runs", runs, memory=GpuMemory({"fair-2000-2": Held(2000, "before")}))
        assert all(lines[0][0] in "12" for lines in calls), "two of 3,000 fit beside it"

    def test_what_is_known_before_needs_no_first_steps(self, machine: Nvidia, tmp_path: Path) -> None:
        known = GpuMemory({"calm-4000-4": Held(4000, "before")})
        runs = [make_run("calm-4000-4", seed) for seed in range(4)]
        grid(tmp_path / "runs", runs, memory=known)
        assert set(states(tmp_path / "runs", runs)) == {"done"}, "each waits for all"

    def test_a_run_that_runs_out_beside_others_comes_again_and_one_fewer_share_from_then_on(
        self, machine: Nvidia, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        runs = [make_run("tall-9000-4", seed) for seed in range(4)]  # two fit, and four were asked for
        calls = grid(tmp_path / "runs", runs)
        assert set(states(tmp_path / "runs", runs)) == {"done"}
        assert "out of memory with 3 runs at a time; at most 3 from now on" in caplog.text
        assert [line[0] for line in calls[2]] == ["2", "0"], "tried again by itself"

    def test_no_more_runs_are_decided_on_than_can_begin(self, machine: Nvidia, tmp_path: Path) -> None:
        given, waiting = list[Run](), list[int]()

        class Trials(Feed):
            @property
            def open(self) -> bool:
                return len(given) < 4

            def more(self) -> list[Run]:
                if not self.open:
                    return []
                waiting.append(len(given) - states(tmp_path / "runs", given).count("done"))
                given.append(make_run("big-15000-1", len(given)))
                return given[-1:]

        grid(tmp_path / "runs", [], memory=GpuMemory({"big-15000-1": Held(15_000, "before")}), feed=Trials())
        assert states(tmp_path / "runs", given) == ["done"] * 4
        # One that trains, and the next. On a busy machine one more: the process of the last run is still there when the
        # next one begins, which then finds no memory and is tried again after a pause.
        assert max(waiting) <= 2 and waiting[:2] == [0, 1], "without the rule all four are asked for at once"

    def test_an_unknown_cell_is_taken_to_need_half_as_much_again(self) -> None:
        memory = GpuMemory({"origin": Held(1000, "origin seed 0"), "full": Held(2000, "full seed 0")})
        assert memory.need_mib("origin") == 1000 * 1.2 + 600
        assert memory.need_mib("other") == (2000 * 1.2 + 600) * 1.5
        assert memory.fitting(["origin", "full"], Card(16_024, 24_000)) == 5
        assert memory.fitting(["origin"], None) is None and GpuMemory().fitting(["origin"], Card(1, 1)) is None

    def test_it_says_how_many_and_why(self, machine: Nvidia) -> None:
        memory = GpuMemory({"full": Held(5000, "full seed 3")})
        said = memory.in_words(["full"], GPU, 8)
        assert said == "3 runs a GPU; 6.4 GiB each (full, measured by full seed 3), 23.4 GiB free"
        assert memory.in_words(["full"], GPU, 2).startswith(
            "2 runs a GPU, the most that may share one, though 3 would fit; "
        )
        assert "estimated from other cells" in memory.in_words(["other"], GPU, 8)
        assert "until it has shown its memory, then as many as fit, 8 at most" in GpuMemory().in_words(["a"], GPU, 8)


class TestMps:
    def test_runs_share_by_a_daemon_of_their_own_that_ends_with_the_grid(
        self, machine: Nvidia, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.with_mps()
        runs = [make_run("even-1000-2", seed) for seed in range(4)]
        with caplog.at_level("INFO", logger="harness"):
            calls = grid(tmp_path / "runs", runs, mps=True)
        pipes = {line.split()[1] for lines in calls for line in lines}
        assert len(pipes) == 1 and pipes.pop().startswith(f"{tempfile.gettempdir()}/harness-mps-")
        starts = [line for line in machine.asked if line.startswith("start")]
        assert starts == [f"start {GPU}", f"start_server -uid {os.getuid()}"]
        assert machine.asked[-1].startswith("quit -t") and machine.mps_processes == []
        assert "MPS serves 1 GPU for this call" in caplog.text
        status = RunFolder(tmp_path / "runs" / runs[0].id).status()
        assert status.sharing == "up to 4 runs at a time, as asked for, by MPS" and status.device == GPU
        assert f"on {GPU} by MPS, slot 0" in (tmp_path / "runs" / runs[0].id / "log.txt").read_text()

    @pytest.mark.parametrize("what", ["broken", "serverless", "missing", "number"])
    def test_without_it_runs_take_turns_and_that_is_told(
        self, machine: Nvidia, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        monkeypatch.setattr(mps_module, "START_S", 0.5)
        if what != "missing":
            machine.with_mps()
        (machine.folder / what).touch()
        with Mps(["0" if what == "number" else GPU], 5) as mps:
            assert not mps.serves(GPU) and mps.environment(GPU) == {}
            texts = {"broken": "the driver says no", "serverless": "its server did not start", "number": "by number"}
            assert texts.get(what, "is not there") in mps.reason and "take turns" in mps.reason
        assert machine.mps_processes == []

    def test_a_daemon_that_runs_already_is_used_and_left(
        self, machine: Nvidia, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        machine.with_mps()
        pipe = machine.folder / "theirs"
        pipe.mkdir()
        variables = {"CUDA_MPS_PIPE_DIRECTORY": str(pipe), "CUDA_MPS_LOG_DIRECTORY": str(pipe)}
        subprocess.run(["nvidia-cuda-mps-control", "-d"], env={**os.environ, **variables}, check=True)
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(pipe))
        try:
            with Mps([GPU], 5) as mps:
                assert mps.serves(GPU) and mps.environment(GPU) == {} and "which is left running" in mps.reason
            until(lambda: machine.mps_processes)
            assert "quit" not in " ".join(machine.asked)
        finally:
            (pipe / "server").write_text("0")
            (pipe / "quit").touch()
            until(lambda: not machine.mps_processes)

    def test_a_fault_of_one_run_costs_its_neighbours_nothing_but_time(
        self, machine: Nvidia, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine.with_mps()
        runs = [make_run("even-1000-6"), make_run("even-1000-6", 1), make_run("wrong-1000-3", 2)]
        calls = grid(tmp_path / "runs", runs, mps=True)
        assert states(tmp_path / "runs", runs) == ["done", "done", "failed"]
        assert RunFolder(tmp_path / "runs" / runs[2].id).status().failure == "code", "it fails without MPS too"
        assert all([line.split()[1] == "turns" for line in lines] == [False, True] for lines in calls)
        assert "closed" not in caplog.text, "three runs met one fault"

    def test_a_gpu_for_one_process_has_one_run_at_a_time_without_a_daemon(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        machine = Nvidia(tmp_path / NVIDIA, monkeypatch, {GPU: 24_000}, mode="Exclusive_Process")
        devices = Devices(FOUR)
        with Mps([GPU], 5) as mps:
            devices.share_by(mps)
        assert len(devices.open) == 1 and "its compute mode lets one process have it" in caplog.text
        machine.with_mps()
        devices = Devices(FOUR)
        with Mps([GPU], 5) as mps:
            devices.share_by(mps)
            assert len(devices.open) == 4

    def test_where_it_serves_nobody_runs_take_turns(self, caplog: pytest.LogCaptureFixture) -> None:
        """What the driver says where a client cannot connect; the run comes again."""
        said = "RuntimeError: CUDA error: MPS client failed to connect to the MPS control daemon or the MPS server"
        devices, given_up = Devices(FOUR), list[str]()

        class Served(Mps):
            def give_up(self, device: str) -> bool:
                given_up.append(device)
                return True

        devices.share_by(Served([GPU], 5))
        slot = replace(FOUR[0], mps={"CUDA_MPS_PIPE_DIRECTORY": "/nowhere"})
        run = make_run("ok")
        end = End("failed", "device", said)
        assert devices.judge(Attempt(run, slot, RunFolder(Path()), None, 0, 0), end, {}) == end  # type: ignore[arg-type]
        assert given_up == [GPU] and "take turns from now on" in caplog.text
        again = devices.slot_for(run, {})
        assert again is not None and not again.mps

    def test_one_that_is_deaf_is_killed(self, machine: Nvidia, tmp_path: Path) -> None:
        machine.with_mps()
        (machine.folder / "deaf").touch()
        with Mps([GPU], -9):
            until(lambda: len(machine.mps_processes) == 2)
        assert machine.mps_processes == []


class TestEnds:
    """Whatever ends a grid, its daemon ends."""

    @pytest.fixture
    def under_way(self, machine: Nvidia, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Two runs that share the GPU for ever."""
        machine.with_mps()
        script = Path(__file__).with_name("shared_gpu_process.py")
        cells = ["long-1000-99", "long-1000-99"]
        process = subprocess.Popen([sys.executable, script, tmp_path / "runs", GPU, *cells])
        until(lambda: len([*(machine.folder / "held").iterdir()]) == 2)
        until(lambda: len(machine.mps_processes) == 2)
        yield process
        process.kill()
        process.wait()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda it: it.name)
    def test_by_any_signal(self, machine: Nvidia, under_way: subprocess.Popen[bytes], number: signal.Signals) -> None:
        under_way.send_signal(number)
        assert under_way.wait(30) == (-number if number == signal.SIGKILL else 128 + number)
        if number != signal.SIGKILL:
            assert machine.mps_processes == []
        until(lambda: not machine.mps_processes)
        until(lambda: not owned(under_way.pid))

    def test_what_is_left_behind_is_ended_by_the_next(
        self, machine: Nvidia, under_way: subprocess.Popen[bytes]
    ) -> None:
        mps_module.sweep(1)
        until(lambda: len(machine.mps_processes) == 2)  # its scheduler lives
        (folder,) = owned(under_way.pid)
        keeper = json.loads((folder / "owner.json").read_text())["keeper"]
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not mps_module._keeps(keeper, folder))
        under_way.kill()
        under_way.wait()
        until(lambda: len(machine.mps_processes) == 2)  # for an instant a script that starts `sleep` is seen twice
        mps_module.sweep(1)
        until(lambda: not machine.mps_processes and not folder.exists())


def owned(pid: int) -> list[Path]:
    """Folders of daemons that this process has started."""
    records = Path(tempfile.gettempdir()).glob(f"harness-mps-{os.getuid()}-*/owner.json")
    return [path.parent for path in records if json.loads(path.read_text())["pid"] == pid]
