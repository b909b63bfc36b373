"""An encoded image as R x R pixels, and many of them as one array over files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.config import DataConfig
from harness.errors import DataError

PIXEL_RULE = "on-white,{fit},lanczos/2"
"""Part of the fingerprint: raise its number with any change that moves a pixel."""
MAX_PIXELS = 2**27
"""Width times height of an image; anything larger is refused before it is decoded."""

Pixels = NDArray[np.uint8]


def decode(encoded: bytes, config: DataConfig) -> Pixels:
    """[3,R,R], RGB in 0..255: composited on white first, then made square and resized with antialiasing.

    Raises DataError with the reason when the image cannot be read, is too small or too large.
    """
    from PIL import Image

    side = (config.resolution, config.resolution)
    opened = opaque(encoded, config.min_side)
    return planes(_square(opened, config.fit).resize(side, Image.Resampling.LANCZOS))


def planes(picture: Any) -> Pixels:
    """[3,H,W] of an RGB image."""
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def opaque(encoded: bytes, least: int = 1) -> Any:
    """The image as a viewer shows it on white, 8-bit RGB. Raises DataError as `decode` does."""
    from PIL import Image, ImageFile, UnidentifiedImageError

    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters raises
            Image.MAX_IMAGE_PIXELS = None  # refused below, in words of ours
            _refuse_size(Image.open(io.BytesIO(encoded)).size, least)
            Image.open(io.BytesIO(encoded)).verify()  # checksums; reading alone lets a damaged end pass
            picture = _upright(Image.open(io.BytesIO(encoded)))
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("cannot be read: it is no image of a known kind") from error
    except Exception as error:  # Pillow's decoders raise whatever their format's parser meets
        raise DataError(f"cannot be read: {str(error) or type(error).__name__}") from error
    # Resizing first would blend the arbitrary colour of transparent pixels into the edges.
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def _refuse_size(size: tuple[int, int], least: int) -> None:
    width, height = size
    if min(size) < least:
        raise DataError(f"{width} x {height} pixels; the shorter side must have {least} (data.min_side)")
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are decoded")


def _upright(picture: Any) -> Any:
    """As a viewer shows it: the first frame, turned as its EXIF says, in 8-bit RGBA."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise DataError("holds floating-point pixels, whose white is not known; save it with 8 bits a channel")
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        # 16-bit grey: Pillow's own conversion clips at 255.
        grey = np.asarray(picture.convert("I"), np.int64)
        picture = Image.fromarray((grey >> 8).clip(0, 255).astype(np.uint8))
    return picture.convert("RGBA")


def _square(picture: Any, fit: str) -> Any:
    from PIL import ImageOps

    if fit == "stretch":
        return picture
    if fit == "pad":
        side = max(picture.size)
        return ImageOps.pad(picture, (side, side), color="white")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


class Shards:
    """[M,3,R,R] uint8 over several memory-mapped files, indexed like an array of images; read-only."""

    def __init__(self, parts: Sequence[Pixels]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape: tuple[int, ...] = (int(self._starts[-1]), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, ids: int | slice | NDArray[np.integer[Any]] | Sequence[int]) -> Pixels:
        """One image [3,R,R] of one id; [n,3,R,R], a copy, of n ids."""
        if isinstance(ids, slice):
            ids = np.arange(len(self))[ids]
        chosen = np.asarray(ids)
        if chosen.size and not (-len(self) <= chosen.min() and chosen.max() < len(self)):
            raise IndexError(f"image {chosen.min()} to {chosen.max()} of {len(self)}")
        wrapped = np.atleast_1d(chosen) % len(self)
        files = np.searchsorted(self._starts, wrapped, side="right") - 1
        images = np.empty((len(wrapped), *self.shape[1:]), np.uint8)
        for place, (file, image) in enumerate(zip(files, wrapped, strict=True)):
            images[place] = self._parts[file][image - self._starts[file]]
        return images if chosen.ndim else images[0]

    def mirror(self) -> Shards:
        """The same images turned left to right."""
        return Shards([part[..., ::-1] for part in self._parts])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.concatenate(self._parts).astype(dtype or self.dtype, copy=False)
