"""What a tracking server has been sent already: mlflow.json in a run's folder and in the study's.

What is about to be sent is noted first, so that after a crash the server is asked for that alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Interval
from pydantic import TypeAdapter, ValidationError

from harness.errors import RecordError
from harness.files import open_regular, read_json, write_json
from harness.runs.folders import parse_point
from harness.runs.record import Point

NAME = "mlflow.json"
TAIL_BYTES = 200
Noted = tuple[str, float, int, int]
"""A metric on its way: name, value, unix time in ms, images seen."""


@dataclass
class Ledger:
    """What one run's tracking run holds."""

    uri: str = ""
    parent: str = ""
    """The grid's run on that server; another server or parent means a new ledger."""
    run_id: str = ""
    """MLflow's id of the run."""
    adopted: bool = False
    """The run was there before this ledger, which has not learnt yet what it holds."""
    described: bool = False
    """Parameters, fixed tags and data set are there."""
    offset: Annotated[int, Interval(ge=0, le=2**62)] = 0
    """metrics.jsonl has been read up to this byte, as long as the bytes before it are still `tail`."""
    tail: str = ""
    steps: dict[str, int] = field(default_factory=dict)
    """Metric -> the last images seen that was delivered: what is not beyond it, after a rewind, is there already."""
    pending: list[Noted] = field(default_factory=list)
    """What was sent last, or was about to be: all, a part or nothing of it has arrived."""
    files: dict[str, float] = field(default_factory=dict)
    """File under the run's folder -> modification time when it was delivered."""
    images: dict[int, int] = field(default_factory=dict)
    """Images seen -> the time in ms under which the sample grid is sent: another time would be another image."""
    told: list[Any] = field(default_factory=list)
    """What the tracking run shows of the status."""


@dataclass
class GridLedger:
    """What the grid's own tracking run holds, and which runs need no look."""

    uri: str = ""
    experiment_id: str = ""
    parent: str = ""
    """MLflow's id of the grid's run."""
    described: bool = False
    """The study file and the changes to the code are there."""
    status: str = ""
    """The state that it shows; empty when that is not certain."""
    reports: dict[str, int] = field(default_factory=dict)
    """Which reports are shown: the file that asks for one -> its modification time, in ns."""
    delivered: dict[str, int] = field(default_factory=dict)
    """Run id -> modification time in ns of the status with which all of the run was delivered."""
    settled: dict[str, int] = field(default_factory=dict)
    """The same of runs with a result, of which nothing is to come."""

    def mark_of(self, run_id: str) -> int | None:
        """The modification time with which all of a run was delivered."""
        return self.settled.get(run_id, self.delivered.get(run_id))

    def note(self, run_id: str, mark: int, settled: bool) -> None:
        """All of a run was delivered."""
        self.settled.pop(run_id, None)
        self.delivered.pop(run_id, None)
        (self.settled if settled else self.delivered)[run_id] = mark


@dataclass(frozen=True)
class Report:
    """What a tracking run is to show of the newest report."""

    at: int = 0
    """Unix time in ms."""
    summary: dict[str, float] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    """Name -> {"columns": names, "data": rows}."""
    folder: str = ""
    """Its files; empty if there are none."""
    variant: list[str] = field(default_factory=list)
    """What the command line changed; nothing: the study as its file has it."""


_Kind = TypeVar("_Kind", Ledger, GridLedger, Report)
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {kind: TypeAdapter(kind) for kind in (Ledger, GridLedger, Report)}


def load(path: Path, uri: str, parent: str) -> Ledger:
    """The ledger at `path`, or a new one if there is none for this server and parent. Raises RecordError."""
    ledger = read(path, Ledger)
    return ledger if (ledger.uri, ledger.parent) == (uri, parent) else Ledger(uri, parent)


def load_grid(root: Path) -> GridLedger:
    """The ledger of the study in `root`, or a new one. Raises RecordError."""
    return read(root / NAME, GridLedger)


def save(path: Path, ledger: Ledger | GridLedger | Report) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(ledger))


def read(path: Path, kind: type[_Kind]) -> _Kind:
    """What `save` wrote to `path`, or an empty one. Raises RecordError."""
    try:
        found: _Kind = _ADAPTERS[kind].validate_python(read_json(path) if path.exists() else {})
    except ValidationError as error:
        fix = "delete the file: MLflow is asked what it holds"
        raise RecordError(f"{path}: not what was sent to MLflow ({error.errors()[0]['msg']}); {fix}") from error
    return found


def mark(folder: str | Path) -> int | None:
    """Modification time in ns of the status in a run's folder; None for a run not begun."""
    try:
        return os.stat(f"{folder}/status.json").st_mtime_ns
    except FileNotFoundError:
        return None


def undelivered(root: Path, ids: Iterable[str], known: GridLedger) -> bool:
    """Whether the status of any of these runs changed since all of the run was delivered. Reads nothing but times."""
    marks = ((mark(f"{root}/{run_id}"), known.mark_of(run_id)) for run_id in ids)
    return any(found is not None and found != delivered for found, delivered in marks)


@dataclass(frozen=True)
class Lines:
    """New points of a metrics.jsonl, and where the next look at it begins."""

    points: tuple[Point, ...]
    offset: int
    tail: str


def read_points(path: Path, ledger: Ledger) -> Lines:
    """The whole lines that were not read yet; all of them when the file was rewritten by a rewind.

    Raises RecordError for a line that is not a point.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return Lines((), 0, "")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); move it away") from error
    with file:
        start = max(0, ledger.offset - TAIL_BYTES)
        file.seek(start)
        before = file.read(ledger.offset - start)
        if before.hex() != ledger.tail:  # not by inode: a rewritten file soon has the number of an older one
            before, start = b"", 0
            file.seek(0)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    read = before + whole
    return Lines(
        tuple(parse_point(line, f"{path}: {line[:80]!r}") for line in whole.split(b"\n")[:-1]),
        start + len(read),
        read[-TAIL_BYTES:].hex(),
    )
