"""The folder of one run, which is the truth about it.

<root>/<run id>/run.json        what the run is: cell, seed, toggles, all settings, fingerprints, and the code behind it
                status.json     its state and progress; replaced as a whole
                metrics.jsonl   one point per line: {"step", "kimg", "time", "values": {name: number}}
                result.json     the final measurements with their cards, and the cost
                checkpoint/     the newest training states        generator.safetensors   the final averaged G
                samples/        sample grids, <step>.png          log.txt                 what the run printed
                claim           the scheduler that works on it, if one does (see `harness.runs.lease`)
                mlflow.json     what MLflow has of it already

Any of these files may have been changed by hand or cut short by a crash.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness.code.engine import UNKNOWN, Engine
from harness.errors import RecordError, broken_link
from harness.files import parse, read_bytes, remove_leftovers, sync, write_json, write_text
from harness.masking import masked
from harness.runs.identity import decisive, relocated
from harness.runs.machine import Machine
from harness.runs.record import CheckedCards, Point, Result, Run, Status
from harness.since import complete
from harness.text import shortened

PLAIN_FILES = frozenset({"run.json", "status.json", "metrics.jsonl", "result.json", "log.txt", "claim", "mlflow.json"})
"""Never folders, links or pipes: what is written there must not end up elsewhere."""
MOVE = "move the folder away"
"""How a damaged run.json is put right."""


class RunFolder:
    """Reads and writes one run's folder. Every write replaces the file as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, run: Run, parse: Callable[[bytes, str], Run] | None = None) -> None:
        """Write run.json, or check that the folder belongs to this very run, whose data may lie elsewhere now.

        `parse`: as `parse_run`, such as one that remembers what the runs of a cell share.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise RecordError(f"{self.path}: is no folder; move it away") from error
        for entry in os.scandir(self.path):
            if entry.name in PLAIN_FILES and not entry.is_file(follow_symlinks=False):
                raise RecordError(f"{entry.path}: is no plain file; move it away")
        if not os.path.lexists(self.path / "run.json"):
            self._write_run(replace(run, begun=time.time()))
            return
        written = self.run(parse)
        refuse_other(written, run, self.path)
        if (written.settings, written.first_weights) == (run.settings, run.first_weights):
            return
        settings = relocated(written.settings, run.settings)
        if (written.settings, written.first_weights) != (settings, run.first_weights):  # the study was moved
            self._write_run(replace(written, settings=settings, first_weights=run.first_weights))

    def made_by(self, engine: Engine, machine: Machine | None = None, *, goes_on: bool = False) -> None:
        """Note which code trains the run, and where. `goes_on`: what was noted of machines holds too.

        Points of an earlier beginning have to be gone by then: by other code it is another training.
        """
        run = self.run()
        machines = run.machines if goes_on or machine is None else ()
        if machine is not None and machine not in machines:
            machines = (*machines, machine)
        begins_anew = not goes_on and run.engine not in (UNKNOWN, engine)
        begun = time.time() if begins_anew else run.begun
        if (run.engine, run.machines) != (engine, machines):
            self._write_run(replace(run, engine=engine, machines=machines, begun=begun))

    def _write_run(self, run: Run) -> None:
        write_json(self.path / "run.json", asdict(run), durable=True)

    def run(self, parse: Callable[[bytes, str], Run] | None = None) -> Run:
        """What is written in run.json. `parse`: see `create`. Raises RecordError."""
        path = self.path / "run.json"
        text = read_bytes(path, MOVE)
        if text is None:
            raise RecordError(f"{path}: is missing; {MOVE}")
        return (parse or parse_run)(text, str(path))

    def status(self) -> Status:
        return read_status(str(self.path))

    def update(self, **changes: Any) -> Status:
        """Change these fields of the status and return it."""
        return self.put(replace(self.status(), updated=time.time(), **changes))

    def put(self, status: Status) -> Status:
        """Write the whole status."""
        # A file name in an error may hold bytes that are no text.
        error = masked(status.error).encode("utf-8", "backslashreplace").decode()
        write_json(self.path / "status.json", asdict(replace(status, error=error)))
        return status

    def result(self) -> Result | None:
        """Its measurements; None for a run that has not finished. Raises RecordError."""
        path, fix = self.path / "result.json", f"{MOVE} to run again"
        text = read_bytes(path, fix)
        if text is None:
            return None
        parse(text, CheckedCards, str(path), fix)
        result = parse(text, Result, str(path), fix)
        # A run has a card of each metric that it measures: what rightly cannot be measured has none.
        lacking = sorted(result.cards.keys() - result.metrics.keys())
        if lacking or not result.metrics:
            raise RecordError(f"{path}: holds no number of {shortened(lacking) or 'any metric'}; {fix}")
        return result

    def finish(self, result: Result) -> None:
        write_json(self.path / "result.json", asdict(result), durable=True)

    def append(self, point: Point) -> None:
        """Add one line to metrics.jsonl, whole or, where there is no room for it, not at all."""
        line = _line(point).encode()
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
        try:  # all at once, which takes a third of the time
            points = parse(b"[" + b",".join(lines) + b"]", tuple[Point, ...], str(path), MOVE)
        except RecordError:
            points = ()
        if len(points) == len(lines):
            return points
        return tuple(parse_point(line, f"{path}: line {number}") for number, line in enumerate(lines, 1))

    def sweep(self) -> None:
        """Delete what a killed process of the run left of files that no scheduler writes."""
        remove_leftovers(self.path, "metrics.jsonl", "result.json", "generator.safetensors")
        remove_leftovers(self.path / "samples")

    def rewind(self, step: int) -> None:
        """Remove the points after `step`, at -1 all: a resumed run writes them again."""
        earlier = [point for point in self.points() if point.step <= step]
        write_text(self.path / "metrics.jsonl", "".join(map(_line, earlier)), durable=True)


def _line(point: Point) -> str:
    return json.dumps(asdict(point), sort_keys=True) + "\n"


def refuse_other(written: Run, run: Run, folder: str | Path) -> None:
    """Raises RecordError unless what is written in `folder` is this run."""
    for name in ("id", "seed", "fingerprints"):
        if getattr(written, name) != getattr(run, name):
            raise RecordError(f"{folder}: holds a run with other {name}; {MOVE}")
    # Equal settings are the rule, and comparing them takes a small part of the time that `decisive` takes.
    if written.settings != run.settings and decisive(written.settings) != decisive(run.settings):
        raise RecordError(f"{folder}: holds a run with other settings; {MOVE}")


def parse_run(text: bytes, where: str) -> Run:
    """A run.json, also of an earlier version. Raises RecordError."""
    from pydantic_core import from_json

    run = parse(text, Run, where, MOVE)
    written = from_json(text)  # json.loads takes five times as long, which a thousand runs notice
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
    """A line of metrics.jsonl. Raises RecordError, which names `where`."""
    return parse(line, Point, where, "delete the line")


def damaged(error: RecordError) -> Status:
    """Stands for the status of a run whose folder cannot be used."""
    return Status(state="failed", failure="data", error=str(error))


def refuse_unreachable(root: Path) -> None:
    """Raises RecordError where nobody can say which runs there are, such as on a disk that is not mounted."""
    if problem := broken_link(root):
        raise RecordError(problem)
    for folder in (root.parent, root):
        if folder.exists() and not folder.is_dir():
            raise RecordError(f"{folder}: a file stands where the folder of the runs belongs; move it away")
