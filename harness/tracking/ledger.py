"""What a tracking server has already been sent: mlflow.json in a run's folder and in the study's. No torch here."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.records import Point, read_json, write_json


@dataclass
class Ledger:
    """What one run's tracking run holds."""

    uri: str = ""
    parent: str = ""
    """The grid's run on that server; another server or parent means a new ledger."""
    run_id: str = ""
    """MLflow's id of the run."""
    described: bool = False
    """Parameters, fixed tags and data set are there."""
    inode: int = 0
    offset: int = 0
    """metrics.jsonl has been read up to this byte, while it is still the same file."""
    steps: dict[str, int] = field(default_factory=dict)
    """Metric -> the last images seen that was delivered: what is not beyond it, after a rewind, is there already."""
    files: dict[str, float] = field(default_factory=dict)
    """File under the run's folder -> modification time when it was delivered."""
    told: list[Any] = field(default_factory=list)
    """State, attempt and error that the tracking run shows."""


def load(path: Path, uri: str, parent: str) -> Ledger:
    """The ledger at `path`, or a new one if there is none for this server and parent."""
    raw = read_json(path) if path.exists() else {}
    known = {each.name for each in fields(Ledger)}
    ledger = Ledger(**{name: value for name, value in raw.items() if name in known})
    return ledger if (ledger.uri, ledger.parent) == (uri, parent) else Ledger(uri, parent)


def save(path: Path, ledger: Ledger) -> None:
    write_json(path, asdict(ledger))


def read_points(path: Path, ledger: Ledger) -> list[Point]:
    """The whole lines of metrics.jsonl that were not read yet; all of them when the file was replaced by a rewind."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        found = path.stat()
        if found.st_ino != ledger.inode or found.st_size < ledger.offset:
            ledger.inode, ledger.offset = found.st_ino, 0
        file.seek(ledger.offset)
        text = file.read()
    whole = text[: text.rfind(b"\n") + 1]
    ledger.offset += len(whole)
    return [Point(**json.loads(line)) for line in whole.splitlines()]
