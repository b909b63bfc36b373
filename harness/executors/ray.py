"""Workers as tasks of Ray, on a cluster that runs: it is neither started nor stopped.

Only the driver, a process of its own, imports ray; what it knows of the workers it notes in the job's folder. The id of
a worker is the path of its log there.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.errors import HarnessError, nearest
from harness.executors.executor import GONE, WorkerState
from harness.executors.job import JobFolder
from harness.executors.ray_connection import Connection, Unreachable, refuse_unreachable
from harness.files import parse, read_bytes
from harness.finding import Finding
from harness.runs.lease import holder
from harness.study.resources import RayResources
from harness.text import quantity, shortened

STATES = "ray.json"
"""In a job's folder: number of a worker -> where it stands, as the driver notes it."""
LOG = "ray.log"
"""In a job's folder: the driver's answers, and what Ray tells it."""
SUBMIT_S = 120.0
"""In which every node has answered whether it sees the folder, or is told as one that does not answer."""
INSTALL = "pip install '.[ray]' in the checkout of the harness"
_UNITS = {"CPU": "cpus", "GPU": "gpus"}
"""Ray's name -> our setting."""


@dataclass(frozen=True)
class Node:
    """A node of the cluster."""

    id: str
    name: str
    resources: Mapping[str, float]
    """Ray's name -> amount, when nothing runs there."""


def amounts(wanted: RayResources) -> dict[str, float]:
    """What a worker takes, by Ray's names."""
    return {"CPU": wanted.cpus, "GPU": wanted.gpus, **wanted.resources}


def fits(node: Node, wanted: RayResources) -> bool:
    """Whether a worker has room on the node when nothing else runs there."""
    return all(node.resources.get(name, 0) >= amount for name, amount in amounts(wanted).items())


def too_much(nodes: Sequence[Node], wanted: RayResources) -> Iterator[tuple[str, str]]:
    """(dotted setting, what no node has, in words); nothing if a worker fits somewhere.

    Ray would let such a worker wait for ever.
    """
    if any(fits(node, wanted) for node in nodes):
        return
    each_is_there = True
    for name, amount in amounts(wanted).items():
        most = max((node.resources.get(name, 0) for node in nodes), default=0)
        if most >= amount:
            continue
        each_is_there = False
        what = f"{amount:g} {name}" + ("s" if name in _UNITS and amount != 1 else "")
        others = sorted({other for node in nodes for other in node.resources if ":" not in other})
        hint = nearest(name, others) if not most and name not in _UNITS else ""
        setting = _UNITS.get(name, "resources")
        yield f"resources.ray.{setting}", f"no node has {what}; the most that one has is {most:g}{hint}"
    if each_is_there:
        words = ", ".join(f"{amount:g} {name}" for name, amount in amounts(wanted).items() if amount)
        yield "resources.ray", f"no node has all of {words}, though some node has each"


class Ray:
    """A cluster, by the address of its head."""

    name = "ray"
    look_s = 5.0
    outlives_caller = False

    def __init__(self, resources: RayResources, places: Mapping[str, str]) -> None:
        """`places`: dotted setting -> where it is written."""
        self.resources, self._places = resources, places
        self.address = resources.address or os.environ.get("RAY_ADDRESS", "")
        self._driver: subprocess.Popen[str] | None = None

    def check(self) -> list[Finding]:
        """Whether the cluster answers, and has a node on which a worker fits."""
        try:
            findings = [Finding("ray", f"version {version('ray')}")]
        except PackageNotFoundError:
            return [Finding("ray", "is not installed", INSTALL)]
        named = self.resources.address or "RAY_ADDRESS" not in os.environ
        subject = self._at("resources.ray.address") if named else "RAY_ADDRESS"
        try:
            refuse_unreachable(self.address)
            nodes = self._nodes()
        except Unreachable as error:
            return [*findings, Finding(subject, error.detail, error.fix)]
        findings.append(Finding(subject, f"{self.address}, a cluster of {quantity(len(nodes), 'node')}"))
        fix = "ask for what one node has"
        return [*findings, *(Finding(self._at(path), text, fix) for path, text in too_much(nodes, self.resources))]

    def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
        """Once every node that may run a worker has seen the job's folder."""
        with (job.path / LOG).open("a+", encoding="utf-8", errors="replace") as log:
            connection = Connection(self.address, log, str(job.path))
            try:
                count = len(connection.answer()["nodes"])
                if missing := connection.answer(SUBMIT_S).get("missing"):
                    raise HarnessError("\n".join(_lacks(job, missing, count)))
            except BaseException:
                connection.end()
                raise
        self._driver = connection.process
        return tuple(str(job.log(number)) for number in range(workers))

    def look(self, ids: Sequence[str]) -> dict[str, WorkerState]:
        """As the driver noted it last; all workers are gone once it is."""
        if self._driver:
            self._driver.poll()  # one that was killed counts as there as long as its parent has not heard of it
        states: dict[str, WorkerState] = {}
        for folder in _folders(ids):
            path = folder.path / STATES
            noted = parse(read_bytes(path, "delete it") or b"{}", dict[str, WorkerState], str(path), "delete it")
            ended = WorkerState("gone", reason=f"the connection to Ray has ended, see {folder.path / LOG}")
            is_there = holder(folder.path) is not None
            for number, state in noted.items():
                states[str(folder.log(number))] = state if is_there or state.phase == "gone" else ended
        return {each: states.get(each, GONE) for each in ids}

    def cancel(self, ids: Sequence[str]) -> None:
        """The driver looks for this, and ends with its workers."""
        for folder in _folders(ids):
            folder.cancel()

    def save(self, ids: Sequence[str]) -> None:
        """Workers look for this by themselves."""
        for folder in _folders(ids):
            folder.save()

    def _nodes(self) -> list[Node]:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            connection = Connection(self.address, log)
            try:
                return [Node(**node) for node in connection.answer()["nodes"]]
            finally:
                connection.end()

    def _at(self, path: str) -> str:
        """A setting, with the place where it or the whole that it is part of is written."""
        place = self._places.get(path) or next((at for name, at in self._places.items() if name.startswith(path)), "")
        return f"{place}: {path}" if place else path


def _folders(ids: Sequence[str]) -> list[JobFolder]:
    return [JobFolder(path) for path in dict.fromkeys(Path(each).parent for each in ids)]


def _lacks(job: JobFolder, missing: Sequence[tuple[str, str]], count: int) -> Iterator[str]:
    """Why nodes cannot run workers of a job, and what to do. `missing`: (node, what it lacks), of `count` nodes."""
    python = job.read().python
    words = {
        "folder": (f"not see {job.root}", "put the study on a disk that all nodes share, under the same path"),
        "python": (f"not have {python}", "install the harness in the same place on all nodes"),
        "answer": ("not answer", "see what `ray status` says of them"),
    }
    for lack, (what, fix) in words.items():
        names = sorted(name for name, what_it_lacks in missing if what_it_lacks == lack)
        if names:
            verb = "does" if len(names) == 1 else "do"
            yield f"{len(names)} of {quantity(count, 'node')} {verb} {what} ({shortened(names)}); {fix}"
