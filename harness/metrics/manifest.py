"""The fixed evaluation manifest: which captions, latents and real images every run is measured with. No torch here.

Two numbers may stand in one table only if their manifests have the same hash.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.metrics.definitions import names
from harness.rng import numpy_generator
from harness.study.settings import MetricConfig, Settings
from models import encoders

Ids = NDArray[np.int64]

RESIZE_RULE = "8-bit RGB; each encoder resizes to its own input size, antialiased"
_VERSION = 1
_CAPTION_SHARE = 4


@dataclass(frozen=True)
class Extractor:
    """A frozen network that images are measured by."""

    name: str
    fingerprint: str


@dataclass(frozen=True, eq=False)
class Manifest:
    """What is measured. Samples 0..N-1 are for the distribution metrics, N..N+C-1 for the caption metrics."""

    data: str
    """Fingerprint of the data set."""
    seed: int
    """Seed of the latents."""
    images: Ids
    """[N+C]: whose caption each sample is generated from; train images first, then held-out ones."""
    captions: Ids
    """[N+C]: which caption of that image; 0 is the main one."""
    samples: int
    """N: generated images of the distribution metrics."""
    real: Ids
    """Real images of the distribution metrics: the train split."""
    resnet: Extractor
    clip: Extractor
    guide: Extractor
    """The CLIP that guides training; it is no part of the hash, as it changes no verdict."""
    names: dict[str, str]
    """Name in `metrics.METRICS` -> recorded name."""

    @property
    def hash(self) -> str:
        """16 hex digits over all that decides a judged number."""
        judges = [self.resnet.fingerprint, self.clip.fingerprint]
        digest = hashlib.sha256(
            json.dumps([_VERSION, RESIZE_RULE, self.data, self.seed, self.samples, judges]).encode()
        )
        for ids in (self.images, self.captions, self.real):
            digest.update(ids.tobytes())
        return digest.hexdigest()[:16]

    def card(self, metric: str) -> dict[str, Any]:
        """How a metric, by its name in `METRICS` or its recorded one, was measured; JSON-able."""
        base = {recorded: name for name, recorded in self.names.items()}.get(metric, metric)
        extractor = {"clip_score": self.clip, "r_precision": self.clip, "clip_score_seen": self.guide}
        judge = extractor.get(base, self.resnet)
        about_captions = base in extractor
        return {
            "n": len(self.images) - self.samples if about_captions else self.samples,
            "n_real": 0 if about_captions else len(self.real),
            "captions": "held-out" if about_captions else "train",
            "extractor": judge.name,
            "extractor_fingerprint": judge.fingerprint,
            "resize": RESIZE_RULE,
            "manifest": self.hash,
        }

    def cards(self) -> dict[str, dict[str, Any]]:
        """Recorded name -> card, for every metric."""
        return {recorded: self.card(recorded) for recorded in self.names.values()}


def make_manifest(dataset: Dataset, settings: Settings) -> Manifest:
    """The manifest of a data set under these settings: a pure function of both.

    Distribution metrics: N = `samples` captions of train images, every image as often as any other, give or take one.
    Caption metrics: the main caption of every held-out image, all repeated alike over latents, about N/4 in all.
    """
    config = settings.metrics
    train, which = _train_captions(dataset, config)
    repeats = max(1, round(config.samples / _CAPTION_SHARE / len(dataset.held_out)))
    held_out = np.repeat(dataset.held_out, repeats)
    return Manifest(
        data=dataset.fingerprint,
        seed=config.seed,
        images=np.concatenate([train, held_out]).astype(np.int64),
        captions=np.concatenate([which, np.zeros(len(held_out))]).astype(np.int64),
        samples=config.samples,
        real=np.asarray(dataset.train, np.int64),
        resnet=_extractor(config.resnet),
        clip=_extractor(config.clip),
        guide=_extractor(settings.encoders.clip),
        names=names(settings),
    )


def _train_captions(dataset: Dataset, config: MetricConfig) -> tuple[Ids, Ids]:
    """Image ids and caption indices, both [N]."""
    generator = numpy_generator(config.seed, "evaluation captions")
    rounds = -(-config.samples // len(dataset.train))
    images = np.concatenate([generator.permutation(dataset.train) for _ in range(rounds)])[: config.samples]
    counts = np.array([len(dataset.captions[image]) for image in images])
    return images, np.floor(generator.random(len(images)) * counts).astype(np.int64)


def _extractor(name: str) -> Extractor:
    return Extractor(name, encoders.fingerprint(name))
