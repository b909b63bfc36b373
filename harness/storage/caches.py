"""What lies in the cache that all studies share, and what of it a run reads. No torch here."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.code.engine import loaded
from harness.data.dataset import MIRRORED, without_split
from harness.errors import RecordError
from harness.runs.record import Run
from harness.storage.usage import Meter, Usage
from harness.study.plan import scale_name

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


def entries(cache: Path, meter: Meter) -> Iterator[Entry]:
    """All that the harness keeps in the cache, by kind and name; links and what is not named as ours are left out."""
    for kind in KINDS:
        folder = cache / kind
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
