"""From the colours that a file means to sRGB, as browsers go: by its ICC profile, or by primaries and a curve."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.errors import DataError

NEAR = 1
"""Levels of 255. A profile that moves no colour further than this is sRGB, and its pixels stay as they are."""
SRGB_PRIMARIES = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
"""x and y of white, red, green and blue."""
_PRIMARIES = {
    1: SRGB_PRIMARIES,
    2: SRGB_PRIMARIES,
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (0.3127, 0.3290, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.314, 0.351, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
"""By their number in ITU-T H.273; 2 is "not said"."""
_EXPONENTS = {1: None, 2: None, 4: 2.2, 5: 2.8, 6: None, 8: 1.0, 13: None, 14: None, 15: None}
"""By their number in ITU-T H.273. None is the curve of sRGB, as which browsers show those of video too."""
_HDR = {16: "PQ", 18: "HLG"}
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
"""Pillow's mode -> the kind of colours that a profile for it names."""
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


class Space(NamedTuple):
    """Colours told by numbers."""

    primaries: Sequence[float] = SRGB_PRIMARIES
    exponent: float | None = None
    """Light is the stored value to this power; None: the curve of sRGB."""


def coded(primaries: int, transfer: int) -> Space:
    """What the numbers of ITU-T H.273 mean. Raises DataError for those that cannot be shown as sRGB."""
    if transfer in _HDR:
        told = f"holds high dynamic range ({_HDR[transfer]}), whose white is not that of a screen"
        raise DataError(f"{told}; save it as an ordinary image, with 8 bits a channel in sRGB")
    if primaries not in _PRIMARIES or transfer not in _EXPONENTS:
        told = f"holds colours of a kind that is not read (primaries {primaries}, curve {transfer} of ITU-T H.273)"
        raise DataError(f"{told}; save it in sRGB")
    return Space(_PRIMARIES[primaries], _EXPONENTS[transfer])


def of_profile(picture: Any, profile: bytes) -> Any:
    """The picture (L, RGB, CMYK or LAB) in RGB by its ICC profile; None when the profile cannot be used for it."""
    moved = _moved(profile, picture.mode)
    if moved is None and picture.mode == "L" and (moved := _moved(profile, "RGB")) is not None:
        picture = picture.convert("RGB")  # grey in a space of RGB: equal parts of the three
    elif moved is None and picture.mode == "RGB" and _is_grey(picture):
        picture = picture.getchannel("R")  # grey that its decoder gives in three channels
        moved = _moved(profile, "L")
    if moved is None:
        return None
    return moved.apply(picture) if moved.moves else picture.convert("RGB")


def _is_grey(picture: Any) -> bool:
    from PIL import ImageChops

    red, green, blue = picture.split()
    return not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox()


def of_space(picture: Any, space: Space) -> Any:
    """The picture (L or RGB) in RGB, from colours told by numbers; None when the numbers make no sense."""
    try:
        profile = _profile(tuple(space.primaries), space.exponent)
    except (ArithmeticError, ValueError, struct.error):  # no triangle, or a curve that no profile can hold
        return None
    return of_profile(picture.convert("RGB"), profile)


class _Transform:
    """A profile brought to sRGB, for pictures of one mode."""

    def __init__(self, profile: Any, mode: str) -> None:
        from PIL import ImageCms

        screen = ImageCms.ImageCmsProfile(io.BytesIO(_profile(SRGB_PRIMARIES, None)))
        # The intent is what browsers take: the profile's own perceptual table, or its matrix. What is no matrix
        # LittleCMS would shorten to a coarse table, off by up to 16 levels.
        shortened = mode == "RGB" and profile.profile.is_matrix_shaper
        flags = ImageCms.Flags.NONE if shortened else ImageCms.Flags.NOOPTIMIZE
        self._found = ImageCms.buildTransform(profile, screen, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)
        self._greys = np.asarray(self._shown(_all_greys()))[0] if mode == "L" else None
        self.moves = mode not in ("L", "RGB") or self._moves()

    def apply(self, picture: Any) -> Any:
        from PIL import Image

        if self._greys is not None:
            return Image.fromarray(self._greys[np.asarray(picture)])
        return self._shown(picture)

    def _shown(self, picture: Any) -> Any:
        shown = self._found.apply(picture)
        shown.info.clear()
        return shown

    def _moves(self) -> bool:
        """Whether any of a lattice of colours is shown as another one."""
        before = np.repeat(np.asarray(_all_greys())[0, :, None], 3, 1)
        after = self._greys
        if after is None:
            from PIL import Image

            steps = np.linspace(0, 255, 18).round().astype(np.uint8)
            before = np.concatenate([before, np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)])
            after = np.asarray(self._shown(Image.fromarray(before[None])))[0]
        return bool(np.abs(after.astype(np.int64) - before).max() > NEAR)


def _all_greys() -> Any:
    from PIL import Image

    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])


@functools.lru_cache(maxsize=64)
def _moved(profile: bytes, mode: str) -> _Transform | None:
    from PIL import ImageCms

    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        of, kind = found.profile.xcolor_space.strip(), found.profile.device_class
        if of != _SPACES.get(mode) or kind not in ("mntr", "scnr", "prtr", "spac"):
            return None
        return _Transform(found, mode)
    except (OSError, ValueError, TypeError, ImageCms.PyCMSError):  # whatever LittleCMS says of damaged bytes
        return None


@functools.lru_cache(maxsize=64)
def _profile(primaries: tuple[float, ...], exponent: float | None) -> bytes:
    """An ICC profile (matrix and curve) of a space told by numbers.

    Of version 2: to one of version 4 LittleCMS moves the black of inks to the screen's, which browsers do not.
    """
    columns = _to_d50(primaries)
    curve = _parametric(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    if exponent is not None:
        curve = _parametric(0, exponent)
    tags = {b"wtpt": _xyz(_D50), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    tags |= {name: _xyz(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)}
    start, entries, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        entries += name + struct.pack(">II", start + len(data), len(content))
        data += content
    kind = struct.pack(">4xI4s4s4s12x4s", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    header = (struct.pack(">I", start + len(data)) + kind).ljust(68, b"\0") + _fixed(*_D50)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + data


def _to_d50(primaries: Sequence[float]) -> NDArray[np.float64]:
    """[XYZ, RGB], the white moved to D50 by Bradford's cone responses, as profiles have it."""
    xyz = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in zip(primaries[::2], primaries[1::2], strict=True)]).T
    white, parts = xyz[:, 0], xyz[:, 1:]
    parts = parts * np.linalg.solve(parts, white)
    cones = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    moved: NDArray[np.float64] = np.linalg.solve(_BRADFORD, cones[:, None] * (_BRADFORD @ parts))
    return moved


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def _xyz(column: Sequence[float] | NDArray[np.float64]) -> bytes:
    return b"XYZ \0\0\0\0" + _fixed(*column)


def _parametric(kind: int, *numbers: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + _fixed(*numbers)
