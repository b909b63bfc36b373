"""Images that a program holds, to be measured as a folder of them is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from harness.errors import DataError
from harness.metrics.folders import Picture, picture_of

Images = NDArray[np.uint8] | Tensor | Sequence[Image.Image | NDArray[np.uint8] | Tensor]
"""[N,H,W,3] or [N,3,H,W] of 0 to 255, also as a tensor of torch; or a list of such images, of any sizes, or of Pillow's
in RGB."""
_BYTES = "give whole numbers from 0 to 255 as uint8, such as (images * 255).round().astype('uint8') of 0 to 1"
_WHAT = "an array [N,H,W,3] or [N,3,H,W] of uint8, or a list of images of Pillow in RGB"


def pictures_of(what: str, images: Any) -> list[Picture]:
    """All images as `read_images` gives those of a folder; `what` they are is for messages. Raises DataError."""
    if isinstance(images, str | bytes) or not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
        raise DataError(f"{what} images: must be a folder, {_WHAT}, not {type(images).__name__}")
    if len(images) < 2:
        raise DataError(f"{what} images: {len(images)} given; at least 2 are needed")
    return [_picture(f"{what} image {place}", images[place]) for place in range(len(images))]


def _picture(name: str, image: Any) -> Picture:
    if isinstance(image, Image.Image) and image.mode != "RGB":
        fix = "its colours and opacity are read rightly from its file, in a folder; else make it RGB"
        raise DataError(f"{name}: is of Pillow's mode {image.mode}, and must be RGB; {fix}")
    pixels = _planes(name, np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image))
    return picture_of(pixels)


def _planes(name: str, pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """[3,H,W], a copy of its own."""
    if pixels.dtype != np.uint8:
        found = "no image" if pixels.dtype.kind not in "biuf" else f"an array of {pixels.dtype}"
        raise DataError(f"{name}: is {found}; {_BYTES}")
    last, first = (pixels.ndim == 3 and pixels.shape[axis] == 3 for axis in (2, 0))
    if last == first or 0 in pixels.shape:
        shape = " x ".join(map(str, pixels.shape)) or "a single number"
        raise DataError(f"{name}: has the shape {shape}, and must have [H,W,3] or [3,H,W]: three colours, red first")
    return np.array(pixels.transpose(2, 0, 1) if last else pixels, order="C")


def captions_of(captions: Any, count: int) -> list[str]:
    """One text for each generated image. Raises DataError."""
    if isinstance(captions, str) or not isinstance(captions, Sequence):
        raise DataError(f"captions: of images in memory must be a list of texts, one for each, not {captions!r}")
    if len(captions) != count:
        raise DataError(f"captions: {len(captions)} given for {count} generated images; each needs one")
    for place, text in enumerate(captions):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"captions: that of generated image {place} must be a text that is not empty, not {text!r}")
    return [text.strip() for text in captions]
