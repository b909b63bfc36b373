"""A run and its folder, which is the truth about it. No torch here.

<root>/<run id>/run.json        what the run is: cell, seed, toggles, resolved settings, fingerprints
                status.json     where it stands; rewritten atomically
                metrics.jsonl   one point a line: {"step", "kimg", "time", "values": {name: number}}
                result.json     the final measurements with their cards, and the cost
                checkpoint/     the newest training states        generator.safetensors   the final averaged G
                samples/        sample grids, <step>.png          log.txt                 what the run printed
                claim           which scheduler has it, if one has (`claims.py`)
"""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import RecordError

State = Literal["pending", "running", "interrupted", "done", "diverged", "failed"]
STATES: tuple[State, ...] = ("done", "running", "interrupted", "pending", "diverged", "failed")
"""In the order in which they are told."""
FINAL: frozenset[State] = frozenset({"done", "diverged", "failed"})


LARGEST = 1e100
"""What a metric never reaches; beyond it squares overflow."""


@dataclass(frozen=True)
class Run:
    """One training run of the plan: a cell of the design under one seed."""

    id: str
    study: str
    cell: str
    seed: int
    toggles: tuple[str, ...]
    settings: dict[str, Any]
    """Every setting, resolved: `Settings.as_dict()`."""
    fingerprints: dict[str, str]
    """Content hashes of the data set and of every encoder the run reads."""


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    state: State = "pending"
    step: int = 0
    total_steps: int = 0
    images_per_s: float = 0.0
    attempt: int = 0
    pid: int = 0
    started: float = 0.0
    """Unix time of this attempt's start."""
    updated: float = 0.0
    """Unix time of the last change."""
    seconds: float = 0.0
    """Seconds of training and measuring, over all attempts."""
    last: dict[str, float] = field(default_factory=dict)
    """The newest losses."""
    error: str = ""
    """Last lines of what went wrong, if anything did."""
    failure: str = ""
    """The class of what went wrong, such as `out_of_memory`; see `running/failures.py`."""
    host: str = ""
    """The machine of the process, as `processes.node` names it."""


@dataclass(frozen=True)
class Point:
    """One line of metrics.jsonl."""

    step: int
    kimg: float
    time: float
    values: dict[str, float]


@dataclass(frozen=True)
class Result:
    """What a finished run measured. `metrics` by name; `cards` say how each was measured; `cost` is what it took."""

    metrics: dict[str, float]
    cards: dict[str, dict[str, Any]]
    cost: dict[str, float]


@dataclass(frozen=True)
class RunRecord:
    """A run with all that its folder says about it."""

    run: Run
    status: Status
    result: Result | None
    points: tuple[Point, ...] = ()
    folder: Path = Path()


class RunFolder:
    """Reads and writes one run's folder. Every write replaces the file whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, run: Run) -> None:
        """Write run.json, or check that the folder already belongs to this very run."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / "run.json").exists():
            write_json(self.path / "run.json", asdict(run), durable=True)
        elif self.run().settings != json.loads(json.dumps(run.settings)):
            raise RecordError(f"{self.path}: holds a run with other settings; move the folder away")

    def run(self) -> Run:
        raw = read_json(self.path / "run.json")
        try:
            return Run(**{**raw, "toggles": tuple(raw["toggles"])})
        except (KeyError, TypeError) as error:
            raise RecordError(f"{self.path / 'run.json'}: not a run ({error}); move the folder away") from error

    def status(self) -> Status:
        path = self.path / "status.json"
        if not path.exists():
            return Status()
        try:
            return Status(**read_json(path))
        except TypeError as error:
            raise RecordError(f"{path}: not a status ({error}); delete the file to run again") from error

    def update(self, **changes: Any) -> Status:
        """Change these fields of the status and return it."""
        return self.put(replace(self.status(), updated=time.time(), **changes))

    def put(self, status: Status) -> Status:
        """Write the whole status."""
        write_json(self.path / "status.json", asdict(status))
        return status

    def result(self) -> Result | None:
        path = self.path / "result.json"
        try:
            return Result(**read_json(path)) if path.exists() else None
        except TypeError as error:
            raise RecordError(f"{path}: not a result ({error}); move the folder away to run again") from error

    def finish(self, result: Result) -> None:
        write_json(self.path / "result.json", asdict(result), durable=True)

    def append(self, point: Point) -> None:
        """One more line, whole or, where there is no room for it, not at all."""
        line = f"{json.dumps(asdict(point), sort_keys=True)}\n".encode()
        with (self.path / "metrics.jsonl").open("ab", buffering=0) as file:
            before = file.tell()
            try:
                while line:  # a disk that fills takes a part first and refuses the rest
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(before)
                raise

    def secure(self) -> None:
        """Keep the points so far through a loss of power."""
        if (self.path / "metrics.jsonl").exists():
            _sync(self.path / "metrics.jsonl")

    def points(self) -> tuple[Point, ...]:
        """Every whole line of metrics.jsonl; a last line cut short by a crash is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return ()
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
        return tuple(Point(**json.loads(line)) for line in lines)

    def rewind(self, step: int) -> None:
        """Forget the points after `step`, at 0 all: a resumed run writes them again."""
        kept = [point for point in self.points() if point.step <= step and step]
        text = "".join(json.dumps(asdict(point), sort_keys=True) + "\n" for point in kept)
        write_text(self.path / "metrics.jsonl", text, durable=True)

    def record(self) -> RunRecord:
        return RunRecord(self.run(), self.status(), self.result(), self.points(), self.path)


def state_of(record: RunRecord) -> State:
    """The run's state; one that claims to be done with a number that cannot be one has diverged."""
    if record.status.state != "done" or record.result is None:
        return "failed" if record.status.state == "done" else record.status.state
    return "done" if all(map(is_number, record.result.metrics.values())) else "diverged"


def is_number(value: float) -> bool:
    """Whether it can be a measurement: finite, and not so large that only something broken says it."""
    return math.isfinite(value) and abs(value) < LARGEST


def records(root: Path, runs: tuple[Run, ...]) -> tuple[RunRecord, ...]:
    """A record of every planned run, those without a folder as pending."""
    folders = [RunFolder(root / run.id) for run in runs]
    return tuple(
        replace(folder.record(), run=run) if (folder.path / "run.json").exists() else RunRecord(run, Status(), None)
        for folder, run in zip(folders, runs, strict=True)
    )


def statuses(root: Path, runs: Iterable[Run]) -> dict[str, Status]:
    """Run id -> its status; pending where there is no folder. Reads ten thousand in half a second."""
    there = {entry.name for entry in os.scandir(root)} if root.is_dir() else set()
    return {run.id: _status(f"{root}/{run.id}") if run.id in there else Status() for run in runs}


def other_runs(root: Path, known: Container[str]) -> Iterator[Run]:
    """The runs in `root` whose ids are not known, by id; folders without a run.json as we write it are passed over.

    Runs that differ in nothing but seed and id share their settings as one object.
    """
    rest: dict[str, dict[str, Any]] = {}
    for name in sorted(entry.name for entry in os.scandir(root) if entry.name not in known) if root.is_dir() else ():
        try:
            with open(f"{root}/{name}/run.json", encoding="utf-8") as file:
                text = file.read()
            # Sorted keys put all that makes a run large behind its cell, fingerprints, id and seed.
            head, _, tail = text.partition('"settings":')
            if tail not in rest:
                rest[tail] = json.loads(f'{{"settings":{tail}')
            raw = {**json.loads(head.rstrip().removesuffix(",") + "}"), **rest[tail]}
            yield Run(**{**raw, "toggles": tuple(raw["toggles"])})
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _status(folder: str) -> Status:
    try:
        with open(f"{folder}/status.json", encoding="utf-8") as file:
            return Status(**json.load(file))
    except FileNotFoundError:
        return Status()
    except (OSError, ValueError, TypeError):
        return RunFolder(Path(folder)).status()  # which says what is wrong


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Replace `path` by `text`; see `replacing`."""
    with replacing(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """A file to write, which then takes the place of `path`: a reader sees the old one or the new one, never a part.

    `durable`: also after a loss of power. Nothing is left behind where there is no room.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path, of: str = "*") -> None:
    """The temporary files of `folder` that a killed process left when it replaced files whose names match `of`."""
    for leftover in folder.glob(f".{of}.[0-9]*"):
        leftover.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: Path, value: Mapping[str, Any], durable: bool = False) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", durable)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: cannot be read ({error})") from error
