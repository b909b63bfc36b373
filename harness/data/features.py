"""Features of the data set by frozen encoders: computed once, shared by all runs and studies, memory-mapped.

    <cache>/features/<hash>/features.npy   the hash covers data set, encoder and what was encoded
                            about.json     the same in words

Torch and the encoders are loaded only when something has to be computed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from harness import cache
from harness.code.engine import loaded
from harness.data.dataset import Dataset, without_split
from harness.data.packed import open_array
from harness.errors import DataError, MissingWeights
from harness.files import write_json
from harness.frozen_networks import FrozenNetwork
from harness.models import encoders
from harness.terminal.progress import Advance, counted

if TYPE_CHECKING:
    import torch

    from harness.models.encoders.frozen import Clip, Resnet

Features = NDArray[np.float32]
Ids = NDArray[np.int64]
Compute = Callable[[Advance], Iterable[NDArray[Any]]]
"""Gives features in parts, and tells how many rows are computed."""
_Encoder = TypeVar("_Encoder")

BATCH = 128
"""Most images or captions at a time."""
BATCH_PIXELS = 2**21
"""Most pixels at a time of images that are generated or evaluated: of 128 px and less BATCH images, of 256 px 32."""
_VERSION = 1


@dataclass(frozen=True)
class CaptionFeatures:
    """Features of every caption of some images, the captions of an image in consecutive rows."""

    features: Features
    """[T,F], unit norm."""
    first: Ids
    """[M]: row of each image's main caption; -1 for an image that has none or is not among them."""

    def of(self, images: Ids, captions: Ids) -> Features:
        """[N,F]: caption `captions[i]` (0 is the main one) of image `images[i]`; zeros where there is none."""
        rows = self.rows(images, captions)
        there = rows >= 0
        features = np.zeros((len(rows), self.features.shape[1]), np.float32)
        features[there] = self.features[rows[there]]
        return features

    def rows(self, images: Ids, captions: Ids) -> Ids:
        """[N]: the row of each of these captions; -1 where there is none."""
        return np.where(self.has(images), self.first[images] + captions, -1)

    def has(self, images: Ids) -> NDArray[np.bool_]:
        """[N]: which of these images have a caption here."""
        return np.asarray(self.first[images] >= 0)


def clip_image(dataset: Dataset, name: str, ids: Ids | None = None, device: str = "cpu") -> Features:
    """[len(ids),F]: unit features of these images (default: all) by the CLIP of that name."""
    return _image_features("clip-image", load_clip, dataset, name, ids, device)


def resnet_image(dataset: Dataset, name: str, ids: Ids | None = None, device: str = "cpu") -> Features:
    """[len(ids),F]: features of these images (default: all) by the ResNet of that name."""
    return _image_features("resnet-image", load_resnet, dataset, name, ids, device)


def frozen_image(dataset: Dataset, network: FrozenNetwork, device: str = "cpu") -> Features:
    """[M,d]: features of all images by any network that looks at images; of a CLIP those of `clip_image`."""
    return _image_features(
        kind_of(network), partial(load_image, size=network.size), dataset, network.name, None, device
    )


def kind_of(network: FrozenNetwork) -> str:
    """What the features of images by this network are called in the cache."""
    kind = f"{encoders.kind_of(network.name)}-image"
    return f"{kind}@{network.size}" if network.size else kind


def _image_features(
    kind: str, load: Callable[[str, str], Any], dataset: Dataset, name: str, ids: Ids | None, device: str
) -> Features:
    chosen = np.arange(len(dataset.captions)) if ids is None else ids

    def compute(advance: Advance) -> Iterator[Features]:
        for part in _encode_images(dataset, chosen, load(name, device).image, device):
            advance(len(part))
            yield part

    return cached(of_images(kind, ids), dataset.fingerprint, name, len(chosen), compute)


def clip_text(dataset: Dataset, name: str, ids: Ids | None = None, device: str = "cpu") -> CaptionFeatures:
    """Unit features of all captions, aliases included, of these images (default: all) by the CLIP of that name."""
    chosen = np.arange(len(dataset.captions)) if ids is None else ids
    counts = np.array([len(dataset.captions[image]) for image in chosen], np.int64)
    first = np.full(len(dataset.captions), -1, np.int64)
    first[chosen] = np.where(counts, np.cumsum(counts) - counts, -1)

    def compute(advance: Advance) -> Iterator[Features]:
        texts = [caption for image in chosen for caption in dataset.captions[image]]
        return _encode_texts(texts, load_clip(name, device), advance)

    kind, rows = of_images("clip-text", ids), int(counts.sum())
    return CaptionFeatures(cached(kind, dataset.fingerprint, name, rows, compute), first)


def given_text(texts: Sequence[str], content: str, name: str, device: str = "cpu") -> Features:
    """[len(texts),F]: unit features, by the CLIP of that name, of captions of no data set; `content` is their hash."""

    def compute(advance: Advance) -> Iterator[Features]:
        return _encode_texts(texts, load_clip(name, device), advance)

    return cached("given-text", content, name, len(texts), compute)


def guide_image(dataset: Dataset, name: str, device: str = "cpu") -> Features:
    """As `clip_image` of all images by the CLIP that guides training: the features that came with the data, if they are
    to be used."""
    return clip_image(dataset, name, device=device) if dataset.stored is None else dataset.stored


def of_images(kind: str, ids: Ids | None) -> str:
    """What is cached of the images `ids`, by their hash; None: of all."""
    return kind if ids is None else f"{kind}:{hashlib.sha256(np.asarray(ids, np.int64).tobytes()).hexdigest()[:16]}"


def cached(
    kind: str, data: str, encoder_name: str, rows: int, compute: Compute, dtype: type[np.generic] = np.float32
) -> NDArray[Any]:
    """[rows,d] of `dtype`, memory-mapped: the parts that `compute` gave when first called for this kind, data by its
    fingerprint, and encoder.

    Of several processes one computes and the others wait for it. Raises DataError when the stored file is damaged, and
    for features that are not finite.
    """
    folder, about = feature_folder(kind, data, encoder_name)
    path = folder / "features.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not path.exists():
                write_json(folder / "about.json", about)
                _compute(path, rows, compute, f"{kind.partition(':')[0]} features by {encoder_name}", dtype)
    return open_array(path, dtype, (rows, None))


def _compute(path: Path, rows: int, compute: Compute, what: str, dtype: type[np.generic]) -> None:
    scratch, done, features = path.with_name("scratch.npy"), 0, None
    with counted(what, rows) as advance:
        for part in compute(advance):
            if not np.isfinite(part).all():
                raise DataError(f"{what} are not finite: its weights are damaged or overflow; name another network")
            if features is None:
                shape = (rows, part.shape[1])
                features = _new_map(scratch, dtype, shape)
            features[done : done + len(part)] = part
            done += len(part)
        if features is None or done != rows:
            raise RuntimeError(f"{done} of {rows} features were computed for {path}")
        features.flush()
    scratch.replace(path)


def _new_map(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.memmap[Any, Any]:
    """A new array in a file, for which room on the disk is reserved. Raises OSError where there is not enough.

    Without that, a disk that is full when a part of the file is first written ends the process by a signal.
    """
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        try:
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (
                errno.EOPNOTSUPP,
                errno.EINVAL,
                errno.ENOSYS,
            ):  # a file system that cannot reserve room
                path.unlink()
                raise OSError(error.errno, error.strerror, str(path)) from error
    return array


def width(kind: str, data: str, encoder: str) -> int | None:
    """d of the features of all captions or images, by two fingerprints; None while they are not in the cache."""
    path = _folder(kind, data, encoder)[0] / "features.npy"
    return int(open_array(path, np.float32, (None, None)).shape[1]) if path.exists() else None


def feature_folder(kind: str, data: str, encoder_name: str) -> tuple[Path, dict[str, str | int]]:
    """The folder of what this encoder makes of the data set with that fingerprint, and what its about.json says."""
    folder, identity = _folder(kind, data, encoders.fingerprint(encoder_name))
    return folder, {**identity, "encoder": encoder_name}


def _folder(kind: str, data: str, encoder: str) -> tuple[Path, dict[str, str | int]]:
    """`encoder` is a fingerprint: the same weights under another name give the same features. The code that decodes and
    encodes is part of the hash, so that a changed formula computes them again. The order of the keys counts."""
    identity: dict[str, str | int] = {"kind": kind, "data": without_split(data), "encoder_fingerprint": encoder}
    identity |= {"version": _VERSION, "engine": loaded("encoding")}
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return cache.root() / "features" / name, identity


def batch_of(pixels: int) -> int:
    """How many images of so many pixels are generated or evaluated at a time."""
    return max(1, min(BATCH, BATCH_PIXELS // pixels))


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices of at most `size` that cover 0..count."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def to_unit_range(images: NDArray[np.uint8], device: str) -> torch.Tensor:
    """uint8 [N,3,R,R] as float32 in [-1,1]."""
    import torch

    return unit_range(torch.from_numpy(np.ascontiguousarray(images)).to(device))


def unit_range(images: torch.Tensor) -> torch.Tensor:
    """uint8 pixels as float32 in [-1,1]."""
    return images.float() / 127.5 - 1


def to_bytes(images: torch.Tensor) -> torch.Tensor:
    """Images in [-1,1], and a little beyond, as uint8 pixels."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte()


def _encode_images(
    dataset: Dataset, ids: Ids, encode: Callable[[torch.Tensor], torch.Tensor], device: str
) -> Iterator[Features]:
    import torch

    for part in batches(len(ids)):
        with torch.inference_mode():
            yield encode(to_unit_range(dataset.images[ids[part]], device)).float().cpu().numpy()


def _encode_texts(texts: Sequence[str], clip: Any, advance: Advance) -> Iterator[Features]:
    """[len(texts),F] in parts; equal captions are encoded once, so that their features are equal to the last bit."""
    import torch

    times = Counter(texts)
    distinct = sorted(times)
    place = {text: index for index, text in enumerate(distinct)}
    found = np.empty((len(distinct), clip.dim), np.float32)
    with torch.inference_mode():
        for part in batches(len(distinct)):
            found[part] = clip.text(distinct[part]).float().cpu().numpy()
            advance(sum(times[text] for text in distinct[part]))
    for part in batches(len(texts)):
        yield found[[place[text] for text in texts[part]]]
    if not texts:
        yield found


def load_clip(name: str, device: str) -> Clip:
    """The CLIP of that name. Raises MissingWeights with what to do when it cannot be had."""
    from harness.models.encoders import load

    return _load(load.load_clip, name, device)


def load_resnet(name: str, device: str) -> Resnet:
    """The ResNet of that name. Raises MissingWeights with what to do when it cannot be had."""
    from harness.models.encoders import load

    return _load(load.load_resnet, name, device)


def load_image(name: str, device: str, size: int = 0) -> Clip | Resnet:
    """Any network that looks at images, of `size` pixels; 0: of its own size. Raises MissingWeights as `load_clip`."""
    if not size:
        return load_clip(name, device) if encoders.kind_of(name) == "clip" else load_resnet(name, device)
    from harness.models.encoders import load

    sized: Callable[..., Clip | Resnet] = load.load_clip if encoders.kind_of(name) == "clip" else load.load_resnet
    return _load(partial(sized, size=size), name, device)


def _load(load: Callable[[str, str], _Encoder], name: str, device: str) -> _Encoder:
    from harness.models.precision import set_products

    set_products("ieee")  # features and metrics are the same numbers on every GPU, whatever a run trains with
    try:
        return load(name, device)
    except (ValueError, OSError) as error:
        raise MissingWeights(str(error)) from error
