"""Faults for a grid: what happens to it on a bad day, drawn by chance from a seed."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from harness.runs.folders import RunFolder
from mlflow_process import Server

TESTS = Path(__file__).parent


class Grid:
    """A `run-grid` that is asked for again whenever it has ended, as a patient user does."""

    command: Sequence[str] = (sys.executable, str(TESTS / "chaos_grid.py"))

    def __init__(self, folder: Path, cache: Path, uri: str, log: Path) -> None:
        self.folder, self.log = folder, log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
        own = {"HARNESS_CACHE": str(cache), "MLFLOW_TRACKING_URI": uri, "PYTHONPATH": f"{TESTS}:{TESTS.parent}"}
        self.environment = {**kept, **own, "HF_HUB_OFFLINE": "1", "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
        self.codes: Counter[int] = Counter()
        self.process: subprocess.Popen[bytes] | None = None

    def ensure(self) -> subprocess.Popen[bytes]:
        """The process; a new one if it has ended."""
        if self.process is None or self.process.poll() is not None:
            if self.process is not None:
                self.codes[self.process.returncode] += 1
            command = [*self.command, "run-grid", "study.yaml"]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    command, cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
        return self.process

    def runs(self) -> list[RunFolder]:
        return [RunFolder(path.parent) for path in sorted(self.folder.glob("runs/*/*/run.json"))]

    def workers(self) -> list[psutil.Process]:
        """Processes that train a run now."""
        found = []
        for run in self.runs():
            with contextlib.suppress(Exception):
                status = run.status()
                if status.state == "running" and status.pid and os.getsid(status.pid) == status.pid:
                    found.append(psutil.Process(status.pid))
        return found

    def left(self) -> list[psutil.Process]:
        """Every process that this grid ever started and that is still there."""
        mark, found = self.environment["HARNESS_CACHE"], []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                ours = process.environ().get("HARNESS_CACHE") == mark and process.pid != os.getpid()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


class Chaos:
    """Draws faults; each returns whether it had something to hit."""

    def __init__(self, grid: Grid, server: Server, rng: random.Random) -> None:
        self.grid, self.server, self.rng = grid, server, rng
        self.done: Counter[str] = Counter()
        self._undo: list[tuple[float, object]] = []
        self.weights = {
            "kill_run": 10,
            "terminate_run": 3,
            "freeze_run": 2,
            "kill_parent": 3,
            "interrupt_parent": 1,
            "terminate_parent": 1,
            "cut_server": 3,
            "fill_disk": 3,
            "flip_bytes": 7,
            "tear_checkpoint": 2,
            "tear_temporary": 1,
        }

    def strike(self) -> None:
        """One fault by chance, counted if it hit."""
        names, weights = list(self.weights), list(self.weights.values())
        name = self.rng.choices(names, weights)[0]
        if getattr(self, name)():
            self.done[name] += 1

    def kill_run(self) -> bool:
        return self._signal_run(signal.SIGKILL)

    def terminate_run(self) -> bool:
        return self._signal_run(signal.SIGTERM)

    def freeze_run(self) -> bool:
        """A machine that pauses for a moment."""
        workers = self.grid.workers()
        if not workers:
            return False
        with contextlib.suppress(psutil.Error):
            process = self.rng.choice(workers)
            process.suspend()
            time.sleep(self.rng.uniform(0.1, 1.0))
            process.resume()
        return True

    def kill_parent(self) -> bool:
        return self._signal_parent(signal.SIGKILL)

    def interrupt_parent(self) -> bool:
        return self._signal_parent(signal.SIGINT)

    def terminate_parent(self) -> bool:
        return self._signal_parent(signal.SIGTERM)

    def cut_server(self) -> bool:
        """The tracking server is killed, and comes back a while later."""
        self.server.stop()
        time.sleep(self.rng.uniform(0.0, 2.0))
        self.server.start()
        return True

    def fill_disk(self) -> bool:
        """Not a byte left for a second or two."""
        ballast = self.grid.folder / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        time.sleep(self.rng.uniform(0.5, 2.0))
        ballast.unlink()
        return True

    def flip_bytes(self) -> bool:
        """A few bits of a training state turn."""
        path = self._state()
        if path is None:
            return False
        with contextlib.suppress(OSError), path.open("r+b") as file:
            for _ in range(self.rng.randint(1, 4)):
                place = self.rng.randrange(path.stat().st_size)
                file.seek(place)
                old = file.read(1)
                file.seek(place)
                file.write(bytes([old[0] ^ (1 << self.rng.randrange(8))]))
        return True

    def tear_checkpoint(self) -> bool:
        """A training state loses its end."""
        path = self._state()
        if path is None:
            return False
        with contextlib.suppress(OSError):
            os.truncate(path, self.rng.randrange(path.stat().st_size))
        return True

    def tear_temporary(self) -> bool:
        """What a crash in the middle of a write leaves."""
        runs = self.grid.runs()
        if not runs:
            return False
        folder = self.rng.choice(runs).path
        with contextlib.suppress(OSError):
            (folder / ".status.json.4242-abcdef.tmp").write_text('{"state": "do')
        return True

    def _signal_run(self, number: signal.Signals) -> bool:
        workers = self.grid.workers()
        if not workers:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.rng.choice(workers).pid, number)
        return True

    def _signal_parent(self, number: signal.Signals) -> bool:
        process = self.grid.process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        process.wait(90)
        return True

    def _state(self) -> Path | None:
        """A training state of a run that has not ended; those of ended ones are what the test compares."""
        found: list[Path] = []
        for run in self.grid.runs():
            if not (run.path / "result.json").exists():
                found += run.path.glob("checkpoint/[0-9]*.safetensors")
        return self.rng.choice(sorted(found)) if found else None


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own. Raises OSError where this user may not mount one."""
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)], check=False)
    if made.returncode:
        raise OSError("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)
        shutil.rmtree(place, ignore_errors=True)
