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
import re
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from harness.engine import UNKNOWN, Engine
from harness.errors import RecordError
from harness.identity import decisive, relocated
from harness.masking import masked
from harness.reading import parse, read, read_bytes
from harness.writing import sync, write_json, write_text

State = Literal["pending", "running", "interrupted", "done", "pruned", "diverged", "failed"]
STATES: tuple[State, ...] = ("done", "running", "interrupted", "pending", "pruned", "diverged", "failed")
"""In the order in which they are told. pruned: a search had seen enough of it."""
FINAL: frozenset[State] = frozenset({"done", "pruned", "diverged", "failed"})


LARGEST = 1e100
"""What a metric never reaches; beyond it squares overflow."""
Count = Annotated[int, Interval(ge=0, le=10**15)]
Amount = Annotated[float, Interval(ge=0, le=1e11)]
"""Neither infinite nor NaN."""
_STRICT: dict[str, Any] = {"strict": True, "extra": "forbid"}
"""For pydantic, which checks what is read: "3" is no number, and a name that nobody knows is a mistake."""
MOVE = "move the folder away"
_PLAIN = frozenset({"run.json", "status.json", "metrics.jsonl", "result.json", "log.txt", "claim", "mlflow.json"})


@dataclass(frozen=True)
class Run:
    """One training run of the plan: a cell of the design under one seed."""

    __pydantic_config__: ClassVar = _STRICT

    id: str
    study: str
    cell: str
    seed: Count
    toggles: tuple[str, ...]
    settings: dict[str, Any]
    """Every setting, resolved: `Settings.as_dict()`."""
    fingerprints: dict[str, str]
    """Content hashes of the data set and of every encoder the run reads."""
    engine: Engine = UNKNOWN
    """Which code trained and measured it: no part of what the run is, written when its training begins."""


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    __pydantic_config__: ClassVar = _STRICT

    state: State = "pending"
    step: Count = 0
    total_steps: Count = 0
    images_per_s: Amount = 0.0
    attempt: Count = 0
    pid: Annotated[int, Interval(ge=0, le=2**31 - 1)] = 0
    started: Amount = 0.0
    """Unix time of this attempt's start."""
    updated: Amount = 0.0
    """Unix time of the last change."""
    seconds: Amount = 0.0
    """Seconds of training and measuring, over all attempts."""
    last: dict[str, float] = field(default_factory=dict)
    """The newest losses."""
    error: str = ""
    """Last lines of what went wrong, if anything did."""
    failure: str = ""
    """The class of what went wrong, such as `out_of_memory`; see `running/failures.py`."""
    host: str = ""
    """The machine of the process, as `processes.node` names it."""

    @property
    def reason(self) -> str:
        """`error` in one line: the exception of a traceback, without the path of its module; empty if there is none."""
        line = "".join(self.error.strip().splitlines()[-1:]).strip()
        return re.sub(r"^(?:\w+\.)+(?=\w+: )", "", line)


@dataclass(frozen=True)
class Point:
    """One line of metrics.jsonl."""

    __pydantic_config__: ClassVar = _STRICT

    step: Count
    kimg: Amount
    time: Amount
    values: dict[str, float]


@dataclass(frozen=True)
class Result:
    """What a finished run measured. `metrics` by name; `cards` say how each was measured; `cost` is what it took."""

    __pydantic_config__: ClassVar = _STRICT

    metrics: dict[str, float]
    cards: dict[str, dict[str, Any]]
    cost: dict[str, Amount]
    weights: str = ""
    """SHA-256 of the averaged generator's weights: runs of equal ones trained alike. Empty of earlier versions."""


@dataclass(frozen=True)
class _Card:
    """What is computed with of a card; all else of it is shown as it is."""

    role: Literal["headline", "further", "diagnostic", ""] = ""
    n: Count = 0
    n_real: Count = 0
    d: Count = 0


@dataclass(frozen=True)
class _Measured:
    """What the cards of a result.json must be."""

    cards: dict[str, _Card]


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
        """Write run.json, or check that the folder belongs to this very run, whose data may lie elsewhere now."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise RecordError(f"{self.path}: is no folder; move it away") from error
        for entry in os.scandir(self.path):
            if entry.name in _PLAIN and not entry.is_file(follow_symlinks=False):
                raise RecordError(f"{entry.path}: is no plain file; move it away")
        if not self._exists("run.json"):
            write_json(self.path / "run.json", asdict(run), durable=True)
        found = self.check(run)
        settings = relocated(found.settings, json.loads(json.dumps(run.settings)))
        if found.settings != settings:  # the study was moved
            write_json(self.path / "run.json", asdict(replace(found, settings=settings)), durable=True)

    def made_by(self, engine: Engine) -> None:
        """Note which code trains the run."""
        run = self.run()
        if run.engine != engine:
            write_json(self.path / "run.json", asdict(replace(run, engine=engine)), durable=True)

    def check(self, run: Run) -> Run:
        """The run as the folder has it. Raises RecordError if that is another one, or nothing that can be read."""
        found = self.run()
        for name in ("id", "seed", "fingerprints"):
            if getattr(found, name) != getattr(run, name):
                raise RecordError(f"{self.path}: holds a run with other {name}; {MOVE}")
        if decisive(found.settings) != decisive(run.settings):
            raise RecordError(f"{self.path}: holds a run with other settings; {MOVE}")
        return found

    def run(self) -> Run:
        path = self.path / "run.json"
        run = read(path, Run, MOVE)
        if run is None:
            raise RecordError(f"{path}: is missing; {MOVE}")
        return run

    def status(self) -> Status:
        return read_status(str(self.path))

    def update(self, **changes: Any) -> Status:
        """Change these fields of the status and return it."""
        return self.put(replace(self.status(), updated=time.time(), **changes))

    def put(self, status: Status) -> Status:
        """Write the whole status."""
        told = masked(status.error)
        plain = told.encode("utf-8", "backslashreplace").decode()  # such as of a name that is no text
        write_json(self.path / "status.json", asdict(replace(status, error=plain)))
        return status

    def result(self) -> Result | None:
        """Its measurements; None for a run that has not finished. Raises RecordError."""
        path, fix = self.path / "result.json", f"{MOVE} to run again"
        text = read_bytes(path, fix)
        if text is None:
            return None
        parse(text, _Measured, str(path), fix)
        return parse(text, Result, str(path), fix)

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
            sync(self.path / "metrics.jsonl")

    def points(self) -> tuple[Point, ...]:
        """Every whole line of metrics.jsonl; a last line cut short by a crash is left out."""
        path = self.path / "metrics.jsonl"
        lines = (read_bytes(path, MOVE) or b"").split(b"\n")[:-1]
        return tuple(parse_point(line, f"{path}: line {number}") for number, line in enumerate(lines, 1))

    def rewind(self, step: int) -> None:
        """Forget the points after `step`, at 0 all: a resumed run writes them again."""
        kept = [point for point in self.points() if point.step <= step and step]
        text = "".join(json.dumps(asdict(point), sort_keys=True) + "\n" for point in kept)
        write_text(self.path / "metrics.jsonl", text, durable=True)

    def record(self) -> RunRecord:
        return RunRecord(self.run(), self.status(), self.result(), self.points(), self.path)

    def _exists(self, name: str) -> bool:
        return os.path.lexists(self.path / name)


def state_of(record: RunRecord) -> State:
    """The run's state; one that claims to be done with a number that cannot be one has diverged."""
    if record.status.state != "done" or record.result is None:
        return "failed" if record.status.state == "done" else record.status.state
    return "done" if all(map(is_number, record.result.metrics.values())) else "diverged"


def is_number(value: float) -> bool:
    """Whether it can be a measurement: finite, and not so large that only something broken says it."""
    return math.isfinite(value) and abs(value) < LARGEST


def read_status(folder: str) -> Status:
    """The status of the run in `folder`; a fresh one where none was written. Raises RecordError."""
    path = f"{folder}/status.json"
    text = read_bytes(path, "delete it to run again")
    # A loss of power leaves a file of no bytes, or of zeros.
    return parse(text, Status, path, "delete the file to run again") if text and text.strip(b"\0") else Status()


def parse_point(line: bytes, where: str) -> Point:
    """A line of metrics.jsonl. Raises RecordError, which tells of `where`."""
    return parse(line, Point, where, "delete the line")
