"""Faults for a grid whose runs train in workers on Slurm or Ray, drawn by chance from a seed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

import psutil

from chaos import Grid
from ray_cluster import RayCluster, is_worker
from slurm_cluster import NODES, SlurmCluster
from waiting import until


class GridElsewhere(Grid):
    """A `run-grid` on an engine, asked for again whenever it has ended."""

    command: Sequence[str] = (sys.executable, "-m", "harness")

    def __init__(self, folder: Path, cache: Path, log: Path, variables: dict[str, str]) -> None:
        super().__init__(folder, cache, f"sqlite:///{folder}/mlflow.db", log)
        del self.environment["PYTHONPATH"]  # workers must train with their job's copy of the code
        self.environment |= variables
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background may have it ignored

    def ask(self, *words: str) -> int:
        """The exit code of another command for the study, whose output goes to the log too."""
        with self.log.open("ab") as log:
            command = [*self.command, *words, "study.yaml"]
            return subprocess.run(
                command, cwd=self.folder, env=self.environment, stdout=log, stderr=log, timeout=200
            ).returncode

    def at_work(self) -> list[psutil.Process]:
        """The processes `harness work` of this grid."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if is_worker(process) and str(self.folder) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    @property
    def is_done(self) -> bool:
        runs = self.runs()
        return bool(runs) and all((run.path / "result.json").exists() for run in runs)

    def logs(self) -> list[Path]:
        """Of the calls, of the workers and of the runs."""
        return [self.log, *self.folder.glob("runs/*/.jobs/*/*.log"), *self.folder.glob("runs/*/*/log.txt")]


class Watcher(threading.Thread):
    """Looks all the time which processes train each run, and whether a result is ever written again."""

    LOOK_S = 0.1

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = str(folder)
        self.together: dict[tuple[str, ...], float] = defaultdict(float)
        """Run and the sessions that had it at once -> seconds for which they did."""
        self.results: dict[str, set[tuple[int, int]]] = defaultdict(set)
        self.ends = threading.Event()

    def run(self) -> None:
        before = time.monotonic()
        while not self.ends.wait(self.LOOK_S):
            now = time.monotonic()
            for log, sessions in self._sessions().items():
                if len(sessions) > 1:
                    self.together[log, *map(str, sorted(sessions))] += now - before
            for path in Path(self.folder).glob("runs/*/*/result.json"):
                with contextlib.suppress(OSError):
                    state = path.stat()
                    self.results[path.parent.name].add((state.st_ino, state.st_mtime_ns))
            before = now

    def _sessions(self) -> dict[str, set[int]]:
        """Log of a run -> the sessions of the processes that print into it: each process of a run does."""
        found: dict[str, set[int]] = defaultdict(set)
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                log = os.readlink(f"/proc/{name}/fd/1")
                if log.startswith(self.folder) and log.endswith("/log.txt"):
                    found[log].add(os.getsid(int(name)))
        return found


class Faults:
    """Draws faults; each returns whether it had something to hit. These need no engine."""

    weights: ClassVar[dict[str, int]] = {
        "kill_worker": 4,
        "terminate_worker": 2,
        "save_worker": 2,
        "worker_out_of_time": 3,
        "freeze_worker": 1,
        "kill_run": 4,
        "terminate_run": 2,
        "kill_caller": 3,
        "interrupt_caller": 2,
        "terminate_caller": 1,
        "save_caller": 1,
        "ask_twice": 1,
        "ask_cancel": 2,
        "ask_checkpoint": 2,
    }

    def __init__(self, grid: GridElsewhere, rng: random.Random) -> None:
        self.grid, self.rng = grid, rng
        self.done: Counter[str] = Counter()
        self._first = rng.sample(sorted(self.weights), len(self.weights))
        self._later: list[tuple[float, Callable[[], object]]] = []

    def strike(self) -> None:
        """One fault, counted if it hit: each kind once, then by chance. What an earlier one broke is mended in time."""
        self.mend(time.monotonic())
        names, weights = list(self.weights), list(self.weights.values())
        name = self._first.pop() if self._first else self.rng.choices(names, weights)[0]
        hit = False
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            hit = getattr(self, name)()
        if hit:
            self.done[name] += 1
            print(f"{time.strftime('%H:%M:%S')} {name}", flush=True)
        elif not self.done[name]:
            self._first.insert(0, name)

    def mend(self, now: float = float("inf")) -> None:
        due = [undo for when, undo in self._later if when <= now]
        self._later = [(when, undo) for when, undo in self._later if when > now]
        for undo in due:
            undo()

    def after(self, least_s: float, most_s: float, undo: Callable[[], object]) -> None:
        self._later.append((time.monotonic() + self.rng.uniform(least_s, most_s), undo))

    def kill_worker(self) -> bool:
        return self._signal(self.grid.at_work(), signal.SIGKILL)

    def terminate_worker(self) -> bool:
        return self._signal(self.grid.at_work(), signal.SIGTERM)

    def save_worker(self) -> bool:
        return self._signal(self.grid.at_work(), signal.SIGUSR1)

    def worker_out_of_time(self) -> bool:
        return self._signal(self.grid.at_work(), signal.SIGUSR2)

    def freeze_worker(self) -> bool:
        workers = self.grid.at_work()
        if workers:
            worker = self.rng.choice(workers)
            worker.suspend()
            time.sleep(self.rng.uniform(0.1, 2.0))
            worker.resume()
        return bool(workers)

    def kill_run(self) -> bool:
        return self._signal(self.grid.workers(), signal.SIGKILL)

    def terminate_run(self) -> bool:
        return self._signal(self.grid.workers(), signal.SIGTERM)

    def kill_caller(self) -> bool:
        return self._end_caller(signal.SIGKILL)

    def interrupt_caller(self) -> bool:
        return self._end_caller(signal.SIGINT)

    def terminate_caller(self) -> bool:
        return self._end_caller(signal.SIGTERM)

    def save_caller(self) -> bool:
        """Only one that follows workers knows what SIGUSR1 means."""
        process = self.grid.process
        if process is None or process.poll() is not None or not self.grid.workers():
            return False
        process.send_signal(signal.SIGUSR1)
        return True

    def ask_twice(self) -> bool:
        """Another call beside the one that there is, for a while."""
        with self.grid.log.open("ab") as log:
            command = [*self.grid.command, "run-grid", "study.yaml"]
            other = subprocess.Popen(command, cwd=self.grid.folder, env=self.grid.environment, stdout=log, stderr=log)
        self.after(3, 12, lambda: _interrupt(other))
        return True

    def ask_cancel(self) -> bool:
        return self._ask("cancel")

    def ask_checkpoint(self) -> bool:
        return self._ask("checkpoint")

    def _ask(self, word: str) -> bool:
        code = self.grid.ask(word)  # 2: a call was killed in the moment between `sbatch` and its note of the numbers
        assert code in (0, 2), f"harness {word}: {code}: {self.grid.log.read_text()[-2000:]}"
        return True

    def _signal(self, processes: Sequence[psutil.Process], number: signal.Signals) -> bool:
        if processes:
            os.kill(self.rng.choice(processes).pid, number)
        return bool(processes)

    def _end_caller(self, number: signal.Signals) -> bool:
        process = self.grid.process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(number)
        process.wait(120)
        return True


class SlurmFaults(Faults):
    weights: ClassVar[dict[str, int]] = {
        **Faults.weights,
        "cancel_job": 3,
        "requeue_job": 3,
        "job_out_of_time": 3,
        "save_job": 2,
        "preempt": 4,
        "lose_node": 3,
        "lose_sight_of_node": 2,
        "restart_controller": 2,
    }

    def __init__(self, grid: GridElsewhere, rng: random.Random, cluster: SlurmCluster) -> None:
        super().__init__(grid, rng)
        self.cluster = cluster

    def mend(self, now: float = float("inf")) -> None:
        """Slurm drains a node where it wants to start a job whose first start still runs there."""
        super().mend(now)
        for node in self.cluster.ask("sinfo", "-hN", "-pmain", "-tdrain", "-o%N").split():
            self.cluster.ask("scontrol", "update", f"nodename={node}", "state=resume")

    def cancel_job(self) -> bool:
        return self._job("scancel", states="RUNNING,PENDING")

    def requeue_job(self) -> bool:
        return self._job("scontrol", "requeue")

    def job_out_of_time(self) -> bool:
        """As by `--signal=B:USR2@...`."""
        return self._job("scancel", "--batch", "--signal=USR2")

    def save_job(self) -> bool:
        return self._job("scancel", "--batch", "--signal=USR1")

    def preempt(self) -> bool:
        """A job of a better partition takes a node for a while."""
        job = self.cluster.ask("sbatch", "--parsable", "-N1", "-c4", "-o/dev/null", "--wrap=sleep 100").strip()
        self.after(2, 8, lambda: self.cluster.ask("scancel", job))
        return job.isdecimal()

    def lose_node(self) -> bool:
        """Its power goes, with all that runs there, and comes back."""
        return self._node_gone(self.cluster.kill_node)

    def lose_sight_of_node(self) -> bool:
        """Slurm takes it for lost, while its workers train on."""
        return self._node_gone(lambda name: self.cluster.end(name, signal.SIGKILL))

    def restart_controller(self) -> bool:
        self.cluster.end("slurmctld")
        time.sleep(self.rng.uniform(0.0, 3.0))
        self.cluster.begin_controller()
        until(lambda: "UP" in self.cluster.ask("scontrol", "ping"), "the controller answers")
        return True

    def _node_gone(self, end: Callable[[str], None]) -> bool:
        there = [name for name in NODES if name in self.cluster.processes]
        if not there:
            return False
        node = self.rng.choice(there)
        end(node)
        self.cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        self.after(2, 10, lambda: self.cluster.begin_node(node))
        return True

    def _job(self, *words: str, states: str = "RUNNING") -> bool:
        listed = self.cluster.ask("squeue", "-hr", f"-t{states}", "-o%i %j").splitlines()
        jobs = [job for job, _, name in (line.partition(" ") for line in listed) if name.startswith("tiny.")]
        if jobs:
            self.cluster.ask(*words, self.rng.choice(jobs))
        return bool(jobs)


class RayFaults(Faults):
    weights: ClassVar[dict[str, int]] = {
        **Faults.weights,
        "kill_task": 4,
        "kill_driver": 3,
        "lose_node": 4,
        "lose_cluster": 1,
    }

    def __init__(self, grid: GridElsewhere, rng: random.Random, cluster: RayCluster) -> None:
        super().__init__(grid, rng)
        self.cluster = cluster

    def kill_task(self) -> bool:
        """Ray's process around a worker."""
        parents = [worker.parent() for worker in self.grid.at_work()]
        around = [each for each in parents if each and any("ray::" in word for word in each.cmdline())]
        return self._signal(around, signal.SIGKILL)

    def kill_driver(self) -> bool:
        caller = self.grid.process
        if caller is None or caller.poll() is not None:
            return False
        below = psutil.Process(caller.pid).children()
        return self._signal(
            [each for each in below if "harness.executors.ray_driver" in each.cmdline()], signal.SIGKILL
        )

    def lose_node(self) -> bool:
        """Its power goes, with all that runs there, and comes back."""
        if "second" not in self.cluster.nodes:
            return False
        self.cluster.kill_node("second")
        self.after(2, 10, self.cluster.until_whole)
        return True

    def lose_cluster(self) -> bool:
        """The head's power goes, and so its cluster; another starts in its place."""
        self.mend()
        for name in ("head", "second"):
            self.cluster.kill_node(name)
        self.cluster.start()
        return True


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    process.wait(120)
