"""Which files are images, by their suffix, and what a file is that is none, by its first bytes."""

from __future__ import annotations

import functools
import importlib
import importlib.util

_SUFFIXES = {
    "AVIF": ".avif .avifs",
    "BLP": ".blp",
    "BMP": ".bmp",
    "CUR": ".cur",
    "DCX": ".dcx",
    "DDS": ".dds",
    "DIB": ".dib",
    "FITS": ".fit .fits",
    "FLI": ".flc .fli",
    "FTEX": ".ftc .ftu",
    "GBR": ".gbr",
    "GIF": ".gif",
    "ICNS": ".icns",
    "ICO": ".ico",
    "IM": ".im",
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "JPEG2000": ".jp2 .j2k .j2c .jpc .jpf .jpx",
    "MSP": ".msp",
    "PCD": ".pcd",
    "PCX": ".pcx",
    "PIXAR": ".pxr",
    "PNG": ".png .apng",
    "PPM": ".ppm .pgm .pbm .pnm .pfm",
    "PSD": ".psd",
    "QOI": ".qoi",
    "SGI": ".sgi .rgb .rgba .bw",
    "SUN": ".ras",
    "TGA": ".tga .icb .vda .vst",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "XBM": ".xbm",
    "XPM": ".xpm",
}
"""Pillow's name of a format -> suffixes. Not among them is what is no raster of pixels or is handed to another program
(EPS to Ghostscript, PDF, WMF), and what Pillow recognises and cannot decode (MPEG, HDF5)."""

if importlib.util.find_spec("pillow_heif"):
    _SUFFIXES["HEIF"] = ".heic .heif .hif"

IMAGE_FORMATS = tuple(_SUFFIXES)
IMAGE_SUFFIXES = tuple(suffix for suffixes in _SUFFIXES.values() for suffix in suffixes.split())

_IMAGES = {
    "a Photoshop file": (b"8BPS",),
    "a JPEG XL image": (b"\xff\x0a", b"\0\0\0\x0cJXL "),
    "an OpenEXR image": (b"v/1\x01",),
    "a Radiance image": (b"#?RADIANCE",),
    "a DDS texture": (b"DDS ",),
    "an icon": (b"\0\0\1\0", b"icns"),
    "a QOI image": (b"qoif",),
    "a FITS image": (b"SIMPLE  =",),
    "a WebP or another RIFF file": (b"RIFF",),
    "a PNG": (b"\x89PNG",),
    "a JPEG": (b"\xff\xd8",),
    "a TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "a GIF": (b"GIF8",),
    "a BMP": (b"BM",),
}
_NO_PIXELS = {
    "a PDF": (b"%PDF",),
    "a PostScript file": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "an SVG drawing": (b"<svg",),
    "an XML file, such as an SVG drawing": (b"<?xml",),
    "a web page": (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"),
    "a NumPy array": (b"\x93NUMPY",),
}
"""What the file is -> its first bytes."""
_LFS = b"version https://git-lfs"


@functools.cache
def load_plugins() -> None:
    """Makes Pillow know the formats whose readers are packages of their own and are installed."""
    if "HEIF" in IMAGE_FORMATS:
        importlib.import_module("pillow_heif").register_heif_opener()


def is_image(name: str) -> bool:
    """Whether the name of a file says that it is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def kind_of(encoded: bytes) -> str:
    """What a file is that is read as no image, and what to do about it."""
    if not encoded:
        return "empty; copy it again"
    start = encoded[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(_LFS):
        return "a pointer of Git LFS and not the file itself; fetch that with git lfs pull"
    if encoded[4:8] == b"ftyp" and encoded[8:11] in (b"hei", b"hev", b"mif", b"msf", b"avi"):
        return "a HEIC, HEIF or AVIF image of a kind that is not read, or damaged; save it again as PNG or JPEG"
    for kind, magic in _IMAGES.items():
        if encoded.startswith(magic):
            return f"{kind} of a kind that is not read, or damaged; save it again as PNG or JPEG"
    kind = next((kind for kind, magic in _NO_PIXELS.items() if start.startswith(magic)), "")
    return f"{kind}; save it as PNG or JPEG" if kind else "no image of a known kind"
