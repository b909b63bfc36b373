"""The fixed evaluation manifest: by which networks, captions, latents and real images every run is measured.

Two numbers may stand in one table only if their manifests have the same hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.caption_counts import content
from harness.data.dataset import Dataset
from harness.frozen_networks import guides
from harness.metrics.captions import read_captions
from harness.metrics.definitions import LEAST_FOR_NEIGHBOURS, NO_CAPTIONS, Role
from harness.metrics.names import BY_EXTRACTOR, recorded
from harness.models import encoders
from harness.rng import numpy_generator
from harness.settings import MetricConfig, Settings

Ids = NDArray[np.int64]

OF_IMAGES = ("fd", "kid", "precision", "recall")
_VERSION = 2
"""Of what the hash covers: one more where the same settings come to mean other samples."""
_CAPTION_SHARE = 4
"""Images of the caption metrics are a quarter of those of the distances: a mean needs fewer than a covariance."""
_CENTRE = "shorter side by {}, antialiased, centre square"
_RESIZES = {
    "torch_fidelity": "bilinear as in TensorFlow 1, not antialiased, to 299 x 299",
    **dict.fromkeys(("open_clip", "torchvision", "timm"), _CENTRE.format("the interpolation of its training")),
}
"""Family of networks -> how it brings images to its own size."""


@dataclass(frozen=True)
class Extractor:
    """A frozen network that measures."""

    name: str
    fingerprint: str
    """Identifies its weights."""
    seen: bool = False
    """Whether the very same weights guided training."""

    @property
    def resize(self) -> str:
        """How it brings 8-bit RGB images of any size to its own."""
        family, _, model = self.name.partition(":")
        rule = _RESIZES.get(family, "by itself")
        if family == "embedded":
            path = encoders.FOLDER / f"{model}.json"
            side = json.loads(path.read_text(encoding="utf-8"))["size"] if path.is_file() else None
            rule = _CENTRE.format("bilinear") + (f" of {side} x {side}" if isinstance(side, int) else "")
        return f"8-bit RGB, resized by the network: {rule}"


def extractor(name: str, guides: tuple[str, ...] = ()) -> Extractor:
    """The extractor of that name; `guides` are the networks that guide training. Raises as `encoders.check` does."""
    fingerprint = encoders.fingerprint(name)
    return Extractor(name, fingerprint, seen=fingerprint in map(encoders.fingerprint, guides))


@dataclass(frozen=True)
class Measured:
    """One number that a run measures."""

    metric: str
    """Name in `definitions.METRICS`."""
    extractor: Extractor
    role: Role

    @property
    def recorded(self) -> str:
        return recorded(self.metric, self.extractor.name, self.extractor.seen and self.metric != "clip_score_seen")


@dataclass(frozen=True, eq=False)
class Manifest:
    """What is measured. Samples 0..N-1 are for the distribution metrics, N..N+C-1 for the caption metrics."""

    data: str
    """Fingerprint of the data set."""
    seed: int
    """Seed of the latents."""
    images: Ids
    """[N+C]: whose caption each sample is generated from; -1 for a line of `given`."""
    captions: Ids
    """[N+C]: which caption of that image, 0 is the main one, or which of `given`; -1: none, and the sample is from the
    pseudo text feature of the image."""
    samples: int
    """N: generated images of the distribution metrics."""
    side: str
    """Side of the split that the distribution metrics are about: "train" or "held-out"."""
    real: Ids
    """Real images of the distribution metrics: that side."""
    apart: Ids
    """Images of the other side, N at most: how near real images come."""
    resnet: Extractor
    clip: Extractor
    guide: Extractor | None
    """The CLIP that guides training, None where a script trains; no part of the hash, as it changes no verdict."""
    more: tuple[Extractor, ...] = ()
    """Further image networks."""
    given: tuple[str, ...] = ()
    """The captions of metrics.captions."""
    of_distances: str = "train"
    """Whose captions the first N are: "train", "held-out", "given" or NO_CAPTIONS."""
    of_scores: str = "held-out"
    """Whose captions the last C are: "held-out", "train", "given" or, without any, NO_CAPTIONS."""
    captioned: Mapping[str, str] = field(default_factory=dict)
    """Side of the split -> how many of its images have a caption, such as "90 of 180", where some have none."""
    pseudo_noise: float = 0.0
    """Of the pseudo text features. It is no part of the hash: every cell is measured under those it was trained on."""

    @property
    def hash(self) -> str:
        """16 hex digits over all that decides a number that takes part in verdicts."""
        networks = [[network.fingerprint, network.resize] for network in (self.resnet, self.clip, *self.more)]
        digest = hashlib.sha256(json.dumps([_VERSION, self.data, self.seed, self.samples, networks]).encode())
        for ids in (self.images, self.captions, self.real):
            digest.update(ids.tobytes())
        if self.given:
            digest.update(content(self.given).encode())
        return digest.hexdigest()[:16]

    @property
    def measured(self) -> tuple[Measured, ...]:
        """Every number of a run, those of the headline networks first."""
        of_images = OF_IMAGES if len(self.real) >= LEAST_FOR_NEIGHBOURS else BY_EXTRACTOR
        pairs = [(name, self.resnet) for name in of_images]
        if self.of_scores != NO_CAPTIONS:
            pairs += [("clip_score", self.clip), ("r_precision", self.clip)]
            pairs += [("clip_score_seen", self.guide)] if self.guide and not self.clip.seen else []
        pairs += [(name, network) for network in self.more for name in BY_EXTRACTOR]
        measured = []
        for name, network in pairs:
            role: Role = "headline" if name in ("fd", "clip_score") and network not in self.more else "further"
            role = "diagnostic" if network.seen or name == "clip_score_seen" else role
            measured.append(Measured(name, network, role))
        return tuple(measured)

    @property
    def names(self) -> dict[str, str]:
        """Name in `definitions.METRICS` -> recorded name, for the numbers of the headline networks."""
        return {number.metric: number.recorded for number in self.measured if number.extractor not in self.more}

    def cards(self) -> dict[str, dict[str, Any]]:
        """Recorded name -> how it was measured, JSON-able, for every metric."""
        cards: dict[str, dict[str, Any]] = {}
        for number in self.measured:
            about_captions = number.metric not in OF_IMAGES
            captions = self.of_scores if about_captions else self.of_distances
            cards[number.recorded] = {
                "n": len(self.images) - self.samples if about_captions else self.samples,
                "n_real": 0 if about_captions else len(self.real),
                "captions": captions,
                "extractor": number.extractor.name,
                "extractor_fingerprint": number.extractor.fingerprint,
                "resize": number.extractor.resize,
                "role": number.role,
                "manifest": self.hash,
            }
            if captions in self.captioned:
                cards[number.recorded]["captioned"] = self.captioned[captions]
        return cards


def make_manifest(dataset: Dataset, settings: Settings) -> Manifest:
    """The manifest of a data set under these settings, and of the file of captions that they name: a pure function."""
    config = settings.metrics
    real, apart = dataset.train, dataset.held_out
    if config.side == "held-out":
        real, apart = apart, real
    guiding = tuple(guides(settings).values())
    return Manifest(
        data=dataset.fingerprint,
        seed=config.seed,
        samples=config.samples,
        side=config.side,
        real=np.asarray(real, np.int64),
        apart=_sampled(apart, config),
        resnet=extractor(config.resnet, guiding),
        clip=extractor(config.clip, guiding),
        guide=None if settings.command.run else extractor(settings.encoders.clip),
        more=tuple(extractor(name, guiding) for name in config.more),
        pseudo_noise=settings.condition.pseudo_noise,
        **_samples(dataset, config),
    )


def _samples(dataset: Dataset, config: MetricConfig) -> dict[str, Any]:
    """Fields of the manifest: its samples, and where their captions are from.

    Distribution metrics: N = `samples` captions, every image as often as any other, give or take one. They are of a
    file, else of one side, else of the other side; without any captions the samples are of the images of that side.
    Caption metrics: every caption of the file, else the main caption of every held-out image, else of every image to
    train on; of N at most, all repeated alike over latents, about N/4 in all if there are fewer.
    """
    given = read_captions(config.captions)
    sides = {"train": dataset.train, "held-out": dataset.held_out}
    pools = {side: dataset.captioned(ids) for side, ids in sides.items()}
    lacking = {side: f"{len(ids)} of {len(sides[side])}" for side, ids in pools.items() if len(ids) < len(sides[side])}
    if given:
        pools, lacking = {"given": np.arange(len(given))}, {}
    # What has captions comes first, then what is asked for.
    of_distances = max(pools, key=lambda name: (len(pools[name]) > 0, name in ("given", config.side)))
    of_scores = max(pools, key=lambda name: (len(pools[name]) > 0, name in ("given", "held-out")))
    asked = _sampled(pools[of_scores], config)
    if len(asked):
        asked = np.repeat(asked, max(1, round(config.samples / _CAPTION_SHARE / len(asked))))
    else:
        of_distances, of_scores, pools = NO_CAPTIONS, NO_CAPTIONS, {NO_CAPTIONS: sides[config.side]}
    # Every image as often as any other, each time with one of its captions.
    generator = numpy_generator(config.seed, "evaluation captions")
    rounds = -(-config.samples // len(pools[of_distances]))
    drawn = np.concatenate([generator.permutation(pools[of_distances]) for _ in range(rounds)])[: config.samples]
    images = np.concatenate([drawn, asked]).astype(np.int64)
    if given:
        captions, images = images, np.full_like(images, -1)
    elif of_scores == NO_CAPTIONS:
        captions = np.full_like(images, -1)
    else:
        which = np.floor(generator.random(len(drawn)) * [len(dataset.captions[image]) for image in drawn])
        captions = np.concatenate([which, np.zeros(len(asked))]).astype(np.int64)
    about = {"given": given, "of_distances": of_distances, "of_scores": of_scores, "captioned": lacking}
    return {"images": images, "captions": captions, **about}


def _sampled(ids: Ids, config: MetricConfig) -> Ids:
    """N of these images, or all of them if there are no more; ascending."""
    if len(ids) <= config.samples:
        return np.asarray(ids, np.int64)
    return np.sort(numpy_generator(config.seed, "some images").permutation(ids)[: config.samples]).astype(np.int64)
