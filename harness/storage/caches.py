"""What lies in the cache that all studies share, which run reads what of it, and which studies use it.

<cache>/studies/<hash>.json   {"study": its file, "root": its folder of runs, "reads": what its plan read last}
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from harness import cache
from harness.code.engine import loaded
from harness.data.dataset import MIRRORED, without_split
from harness.errors import RecordError
from harness.executors.job import queued_runs
from harness.files import read_json, write_json
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.runs.scale import scale_name
from harness.runs.snapshot import RunTexts
from harness.storage.usage import Meter, Usage
from harness.study.schema import Study

Kind = Literal["data", "features", "scales", "timings"]
KINDS: tuple[Kind, ...] = ("data", "features", "scales", "timings")
_NAMES = {
    "data": r"[0-9a-f]{32}",
    "features": r"[0-9a-f]{16}",
    "scales": r"scale-[0-9a-f]{12}\.json",
    "timings": r"[0-9a-f]{16}\.json",
}
_FILES = ("scales", "timings")
"""The kinds of which each entry is a file, not a folder."""


@dataclass(frozen=True)
class Entry:
    """One thing in the cache: prepared data, features of them by an encoder, a scale of the metrics, or timed steps."""

    kind: Kind
    name: str
    """Of the file or folder below `<cache>/<kind>`."""
    keys: frozenset[str]
    """What a run must read for this to be of use to it: fingerprints, or the name of a scale; empty if unknown."""
    usage: Usage

    def is_read(self, reads: Reads) -> bool:
        return any(self.keys <= one for one in reads)


Reads = frozenset[frozenset[str]]
"""What some runs read: a set for each kind of run, with the fingerprints of its data and encoders and its scale."""


def reads_of(runs: Iterable[Run]) -> Reads:
    """Raises RecordError for a run that was not written by the harness."""
    reads = set()
    for run in runs:
        try:
            reads.add(frozenset({*map(without_split, run.fingerprints.values()), scale_name(run)}))
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"run {run.id}: not a run ({error})") from error
    return frozenset(reads)


def entries(root: Path, meter: Meter) -> Iterator[Entry]:
    """All that the harness keeps in the cache, by kind and name; links and what is not named as ours are left out."""
    for kind in KINDS:
        folder = root / kind
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else ():
            ours = re.fullmatch(_NAMES[kind], entry.name) and not entry.is_symlink()
            if ours and entry.is_dir() == (kind not in _FILES):
                yield Entry(kind, entry.name, _keys(kind, Path(entry.path)), meter.path(entry))


def _keys(kind: Kind, path: Path) -> frozenset[str]:
    """Empty where the entry does not say what it is, such as a data set whose preparation is not finished."""
    if kind == "scales":
        return frozenset({path.name})
    try:
        if kind == "data":
            keys = {read_json(path / "index.json")["fingerprint"]}
        elif kind == "timings":
            about = read_json(path)
            if about["code"] != [loaded("training"), loaded("measuring")]:
                return frozenset({"timed by other code"})  # which no plan reads
            keys = {about["data"]}
        else:
            about = read_json(path / "about.json")
            if about.get("engine", loaded("encoding")) != loaded("encoding"):
                return frozenset({"features by other code"})  # which no run reads
            keys = {about["data"].removesuffix(MIRRORED), about["encoder_fingerprint"]}
    except (RecordError, KeyError, TypeError, AttributeError):
        return frozenset()
    return frozenset(keys) if all(isinstance(key, str) and key for key in keys) else frozenset()


# Which studies use the cache, so that nothing is deleted from it that one of them reads.


@dataclass(frozen=True)
class Needed:
    """What is known to be read."""

    reads: Reads
    runs: Mapping[Path, tuple[Run, ...]] = field(default_factory=dict)
    """Folder of runs -> those in it, and those of its jobs."""
    files: tuple[Path, ...] = ()
    """Study files."""
    unreadable: tuple[Path, ...] = ()
    """What might name more, but cannot be read: nothing can be called unread then."""
    deleted: Mapping[Path, Path] = field(default_factory=dict)
    """Note of a study -> its file, of those whose file and runs are both gone."""


def register(study: Study, reads: Reads) -> None:
    """Remember that a study uses the cache: its runs on disk read from it, and `reads` what it has read beside them.

    A cache that cannot be written may be used all the same; nothing can be deleted from it either.
    """
    note = {"study": str(study.path), "root": str(study.root), "reads": sorted(map(sorted, reads))}
    path = cache.root() / "studies" / f"{hashlib.sha256(str(study.root).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, note)


def needed(root: Path, reads: Reads) -> Needed:
    """What is read by `reads`, by runs and jobs in `root` and in the folders beside it, and by every study that is
    registered and still there."""
    unreadable: list[Path] = []
    deleted: dict[Path, Path] = {}
    files: set[Path] = set()
    roots = {root, *(path for path in root.parent.glob("*") if path.is_dir())}
    for path in sorted((cache.root() / "studies").glob("[0-9a-f]*.json")):
        try:
            note = read_json(path)
            study, other = Path(note["study"]), Path(note["root"])
            if study.exists() or other.exists():
                roots.add(other)
                files.add(study)
                reads |= Reads(map(frozenset, note["reads"]))
            else:
                deleted[path] = study
        except (RecordError, KeyError, TypeError, OSError):
            unreadable.append(path)
    runs = {each: _runs_on_disk(each, unreadable) for each in sorted({each.resolve() for each in roots})}
    for of_root in runs.values():
        reads |= reads_of(of_root)
    return Needed(reads, runs, tuple(sorted(files)), tuple(unreadable), deleted)


def _runs_on_disk(root: Path, unreadable: list[Path]) -> tuple[Run, ...]:
    """The runs in a folder, and those of its jobs; a folder without a run.json is none."""
    runs, texts = [], RunTexts()
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
        runs += [run for _, queued in queued_runs(root) for run in queued]
    except FileNotFoundError:
        return ()
    except OSError:
        unreadable.append(root)
        return ()
    for name in names:
        path = root / name / "run.json"
        try:
            if path.exists():
                run = RunFolder(path.parent).run(texts.parse)
                reads_of([run])  # raises for one that was not written by the harness
                runs.append(run)
        except (RecordError, OSError):
            unreadable.append(path)
    return tuple(runs)
