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
    for magic, kind in _IMAGES.items():
        if encoded.startswith(magic):
            return f"{kind} of a kind that is not read, or damaged; save it again as PNG or JPEG"
    kind = next((kind for magic, kind in _NO_PIXELS.items() if start.startswith(magic)), "")
    return f"{kind}; save it as PNG or JPEG" if kind else "no image of a known kind"
