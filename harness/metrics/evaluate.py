"""The metrics of two folders of images, real and generated, without a study or a training."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.code.engine import engine
from harness.data.features import batch_of, batches
from harness.data.loading import load_clip, load_resnet
from harness.data.sources.record import LeftOut
from harness.errors import HarnessError, MissingWeights, SpecError
from harness.metrics import image_folder, overlaps
from harness.metrics.alternatives import about_captions, about_real
from harness.metrics.caption_files import captions
from harness.metrics.extractors import Extractor, extractor
from harness.metrics.image_folder import Picture
from harness.metrics.measure import Encode, against_captions, against_real, distances
from harness.metrics.names import clashes, recorded
from harness.settings import MetricConfig

_log = logging.getLogger("harness")

Features = NDArray[np.float32]
Watch = Callable[[Iterable[Picture], int, str], Iterable[Picture]]
"""(images, how many, what they are) -> the same images; where progress is shown."""


@dataclass(frozen=True)
class Folders:
    """What is compared."""

    real: Path
    fake: Path
    captions: Path | None = None
    """Captions of the generated images, see `harness.metrics.caption_files`."""


@dataclass(frozen=True)
class Judges:
    """By which networks, and how they are run."""

    resnet: str = "torch_fidelity:inception-v3-compat"
    clip: str = MetricConfig.clip
    more: tuple[str, ...] = ()
    batch: int = 64
    device: str = "cpu"


@dataclass(frozen=True)
class Evaluation:
    """Recorded name -> value, and -> how it was measured."""

    metrics: Mapping[str, float]
    cards: Mapping[str, Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """{"metrics": {name: number}, "cards": {name: {"n", "n_real", "captions", "extractor",
        "extractor_fingerprint", "resize", "manifest"}}}, and what `metrics/alternatives` tells of images or captions.
        """
        return {"metrics": dict(self.metrics), "cards": {name: dict(card) for name, card in self.cards.items()}}


@dataclass(frozen=True, eq=False)
class _Seen:
    """A folder as the networks see it."""

    features: tuple[Features, ...]
    """[N,d] by each network."""
    digest: str
    """Of the images' pixels, in order."""
    contents: tuple[bytes, ...]
    """Digest of each image's pixels."""

    def __len__(self) -> int:
        return len(self.features[0])


def evaluate(folders: Folders, judges: Judges, watch: Watch) -> Evaluation:
    """Frechet and kernel distance by all image networks, precision and recall by the first, caption metrics by CLIP.

    An image is decoded once; every network resizes it from its own size. Precision and recall are left out below four
    images of either set and below four real ones that differ, R-precision where all captions are one, all caption
    metrics without captions. Raises DataError, MissingWeights and SpecError.
    """
    _check(judges)
    paths, texts = _found(folders)
    if same := overlaps.same_files(paths["real"], paths["generated"]):
        _log.warning("real and generated images are the same files: distances are 0 by that, precision and recall 1")
    networks = [_load(load_resnet, name, option, judges) for option, name in _image_judges(judges)]
    clip = _load(load_clip, judges.clip, "--clip", judges) if texts else None

    def look(what: str, encoders: Sequence[Encode]) -> _Seen:
        return _look(watch(image_folder.read(paths[what]), len(paths[what]), what), what, encoders, judges)

    encoders = [network.image for network in networks]
    real = look("real", encoders)
    fake = look("generated", [*encoders, clip.image] if clip else encoders)
    pixels = [
        dict(zip(paths[what], seen.contents, strict=True)) for what, seen in (("real", real), ("generated", fake))
    ]
    for line in () if same else overlaps.told(*pixels):
        _log.warning(line)
    found = _by_images(real, fake, [extractor(name) for _, name in _image_judges(judges)])
    if clip:
        found |= _by_captions(fake.features[-1], _encoded_texts(clip, texts), texts, extractor(judges.clip))
    return Evaluation(
        {name: value for name, (value, _) in found.items()}, {name: card for name, (_, card) in found.items()}
    )


def _found(folders: Folders) -> tuple[dict[str, list[Path]], list[str]]:
    """Images by what they are, and captions of the generated ones; what is passed over is told."""
    paths, texts = {}, list[str]()
    for what, folder in (("real", folders.real), ("generated", folders.fake)):
        left_out = LeftOut()
        paths[what] = image_folder.find(folder, left_out)
        if what == "generated" and folders.captions:
            texts = captions(folders.captions, folder, paths[what], left_out)
        for line in left_out.lines():
            _log.info(f"{what} images in {folder}: {line}")
    return paths, texts


def _image_judges(judges: Judges) -> list[tuple[str, str]]:
    """(option, name) of every image network."""
    return [("--resnet", judges.resnet), *(("--more", name) for name in judges.more)]


def _check(judges: Judges) -> None:
    names = [name for _, name in _image_judges(judges)]
    for place in clashes(names):
        name = recorded("fd", names[place])
        raise SpecError(f"--more {names[place]}: would be called {name}, as another network is; name one of the two")
    if judges.device == "cuda" and not torch.cuda.is_available():
        raise HarnessError(f"--device cuda: torch {torch.__version__} finds no GPU here; use --device cpu")


def _load(load: Callable[[str, str], Any], name: str, option: str, judges: Judges) -> Any:
    try:
        return load(name, judges.device)
    except MissingWeights as error:
        shipped = "embedded:clip-measure" if option == "--clip" else "embedded:resnet-measure"
        family, _, model = name.partition("@")[0].partition(":")
        given = "" if family == "embedded" else f"; with weights from a file: {option} {family}:{model}@FILE"
        raise MissingWeights(
            f"{option} {name}: {error}{given}; a network that is shipped: {option} {shipped}"
        ) from error


def _look(images: Iterable[Picture], what: str, encoders: Sequence[Encode], judges: Judges) -> _Seen:
    rows: list[list[Features]] = [[] for _ in encoders]
    contents, notes = list[bytes](), Counter[str]()
    for batch in _batches(images, judges.batch):
        contents += [picture.content for picture in batch]
        notes.update(note for picture in batch for note in picture.notes)
        for found, features in zip(rows, _encode(batch, encoders, judges.device), strict=True):
            found.append(features)
    for note, count in sorted(notes.items()):
        _log.warning(f"{count:,} of {len(contents):,} {what} images: {note}")
    digest = hashlib.sha256(b"".join(contents)).hexdigest()[:16]
    return _Seen(tuple(np.concatenate(found) for found in rows), digest, tuple(contents))


def _batches(images: Iterable[Picture], size: int) -> Iterator[list[Picture]]:
    waiting = iter(images)
    while batch := list(islice(waiting, size)):
        yield batch


def _encode(batch: Sequence[Picture], encoders: Sequence[Encode], device: str) -> Iterator[Features]:
    """[n,d] by each network; images of equal size go through it together."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(batch):
        groups.setdefault(picture.pixels.shape, []).append(place)
    order = np.argsort(np.concatenate(list(groups.values())))
    stacks = list(_stacks(batch, groups.values()))
    with torch.inference_mode():
        for encode in encoders:
            # As floats one after another: photographs take four times their bytes.
            images = (torch.from_numpy(stack).to(device).float() / 127.5 - 1 for stack in stacks)
            found = torch.cat([encode(each).float().cpu() for each in images])
            yield found.numpy()[order]


def _stacks(batch: Sequence[Picture], groups: Iterable[Sequence[int]]) -> Iterator[NDArray[np.uint8]]:
    """The images of each group, of equal size, by as many as fit."""
    for places in groups:
        for part in batches(len(places), batch_of(batch[places[0]].pixels[0].size)):
            yield np.stack([batch[place].pixels for place in places[part]])


def _encoded_texts(clip: Any, texts: Sequence[str]) -> Features:
    """[N,F]; equal captions have equal features to the last bit."""
    distinct = sorted(set(texts))
    place = {text: index for index, text in enumerate(distinct)}
    with torch.inference_mode():
        features = clip.text(distinct).float().cpu().numpy()
    return np.asarray(features[[place[text] for text in texts]])


_Found = dict[str, tuple[float, dict[str, Any]]]


def _by_images(real: _Seen, fake: _Seen, networks: Sequence[Extractor]) -> _Found:
    found: _Found = {}
    for place, network in enumerate(networks):
        measure = against_real if place == 0 else distances
        sets = real.features[place], fake.features[place]
        card = _card(network, {"n": len(fake), "n_real": len(real), "captions": "none"}, real.digest)
        card |= about_real(sets[0])
        found |= {recorded(name, network.name): (value, dict(card)) for name, value in measure(*sets).items()}
    return found


def _by_captions(images: Features, features: Features, texts: Sequence[str], network: Extractor) -> _Found:
    found: _Found = {}
    for name, value in against_captions(images, features, seed=0).items():
        card = _card(network, {"n": len(images), "n_real": 0, "captions": "given"}, "\n".join(texts))
        found[name] = value, card | about_captions(name, texts, features, network.name)
    return found


def _card(network: Extractor, counts: dict[str, Any], against: str) -> dict[str, Any]:
    """The card; its manifest is equal for values that may be compared: same network, counts and real side."""
    identity = [network.fingerprint, network.resize, *counts.values(), against]
    return {
        **counts,
        "extractor": network.name,
        "extractor_fingerprint": network.fingerprint,
        "resize": network.resize,
        "engine": engine("measuring"),
        "manifest": hashlib.sha256(repr(identity).encode()).hexdigest()[:16],
    }
