"""The folders of many runs, read at once: a damaged one is one run's failure and nobody else's. No torch here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.engine import UNKNOWN, Engine
from harness.errors import RecordError, lost_link
from harness.reading import parse, read_bytes
from harness.records import MOVE, Run, RunFolder, RunRecord, Status, read_status


def records(root: Path, runs: tuple[Run, ...]) -> tuple[RunRecord, ...]:
    """A record of every planned run, those without a folder as pending and those that are damaged as failed."""
    return tuple(_record(RunFolder(root / run.id), run) for run in runs)


def _record(folder: RunFolder, run: Run) -> RunRecord:
    if not os.path.lexists(folder.path / "run.json"):
        return RunRecord(run, Status(), None)
    try:
        return _checked(folder, run)
    except RecordError as error:
        return RunRecord(run, damaged(error), None, (), folder.path)


def _checked(folder: RunFolder, run: Run) -> RunRecord:
    run = replace(run, engine=folder.check(run).engine)
    status, result = folder.status(), folder.result()
    if status.state == "done" and result is None:
        fix = "delete status.json to train on from the last state"
        raise RecordError(f"{folder.path}: the run is done, but its result.json is not there; {fix}")
    return RunRecord(run, status, result, folder.points(), folder.path)


def refuse_damaged(root: Path, runs: Iterable[Run]) -> None:
    """Raises RecordError that names each of these runs whose folder cannot be used."""
    found = []
    for folder, run in ((RunFolder(root / run.id), run) for run in runs):
        try:
            if os.path.lexists(folder.path / "run.json"):
                _checked(folder, run)
        except RecordError as error:
            found.append(str(error))
    if found:
        raise RecordError("\n".join(found))


def refuse_unreachable(root: Path) -> None:
    """Raises RecordError where nobody can say which runs there are, such as on a disk that is not mounted."""
    if told := lost_link(root):
        raise RecordError(told)
    for folder in (root.parent, root):
        if folder.exists() and not folder.is_dir():
            raise RecordError(f"{folder}: a file stands where the folder of the runs belongs; move it away")


def damaged(error: RecordError) -> Status:
    """What stands for the status of a run whose folder cannot be used."""
    return Status(state="failed", failure="data", error=str(error))


def statuses(root: Path, runs: Iterable[Run]) -> dict[str, Status]:
    """Run id -> its status; pending where there is no folder, failed where it is damaged.

    Reads ten thousand in half a second.
    """
    there = {entry.name for entry in os.scandir(root)} if root.is_dir() else set()
    return {run.id: _status_or_damage(f"{root}/{run.id}") if run.id in there else Status() for run in runs}


def other_runs(root: Path, known: Container[str]) -> Iterator[Run]:
    """The runs in `root` whose ids are not known, by id; folders without a run.json as we write it are passed over.

    Runs that differ in nothing but seed and id share their settings as one object.
    """
    alike: dict[bytes, Run] = {}
    for name in sorted(entry.name for entry in os.scandir(root) if entry.name not in known) if root.is_dir() else ():
        try:
            text = read_bytes(f"{root}/{name}/run.json", MOVE) or b""
            # Sorted keys put all that makes a run large behind its cell, fingerprints, id and seed.
            head, _, tail = text.partition(b'"settings":')
            if (first := alike.get(tail)) is None:
                run = alike[tail] = parse(text, Run, name, MOVE)
            else:
                own = parse(head + b'"settings":{},"study":"","toggles":[]}', Run, name, MOVE)
                run = replace(own, settings=first.settings, study=first.study, toggles=first.toggles)
        except RecordError:
            continue
        if run.id == name:
            yield run


def engines(root: Path, runs: Iterable[Run]) -> dict[str, Engine]:
    """Run id -> which code trained and measured it, of those that have begun; unknown where a folder is damaged."""
    found = {}
    for run in runs:
        with contextlib.suppress(RecordError):
            text = read_bytes(f"{root}/{run.id}/run.json", MOVE)
            if text is not None:
                found[run.id] = _engine(text, run.id)
    return found


def _engine(text: bytes, name: str) -> Engine:
    """Sorted keys put it before all that makes a run large."""
    head, found, _ = text.partition(b'"fingerprints":')
    whole = head.rstrip().removesuffix(b",") + b"}" if found else text
    return parse(whole, _Made, name, MOVE).engine


@dataclass(frozen=True)
class _Made:
    """What of a run.json says who made it."""

    engine: Engine = UNKNOWN


def _status_or_damage(folder: str) -> Status:
    try:
        return read_status(folder)
    except RecordError as error:
        return damaged(error)
