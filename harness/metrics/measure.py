"""Measures a generator against the fixed manifest, and real images in its place for the rows that give the scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data import features
from harness.data.dataset import Dataset
from harness.data.loading import load_clip, load_resnet
from harness.errors import Diverged
from harness.metrics import definitions as metrics
from harness.metrics.manifest import Manifest
from harness.rng import numpy_generator, torch_generator

Features = NDArray[np.float32]
Generate = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(z [n,Z], h [n,F]) -> images [n,3,R,R] in [-1,1]."""
Encode = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class References:
    """What generated images are held against, and the frozen networks that look at them."""

    real: Features
    """[N_real,d]: the manifest's real images by the measuring ResNet."""
    conditions: Features
    """[N+C,F]: the manifest's captions by the guide CLIP, which the generator is conditioned on; no noise added."""
    captions: Features
    """[C,F_m]: the held-out captions by the measuring CLIP."""
    resnet: Encode
    clip: Encode
    guide: Encode
    device: str


def load_references(dataset: Dataset, manifest: Manifest, device: str = "cpu") -> References:
    """The references of a manifest; features come from the cache, where the first caller puts them."""
    caption_images = manifest.images[manifest.samples :]
    guide_text = features.clip_text(dataset, manifest.guide.name, device=device)
    text = features.clip_text(dataset, manifest.clip.name, dataset.held_out, device)
    return References(
        real=features.resnet_image(dataset, manifest.resnet.name, manifest.real, device),
        conditions=guide_text.of(manifest.images, manifest.captions),
        captions=text.of(caption_images, manifest.captions[manifest.samples :]),
        resnet=load_resnet(manifest.resnet.name, device).image,
        clip=load_clip(manifest.clip.name, device).image,
        guide=load_clip(manifest.guide.name, device).image,
        device=device,
    )


def measure(generate: Generate, z_dim: int, manifest: Manifest, references: References) -> dict[str, float]:
    """Every metric of a generator, by recorded name; the same captions and latents at every call.

    Raises Diverged when an image or a feature is not finite.
    """
    latents = evaluation_latents(manifest, z_dim)
    count = manifest.samples

    def sample(part: slice) -> torch.Tensor:
        conditions = torch.from_numpy(references.conditions[part])
        return quantise(generate(latents[part].to(references.device), conditions.to(references.device)))

    (fake,) = _encode(sample, range(count), (references.resnet,))
    images, seen = _encode(sample, range(count, len(latents)), (references.clip, references.guide))
    values = _against_real(references.real, fake)
    values |= _against_captions(images, references.captions, manifest.seed)
    values["clip_score_seen"] = metrics.clip_score(seen, references.conditions[count:])
    return {manifest.names[name]: value for name, value in values.items()}


def evaluation_latents(manifest: Manifest, z_dim: int) -> torch.Tensor:
    """[N+C,Z] standard normal, the same on every device and for every batch size."""
    generator = torch_generator(manifest.seed, "evaluation latents")
    return torch.randn(len(manifest.images), z_dim, generator=generator)


def quantise(images: torch.Tensor) -> torch.Tensor:
    """Images in [-1,1] as they would be read back from an 8-bit file. Raises Diverged when a pixel is not finite."""
    if not torch.isfinite(images).all():
        raise Diverged("generated images are not finite")
    return ((images.float() + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def sanity(dataset: Dataset, manifest: Manifest, references: References) -> dict[str, dict[str, float]]:
    """What real held-out images score: `ceiling` with their own captions, `floor` with shuffled ones.

    `n` is their number. Distances of the ceiling carry the bias of that smaller n.
    """
    held_out, device = dataset.held_out, references.device
    main = np.zeros_like(held_out)
    images = features.clip_image(dataset, manifest.clip.name, held_out, device)
    seen = features.clip_image(dataset, manifest.guide.name, held_out, device)
    texts = features.clip_text(dataset, manifest.clip.name, held_out, device).of(held_out, main)
    seen_texts = features.clip_text(dataset, manifest.guide.name, device=device).of(held_out, main)
    others = _derangement(len(held_out), manifest.seed)
    rows = {
        "ceiling": _against_real(
            references.real, features.resnet_image(dataset, manifest.resnet.name, held_out, device)
        )
        | _against_captions(images, texts, manifest.seed)
        | {"clip_score_seen": metrics.clip_score(seen, seen_texts)},
        "floor": _against_captions(images, texts[others], manifest.seed)
        | {"clip_score_seen": metrics.clip_score(seen, seen_texts[others])},
    }
    return {
        row: {manifest.names[name]: value for name, value in values.items()} | {"n": float(len(held_out))}
        for row, values in rows.items()
    }


def _derangement(count: int, seed: int) -> NDArray[np.int64]:
    """A shuffle that leaves nothing in its place."""
    order = numpy_generator(seed, "shuffled captions").permutation(count)
    shuffled = np.empty_like(order)
    shuffled[order] = np.roll(order, 1)
    return shuffled


def _encode(
    sample: Callable[[slice], torch.Tensor], places: range, encode: tuple[Encode, ...]
) -> tuple[NDArray[Any], ...]:
    """Features of samples `places` by each encoder; every image is generated once."""
    found: tuple[list[NDArray[Any]], ...] = tuple([] for _ in encode)
    with torch.inference_mode():
        for part in features.batches(len(places)):
            images = sample(slice(places[part].start, places[part].stop))
            for rows, encoder in zip(found, encode, strict=True):
                rows.append(encoder(images).float().cpu().numpy())
    return tuple(np.concatenate(rows) for rows in found)


def _against_real(real: Features, fake: NDArray[Any]) -> dict[str, float]:
    precision, recall = metrics.precision_recall(real, fake)
    return {
        "fd": metrics.frechet_distance(real, fake),
        "kid": metrics.kernel_distance(real, fake),
        "precision": precision,
        "recall": recall,
    }


def _against_captions(images: NDArray[Any], texts: NDArray[Any], seed: int) -> dict[str, float]:
    return {
        "clip_score": metrics.clip_score(images, texts),
        "r_precision": metrics.r_precision(images, texts, seed=seed),
    }
