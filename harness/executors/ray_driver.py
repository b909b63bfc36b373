"""The process that holds the connection to a Ray cluster: `python -m harness.executors.ray_driver ADDRESS [JOB]`.

It is apart from the call that submits, as Ray ends its process when the cluster is lost, and takes its signals and its
output. Without a job it says what nodes there are. With one it has the job's workers run, starts those that are lost
again, and notes in the job's folder where each stands. It ends with its workers, which end when the job is cancelled,
or when its standard input is closed: so they do not outlive the call, however that ends.

Answers are lines of JSON: {"nodes": [...]}, then {"missing": [...]} or {"submitted": true}; or {"error": why}.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from harness import cache
from harness.executors import ray_task
from harness.executors.executor import GONE, WorkerState
from harness.executors.job import JobFolder
from harness.executors.ray import STATES, Node, fits
from harness.exit_codes import FAILED_RUNS, REFUSED, REQUEUE, STOPPED
from harness.files import write_json
from harness.processes import signal_name
from harness.runs.lease import Claim
from harness.text import quantity

LOOK_S = 0.5
PROBE_S = 60.0
"""In which each node has to say what it sees."""
END_S = 90.0
"""After a cancel, in which workers write checkpoints: longer than a run gets for that."""
WAITS = "until cores and GPUs are free"
PLACES = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME", "OPTUNA_STORAGE")
"""Variables that workers get from the call: Ray gives them those of whoever started the cluster."""


@dataclass
class _Worker:
    """A worker of the job."""

    number: int
    starts: int = 0
    task: Any = None
    """Ray's reference to its exit code; None once it is gone."""
    state: WorkerState = field(default=WorkerState("waiting", reason=WAITS))


class Driver:
    """Has the workers of one job run."""

    def __init__(self, folder: JobFolder, nodes: Sequence[Node]) -> None:
        self.folder, job = folder, folder.read()
        self.token, self.python, self.wanted = job.token, job.python, job.resources.ray
        self.names = {node.id: node.name for node in nodes}
        self.workers = [_Worker(number) for number in range(job.workers)]
        gpus, own = self.wanted.gpus, self.wanted.resources
        options = {"num_cpus": self.wanted.cpus, "num_gpus": gpus, "resources": own, "max_retries": 0}
        self._run = ray.remote(**options)(ray_task.run_worker)
        self._ends_at: float | None = None
        self._written: dict[str, Any] | None = None

    def probe(self, nodes: Sequence[Node]) -> list[tuple[str, str]]:
        """(node, what it lacks) of the nodes that cannot run a worker: `folder`, `python` or `answer`."""
        asked = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node.id, soft=False)
            probe = ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(ray_task.what_is_missing)
            asked[probe.remote(str(self.folder.path), self.token, self.python)] = node.name
        ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=PROBE_S)
        answers = [(asked[task], _answer(task)) for task in ready]
        return [*((name, lack) for name, lack in answers if lack), *((asked[task], "answer") for task in late)]

    def start(self, worker: _Worker) -> None:
        words = [*self.folder.command(worker.number), "--cores", str(self.wanted.cpus)]
        kept = {name: os.environ[name] for name in PLACES if name in os.environ}
        environment = {**kept, "HARNESS_CACHE": str(cache.root()), **self.folder.environment}
        if not self.wanted.gpus:  # for which Ray leaves those that whoever started the cluster could see
            environment["CUDA_VISIBLE_DEVICES"] = ""
        node, log = self._node_file(worker), self.folder.log(worker.number)
        node.unlink(missing_ok=True)
        worker.starts += 1
        worker.task = self._run.remote(words, environment, str(node), str(log))

    def follow(self) -> None:
        """Until all workers are gone."""
        while any(worker.task for worker in self.workers):
            if self._ends_at is None and (self.folder.is_cancelled or _input_is_closed()):
                self._ends_at = time.monotonic() + END_S
                for worker in self.workers:
                    if worker.task:
                        ray.cancel(worker.task)
            if self._ends_at is not None and time.monotonic() > self._ends_at:
                return
            for worker in self.workers:
                self._look(worker)
            self.write()
            time.sleep(LOOK_S)

    def write(self) -> None:
        """Note where the workers stand."""
        states = {str(worker.number): asdict(worker.state) for worker in self.workers}
        if states != self._written:
            write_json(self.folder.path / STATES, states)
            self._written = states

    def _look(self, worker: _Worker) -> None:
        if worker.task is None:
            return
        if ray.wait([worker.task], timeout=0)[0]:
            why = _why_again(worker.task)
            worker.task = None
            if self._ends_at is not None or why is None:
                worker.state = GONE
            elif worker.starts > self.wanted.retries:
                worker.state = WorkerState("gone", reason=f"lost {quantity(worker.starts, 'time')}, last as {why}")
            else:
                worker.state = WorkerState("waiting", reason=f"to start again, as {why}")
                self.start(worker)
        elif self._node_file(worker).exists():
            node = self._node_file(worker).read_text(encoding="utf-8")
            worker.state = WorkerState("running", self.names.get(node, node))

    def _node_file(self, worker: _Worker) -> Path:
        return self.folder.path / f"worker-{worker.number}.node"


def _answer(task: Any) -> str:
    try:
        return str(ray.get(task))
    except RayError:
        return "answer"


def _why_again(task: Any) -> str | None:
    """Why a worker that has ended was lost and has to be started again; None if it came to its own end."""
    try:
        code = ray.get(task)
    except TaskCancelledError:
        return None
    except RayError as error:
        print(error, file=sys.stderr)
        return f"Ray says {type(error).__name__}"
    if code in (0, 1, REFUSED, FAILED_RUNS):
        return None
    if code < 0 or code > STOPPED:
        return f"its process was ended by {signal_name(-code if code < 0 else code - STOPPED)}"
    return "it asked for it" if code == REQUEUE else f"it ended with code {code}"


def _input_is_closed() -> bool:
    return bool(select.select([sys.stdin], [], [], 0)[0]) and not os.read(0, 1)


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def main(address: str, path: str | None = None) -> int:
    """Raises what Ray raises."""
    ray.init(address=address, log_to_driver=False)
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = [Node(node["NodeID"], node["NodeName"], node["Resources"]) for node in alive]
    _say(nodes=[asdict(node) for node in nodes])
    if path is None:
        return 0
    ray.cloudpickle.register_pickle_by_value(ray_task)
    folder = JobFolder(Path(path))
    wanted = folder.read().resources.ray
    driver = Driver(folder, nodes)
    if missing := driver.probe([node for node in nodes if fits(node, wanted)]):
        _say(missing=missing)
        return REFUSED
    claim = Claim(folder.path)
    if not claim.take():
        raise OSError(f"{folder.path}: another process has the workers of this job")
    for worker in driver.workers:
        driver.start(worker)
    driver.write()
    _say(submitted=True)
    try:
        driver.follow()
    finally:
        claim.drop()
    return 0


if __name__ == "__main__":
    try:
        code = main(*sys.argv[1:])
    except (RayError, OSError, RuntimeError, ValueError) as error:
        _say(error=f"{type(error).__name__}: {error}")
        code = REFUSED
    sys.exit(code)
