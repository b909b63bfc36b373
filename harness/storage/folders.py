"""The run folders of a study as they lie on disk: which runs, in which state, how large."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness.errors import HarnessError, RecordError
from harness.executors.job import JOBS, queued_runs
from harness.executors.live import live_job
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim, holder, live_status
from harness.runs.record import Run, State
from harness.runs.snapshot import RunTexts
from harness.storage.caches import reads_of
from harness.storage.removal import is_temporary, purge, set_aside
from harness.storage.usage import Meter
from harness.study.plan import Plan
from harness.study.schema import OF_SEARCH, Study
from harness.text import shortened

Part = Literal["checkpoints", "generator", "samples", "records"]
ANEW = "anew"
"""Where `run-grid --retrain` has runs that are to take the place of others: never garbage."""
PARTS: tuple[Part, ...] = ("checkpoints", "generator", "samples", "records")
_PART: dict[str, Part] = {"checkpoint": "checkpoints", "generator.safetensors": "generator", "samples": "samples"}


@dataclass(frozen=True)
class StoredRun:
    """A run that has a folder."""

    run: Run
    state: State | Literal["damaged"]
    """damaged: its status cannot be read, or it is done and its result cannot."""
    planned: bool
    """The study's plan holds it; otherwise it was trained with earlier settings."""
    parts: Mapping[Part, int]
    """Bytes on disk; `records` are the log, the metrics and all else."""

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def label(self) -> str:
        return f"{self.run.cell}/{self.run.seed}"


@dataclass(frozen=True)
class StoredRuns:
    """All that a study keeps in its folder of runs."""

    runs: tuple[StoredRun, ...] = ()
    """Those of the plan in its order, then the others by cell, seed and id."""
    not_ours: Mapping[str, str] = field(default_factory=dict)
    """Name -> why, of the folders and links that are no runs of ours and are never touched."""
    rest: int = 0
    """Bytes of all else there: the study's own records, and what deletions and writes have left behind."""


def identify(root: Path, name: str, texts: RunTexts | None = None) -> Run:
    """The run whose folder `root/name` is. Raises RecordError unless it is one, and no link to one.

    `texts`: what was read of runs beside it, which share most of theirs with it.
    """
    path = root / name
    if path.is_symlink():
        raise RecordError(f"{path}: a link")
    if not (path / "run.json").is_file() or (path / "run.json").is_symlink():
        raise RecordError(f"{path}: holds no run.json")
    run = RunFolder(path).run(texts.parse if texts else None)
    if run.id != name:
        raise RecordError(f"{path}: its run.json is that of {run.id!r}")
    reads_of([run])
    return run


def stored_runs(plan: Plan) -> StoredRuns:
    """What lies in the study's folder of runs."""
    root, order = plan.study.root, {run.id: place for place, run in enumerate(plan.runs)}
    planned = {run.id: run for run in plan.runs}
    runs, not_ours, meter, texts = [], {}, Meter(), RunTexts()
    rest = meter.path(root, with_content=False).bytes
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name) if root.is_dir() else ():
        if is_temporary(entry.name) or entry.name in (ANEW, JOBS) or entry.is_file(follow_symlinks=False):
            rest += meter.path(entry).bytes
            continue
        try:
            run = identify(root, entry.name, texts)
            run = planned.get(run.id, run)  # its cell may have had another name, or toggles, when it was trained
            runs.append(StoredRun(run, _state(root / run.id), run.id in order, _parts(entry, meter)))
        except (RecordError, OSError) as error:
            not_ours[entry.name] = str(error).removeprefix(f"{root / entry.name}: ")
    last = len(order)
    runs.sort(key=lambda stored: (order.get(stored.run.id, last), stored.run.cell, stored.run.seed, stored.run.id))
    return StoredRuns(tuple(runs), not_ours, rest)


def runs_beside(studies: Sequence[Study]) -> Counter[str]:
    """Folder of runs -> how many it has of the study that `studies` are profiles of, in folders of none of them."""
    name, parent, own = studies[0].name, studies[0].root.parent, {study.label for study in studies}
    found = Counter[str]()
    for folder in sorted(parent.glob(f"{name}*")):
        for path in () if folder.name.split(OF_SEARCH)[0] in own else folder.glob("*/run.json"):
            with suppress(RecordError):  # a folder that is no run, or one that cannot be read
                found[folder.name] += identify(folder, path.parent.name).study == name
    return +found


def refuse_held(root: Path, runs: Sequence[StoredRun]) -> None:
    """Raises HarnessError, naming the runs that a scheduler holds and who it is."""
    held = [f"{run.label} ({run.run.id}): held by {who}" for run in runs if (who := holder(root / run.run.id))]
    if held:
        raise HarnessError("\n".join(held) + "\nnothing was deleted; stop that run-grid first, or leave these runs out")


def refuse_queued(root: Path, runs: Sequence[StoredRun]) -> None:
    """Raises HarnessError, naming the runs that workers of a job have in their list: they would train them anew."""
    chosen, queued = {stored.run.id: stored for stored in runs}, []
    for folder, its_runs in queued_runs(root):
        listed = [chosen[run.id].label for run in its_runs if run.id in chosen]
        if not listed:
            continue
        try:
            if live_job(folder) is None:
                continue
            why = "has workers"
        except HarnessError as error:
            why = f"may have workers ({error})"
        queued.append(f"{folder.path}: {why} that would train these runs again: {shortened(listed)}")
    if queued:
        fix = "nothing was deleted; `harness cancel` ends the workers of the study, or leave these runs out"
        raise HarnessError("\n".join([*queued, fix]))


def delete(root: Path, name: str) -> None:
    """Delete the run folder `root/name`. Raises HarnessError if it is no run of ours, or held by a scheduler."""
    with claimed(root, name):
        gone = set_aside(root, name)
    purge(root, gone)


@contextmanager
def claimed(root: Path, name: str) -> Iterator[None]:
    """Hold the claim of a run, so that no scheduler begins it. Raises HarnessError as `delete`."""
    identify(root, name)
    claim = Claim(root / name)
    try:
        taken = claim.take()
    except OSError as error:
        raise HarnessError(f"{root / name}: cannot be changed ({error.strerror or error})") from error
    if not taken:
        raise HarnessError(f"{root / name}: held by {holder(root / name)}; stop that run-grid first")
    try:
        yield
    finally:
        claim.drop()


def _state(folder: Path) -> State | Literal["damaged"]:
    own = RunFolder(folder)
    try:
        state = live_status(folder, own.status()).state
        return "damaged" if state == "done" and own.result() is None else state
    except RecordError:
        return "damaged"


def _parts(folder: os.DirEntry[str], meter: Meter) -> dict[Part, int]:
    parts = dict.fromkeys(PARTS, 0)
    parts["records"] = meter.path(folder, with_content=False).bytes
    for entry in os.scandir(folder):
        parts[_PART.get(entry.name, "records")] += meter.path(entry).bytes
    return parts
