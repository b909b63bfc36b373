"""The run folders of a plan, each file of them read at most once, when it is first needed.

States, damage, which code made a run and the records that are analysed are all answered from the same bytes. A damaged
folder is the failure of its own run and of no other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from harness.code.engine import UNKNOWN, Engine
from harness.errors import RecordError
from harness.files import parse, read_bytes
from harness.processes import no_collection
from harness.runs.folders import MOVE, RunFolder, damaged, parse_run, read_status, refuse_other
from harness.runs.lease import live_status
from harness.runs.machine import Machine
from harness.runs.record import STRICT, Amount, Count, Result, Run, RunRecord, Status


class Snapshot:
    """What the folders of these runs hold, and which other runs lie beside them."""

    def __init__(self, root: Path, runs: Iterable[Run]) -> None:
        self.root = root
        names = {entry.name for entry in os.scandir(root)} if root.is_dir() else set()
        self._texts = RunTexts()
        self._folders = {run.id: _Folder(run, f"{root}/{run.id}", run.id in names, self._texts) for run in runs}
        self._unplanned = sorted(names - self._folders.keys())

    def status(self, run_id: str) -> Status:
        """As its folder has it: pending where there is none, failed where status.json is damaged."""
        return self._folders[run_id].status

    def current(self, run_id: str) -> Status:
        """As `status`, but a run that claims to be running and that no scheduler has is interrupted, and a finished one
        whose files cannot be used has failed; only its points are not read for that.
        """
        return self._folders[run_id].current

    def finished(self, run_id: str) -> tuple[Run, Result] | None:
        """The run, with where it was trained, and its result; None where there is none that can be used."""
        found = self._folders[run_id].without_points
        return (found.run, found.result) if isinstance(found, RunRecord) and found.result else None

    @cached_property
    def statuses(self) -> dict[str, Status]:
        """Run id -> `status`. Of ten thousand runs it takes half a second."""
        return {run_id: folder.status for run_id, folder in self._folders.items()}

    @cached_property
    def records(self) -> tuple[RunRecord, ...]:
        """A record of every run: pending without a folder, failed where anything in it is damaged."""
        with no_collection():  # among a hundred thousand points it takes as long as reading them
            return tuple(folder.record for folder in self._folders.values())

    def engine(self, run_id: str) -> Engine | None:
        """Which code trained and measured the run; None before it has begun, or where run.json cannot be used."""
        written = self._folders[run_id].written
        return written.engine if isinstance(written, Run) else None

    def refuse_damaged(self, runs: Iterable[Run]) -> None:
        """Raises RecordError that names each of these runs whose folder cannot be used."""
        with no_collection():  # among a hundred thousand points it takes as long as reading them
            found = [self._folders[run.id].checked for run in runs]
        if errors := [str(each) for each in found if isinstance(each, RecordError)]:
            raise RecordError("\n".join(errors))

    @cached_property
    def other_runs(self) -> tuple[Run, ...]:
        """Runs that lie beside these, by id; folders without a run.json as we write it are passed over."""
        found = []
        for name in self._unplanned:
            with contextlib.suppress(RecordError):
                run = self._texts.parse(read_bytes(f"{self.root}/{name}/run.json", MOVE) or b"", name)
                if run.id == name:
                    found.append(run)
        return tuple(found)


class _Folder:
    """The folder of one run. What cannot be used is kept as the error that says why."""

    def __init__(self, run: Run, path: str, is_there: bool, texts: RunTexts) -> None:
        self._run, self._path, self._is_there, self._texts = run, path, is_there, texts

    @cached_property
    def _status(self) -> Status | RecordError:
        try:
            return read_status(self._path) if self._is_there else Status()
        except RecordError as error:
            return error

    @property
    def status(self) -> Status:
        return damaged(self._status) if isinstance(self._status, RecordError) else self._status

    @cached_property
    def current(self) -> Status:
        status = live_status(Path(self._path), self.status)
        if status.state == "done" and isinstance(self.without_points, RecordError):
            return damaged(self.without_points)
        return status

    @cached_property
    def written(self) -> Run | RecordError | None:
        """The run as run.json has it; None where there is no such file."""
        path = f"{self._path}/run.json"
        if not (self._is_there and os.path.lexists(path)):
            return None
        try:
            text = read_bytes(path, MOVE)
            return RecordError(f"{path}: is missing; {MOVE}") if text is None else self._texts.parse(text, path)
        except RecordError as error:
            return error

    @cached_property
    def checked(self) -> RunRecord | RecordError | None:
        """All that the folder holds; None before the run has begun."""
        found = self.without_points
        if not isinstance(found, RunRecord):
            return found
        try:
            points = tuple(point for point in RunFolder(Path(self._path)).points() if point.is_compared)
            return replace(found, points=points)
        except RecordError as error:
            return error

    @cached_property
    def without_points(self) -> RunRecord | RecordError | None:
        """As `checked`, at a tenth of the time; `plan` and `status` ask it of every finished run."""
        written, status = self.written, self._status
        if written is None and self.status.state == "done":
            return RecordError(f"{self._path}: the run is done, but its run.json is not there; {MOVE} to run again")
        if written is None or isinstance(written, RecordError):
            return written
        try:
            refuse_other(written, self._run, self._path)
            if isinstance(status, RecordError):
                return status
            folder = RunFolder(Path(self._path))
            result = folder.result()
            if status.state == "done" and result is None:
                fix = "delete status.json to train on from the last state"
                return RecordError(f"{self._path}: the run is done, but its result.json is not there; {fix}")
            run = replace(self._run, engine=written.engine, machines=written.machines, source=written.source)
            return RunRecord(run, status, result, (), folder.path)
        except RecordError as error:
            return error

    @property
    def record(self) -> RunRecord:
        found = self.checked
        if isinstance(found, RecordError):
            return RunRecord(self._run, damaged(found), None, (), Path(self._path))
        return found or RunRecord(self._run, Status(), None)


@dataclass(frozen=True)
class _Head:
    """What a run.json holds before its settings: its keys are sorted. Any other key there costs a second reading."""

    __pydantic_config__: ClassVar = STRICT

    cell: str
    fingerprints: dict[str, str]
    id: str
    seed: Count
    engine: Engine = UNKNOWN
    first_weights: dict[str, str] = field(default_factory=dict)
    machines: tuple[Machine, ...] = ()
    begun: Amount = 0.0


class RunTexts:
    """Parses run.json. Runs of one cell share all from their settings on, which is checked and built once."""

    def __init__(self) -> None:
        self._first: dict[bytes, Run] = {}

    def parse(self, text: bytes, where: str) -> Run:
        """Raises RecordError."""
        head, _, tail = text.partition(b'"settings":')
        if tail in self._first:
            try:
                own = parse(head.rstrip().removesuffix(b",") + b"}", _Head, where, MOVE)
                return replace(self._first[tail], **vars(own))
            except RecordError:  # the whole text says better what is wrong with it
                pass
        run = self._first[tail] = parse_run(text, where)
        return run
