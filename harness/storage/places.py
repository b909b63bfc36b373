"""What a study keeps or reads outside its folder of runs: reports, MLflow's store, the cache."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, replace
from pathlib import Path

from harness import cache
from harness.databases import sqlite_file
from harness.runs.record import Run
from harness.storage.caches import KINDS, Reads, entries
from harness.storage.usage import Meter
from harness.study.schema import Study
from harness.tracking.address import artifacts, tracking_uri
from harness.tuning.search import searches

_TOLD = {"data": "prepared data", "features": "features by frozen networks", "scales": "scales of the metrics"}


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
    return tuple(place for place in (*_own(study), *_cached(runs)) if place.bytes)


def _own(study: Study) -> Iterator[Place]:
    meter = Meter()
    yield Place("report", study.reports, meter.path(study.reports).bytes, False)
    found = searches(study)
    for folder in _further_reports(study, {search.reports for search in found}):
        yield Place("further report", folder, meter.path(folder).bytes, False)
    for search in found:
        runs, report = meter.path(search.root).bytes, meter.path(search.reports).bytes
        yield Place("search of weights", search.root, runs, False)
        yield Place("its report", search.reports, report, False)
    database = sqlite_file(tracking_uri(study))
    if database:
        yield Place("MLflow database", database, meter.path(database).bytes, True)
    yield Place("MLflow artefacts", artifacts(study), meter.path(artifacts(study)).bytes, True)


def _further_reports(study: Study, others: Set[Path]) -> list[Path]:
    """Of what command lines changed, and those that a later one did not cover."""
    plain = replace(study, overrides=(), only=()).reports
    beside = (plain, *plain.parent.glob(f"{glob.escape(plain.name)}.*"))
    return sorted(folder for folder in beside if folder.is_dir() and folder not in (study.reports, *others))


def _cached(runs: Iterable[Run]) -> Iterator[Place]:
    """One place a kind: what the runs read of it."""
    root, reads = cache.root(), Reads.of(runs)
    found = [entry for entry in entries(root, Meter()) if entry.keys and entry in reads]
    for kind in KINDS:
        read = sum(entry.usage.bytes for entry in found if entry.kind == kind)
        yield Place(_TOLD[kind], root / kind, read, True)
