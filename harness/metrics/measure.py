"""Measures a generator against the fixed manifest, and real images in its place for the rows that give the scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.data import features, token_features
from harness.data.batches import pseudo_text
from harness.data.caption_counts import content
from harness.data.dataset import Dataset
from harness.data.features import load_clip, load_resnet
from harness.errors import Diverged
from harness.metrics import formulas
from harness.metrics.cards import about_captions, about_real
from harness.metrics.definitions import LEAST_FOR_NEIGHBOURS, NO_CAPTIONS
from harness.metrics.manifest import Extractor, Manifest
from harness.metrics.names import recorded
from harness.metrics.pairs import kid_precision_recall
from harness.metrics.real_side import RealSide, real_side, stored_real_side
from harness.models.encoders.frozen import Clip
from harness.rng import numpy_generator, torch_generator

Features = NDArray[np.float32]
Generate = Callable[..., torch.Tensor]
"""(z [n,Z], h [n,F]) -> images [n,3,R,R] in [-1,1]; `tokens=` [n,T,F] where ideas read them."""
Encode = Callable[[torch.Tensor], torch.Tensor]
DISTANCES = ("fd", "kid")
"""What is measured by every image network; all else by the headline one alone."""


@dataclass(frozen=True, eq=False)
class ImageNetwork:
    """A frozen network whose features of generated images are held against those of real ones."""

    extractor: Extractor
    real: Features
    """[N_real,d]: the manifest's real images."""
    side: RealSide
    """Of `real`."""
    encode: Encode


@dataclass(frozen=True, eq=False)
class References:
    """What generated images are held against, and the frozen networks that look at them."""

    networks: tuple[ImageNetwork, ...]
    """The headline one first."""
    conditions: Features
    """[N+C,F]: what the generator is conditioned on: the manifest's captions by the guide CLIP, no noise added, or the
    pseudo text features of its images; without a guide the number of each sample, F = 1."""
    captions: Features
    """[C,F_m]: the captions of the caption metrics by the measuring CLIP."""
    clip: Encode
    guide: Clip | None
    device: str
    asked: tuple[str, ...] = ()
    """The captions of the caption metrics, each image's once."""
    right: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Row of `captions` -> others that are captions of its image too, and so no rivals of it."""
    tokens: Callable[[slice], Features] | None = None
    """[n,T,F] of the captions of some of `conditions`, where ideas read them."""
    batch: int = features.BATCH
    """Images that are generated at a time; latents and captions are fixed before, so no number depends on it."""


def load_references(dataset: Dataset, manifest: Manifest, device: str = "cpu", with_tokens: bool = False) -> References:
    """The references of a manifest; features come from the cache, where the first caller puts them.

    `with_tokens`: whether the generator reads features of the captions' tokens.
    """
    conditions = _conditions(dataset, manifest, device)
    captions, asked, right = _asked(dataset, manifest, device)
    return References(
        networks=tuple(_image_network(dataset, manifest, it, device) for it in (manifest.resnet, *manifest.more)),
        conditions=conditions,
        captions=captions,
        clip=load_clip(manifest.clip.name, device).image,
        guide=load_clip(manifest.guide.name, device) if manifest.guide else None,
        device=device,
        asked=asked,
        right=right,
        tokens=_tokens(dataset, manifest, device) if with_tokens else None,
        batch=features.batch_of(dataset.images.shape[-1] ** 2),
    )


def _image_network(dataset: Dataset, manifest: Manifest, network: Extractor, device: str) -> ImageNetwork:
    real = features.resnet_image(dataset, network.name, manifest.real, device)
    side = stored_real_side(dataset, network.name, manifest.real, real, device)
    return ImageNetwork(network, real, side, load_resnet(network.name, device).image)


def _conditions(dataset: Dataset, manifest: Manifest, device: str) -> Features:
    """[N+C,F]: what the generator is conditioned on for each sample."""
    if manifest.guide is None:
        return np.arange(len(manifest.images), dtype=np.float32)[:, None]
    guide = manifest.guide.name
    if manifest.given:
        return features.given_text(manifest.given, content(manifest.given), guide, device)[manifest.captions]
    if manifest.of_distances == NO_CAPTIONS:
        images = torch.from_numpy(features.guide_image(dataset, guide, device)[manifest.images])
        rng = torch_generator(manifest.seed, "evaluation pseudo text")
        return np.asarray(pseudo_text(images, manifest.pseudo_noise, rng).numpy())
    return features.clip_text(dataset, guide, device=device).of(manifest.images, manifest.captions)


def _tokens(dataset: Dataset, manifest: Manifest, device: str) -> Callable[[slice], Features]:
    """As `References.tokens`; zeros where a sample is from a pseudo text feature."""
    assert manifest.guide is not None  # a script has no ideas that read them
    guide = manifest.guide.name
    if manifest.given:
        tokens = token_features.given_tokens(manifest.given, content(manifest.given), guide, device)
        texts = manifest.captions
    else:
        tokens = token_features.caption_tokens(dataset, guide, device)
        text = features.clip_text(dataset, guide, device=device)
        texts = np.where(manifest.captions < 0, -1, text.rows(manifest.images, manifest.captions))
    return lambda part: tokens.of(texts[part])


def _asked(
    dataset: Dataset, manifest: Manifest, device: str
) -> tuple[Features, tuple[str, ...], dict[int, tuple[int, ...]]]:
    """Of the caption metrics: features by the measuring CLIP, each caption once as text, and `References.right`."""
    images, captions = manifest.images[manifest.samples :], manifest.captions[manifest.samples :]
    if manifest.given:
        given = features.given_text(manifest.given, content(manifest.given), manifest.clip.name, device)
        return given[captions], tuple(manifest.given[line] for line in np.unique(captions)), {}
    text = features.clip_text(dataset, manifest.clip.name, np.unique(images), device)
    texts = text.of(images, captions)
    asked = tuple(dataset.captions[image][0] for image in np.unique(images))
    return texts, asked, _right(dataset, images, text, texts) if len(images) else {}


def _right(
    dataset: Dataset, images: NDArray[np.int64], text: features.CaptionFeatures, captions: Features
) -> dict[int, tuple[int, ...]]:
    """As `formulas.further_right`, of these images and their main captions."""
    counts = np.array([len(dataset.captions[image]) - 1 for image in images], np.int64)
    rows = np.repeat(np.arange(len(images)), counts)
    numbers = np.concatenate([np.arange(1, count + 1) for count in counts]).astype(np.int64)
    return formulas.further_right(captions, rows, text.of(images[rows], numbers))


def cards(manifest: Manifest, references: References) -> dict[str, dict[str, Any]]:
    """Recorded name -> card, for every metric that is measured: those of image networks say how wide their features
    are and how many real images differ in them, those of CLIPs what they make of the captions.
    """
    of_real = {network.extractor: about_real(network.real) for network in references.networks}
    # Metrics that cannot go wrong on these references mean nothing, and are left out.
    several = len(references.captions) and formulas.rivals(references.captions)
    meaningless = set() if several else {"r_precision"}
    if of_real[manifest.resnet]["real_distinct"] < LEAST_FOR_NEIGHBOURS:
        meaningless |= {"precision", "recall"}
    by_name = manifest.cards()
    for number in manifest.measured:
        card = by_name[number.recorded]
        if number.extractor in of_real:
            card |= of_real[number.extractor]
            continue
        by_guide = number.metric == "clip_score_seen"
        texts = references.conditions[manifest.samples :] if by_guide else references.captions
        card |= about_captions(number.metric, references.asked, texts, number.extractor.name)
    left_out = {manifest.names[name] for name in meaningless if name in manifest.names}
    return {name: card for name, card in by_name.items() if name not in left_out}


def measure(generate: Generate, z_dim: int, manifest: Manifest, references: References) -> dict[str, float]:
    """Every metric of a generator, by recorded name; the same captions and latents at every call.

    Raises Diverged when an image or a feature is not finite.
    """
    latents = evaluation_latents(manifest, z_dim)
    count = manifest.samples

    def sample(part: slice) -> torch.Tensor:
        conditions = torch.from_numpy(references.conditions[part])
        given = {}
        if references.tokens is not None:
            given["tokens"] = torch.from_numpy(references.tokens(part)).to(references.device)
        return quantise(generate(latents[part].to(references.device), conditions.to(references.device), **given))

    of_images = tuple(network.encode for network in references.networks)
    fakes = _encode(sample, range(count), of_images, references.batch)
    # The guide looks too, unless it is the very network that measures.
    guide = None if manifest.clip.seen else references.guide
    of_captions = (references.clip, guide.image) if guide else (references.clip,)
    if count == len(latents):
        return _of_images(manifest, references, fakes)
    images, *seen = _encode(sample, range(count, len(latents)), of_captions, references.batch)
    values = against_captions(images, references.captions, manifest.seed, references.right)
    if seen:
        values["clip_score_seen"] = formulas.clip_score(seen[0], references.conditions[count:])
    return _of_images(manifest, references, fakes) | _named(manifest, values)


def _named(manifest: Manifest, values: dict[str, float]) -> dict[str, float]:
    return {manifest.names[name]: value for name, value in values.items() if name in manifest.names}


def _of_images(manifest: Manifest, references: References, images: Iterable[NDArray[Any]]) -> dict[str, float]:
    """By recorded name, of the features by each network: all metrics of the headline one, distances of the others."""
    values: dict[str, float] = {}
    for network, own in zip(references.networks, images, strict=True):
        of = network.extractor
        measured = against_real(network.real, own, network.side, references.device)
        for name in measured if of == manifest.resnet else DISTANCES:
            values[recorded(name, of.name, of.seen)] = measured[name]
    return values


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
    """What real images score. `ceiling`: held-out ones with their own captions, and the distance of the images of the
    other side; `floor`: with shuffled captions; `gap`: by how much the CLIP score is lower then, image by image, and
    `gap_error`: the standard error of that. Without captions of real images all but the distances are left out.

    `n` is the number of images: of the ceiling those of its distances, which carry the bias of it; of the floor those
    for which there is another caption, at 0 without a number.
    """
    device = references.device
    apart = (features.resnet_image(dataset, it.extractor.name, manifest.apart, device) for it in references.networks)
    of_images = _of_images(manifest, references, apart) | {"n": float(len(manifest.apart))}
    if manifest.of_scores in ("given", NO_CAPTIONS):
        return {"ceiling": of_images}
    held_out = np.unique(manifest.images[manifest.samples :])

    def by(clip: Extractor) -> dict[str, dict[str, float]]:
        images = features.clip_image(dataset, clip.name, held_out, device)
        ids = None if clip is manifest.guide else held_out
        text = features.clip_text(dataset, clip.name, ids, device)
        texts = text.of(held_out, np.zeros_like(held_out))
        return _of_captions(images, texts, manifest.seed, _right(dataset, held_out, text, texts))

    rows, seen = by(manifest.clip), by(manifest.guide) if manifest.guide else {}
    for name in ("ceiling", "floor"):
        if "clip_score" in seen.get(name, {}):
            rows[name]["clip_score_seen"] = seen[name]["clip_score"]
    named = {name: _named(manifest, row) for name, row in rows.items()}
    named["ceiling"] |= of_images
    named["floor"]["n"] = rows["floor"]["n"]
    return named


def _of_captions(
    images: Features, texts: Features, seed: int, right: Mapping[int, tuple[int, ...]]
) -> dict[str, dict[str, float]]:
    """The rows of `sanity` for real images [N,F] and their captions [N,F] by one CLIP, under the plain names."""
    groups = formulas.alike(texts)
    others = derangement(len(texts), seed, groups)
    # Images for which there is another caption that does not fit them as well.
    fit = [{groups[row] for row in (place, *right.get(place, ()))} for place in range(len(texts))]
    places = np.array([place for place, other in enumerate(others) if groups[other] not in fit[place]], int)
    rows = {"ceiling": against_captions(images, texts, seed, right), "floor": {"n": float(len(places))}}
    if len(places):
        wrong = texts[others[places]]
        rows["floor"] |= against_captions(images[places], wrong, seed)
    if len(places) > 1:
        own = formulas.clip_scores(images[places], texts[places])
        less = own - formulas.clip_scores(images[places], wrong)
        rows["gap"] = {"clip_score": float(np.mean(less))}
        rows["gap_error"] = {"clip_score": float(np.std(less, ddof=1) / np.sqrt(len(less)))}
    return rows


def derangement(count: int, seed: int, groups: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """A shuffle that gives as many places as can be one of another group; without groups each is its own.

    Groups lie one after the other, and all move on by the size of the largest: no group meets itself, but for what a
    group of more than half has too many.
    """
    groups = np.arange(count) if groups is None else groups
    order = numpy_generator(seed, "shuffled captions").permutation(count)
    _, first, group, sizes = np.unique(groups[order], return_index=True, return_inverse=True, return_counts=True)
    order = order[np.argsort(first[group], kind="stable")]
    shuffled = np.empty_like(order)
    shuffled[order] = np.roll(order, int(sizes.max()))
    return shuffled


def _encode(
    sample: Callable[[slice], torch.Tensor], places: range, encode: tuple[Encode, ...], batch: int
) -> tuple[NDArray[Any], ...]:
    """[n,d] of the samples `places` by each encoder; every image is generated once."""
    features_by: tuple[list[NDArray[Any]], ...] = tuple([] for _ in encode)
    with torch.inference_mode():
        for part in features.batches(len(places), batch):
            images = sample(slice(places[part].start, places[part].stop))
            for rows, encoder in zip(features_by, encode, strict=True):
                rows.append(encoder(images).float().cpu().numpy())
    return tuple(np.concatenate(rows) for rows in features_by)


def against_real(
    real: NDArray[Any], fake: NDArray[Any], side: RealSide | None = None, device: str = "cpu"
) -> dict[str, float]:
    """Name in `definitions.METRICS` -> value, of features [N_real,d] and [N,d]; `side`: of the very `real`.

    Precision and recall only where there are enough images for them, and enough that differ.
    """
    side = side or real_side(real, device)
    kid, precision, recall = kid_precision_recall(real, fake, side.pairs, device)
    values = {"fd": formulas.frechet_distance(real, fake, side.gaussian), "kid": kid}
    return values if np.isnan(precision) else values | {"precision": precision, "recall": recall}


def against_captions(
    images: NDArray[Any], texts: NDArray[Any], seed: int, right: Mapping[int, Sequence[int]] | None = None
) -> dict[str, float]:
    """Name in `definitions.METRICS` -> value, of features of images [N,F] and of their captions [N,F].

    R-precision only where captions differ; `right` is as its own.
    """
    score = formulas.clip_score(images, texts)
    precision = formulas.r_precision(images, texts, seed=seed, right=right)
    return {"clip_score": score} | ({} if np.isnan(precision) else {"r_precision": precision})
