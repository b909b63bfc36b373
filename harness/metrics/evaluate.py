"""The metrics of two sets of images, real and generated, without a study or a training."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from harness.code.engine import engine
from harness.data.features import batch_of, batches, load_clip, load_resnet
from harness.data.sources.record import LeftOut
from harness.errors import DataError, HarnessError, MissingWeights, SpecError
from harness.metrics.cards import about_captions, about_real
from harness.metrics.folders import Name, Picture, copies, find_images, read_captions, read_images, same_files
from harness.metrics.in_memory import Images, captions_of, pictures_of
from harness.metrics.manifest import Extractor, extractor
from harness.metrics.measure import DISTANCES, Encode, against_captions, against_real
from harness.metrics.names import clashes, recorded
from harness.settings import MetricConfig

_log = logging.getLogger("harness")

Features = NDArray[np.float32]
Watch = Callable[[Iterable[Picture], int, str], Iterable[Picture]]
"""(images, how many, what they are) -> the same images; where progress is shown."""
_Measured = dict[str, tuple[float, dict[str, Any]]]
"""Recorded name -> value and card."""


@dataclass(frozen=True)
class Networks:
    """The networks that measure, and how they are run."""

    resnet: str = "torch_fidelity:inception-v3-compat"
    clip: str = MetricConfig.clip
    more: tuple[str, ...] = ()
    batch: int = 64
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU, if torch finds one, else the processor; which one is told."""


@dataclass(frozen=True)
class Evaluation:
    """Recorded name -> value, and -> how it was measured."""

    metrics: dict[str, float]
    cards: dict[str, dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """{"metrics": {name: number}, "cards": {name: {"n", "n_real", "captions", "extractor",
        "extractor_fingerprint", "resize", "manifest"}}}, with what `about_real` and `about_captions` add to a card.
        """
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Encoded:
    """A folder as the networks see it."""

    features: tuple[Features, ...]
    """[N,d] by each network."""
    digest: str
    """Of the images' pixels, in order."""
    contents: tuple[bytes, ...]
    """Digest of each image's pixels."""


@dataclass(frozen=True, eq=False)
class _Given:
    """Images to be measured."""

    names: Sequence[Name]
    pictures: Iterable[Picture]
    captions: list[str]
    """One for each image; none where no caption metric is asked for."""


def evaluate(
    real: Path | Images, fake: Path | Images, captions: Path | Sequence[str] | None, networks: Networks, watch: Watch
) -> Evaluation:
    """Frechet and kernel distance by all image networks, precision and recall by the first, caption metrics by CLIP.

    An image is decoded once; every network resizes it from its own size. Precision and recall are left out below four
    images of either set and below four real ones that differ, R-precision where all captions are one, all caption
    metrics without captions. Raises DataError, MissingWeights and SpecError.
    """
    names = (networks.resnet, *networks.more)
    for place in clashes(names):
        name = recorded("fd", names[place])
        raise SpecError(f"--more {names[place]}: would be called {name}, as another network is; name one of the two")
    networks = replace(networks, device=_device(networks.device))
    one, other = _given("real", real, None), _given("generated", fake, captions)
    files = [[name for name in each.names if isinstance(name, Path)] for each in (one, other)]
    same = all(files) and same_files(*files)
    if same:
        _log.warning("real and generated images are the same files: distances are 0 by that, precision and recall 1")

    options = ("--resnet", *("--more" for _ in networks.more))
    encoders = [_load(load_resnet, name, option, networks).image for name, option in zip(names, options, strict=True)]
    clip = _load(load_clip, networks.clip, "--clip", networks) if other.captions else None
    reals = _encoded(watch(one.pictures, len(one.names), "real"), "real", encoders, networks)
    looking = watch(other.pictures, len(other.names), "generated")
    fakes = _encoded(looking, "generated", [*encoders, clip.image] if clip else encoders, networks)
    if not same:
        contents = (zip(*each, strict=True) for each in ((one.names, reals.contents), (other.names, fakes.contents)))
        for line in copies(*map(dict, contents)):
            _log.warning(line)

    measured = _by_images(reals, fakes, [extractor(name) for name in names])
    if clip:
        measured |= _by_captions(fakes.features[-1], clip, other.captions, extractor(networks.clip))
    return Evaluation({name: it[0] for name, it in measured.items()}, {name: it[1] for name, it in measured.items()})


def _device(asked: Literal["auto", "cpu", "cuda"]) -> Literal["cpu", "cuda"]:
    """Where the networks run, which is told where nobody asked for it. Raises HarnessError."""
    there = torch.cuda.is_available()
    if asked == "cuda" and not there:
        raise HarnessError(f"--device cuda: torch {torch.__version__} finds no GPU here; use --device cpu")
    if asked != "auto":
        return asked
    _log.info("measured on the %s", f"GPU ({torch.cuda.get_device_name()})" if there else "processor")
    return "cuda" if there else "cpu"


def _given(what: str, where: Path | Images, captions: Path | Sequence[str] | None) -> _Given:
    """The images of a folder, or those in memory, and their captions if any; what is passed over is logged."""
    if not isinstance(where, Path):
        pictures = pictures_of(what, where)
        names = [f"{what} image {place}" for place in range(len(pictures))]
        return _Given(names, pictures, [] if captions is None else captions_of(captions, len(names)))
    if captions is not None and not isinstance(captions, Path):
        raise DataError(f"captions: of images in a folder ({where}) must be a file or folder, not {type(captions)}")
    left_out = LeftOut()
    paths = find_images(where, left_out)
    texts = read_captions(captions, where, paths, left_out) if captions else []
    for line in left_out.lines():
        _log.info(f"{what} images in {where}: {line}")
    return _Given(paths, read_images(paths), texts)


def _load(load: Callable[[str, str], Any], name: str, option: str, networks: Networks) -> Any:
    try:
        return load(name, networks.device)
    except MissingWeights as error:
        shipped = "embedded:clip-measure" if option == "--clip" else "embedded:resnet-measure"
        family, _, model = name.partition("@")[0].partition(":")
        given = "" if family == "embedded" else f"; with weights from a file: {option} {family}:{model}@FILE"
        raise MissingWeights(
            f"{option} {name}: {error}{given}; a network that is shipped: {option} {shipped}"
        ) from error


def _encoded(images: Iterable[Picture], what: str, encoders: Sequence[Encode], networks: Networks) -> _Encoded:
    """All images by each network, a batch at a time; what is to be known of how they were read is logged."""
    rows: list[list[Features]] = [[] for _ in encoders]
    contents, notes = list[bytes](), Counter[str]()
    waiting = iter(images)
    while batch := list(islice(waiting, networks.batch)):
        contents += [picture.content for picture in batch]
        notes.update(note for picture in batch for note in picture.notes)
        for row, features in zip(rows, _encode(batch, encoders, networks.device), strict=True):
            row.append(features)
    for note, count in sorted(notes.items()):
        _log.warning(f"{count:,} of {len(contents):,} {what} images: {note}")
    digest = hashlib.sha256(b"".join(contents)).hexdigest()[:16]
    return _Encoded(tuple(np.concatenate(row) for row in rows), digest, tuple(contents))


def _encode(batch: Sequence[Picture], encoders: Sequence[Encode], device: str) -> Iterator[Features]:
    """[n,d] by each network; images of equal size go through it together, as many as fit into memory."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, picture in enumerate(batch):
        groups.setdefault(picture.pixels.shape, []).append(place)
    stacks = []
    for places in groups.values():
        for part in batches(len(places), batch_of(batch[places[0]].pixels[0].size)):
            stacks.append(np.stack([batch[place].pixels for place in places[part]]))
    order = np.argsort(np.concatenate(list(groups.values())))  # from groups back to the order of the batch
    with torch.inference_mode():
        for encode in encoders:
            # As floats one after another: photographs take four times their bytes.
            images = (torch.from_numpy(stack).to(device).float() / 127.5 - 1 for stack in stacks)
            yield torch.cat([encode(each).float().cpu() for each in images]).numpy()[order]


def _by_images(real: _Encoded, fake: _Encoded, networks: Sequence[Extractor]) -> _Measured:
    measured: _Measured = {}
    for place, network in enumerate(networks):
        sets = real.features[place], fake.features[place]
        values = against_real(*sets)
        counts = {"n": len(fake.contents), "n_real": len(real.contents), "captions": "none"}
        card = _card(network, counts, real.digest)
        card |= about_real(sets[0])
        for name in DISTANCES if place else values:
            measured[recorded(name, network.name)] = values[name], dict(card)
    return measured


def _by_captions(images: Features, clip: Any, texts: Sequence[str], network: Extractor) -> _Measured:
    # Each text once, so that equal captions have equal features to the last bit.
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    with torch.inference_mode():
        features = clip.text([*places]).float().cpu().numpy()[[places[text] for text in texts]]
    measured: _Measured = {}
    for name, value in against_captions(images, features, seed=0).items():
        card = _card(network, {"n": len(images), "n_real": 0, "captions": "given"}, "\n".join(texts))
        measured[name] = value, card | about_captions(name, texts, features, network.name)
    return measured


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
