"""What a pack tells of a study's data and networks, gathered on the machine that has them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache as remembered
from pathlib import Path
from typing import Any

import numpy as np

from harness import cache
from harness.data import dataset as data
from harness.data import features
from harness.data.caption_counts import Counts, content, count_captions, is_clip
from harness.data.dataset import Dataset, without_split
from harness.data.pack_record import Layers, PackRecord, as_text, changed, counts_key, spellings
from harness.data.packed import Index, find_prepared
from harness.errors import HarnessError, RecordError
from harness.files import read_json
from harness.frozen_networks import encoders_read
from harness.metrics.captions import GIVEN, read_captions
from harness.models import encoders
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.settings import Settings
from harness.study.plan import Plan
from harness.tuning.search import searches


@dataclass(frozen=True)
class _Inputs:
    """What some runs read."""

    settings: Settings
    fingerprints: Mapping[str, str]

    @property
    def data(self) -> str:
        return without_split(self.fingerprints["data"])


def make_record(plan: Plan, layers: Layers, with_generators: bool) -> PackRecord:
    """What the plan's runs read, and all others of the study that are on disk, in the plan's words where both tell.

    `layers`: run id -> what becomes of its networks' layers where `init` names weights. What was not prepared on this
    machine, and is not told by a pack that the study came from, is left out.
    """
    study, pack = plan.study, plan.pack
    planned = [_Inputs(cell.settings, plan.runs_of(cell)[0].fingerprints) for cell in plan.cells]
    stored = [(root, run) for root in _roots(plan) for run in Snapshot(root, ()).other_runs]
    every = [*planned, *(_Inputs(run.settings, run.fingerprints) for _, run in stored)]
    known = pack.record if pack else PackRecord()
    prints = {each.data for each in every}
    return PackRecord(
        study=study.path.name,
        **_fingerprints(known, planned, every[len(planned) :], study.path.parent),
        indexes=known.indexes | dict(_indexes(prints - known.indexes.keys())),
        counts=known.counts | dict(_counts(every, known)),
        layers={**known.layers, **layers},
        features=_features(stored, known.features),
        generators=with_generators and known.generators,
    )


def _roots(plan: Plan) -> Iterator[Path]:
    yield plan.study.root
    yield from (search.root for search in searches(plan.study))


def _fingerprints(
    known: PackRecord, planned: Iterable[_Inputs], stored: Iterable[_Inputs], folder: Path
) -> dict[str, dict[str, Any]]:
    """Kind of settings -> spelling -> fingerprint. What only stored runs tell counts where all of them tell the same:
    they may be of data that has changed since."""
    told: dict[str, dict[str, Any]] = {
        "data": dict(known.data),
        "encoders": dict(known.encoders),
        "captions": dict(known.captions),
        "init": dict(known.init),
    }
    packed = {kind: list(prints.values()) for kind, prints in told.items()}
    unsure: dict[tuple[str, tuple[str, ...]], list[Any]] = {}

    def is_told(kind: str, names: tuple[str, ...]) -> bool:
        return any(name in told[kind] for name in names)

    for each in planned:
        for kind, value, prints in _told_by(each):
            if not is_told(kind, names := spellings(value, folder)):
                told[kind] |= dict.fromkeys(names, prints)
    for each in stored:
        for kind, value, prints in _told_by(each):
            if prints in packed[kind]:  # of a run that came with the pack, and names places of another machine
                continue
            unsure.setdefault((kind, spellings(value, folder)), []).append(prints)
    for (kind, names), every in unsure.items():
        if not is_told(kind, names) and all(prints == every[0] for prints in every):
            told[kind] |= dict.fromkeys(names, every[0])
    return told


def _told_by(inputs: _Inputs) -> Iterator[tuple[str, Any, Any]]:
    """(kind, settings, fingerprint) of all that the runs read."""
    settings, prints = inputs.settings, inputs.fingerprints
    yield "data", changed(settings.data), inputs.data
    for path, name in encoders_read(settings).items():
        if path in prints:
            yield "encoders", name, prints[path]
    if GIVEN in prints:
        yield "captions", settings.metrics.captions, prints[GIVEN]
    if start := {path: value for path, value in prints.items() if path.startswith("init.")}:
        yield "init", changed(settings.init), start


def _indexes(prints: Iterable[str]) -> Iterator[tuple[str, Index]]:
    for each in sorted(prints):
        if found := find_prepared(each, cache.root()):
            yield each, replace(found[1], bad=())


def _counts(every: Iterable[_Inputs], known: PackRecord) -> Iterator[tuple[str, Counts]]:
    """How the CLIPs that guide and measure read the captions that they are given."""
    for each in every:
        settings, prints = each.settings, each.fingerprints
        asked = [("encoders.clip", settings.encoders.clip, each.data, "")]
        asked.append(("metrics.clip", settings.metrics.clip, prints.get(GIVEN, each.data), settings.metrics.captions))
        for path, name, captions, file in asked:
            key = counts_key(captions, prints.get(path, ""))
            # A file that has been replaced since, or is gone, tells nothing of these runs.
            with contextlib.suppress(HarnessError, OSError, ValueError):
                given = read_captions(file) if key not in known.counts else ()
                same = (content(given) == captions or not file) and encoders.fingerprint(name) == prints.get(path)
                if key in known.counts or not same or not is_clip(name):
                    continue
                if counts := count_captions(each.data, name, given=given):
                    yield key, counts


def _features(stored: Iterable[tuple[Path, Run]], known: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The text features of the captions of sample sheets, by CLIPs that do not come with the harness."""
    told = {clip: dict(texts) for clip, texts in known.items()}
    load = remembered(lambda config, prints: data.load(config, cache.root(), prints))
    for root, run in stored:
        name, clip = run.settings.encoders.clip, run.fingerprints.get("encoders.clip", "")
        if name.startswith("embedded:") or not clip:
            continue
        with contextlib.suppress(HarnessError, OSError, ValueError):
            if (
                features.width("clip-text", run.fingerprints["data"], clip) is None
                or encoders.fingerprint(name) != clip
            ):
                continue
            dataset = load(run.settings.data, without_split(run.fingerprints["data"]))
            texts = _sheet(root / run.id, dataset)
            rows = features.clip_text(dataset, name).of(
                np.array(list(texts.values()), np.int64), np.zeros(len(texts), np.int64)
            )
            of_clip = told.setdefault(clip, {})
            for caption, row in zip(texts, rows, strict=True):
                of_clip.setdefault(caption, as_text(row))
    return told


def _sheet(folder: Path, dataset: Dataset) -> dict[str, int]:
    """Caption -> an image whose main caption it is, of the sample sheet of a run."""
    with contextlib.suppress(RecordError, KeyError, TypeError, IndexError):  # a file that is damaged or not ours
        rows = read_json(folder / "samples" / "captions.json")
        pairs = {row["caption"]: row["image_id"] for row in rows if row["caption"] and row["image_id"] is not None}
        return {caption: image for caption, image in pairs.items() if dataset.captions[image][:1] == (caption,)}
    return {}
