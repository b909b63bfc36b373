"""Which files are taken for images, by their suffix: the formats of pixels that Pillow decodes here by itself."""

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


@functools.cache
def load_plugins() -> None:
    """Makes Pillow know the formats whose readers are packages of their own and are installed."""
    if "HEIF" in IMAGE_FORMATS:
        importlib.import_module("pillow_heif").register_heif_opener()


def is_image(name: str) -> bool:
    """Whether the name of a file says that it is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES)
