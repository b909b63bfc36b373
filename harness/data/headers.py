"""What Pillow does not say of a file: its kind where it cannot be read, and where its bytes tell of colours."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from harness.data.colour import SRGB_PRIMARIES, Space, coded
from harness.errors import DataError

_IMAGES = {
    b"8BPS": "a Photoshop file",
    b"\xff\x0a": "a JPEG XL image",
    b"\0\0\0\x0cJXL ": "a JPEG XL image",
    b"v/1\x01": "an OpenEXR image",
    b"#?RADIANCE": "a Radiance image",
    b"DDS ": "a DDS texture",
    b"\0\0\1\0": "an icon",
    b"icns": "an icon",
    b"qoif": "a QOI image",
    b"SIMPLE  =": "a FITS image",
    b"RIFF": "a WebP or another RIFF file",
    b"\x89PNG": "a PNG",
    b"\xff\xd8": "a JPEG",
    b"II*\0": "a TIFF",
    b"MM\0*": "a TIFF",
    b"II+\0": "a TIFF",
    b"MM\0+": "a TIFF",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
}
_NO_PIXELS = {
    b"%PDF": "a PDF",
    b"%!PS": "a PostScript file",
    b"\xc5\xd0\xd3\xc6": "a PostScript file",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file, such as an SVG drawing",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<HTML": "a web page",
    b"\x93NUMPY": "a NumPy array",
}
"""First bytes -> what the file is."""
_LFS = b"version https://git-lfs"
_GAMMA_NEAR = 0.05
"""A curve nearer than this to a screen's is taken for it, as the PNG library does."""
_GREYS_AND_SRGB = (16, 17, 18)
"""JPEG 2000's numbers of sRGB, grey and sYCC, which the decoder brings to RGB or grey."""
_CMYK = 12


class Colours(NamedTuple):
    """What a file says of its colours."""

    profile: bytes | None = None
    """An ICC profile."""
    space: Space | None = None
    """Colours told by numbers; None: sRGB."""
    damaged: bool = False
    """Whether it has a profile that cannot be taken out of it."""


def kind_of(encoded: bytes) -> str:
    """What a file is that is read as no image, and what to do about it."""
    if not encoded:
        return "empty; copy it again"
    start = encoded[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_LFS):
        return "a pointer of Git LFS and not the file itself; fetch that with git lfs pull"
    if encoded[4:8] == b"ftyp" and encoded[8:11] in (b"hei", b"hev", b"mif", b"msf", b"avi"):
        return "a HEIC, HEIF or AVIF image of a kind that is not read, or damaged; save it again as PNG or JPEG"
    for magic, kind in _IMAGES.items():
        if encoded.startswith(magic):
            return f"{kind} of a kind that is not read, or damaged; save it again as PNG or JPEG"
    kind = next((kind for magic, kind in _NO_PIXELS.items() if start.startswith(magic)), "")
    return f"{kind}; save it as PNG or JPEG" if kind else "no image of a known kind"


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
    place = 8
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
        if size == 1 and place + 16 <= len(content):
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
            yield from _inside(inner[4:] if kind == b"meta" else inner, *path[1:])


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
    start, size = struct.unpack_from("<II", encoded, 14 + 112)
    return encoded[14 + start : 14 + start + size]
