"""What a study and the cache can do without, and deleting it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from harness import cache
from harness.errors import HarnessError
from harness.runs.lease import holder
from harness.storage import caches
from harness.storage.caches import Reads, needed
from harness.storage.folders import StoredRun, StoredRuns, claimed
from harness.storage.removal import is_abandoned, is_temporary, purge, set_aside
from harness.storage.usage import Meter
from harness.study.plan import Plan

Kind = Literal["checkpoints", "damaged states", "leftovers", "prepared data", "features", "scales", "studies"]
WHY: dict[Kind, str] = {
    "checkpoints": "of runs that are done or have diverged and never go on",
    "damaged states": "training states that could not be read",
    "leftovers": "of writes and deletions that were cut short",
    "prepared data": "no known study reads it; prepared again when one does",
    "features": "no known study reads them; computed again when one does",
    "scales": "no known study reads them; measured again when one does",
    "studies": "notes of studies whose files and runs are gone",
}
_OF_CACHE: dict[caches.Kind, Kind] = {"data": "prepared data", "features": "features", "scales": "scales"}
YOUNG_S = 24 * 3600.0
"""What is in the cache for less than this is kept, whoever reads it."""
FINISHED = frozenset({"done", "diverged"})


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


def find(plan: Plan, found: StoredRuns, now: float) -> Garbage:
    """What can go at that Unix time, from the runs of a study and from the cache; links are left alone."""
    remarks: list[str] = []
    root, meter = plan.study.root.resolve(), Meter()
    pieces = [*_leftovers(root, [root], now, meter)]
    for run in found.runs:
        if who := holder(root / run.run.id):
            remarks.append(f"{run.label} ({run.run.id}): held by {who}")
        else:
            pieces += _of_run(root, run, now, meter)
    linked = [root / run.run.id / "checkpoint" for run in found.runs]
    remarks += [f"{path}: a link is left alone" for path in linked if path.is_symlink()]
    return Garbage((*pieces, *_of_cache(plan, now, meter, remarks)), tuple(remarks))


def delete(pieces: Iterable[Removable]) -> tuple[list[Removable], list[str]]:
    """Delete these; which ones went, and why others did not."""
    went, failed = [], []
    for piece in pieces:
        try:
            _delete(piece)
            went.append(piece)
        except HarnessError as error:
            failed.append(str(error))
    return went, failed


def _delete(piece: Removable) -> None:
    if piece.kind in ("leftovers", "damaged states", "studies"):
        purge(piece.root, *piece.names)
        return
    with _guard(piece):
        gone = set_aside(piece.root, *piece.names)
    purge(piece.root, *piece.names[:-1], gone)


def _guard(piece: Removable) -> AbstractContextManager[object]:
    """Keeps everyone from beginning to write what is deleted. Raises HarnessError where somebody does."""
    if piece.kind == "checkpoints":
        return claimed(piece.root, piece.names[0])
    return nullcontext() if piece.kind == "scales" else _locked(piece.root.joinpath(*piece.names))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with FileLock(folder / "lock", timeout=0):
            yield
    except (Timeout, OSError) as error:
        raise HarnessError(f"{folder}: somebody is writing it, or it cannot be changed") from error


def _of_run(root: Path, run: StoredRun, now: float, meter: Meter) -> Iterator[Removable]:
    folder = root / run.run.id
    inside = [folder, folder / "samples"]
    states = list(_entries(folder / "checkpoint"))
    if run.state in FINISHED and _is_folder(folder / "checkpoint"):
        yield Removable("checkpoints", root, (run.run.id, "checkpoint"), meter.path(folder / "checkpoint").bytes)
    else:
        inside.append(folder / "checkpoint")
        for entry in states:
            if entry.name.endswith(".damaged") and entry.is_file(follow_symlinks=False):
                yield Removable(
                    "damaged states", root, (run.run.id, "checkpoint", entry.name), meter.entry(entry).bytes
                )
    yield from _leftovers(root, inside, now, meter)


def _of_cache(plan: Plan, now: float, meter: Meter, remarks: list[str]) -> Iterator[Removable]:
    root = cache.root().resolve()
    yield from _leftovers(root, _folders_of_cache(root), now, meter)
    need = needed(plan.study.root, Reads.of(plan.runs))
    if need.unreadable:
        message = f"{need.unreadable[0]} cannot be read, and may need what no other study does"
        remarks.append(f"{message}: the cache is left alone; mend or remove it")
        return
    for path, study in need.gone.items():
        remarks.append(f"{study} is gone: what only that study read counts as unread")
        yield Removable("studies", root, ("studies", path.name), meter.path(path).bytes)
    for entry in caches.entries(root, meter):
        if entry.keys and entry not in need.reads and now - entry.usage.changed > YOUNG_S:
            yield Removable(_OF_CACHE[entry.kind], root, (entry.kind, entry.name), entry.usage.bytes)


def _folders_of_cache(root: Path) -> Iterator[Path]:
    for kind in (*caches.KINDS, "studies"):
        yield root / kind
        yield from (Path(entry.path) for entry in _entries(root / kind) if not is_temporary(entry.name))


def _leftovers(root: Path, folders: Iterable[Path], now: float, meter: Meter) -> Iterator[Removable]:
    """Temporaries in these folders that a process which is gone has left."""
    for folder in folders:
        for entry in _entries(folder):
            if is_temporary(entry.name) and not entry.is_symlink() and is_abandoned(entry.name, _changed(entry), now):
                names = (*folder.relative_to(root).parts, entry.name)
                yield Removable("leftovers", root, names, meter.entry(entry).bytes)


def _changed(entry: os.DirEntry[str]) -> float:
    """Unix time of its last change; one that vanishes is as new as can be."""
    try:
        return entry.stat(follow_symlinks=False).st_ctime
    except OSError:
        return float("inf")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing in what is none, is a link, or may not be read."""
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name) if _is_folder(folder) else []
    except OSError:
        return []


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
