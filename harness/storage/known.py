"""Which studies use the cache, so that nothing is deleted from it that one of them reads. No torch here.

<cache>/studies/<hash>.json   {"study": its file, "root": its folder of runs, "reads": what its plan read last}
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import cache
from harness.errors import RecordError
from harness.files import read_json, write_json
from harness.runs.folders import RunFolder
from harness.storage.caches import Reads
from harness.study.schema import Study


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
    told = {"study": str(study.path), "root": str(study.root), "reads": sorted(map(sorted, reads.sets))}
    path = cache.root() / "studies" / f"{hashlib.sha256(str(study.root).encode()).hexdigest()[:16]}.json"
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, told)


def needed(root: Path, reads: Reads) -> Needed:
    """What is read by `reads`, by the runs in `root`, and by every study that is registered and still there."""
    unreadable: list[Path] = []
    gone: dict[Path, Path] = {}
    roots = {root}
    for path, told in _registered(unreadable):
        try:
            study, other = Path(told["study"]), Path(told["root"])
            if study.exists() or other.exists():
                roots.add(other)
                reads |= Reads(frozenset(map(frozenset, told["reads"])))
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
