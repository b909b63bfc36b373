"""What MLflow has been sent already: mlflow.json in a run's folder and in the study's.

What is about to be sent is noted first, so that after a crash the server is asked for that alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

from annotated_types import Interval

from harness import files

NAME = "mlflow.json"
Noted = tuple[str, float, int, int]
"""A metric on its way: name, value, unix time in ms, images seen."""


@dataclass
class Ledger:
    """What one run's tracking run holds."""

    uri: str = ""
    parent: str = ""
    """The grid's run on that server; another server or parent means a new ledger."""
    begun: float = 0.0
    """`Run.begun` of the training that it is of; another one means a new ledger too."""
    run_id: str = ""
    """MLflow's id of the run."""
    adopted: bool = False
    """The run was there before this ledger, which has not learnt yet what it holds."""
    described: bool = False
    """Parameters, fixed tags and data set are there."""
    ideas: list[str] = field(default_factory=list)
    """Those of the study that are there as parameters."""
    offset: Annotated[int, Interval(ge=0, le=2**62)] = 0
    """metrics.jsonl has been read up to this byte, as long as the bytes before it are still `tail`."""
    tail: str = ""
    steps: dict[str, int] = field(default_factory=dict)
    """Metric -> the last images seen that was delivered: of what is not beyond it the server is asked what it has."""
    pending: list[Noted] = field(default_factory=list)
    """What was sent last, or was about to be: all, a part or nothing of it has arrived."""
    files: dict[str, float] = field(default_factory=dict)
    """File under the run's folder -> modification time when it was delivered."""
    images: dict[int, int] = field(default_factory=dict)
    """Images seen -> the time in ms under which the sample grid is sent: another time would be another image."""
    status: list[str] = field(default_factory=list)
    """The tags of its names and of the status that the tracking run shows."""


@dataclass
class GridLedger:
    """What the grid's own tracking run holds, and which runs need no look."""

    uri: str = ""
    parent: str = ""
    """MLflow's id of the grid's run."""
    described: bool = False
    """The changes to the code are there, and where it comes from."""
    study_file: str = ""
    """Stands for the study file that is there; empty: an earlier version has not noted which one it is."""
    status: str = ""
    """The state that it shows; empty when that is not certain."""
    reports: dict[str, int] = field(default_factory=dict)
    """Which reports are shown: the file that asks for one -> its modification time, in ns."""
    numbers: dict[str, list[str]] = field(default_factory=dict)
    """By the same files, the metrics that are there."""
    notes: dict[str, int] = field(default_factory=dict)
    """Of which of these the answer is shown, while the grid goes on."""
    view: dict[str, Any] = field(default_factory=dict)
    """The view of the runs that is there."""
    delivered: dict[str, int] = field(default_factory=dict)
    """Run id -> modification time in ns of the status with which all of the run was delivered."""
    called: dict[str, str] = field(default_factory=dict)
    """Run id -> what the study called it then, see `names.called`."""
    experiment: str = ""
    """The experiment that it is in, by name; empty: an earlier version has not noted it."""
    sent_at: int = 0
    """When something was sent last, in ms; the grid's run says it too, and an earlier time after a backup came back."""


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
    note: list[str] = field(default_factory=list)
    """The answer as parts of Markdown, the most telling first."""
    headlines: list[tuple[str, str]] = field(default_factory=list)
    """The metrics that it is given in, the first one first, each with "lower" or "higher", whichever is better."""
    parameters: list[str] = field(default_factory=list)
    """Those by which its runs differ; none: the ideas of the study."""


_Kind = TypeVar("_Kind", Ledger, GridLedger, Report)


def read(path: Path, kind: type[_Kind]) -> _Kind:
    """What `save` wrote to `path`, or an empty one. Raises RecordError."""
    return files.read(path, kind, "delete the file: MLflow is asked what it holds") or kind()


def save(path: Path, ledger: Ledger | GridLedger | Report) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, asdict(ledger))


def changed_at(path: str | Path) -> int | None:
    """Modification time in ns; None where there is no file."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return None


def undelivered(root: Path, ids: Iterable[str], ledger: GridLedger) -> bool:
    """Whether the status of any of these runs changed since all of the run was delivered. Reads nothing but times."""
    times = ((run_id, changed_at(f"{root}/{run_id}/status.json")) for run_id in ids)
    return any(time is not None and time != ledger.delivered.get(run_id) for run_id, time in times)
