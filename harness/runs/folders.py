"""The folders of many runs, read at once: a damaged one is one run's failure and nobody else's. No torch here."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from harness.code.engine import UNKNOWN, Engine
from harness.errors import RecordError, lost_link
from harness.files import parse, read_bytes, sync, write_json, write_text
from harness.masking import masked
from harness.runs.identity import decisive, relocated
from harness.runs.record import MOVE, PLAIN, STRICT, Count, Measured, Point, Result, Run, RunRecord, Status
from harness.settings import complete


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
                run = alike[tail] = _parse_run(text, name)
            else:
                run = replace(first, **vars(parse(head.rstrip().removesuffix(b",") + b"}", _Head, name, MOVE)))
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
class _Head:
    """What a run.json holds before its settings."""

    __pydantic_config__: ClassVar = STRICT

    cell: str
    fingerprints: dict[str, str]
    id: str
    seed: Count
    engine: Engine = UNKNOWN


@dataclass(frozen=True)
class _Made:
    """What of a run.json says who made it."""

    engine: Engine = UNKNOWN


def _status_or_damage(folder: str) -> Status:
    try:
        return read_status(folder)
    except RecordError as error:
        return damaged(error)


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
            if entry.name in PLAIN and not entry.is_file(follow_symlinks=False):
                raise RecordError(f"{entry.path}: is no plain file; move it away")
        if not self._exists("run.json"):
            write_json(self.path / "run.json", asdict(run), durable=True)
        found = self.check(run)
        settings = relocated(found.settings, run.settings)
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
        # Equal settings are the rule, and telling so takes a hundredth of the time that `decisive` takes.
        if found.settings != run.settings and decisive(found.settings) != decisive(run.settings):
            raise RecordError(f"{self.path}: holds a run with other settings; {MOVE}")
        return found

    def run(self) -> Run:
        path = self.path / "run.json"
        text = read_bytes(path, MOVE)
        if text is None:
            raise RecordError(f"{path}: is missing; {MOVE}")
        return _parse_run(text, str(path))

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
        parse(text, Measured, str(path), fix)
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


def _parse_run(text: bytes, where: str) -> Run:
    from pydantic_core import from_json

    run = parse(text, Run, where, MOVE)
    written = from_json(text)  # five times as fast as json.loads, which a thousand runs notice
    settings = complete(written["settings"])
    if settings != written["settings"]:  # by an earlier version
        run = parse(json.dumps({**written, "settings": settings}).encode(), Run, where, MOVE)
    return run


def read_status(folder: str) -> Status:
    """The status of the run in `folder`; a fresh one where none was written. Raises RecordError."""
    path = f"{folder}/status.json"
    text = read_bytes(path, "delete it to run again")
    # A loss of power leaves a file of no bytes, or of zeros.
    return parse(text, Status, path, "delete the file to run again") if text and text.strip(b"\0") else Status()


def parse_point(line: bytes, where: str) -> Point:
    """A line of metrics.jsonl. Raises RecordError, which tells of `where`."""
    return parse(line, Point, where, "delete the line")
