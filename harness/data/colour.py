"""Which colours a file means, and how they become sRGB, as in browsers: by ICC profile, or by primaries and a curve."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageCms

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
_GAMMA_NEAR = 0.05
"""A curve nearer than this to a screen's is taken for it, as the PNG library does."""
_GREYS_AND_SRGB = (16, 17, 18)
"""JPEG 2000's numbers of sRGB, grey and sYCC, which the decoder brings to RGB or grey."""
_CMYK = 12
"""JPEG 2000's number of inks."""
_HDR = {16: "PQ", 18: "HLG"}
"""Curves of high dynamic range, by their number in ITU-T H.273."""
_SPACES = {"RGB": "RGB", "L": "GRAY", "CMYK": "CMYK", "LAB": "Lab"}
"""Pillow's mode -> the kind of colours that a profile for it names."""
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""XYZ to the responses of the eye's cones, in which a white is moved to another one (Bradford)."""
_D50 = np.array([0.9642, 1.0, 0.8249])
"""XYZ of the white that all ICC profiles connect through."""


class Space(NamedTuple):
    """Colours given by numbers."""

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


class Colours(NamedTuple):
    """What a file says of its colours."""

    profile: bytes | None = None
    """An ICC profile."""
    space: Space | None = None
    """Colours given by numbers; None: sRGB."""
    damaged: bool = False
    """Whether it has a profile that cannot be taken out of it."""


def colours_of(picture: Any, encoded: bytes) -> Colours:
    """Of an opened picture. Raises DataError for colours that cannot be shown as sRGB."""
    profile = picture.info.get("icc_profile")
    damaged = "icc_profile" in picture.info and not profile
    if picture.format == "PNG":
        return _of_png(picture, encoded, Colours(profile, None, damaged))
    if picture.format == "AVIF":
        return Colours(profile, _of_avif(encoded), damaged)
    if picture.format == "JPEG2000":
        return _of_jpeg2000(encoded)
    if picture.format == "BMP":
        return Colours(_of_bmp(encoded))
    return Colours(profile, None, damaged)


def _of_png(picture: Any, encoded: bytes, embedded: Colours) -> Colours:
    """By cICP, else iCCP, else sRGB, else gAMA and cHRM."""
    if code := _png_chunk(encoded, b"cICP"):
        if len(code) != 4 or code[2] or not code[3]:
            raise DataError(f"holds colours of a kind that is not read (cICP {code.hex(' ')}); save it in sRGB")
        return Colours(space=coded(code[0], code[1]))
    if embedded.profile or embedded.damaged or "srgb" in picture.info:
        return embedded
    gamma, primaries = picture.info.get("gamma", 0), picture.info.get("chromaticity", SRGB_PRIMARIES)
    if not gamma or min(primaries[1::2]) <= 0:
        return Colours()
    exponent = None if abs(gamma * 2.2 - 1) < _GAMMA_NEAR else 1 / gamma
    return Colours(space=Space(primaries, exponent))


def _png_chunk(encoded: bytes, name: bytes) -> bytes | None:
    """The content of a chunk that stands before the pixels."""
    place = 8  # behind the signature; a chunk is length, name, content and a checksum of 4 bytes each
    while place + 8 <= len(encoded) and (kind := encoded[place + 4 : place + 8]) != b"IDAT":
        (length,) = struct.unpack_from(">I", encoded, place)
        if kind == name:
            return encoded[place + 8 : place + 8 + length]
        place += 12 + length
    return None


def _boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes, one after another, of which JPEG 2000 and AVIF consist."""
    place = 0
    while place + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, place)
        start = place + 8
        if size == 1 and place + 16 <= len(content):  # the size follows in 8 bytes; 0 means up to the end
            (size,) = struct.unpack_from(">Q", content, start)
            start += 8
        end = place + size if size else len(content)
        if end < start:
            return
        yield kind, content[start:end]
        place = end


def _inside(content: bytes, *path: bytes) -> Iterator[bytes]:
    """The content of all boxes at the end of the path."""
    for kind, inner in _boxes(content):
        if kind == path[0] and len(path) == 1:
            yield inner
        elif kind == path[0]:
            yield from _inside(inner[4:] if kind == b"meta" else inner, *path[1:])  # meta has 4 bytes of flags first


def _of_avif(encoded: bytes) -> Space | None:
    for told in _inside(encoded, b"meta", b"iprp", b"ipco", b"colr"):
        if told.startswith(b"nclx") and len(told) >= 8:
            return coded(*struct.unpack_from(">HH", told, 4))
    return None


def _of_jpeg2000(encoded: bytes) -> Colours:
    if not encoded.startswith(b"\0\0\0\x0cjP  "):
        return Colours()
    for told in _inside(encoded, b"jp2h", b"cdef"):
        if any(kind == 2 for _, kind, _ in struct.iter_unpack(">HHH", told[2 : 2 + (len(told) - 2) // 6 * 6])):
            raise DataError("holds colours that are multiplied with their opacity; save it as PNG")
    for told in _inside(encoded, b"jp2h", b"colr"):
        if told[:1] in (b"\2", b"\3"):
            return Colours(told[3:])
        (number,) = struct.unpack(">I", told[3:7].rjust(4, b"\0"))
        if number not in (*_GREYS_AND_SRGB, _CMYK):
            raise DataError(f"holds colours of a kind that is not read (JPEG 2000's number {number}); save it in sRGB")
        return Colours()
    return Colours()


def _of_bmp(encoded: bytes) -> bytes | None:
    """The profile that a header of version 5 points to."""
    if len(encoded) < 14 + 124 or struct.unpack_from("<I", encoded, 14)[0] < 124 or encoded[70:74] != b"DEBM":
        return None
    start, size = struct.unpack_from("<II", encoded, 14 + 112)  # the offset counts from the header, behind 14 bytes
    return encoded[14 + start : 14 + start + size]


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
    red, green, blue = picture.split()
    return not ImageChops.difference(red, green).getbbox() and not ImageChops.difference(red, blue).getbbox()


def of_space(picture: Any, space: Space) -> Any:
    """The picture (L or RGB) in RGB, from colours given by numbers; None when the numbers make no sense."""
    try:
        profile = _profile(tuple(space.primaries), space.exponent)
    except (ArithmeticError, ValueError, struct.error):  # no triangle, or a curve that no profile can hold
        return None
    return of_profile(picture.convert("RGB"), profile)


class _Transform:
    """A profile brought to sRGB, for pictures of one mode."""

    def __init__(self, profile: Any, mode: str) -> None:
        screen = ImageCms.ImageCmsProfile(io.BytesIO(_profile(SRGB_PRIMARIES, None)))
        # The intent is what browsers take: the profile's own perceptual table, or its matrix. What is no matrix
        # LittleCMS would shorten to a coarse table, off by up to 16 levels.
        shortened = mode == "RGB" and profile.profile.is_matrix_shaper
        flags = ImageCms.Flags.NONE if shortened else ImageCms.Flags.NOOPTIMIZE
        self._found = ImageCms.buildTransform(profile, screen, mode, "RGB", ImageCms.Intent.PERCEPTUAL, flags)
        self._greys = np.asarray(self._shown(_all_greys()))[0] if mode == "L" else None
        self.moves = mode not in ("L", "RGB") or self._moves()

    def apply(self, picture: Any) -> Any:
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
            steps = np.linspace(0, 255, 18).round().astype(np.uint8)
            before = np.concatenate([before, np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)])
            after = np.asarray(self._shown(Image.fromarray(before[None])))[0]
        return bool(np.abs(after.astype(np.int64) - before).max() > NEAR)


def _all_greys() -> Any:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])


@functools.lru_cache(maxsize=64)
def _moved(profile: bytes, mode: str) -> _Transform | None:
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
    """An ICC profile (matrix and curve) of a space given by numbers. Of version 2: to one of version 4 LittleCMS moves
    the black of inks to the screen's, which browsers do not."""
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
