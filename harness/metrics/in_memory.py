"""Images that a program holds, to be measured as a folder of them is."""

from __future__ import annotations

import io
import logging
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from harness.data.decode import NO_EXIF, opaque, planes
from harness.errors import DataError
from harness.metrics.folders import HALVES, Picture, picture_of, refuse_narrow
from harness.text import quantity, without_halves

_log = logging.getLogger("harness")

Images = NDArray[np.uint8] | Tensor | Sequence[Image.Image | NDArray[np.uint8] | Tensor]
"""[N,H,W,3] or [N,3,H,W] of 0 to 255, also as a tensor of torch; or a list of such images, of any sizes, or of Pillow's
in RGB."""
_BYTES = "give whole numbers from 0 to 255 as uint8, such as (images * 255).round().astype('uint8') of 0 to 1"
_WHAT = "an array [N,H,W,3] or [N,3,H,W] of uint8, or a list of images of Pillow in RGB"


def pictures_of(what: str, images: Any) -> list[Picture]:
    """All images as `read_images` gives those of a folder; `what` they are is for messages. Raises DataError."""
    number = isinstance(images, np.ndarray | Tensor) and not images.ndim
    listed = hasattr(images, "__len__") and hasattr(images, "__getitem__")
    if isinstance(images, str | bytes | Mapping) or number or not listed:
        found = "a single number" if number else type(images).__name__
        raise DataError(f"{what} images: must be a folder, {_WHAT}, not {found}")
    if len(images) < 2:
        raise DataError(f"{what} images: {len(images)} given; at least 2 are needed")
    return [_picture(f"{what} image {place}", images[place]) for place in range(len(images))]


def _picture(name: str, image: Any) -> Picture:
    notes: list[str] = []
    if isinstance(image, Image.Image):
        pixels = planes(_shown(name, image, notes))
    else:
        pixels = _planes(name, _array(name, image))
    try:
        refuse_narrow(pixels)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
    return picture_of(pixels, notes)


def _shown(name: str, image: Any, notes: list[str]) -> Any:
    """Of Pillow's: as its file is read, on white, in sRGB and upright, where the image says more than its pixels do."""
    if image.mode != "RGB":
        fix = "its colours and opacity are read rightly from its file, in a folder; else make it RGB"
        raise DataError(f"{name}: is of Pillow's mode {image.mode}, and must be RGB; {fix}")
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # of 16 bits, of which Pillow keeps 8
        fix = "give the folder of its file, or put it on white"
        raise DataError(f"{name}: has a transparent colour of 16 bits, which its pixels of 8 cannot show; {fix}")
    try:
        image.load()
        about = _about(image, notes)
        if not about:
            return image
        # A file of the same pixels, so that one code reads what both say.
        file = io.BytesIO()
        image.save(file, "PNG", compress_level=0, **about)
    except Exception as error:  # whatever Pillow meets in a file that it reads only now
        raise DataError(f"{name}: cannot be read: {str(error) or type(error).__name__}; give it again") from error
    return opaque(file.getvalue(), tell=notes.append)


def _about(image: Any, notes: list[str]) -> dict[str, Any]:
    """Options by which Pillow saves what the image says beside its pixels; empty where that changes none."""
    about = {key: image.info[key] for key in ("transparency", "icc_profile") if image.info.get(key)}
    if image.info.get("gamma") and "srgb" not in image.info:
        about["pnginfo"] = PngInfo()
        for chunk, numbers in ((b"gAMA", [image.info["gamma"]]), (b"cHRM", image.info.get("chromaticity", ()))):
            if numbers:
                about["pnginfo"].add(chunk, struct.pack(f">{len(numbers)}I", *(round(it * 100_000) for it in numbers)))
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # the parser raises whatever damage makes it meet
        notes.append(NO_EXIF)
        return about
    if turn in range(2, 9):
        about["exif"] = Image.Exif()
        about["exif"][ExifTags.Base.Orientation] = turn
    return about


def _array(name: str, image: Any) -> NDArray[Any]:
    """Raises DataError for what no array of NumPy can hold."""
    if isinstance(image, Tensor) and image.dtype != torch.uint8:
        raise DataError(f"{name}: is a tensor of {str(image.dtype).removeprefix('torch.')}; {_BYTES}")
    try:
        found: NDArray[Any] = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
        return found
    except Exception as error:  # such as rows of several lengths, or a tensor without numbers
        raise DataError(f"{name}: is no image ({error}); {_BYTES}") from error


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
    """One text for each generated image; what of them is read otherwise is logged. Raises DataError."""
    if isinstance(captions, str) or not isinstance(captions, Sequence):
        raise DataError(f"captions: of images in memory must be a list of texts, one for each, not {captions!r}")
    if len(captions) != count:
        raise DataError(f"captions: {len(captions)} given for {count} generated images; each needs one")
    for place, text in enumerate(captions):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"captions: that of generated image {place} must be a text that is not empty, not {text!r}")
    texts = [without_halves(text).strip() for text in captions]
    if halves := [place for place, text in enumerate(captions) if without_halves(text) != text]:
        _log.info(f"{quantity(len(halves), 'caption')} {HALVES}: such as that of generated image {halves[0]}")
    return texts
