"""What a study and the cache can do without, and deleting it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from harness import cache
from harness.errors import HarnessError
from harness.executors.job import JOBS, JobFolder
from harness.executors.live import live_job
from harness.runs.lease import holder
from harness.runs.record import SETTLED
from harness.storage import caches
from harness.storage.caches import Needed, needed, reads_of
from harness.storage.folders import StoredRun, StoredRuns, claimed
from harness.storage.removal import is_abandoned, is_temporary, purge, set_aside
from harness.storage.starting import starting
from harness.storage.usage import Meter
from harness.study.plan import Plan
from harness.text import shortened
from harness.tuning.search import searches

Kind = Literal[
    "checkpoints", "damaged states", "leftovers", "jobs", "prepared data", "features", "scales", "timings", "studies"
]
WHY: dict[Kind, str] = {
    "checkpoints": "of runs that are done or have diverged and never go on",
    "damaged states": "training states that could not be read",
    "leftovers": "of writes and deletions that were cut short",
    "jobs": "of workers that are gone for a week",
    "prepared data": "no known study reads it; prepared again when one does",
    "features": "no known study reads them; computed again when one does",
    "scales": "no known study reads them; measured again when one does",
    "timings": "no known study reads them; steps are timed again when one does",
    "studies": "notes of studies whose files and runs are gone",
}
YOUNG_S = 24 * 3600.0
"""What is in the cache for less than this is kept, whoever reads it."""
FORGOTTEN_JOB_S = 7 * 24 * 3600.0
"""For so long the logs of workers that are gone are kept."""


@dataclass(frozen=True)
class Removable:
    """One thing that can go: a file or folder below `root`."""

    kind: Kind
    root: Path
    names: tuple[str, ...]
    """The way there from `root`, name by name."""
    bytes: int


@dataclass(frozen=True)
class Garbage:
    """What can go."""

    pieces: tuple[Removable, ...]
    remarks: tuple[str, ...]
    """What a reader should know of it: what looks like it but is kept, and whose needs no longer count."""


def find(plan: Plan, stored: StoredRuns, now: float) -> Garbage:
    """What can go at that Unix time, from the runs of a study and from the cache; links are left alone."""
    remarks: list[str] = []
    root, meter = plan.study.root.resolve(), Meter()
    pieces = [*_leftovers(root, [root], now, meter)]
    need = needed(plan.study.root, reads_of(plan.runs))
    begun = starting(plan, need)
    for run in stored.runs:
        if who := holder(root / run.run.id):
            remarks.append(f"{run.label} ({run.run.id}): held by {who}")
        elif names := begun.names(run.run.id):
            kept = "its training state is kept, as other runs start from it"
            remarks.append(f"{run.label} ({run.run.id}): {kept}: {shortened(names)}")
        else:
            pieces += _of_run(root, run, now, meter)
    if begun.unreadable and any(piece.kind == "checkpoints" for piece in pieces):
        pieces = [piece for piece in pieces if piece.kind != "checkpoints"]
        may = "may name a training state that its runs start from: checkpoints are left alone"
        remarks.append(f"{begun.unreadable[0]} cannot be read, and {may}; mend or remove it")
    for each in (root, *(search.root.resolve() for search in searches(plan.study))):
        pieces += _of_jobs(each, now, meter, remarks)
    linked = [root / run.run.id / "checkpoint" for run in stored.runs]
    remarks += [f"{path}: a link is left alone" for path in linked if path.is_symlink()]
    return Garbage((*pieces, *_of_cache(need, now, meter, remarks)), tuple(remarks))


def delete(pieces: Iterable[Removable]) -> tuple[list[Removable], list[str]]:
    """Delete these; which ones deleted, and why others did not."""
    deleted, failed = [], []
    for piece in pieces:
        root, names = piece.root, piece.names
        try:
            if piece.kind not in ("leftovers", "damaged states", "studies"):
                with _guard(piece):
                    names = (*names[:-1], set_aside(root, *names))
            purge(root, *names)
            deleted.append(piece)
        except HarnessError as error:
            if not isinstance(error.__cause__, FileNotFoundError):  # another gc has deleted it meanwhile
                failed.append(str(error))
    return deleted, failed


@contextlib.contextmanager
def _guard(piece: Removable) -> Iterator[None]:
    """Keeps everyone from beginning to write what is deleted. Raises HarnessError where somebody does."""
    path = piece.root.joinpath(*piece.names)
    if piece.kind in ("scales", "timings", "jobs"):
        yield
    elif piece.kind == "checkpoints":
        with claimed(piece.root, piece.names[0]):
            yield
    else:
        try:
            with FileLock(path / "lock", timeout=0):
                yield
        except (Timeout, OSError) as error:
            raise HarnessError(f"{path}: somebody is writing it, or it cannot be changed") from error


def _of_run(root: Path, run: StoredRun, now: float, meter: Meter) -> Iterator[Removable]:
    folder = root / run.run.id
    inside, states = [folder, folder / "samples"], folder / "checkpoint"
    if run.state in SETTLED and _is_folder(states):
        yield Removable("checkpoints", root, (run.run.id, "checkpoint"), meter.path(states).bytes)
    else:
        inside.append(states)
        for entry in _entries(states):
            if entry.name.endswith(".damaged") and entry.is_file(follow_symlinks=False):
                names = (run.run.id, "checkpoint", entry.name)
                yield Removable("damaged states", root, names, meter.path(entry).bytes)
    yield from _leftovers(root, inside, now, meter)


def _of_jobs(root: Path, now: float, meter: Meter, remarks: list[str]) -> Iterator[Removable]:
    """Folders of jobs whose workers are gone, and of those that were never made whole."""
    for entry in _entries(root / JOBS):
        folder = JobFolder(Path(entry))
        files = [Path(each) for each in _entries(folder.path)]
        try:
            newest = max([each.stat(follow_symlinks=False).st_mtime for each in (folder.path, *files)])
            if not entry.name.isdecimal() or now - newest < FORGOTTEN_JOB_S:
                continue
            if (folder.path / "job.json").exists() and live_job(folder) is not None:
                continue
        except FileNotFoundError:  # another gc has deleted it meanwhile
            continue
        except HarnessError as error:
            remarks.append(f"{folder.path}: kept, as it is not known whether it has workers ({error})")
            continue
        yield Removable("jobs", root, (JOBS, entry.name), meter.path(folder.path).bytes)


def _of_cache(need: Needed, now: float, meter: Meter, remarks: list[str]) -> Iterator[Removable]:
    root = cache.root().resolve()
    for folder in (root / kind for kind in (*caches.KINDS, "studies")):
        inside = [Path(entry) for entry in _entries(folder) if not is_temporary(entry.name)]
        yield from _leftovers(root, [folder, *inside], now, meter)
    if need.unreadable:
        message = f"{need.unreadable[0]} cannot be read, and may need what no other study does"
        remarks.append(f"{message}: the cache is left alone; mend or remove it")
        return
    for path, study in need.deleted.items():
        remarks.append(f"{study} is gone: what only that study read counts as unread")
        yield Removable("studies", root, ("studies", path.name), meter.path(path).bytes)
    for entry in caches.entries(root, meter):
        if entry.keys and not entry.is_read(need.reads) and now - entry.usage.changed > YOUNG_S:
            kind: Kind = "prepared data" if entry.kind == "data" else entry.kind
            yield Removable(kind, root, (entry.kind, entry.name), entry.usage.bytes)


def _leftovers(root: Path, folders: Iterable[Path], now: float, meter: Meter) -> Iterator[Removable]:
    """Temporaries in these folders that a process which is gone has left."""
    for folder in folders:
        for entry in _entries(folder):
            if not is_temporary(entry.name) or entry.is_symlink():
                continue
            with contextlib.suppress(OSError):  # it has vanished
                if is_abandoned(entry.name, entry.stat(follow_symlinks=False).st_ctime, now):
                    names = (*folder.relative_to(root).parts, entry.name)
                    yield Removable("leftovers", root, names, meter.path(entry).bytes)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing in what is none, is a link, or may not be read."""
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name) if _is_folder(folder) else []
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
