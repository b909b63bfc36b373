"""A job: runs that workers take from one folder, each worker a process `harness work JOB` on any machine that sees it.

<root>/.jobs/<number>/job.json       how it was asked for, by which code, and the engine's ids of its workers
                      runs.json      the runs, in the order in which they are trained; none of a search of weights
                      study/         the study file as it was read, and its files of ideas
                      code/          the package `harness` as it was when the job was made, which its workers run
                      worker-<k>.log what worker k printed         worker-<k>.json where worker k runs
                      cancelled      there once the job was cancelled
                      ended          there once every run has ended, or the search
                      save           its time is when checkpoints were last asked for
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from harness.code.engine import Engine
from harness.errors import RecordError
from harness.executors.code_copy import copy_code
from harness.files import parse, read_bytes, write_json, write_text
from harness.runs.folders import parse_run
from harness.runs.record import STRICT, Count, Run
from harness.study.load import load_text
from harness.study.resources import Resources
from harness.study.schema import Study
from harness.study.yaml import read_text

JOBS = ".jobs"
"""In a study's folder of runs."""
FIX = "delete this job's folder, and ask again for the runs"


@dataclass(frozen=True)
class AskedStudy:
    """How a job's study was asked for."""

    path: str
    """The study file, absolute."""
    profile: str | None
    overrides: tuple[str, ...]
    only: tuple[str, ...]
    """Cells; empty: all."""


@dataclass(frozen=True)
class AskedSearch:
    """The search of weights that a job's workers carry out."""

    name: str
    """In the storage of its trials."""
    trials: Count
    """How many in all."""
    storage: str
    """The address of that storage with its password hidden; empty: a file in the folder of runs."""
    until: float | None
    """Unix time after which no trial begins."""
    apply: bool
    """The worker that ends last writes the best weights into the study file."""
    attempts: Mapping[str, Count]
    """Run id -> attempts before the job was made, where there were any."""


@dataclass(frozen=True)
class Job:
    """What job.json holds."""

    __pydantic_config__: ClassVar = STRICT

    study: AskedStudy
    resources: Resources
    """As they were when the job was made."""
    workers: Count
    engine: Engine
    """The code that its workers must run."""
    python: str = sys.executable
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    """A worker that was given another one belongs to a job that had this number before."""
    submitted: float = field(default_factory=time.time)
    """Unix time."""
    ids: tuple[str, ...] = ()
    """Of its workers, as the engine names them."""
    search: AskedSearch | None = None
    """None: its workers train the runs of runs.json."""
    folder: str = ""
    """Where it was made, absolute. Earlier versions noted none."""
    inode: Count = 0
    """Of that folder: a copy has another one, the same folder under the path of another machine has not."""


@dataclass(frozen=True)
class JobRuns:
    """The runs of a job."""

    runs: tuple[Run, ...]
    """In the order in which they are trained."""
    attempts: Mapping[str, int]
    """Run id -> its attempts before the job was made: a run that fails in a later one is not tried again."""


@dataclass(frozen=True)
class Worker:
    """Where a worker of a job runs."""

    __pydantic_config__: ClassVar = STRICT

    number: Count
    host: str
    """The machine, as `harness.scheduler.processes.node` names it."""
    pid: Count


class JobFolder:
    """Reads and writes the folder of one job."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def root(self) -> Path:
        """The folder of the run folders."""
        return self.path.parent.parent

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def title(self) -> str:
        """`<name of the folder of runs>.<number>`: a name for the engine."""
        return f"{self.root.name}.{self.path.name}"

    @property
    def code(self) -> Path:
        """Where its copy of the package lies: first in PYTHONPATH of its workers."""
        return self.path / "code"

    def log(self, worker: int | str) -> Path:
        """Where what a worker prints belongs."""
        return self.path / f"worker-{worker}.log"

    def command(self, worker: int | str) -> list[str]:
        """The words that start a worker, on any machine that sees the folder; see `environment`."""
        job = self.read()
        # -P: a package `harness` in the working folder must not take the place of the copy.
        words = [job.python, "-P", "-m", "harness", "work", str(self.path)]
        return [*words, "--worker", str(worker), "--token", job.token]

    @property
    def environment(self) -> dict[str, str]:
        """Variables that a worker has to be started with."""
        paths = [str(self.code), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}

    def read(self) -> Job:
        """job.json. Raises RecordError."""
        path = self.path / "job.json"
        text = read_bytes(path, FIX)
        if text is None:
            raise RecordError(f"{path}: is missing, so this folder is no job; `harness status` names those of a study")
        return parse(text, Job, str(path), FIX)

    def write(self, job: Job) -> None:
        write_json(self.path / "job.json", asdict(job), durable=True)

    def note_ids(self, ids: Iterable[str]) -> None:
        """Write down how the engine names the job's workers."""
        self.write(replace(self.read(), ids=tuple(ids)))

    def write_study(self, path: Path, source: Mapping[str, str]) -> None:
        """The study file at `path`, and its files of ideas by relative path."""
        for name, text in {path.name: path.read_text(encoding="utf-8"), **source}.items():
            place = self.path / "study" / name
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, text)

    def study(self) -> Study:
        """The study as it was asked for, from the files as they were then. Raises HarnessError."""
        asked, folder = self.read().study, self.path / "study"
        name = Path(asked.path).name
        # Beside the folder of runs, which another machine may see under another path.
        path = self.root.parent.parent / name
        return load_text(read_text(folder / name), path, asked.profile, asked.overrides, folder)

    def write_runs(self, runs: Sequence[Run], attempts: Mapping[str, int]) -> None:
        """runs.json: what the runs of a cell share stands there once, so that ten thousand runs are a small file."""
        shared: dict[str, list[Run]] = {}
        rows = []
        for run in runs:
            alike = shared.setdefault(run.cell, [])
            first = next((each for each in alike if _shared(each) == _shared(run)), None)
            if first is None:
                alike.append(first := run)
            rows.append((first.id, run.id, run.seed, attempts.get(run.id, 0)))
        cells = {run.id: asdict(run) for alike in shared.values() for run in alike}
        write_text(self.path / "runs.json", json.dumps({"cells": cells, "runs": rows}), durable=True)

    def runs(self) -> JobRuns:
        """Raises RecordError."""
        path = self.path / "runs.json"
        written = parse(read_bytes(path, FIX) or b"", _Written, str(path), FIX)
        firsts = {name: parse_run(json.dumps(cell).encode(), str(path)) for name, cell in written.cells.items()}
        if not {first for first, *_ in written.runs} <= firsts.keys():
            raise RecordError(f"{path}: names a cell that it does not hold; {FIX}")
        runs = tuple(replace(firsts[first], id=name, seed=seed) for first, name, seed, _ in written.runs)
        return JobRuns(runs, {name: attempts for _, name, _, attempts in written.runs})

    def put(self, worker: Worker) -> None:
        """Note where a worker runs, in place of what was noted under its number."""
        write_json(self.path / f"worker-{worker.number}.json", asdict(worker))

    def enrol(self, worker: Worker) -> Worker:
        """Note where a worker runs, under its number or, if that is taken, the next free one; as it was noted."""
        while True:
            try:
                (self.path / f"worker-{worker.number}.json").open("x").close()  # the number is taken from here on
                self.put(worker)
                return worker
            except FileExistsError:
                worker = replace(worker, number=worker.number + 1)

    def workers(self) -> list[Worker]:
        """Those that have begun, by number, whether they still run or not. Raises RecordError."""
        found = []
        for path in self.path.glob("worker-*.json"):
            # An empty one is of a worker that takes its number just now, or was killed at that.
            if text := read_bytes(path, "delete it"):
                found.append(parse(text, Worker, str(path), "delete it"))
        return sorted(found, key=lambda worker: worker.number)

    @property
    def is_cancelled(self) -> bool:
        return (self.path / "cancelled").exists()

    def cancel(self) -> None:
        """No worker of it begins any more, and those that run end after a checkpoint."""
        (self.path / "cancelled").touch()

    def end(self) -> None:
        """Note that every run has ended, or the search."""
        (self.path / "ended").touch()

    @property
    def has_ended(self) -> bool:
        return (self.path / "ended").exists()

    @property
    def is_over(self) -> bool:
        """Whether no worker of it takes a run of this folder any more, whatever its engine says."""
        return self.is_cancelled or self.has_ended or bool(self.of_another)

    @property
    def of_another(self) -> str:
        """Of a job that was copied here, or moved: why its workers are left alone; empty for one that was made here, or
        that was over before.
        """
        if self.is_cancelled or self.has_ended:
            return ""
        try:
            job = self.read()
        except RecordError:  # who needs what it holds says so
            return ""
        made = job.folder or Path(job.study.path).parent / self.path.relative_to(self.root.parent.parent)
        with contextlib.suppress(OSError, ValueError):  # it is gone, or no path of this machine
            if self.path.stat().st_ino == job.inode or os.path.samefile(made, self.path):
                return ""
        fix = "`harness cancel` there ends them (if the study was moved, move it back first), or delete this folder"
        return f"was made as {made}, so its workers are left alone; {fix}"

    def save(self) -> None:
        """Ask its workers for checkpoints."""
        (self.path / "save").touch()

    def save_asked_at(self) -> int:
        """When checkpoints were last asked for, in ns of the folder's clock; 0 if never."""
        try:
            return (self.path / "save").stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def make_job(root: Path, job: Job, runs: JobRuns, source: Mapping[str, str]) -> JobFolder:
    """A new job folder, with a copy of the code; two callers at once get two. It is a job once job.json is there.

    `source`: relative path -> text of the study's files of ideas.
    """
    number = max(_numbers(root), default=0) + 1
    while True:
        folder = JobFolder(root / JOBS / str(number))
        try:
            folder.path.mkdir(parents=True)
            break
        except FileExistsError:
            number += 1
    copy_code(folder.code)
    folder.write_study(Path(job.study.path), source)
    folder.write_runs(runs.runs, runs.attempts)
    folder.write(replace(job, folder=str(folder.path.absolute()), inode=folder.path.stat().st_ino))
    return folder


def job_folders(root: Path) -> list[JobFolder]:
    """The jobs of a study's folder of runs, the oldest first; one that is just being made is none yet."""
    folders = [JobFolder(root / JOBS / str(number)) for number in sorted(_numbers(root))]
    return [folder for folder in folders if (folder.path / "job.json").exists()]


def queued_runs(root: Path) -> Iterator[tuple[JobFolder, tuple[Run, ...]]]:
    """The jobs of a study's folder of runs that are not over, and their runs; not one that no worker could read."""
    for folder in job_folders(root):
        if not folder.is_over:
            with contextlib.suppress(RecordError):
                yield folder, folder.runs().runs


def _numbers(root: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(root / JOBS) if name.isdecimal()]
    except FileNotFoundError:
        return []


@dataclass(frozen=True)
class _Written:
    """What runs.json holds."""

    __pydantic_config__: ClassVar = STRICT

    cells: dict[str, dict[str, Any]]
    """Id of a run -> that run, whose settings others share."""
    runs: list[tuple[str, str, Count, Count]]
    """(id of the run that it shares all else with, its own id, seed, attempts before)."""


def _shared(run: Run) -> tuple[object, ...]:
    """All of a run but its id and seed."""
    return (
        *(run.study, run.toggles, run.settings, run.fingerprints),
        *(run.engine, run.first_weights, run.source),
    )
