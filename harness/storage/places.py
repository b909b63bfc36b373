"""What a study keeps or reads outside its folder of runs: reports, MLflow's store, the cache."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness import cache
from harness.databases import sqlite_file
from harness.runs.record import Run
from harness.storage.caches import Kind, entries, reads_of
from harness.storage.usage import Meter
from harness.study.schema import Study
from harness.tracking.address import artifacts, tracking_uri
from harness.tuning.search import searches

_KINDS: dict[Kind, str] = {
    "data": "prepared data",
    "features": "features by frozen networks",
    "scales": "scales of the metrics",
    "timings": "timed steps",
}


@dataclass(frozen=True)
class Place:
    """A file or folder with what it holds."""

    what: str
    path: Path
    bytes: int
    shared: bool
    """Other studies use it too."""


def places(study: Study, runs: Iterable[Run]) -> tuple[Place, ...]:
    """The places that there are. `runs` are all that the study has or will have."""
    return tuple(place for place in _places(study, runs) if place.bytes)


def _places(study: Study, runs: Iterable[Run]) -> Iterator[Place]:
    meter = Meter()
    yield Place("report", study.reports, meter.path(study.reports).bytes, False)
    tuned = searches(study)
    # Reports of what command lines changed, and those that a later one did not cover.
    plain, others = replace(study, overrides=(), only=()).reports, {study.reports, *(each.reports for each in tuned)}
    for folder in sorted({plain, *plain.parent.glob(f"{glob.escape(plain.name)}.*")} - others):
        if folder.is_dir():
            yield Place("further report", folder, meter.path(folder).bytes, False)
    for search in tuned:
        yield Place("search of weights", search.root, meter.path(search.root).bytes, False)
        yield Place("its report", search.reports, meter.path(search.reports).bytes, False)
    if database := sqlite_file(tracking_uri(study)):
        yield Place("MLflow database", database, meter.path(database).bytes, True)
    yield Place("MLflow artefacts", artifacts(study), meter.path(artifacts(study)).bytes, True)
    root, reads = cache.root(), reads_of(runs)
    used = [entry for entry in entries(root, Meter()) if entry.keys and entry.is_read(reads)]
    for kind, what in _KINDS.items():
        size = sum(entry.usage.bytes for entry in used if entry.kind == kind)
        yield Place(what, root / kind, size, True)
