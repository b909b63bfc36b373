"""What lies in the cache that all studies share, which run reads what of it, and which studies use it.

<cache>/studies/<hash>.json   {"study": its file, "root": its folder of runs, "reads": what its plan read last}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness import cache
from harness.code.engine import loaded
from harness.data.dataset import MIRRORED, without_split
from harness.errors import RecordError
from harness.files import read_json, write_json
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.runs.scale import scale_name
from harness.storage.usage import Meter, Usage
from harness.study.schema import Study

Kind = Literal["data", "features", "scales"]
KINDS: tuple[Kind, ...] = ("data", "features", "scales")
_NAMES = {"data": r"[0-9a-f]{32}", "features": r"[0-9a-f]{16}", "scales": r"scale-[0-9a-f]{12}\.json"}


@dataclass(frozen=True)
class Entry:
    """One thing in the cache: a prepared data set, features of one by an encoder, or the scale of the metrics."""

    kind: Kind
    name: str
    """Of the file or folder below `<cache>/<kind>`."""
    keys: frozenset[str]
    """What a run must read for this to be of use to it: fingerprints, or the name of a scale; empty if unknown."""
    usage: Usage


@dataclass(frozen=True)
class Reads:
    """What some runs read."""

    sets: frozenset[frozenset[str]] = frozenset()
    """A set for each kind of run: the fingerprints of its data and encoders, and the name of its scale."""

    @classmethod
    def of(cls, runs: Iterable[Run]) -> Reads:
        """Raises RecordError for a run that was not written by the harness."""
        return cls(frozenset(map(_read_by, runs)))

    def __or__(self, other: Reads) -> Reads:
        return Reads(self.sets | other.sets)

    def __contains__(self, entry: Entry) -> bool:
        return any(entry.keys <= one for one in self.sets)


def entries(root: Path, meter: Meter) -> Iterator[Entry]:
    """All that the harness keeps in the cache, by kind and name; links and what is not named as ours are left out."""
    for kind in KINDS:
        folder = root / kind
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else ():
            ours = re.fullmatch(_NAMES[kind], entry.name) and not entry.is_symlink()
            if ours and entry.is_dir() == (kind != "scales"):
                yield Entry(kind, entry.name, _keys(kind, Path(entry.path)), meter.entry(entry))


def _read_by(run: Run) -> frozenset[str]:
    try:
        return frozenset({*map(without_split, run.fingerprints.values()), scale_name(run)})
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"run {run.id}: not a run ({error})") from error


def _keys(kind: Kind, path: Path) -> frozenset[str]:
    """Empty where the entry does not say what it is, such as a data set whose preparation is not finished."""
    if kind == "scales":
        return frozenset({path.name})
    try:
        if kind == "data":
            return _texts(_read(path / "index.json")["fingerprint"])
        about = _read(path / "about.json")
        if about.get("engine", loaded("encoding")) != loaded("encoding"):
            return frozenset({"features by other code"})  # which no run reads
        return _texts(about["data"].removesuffix(MIRRORED), about["encoder_fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset()


def _texts(*values: Any) -> frozenset[str]:
    return frozenset(values) if all(isinstance(value, str) and value for value in values) else frozenset()


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


# Which studies use the cache, so that nothing is deleted from it that one of them reads.


@dataclass(frozen=True)
class Needed:
    """What is known to be read."""

    reads: Reads
    unreadable: tuple[Path, ...] = ()
    """What might name more, but cannot be read: nothing can be called unread then."""
    gone: Mapping[Path, Path] = field(default_factory=dict)
    """Note of a study -> its file, of those whose file and runs are both gone."""


def register(study: Study, reads: Reads) -> None:
    """Remember that a study uses the cache: its runs on disk read from it, and `reads` what it has read beside them.

    A cache that cannot be written may be used all the same; nothing can be deleted from it either.
    """
    note = {"study": str(study.path), "root": str(study.root), "reads": sorted(map(sorted, reads.sets))}
    path = cache.root() / "studies" / f"{hashlib.sha256(str(study.root).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, note)


def needed(root: Path, reads: Reads) -> Needed:
    """What is read by `reads`, by the runs in `root`, and by every study that is registered and still there."""
    unreadable: list[Path] = []
    gone: dict[Path, Path] = {}
    roots = {root}
    for path, note in _registered(unreadable):
        try:
            study, other = Path(note["study"]), Path(note["root"])
            if study.exists() or other.exists():
                roots.add(other)
                reads |= Reads(frozenset(map(frozenset, note["reads"])))
            else:
                gone[path] = study
        except (KeyError, TypeError, OSError):
            unreadable.append(path)
    for each in sorted(roots):
        reads |= _on_disk(each, unreadable)
    return Needed(reads, tuple(unreadable), gone)


def _registered(unreadable: list[Path]) -> Iterator[tuple[Path, Any]]:
    folder = cache.root() / "studies"
    for path in sorted(folder.glob("[0-9a-f]*.json")):
        try:
            yield path, read_json(path)
        except RecordError:
            unreadable.append(path)


def _on_disk(root: Path, unreadable: list[Path]) -> Reads:
    """What the runs in a folder read; a folder without a run.json is none."""
    reads = Reads()
    try:
        names = [entry.name for entry in os.scandir(root) if entry.is_dir()]
    except FileNotFoundError:
        return reads
    except OSError:
        unreadable.append(root)
        return reads
    for name in names:
        folder = RunFolder(root / name)
        try:
            reads |= Reads.of([folder.run()] if (folder.path / "run.json").exists() else [])
        except (RecordError, OSError):
            unreadable.append(folder.path / "run.json")
    return reads
