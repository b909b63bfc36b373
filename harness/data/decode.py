"""An encoded image as R x R pixels: as a viewer shows it on white, upright, in 8-bit sRGB, made square and resized.

What cannot be shown rightly is refused.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, ImagePalette, UnidentifiedImageError

from harness.data.colour import Colours, colours_of, of_profile, of_space
from harness.data.image_files import IMAGE_FORMATS, kind_of, load_plugins
from harness.errors import DataError
from harness.settings import DataConfig

PIXEL_RULE = "on-white,srgb,{fit},lanczos/3"
"""Part of the fingerprint: raise its number with any change that moves a pixel."""

Pixels = NDArray[np.uint8]
MAX_PIXELS = 2**27
"""Width times height of an image; anything larger is refused before it is decoded."""
FIRST_OF_SEVERAL = "of several pictures in one file, such as an animation, the first is read"
NO_PROFILE = "a colour profile that is damaged or for another kind of colours is passed over, as viewers do"
NO_EXIF = "the camera's data (EXIF) is damaged: read as stored, not turned"

Tell = Callable[[str], None]
"""Called with one of the three above for an image that is read in a way that its user should know of."""

_DEEP_GREY = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_DEEP_FORMATS = ("PNG", "TIFF", "PPM", "JPEG2000")
"""Whose 16-bit grey is known to go from black to white."""
_MODES = ("1", "L", "P", "PA", "LA", "La", "RGB", "RGBX", "RGBA", "RGBa", "CMYK", "YCbCr", "LAB")
"""Pillow's modes that are read, of 8 bits a channel or fewer."""
_TURNS = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE"}
_TURNS[8] = "ROTATE_90"
"""EXIF's number of an orientation -> Pillow's name for what undoes it."""
_ORIENTATION = 0x0112
"""Number of EXIF's field."""
_PHOTOMETRIC, _BITS, _COMPRESSION, _COLOUR_MAP, _INKS, _SAMPLE_FORMAT = 262, 258, 259, 320, 332, 339
_SUBSAMPLING, _BLACK_AND_WHITE, _PLANES, _EXTRA_SAMPLES = 530, 532, 284, 338
"""Numbers of TIFF's fields."""
_FULL = (0, 255, 128, 255, 128, 255)
"""TIFF's field of black and white for brightness and colour that take all 256 levels."""


def decode(encoded: bytes, config: DataConfig, tell: Tell | None = None) -> Pixels:
    """[3,R,R], RGB in 0..255: as a viewer shows it on white, then made square and resized with antialiasing. Raises
    DataError with the reason when the image cannot be read, is too small or too large; `tell` as in `opaque`."""
    side = (config.resolution, config.resolution)
    opened = opaque(encoded, config.min_side, tell)
    return planes(_square(opened, config.fit).resize(side, Image.Resampling.LANCZOS))


def planes(picture: Any) -> Pixels:
    """[3,H,W] of an RGB image."""
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _square(picture: Any, fit: str) -> Any:
    if fit == "stretch":
        return picture
    if fit == "pad":
        side = max(picture.size)
        return ImageOps.pad(picture, (side, side), color="white")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side))


def refuse_long(encoded: bytes, config: DataConfig) -> None:
    """Raises DataError for an image that `decode` would pad to a square of too many pixels. Not a part of `decode`, as
    it moves no pixel: all data would be prepared again."""
    size = (0, 0)
    with warnings.catch_warnings(), contextlib.suppress(Exception):  # `decode` says what is wrong with it
        warnings.simplefilter("ignore")
        size = _open(encoded).size if config.fit == "pad" else size
    if max(size) ** 2 > MAX_PIXELS:
        square = f"{max(size):,} x {max(size):,} with its white (data.fit: pad), and at most {MAX_PIXELS:,} are decoded"
        raise DataError(f"{size[0]:,} x {size[1]:,} pixels would be {square}; crop it, or set data.fit: crop")


def opaque(encoded: bytes, least: int = 1, tell: Tell | None = None) -> Any:
    """8-bit RGB. Raises DataError with the reason when the image cannot be read, is too small or too large."""
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice that, some kinds before their size can be asked
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters raises
            picture = _open(encoded)
            _refuse_size(picture.size, least)
            picture.verify()  # checksums; reading alone lets a damaged end pass
            return _on_white(_open(encoded), encoded, tell or _untold)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError(f"cannot be read: it is {kind_of(encoded)}") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"too many pixels; at most {MAX_PIXELS:,} are decoded") from error
    except Exception as error:  # Pillow's decoders raise whatever their format's parser meets
        raise DataError(f"cannot be read: {str(error) or type(error).__name__}") from error


# Its name is part of what `engine` hashes: by another one all data would be prepared again.
def _untold(_note: str) -> None:
    """For callers that want an image without notes about how it was read."""


def _open(encoded: bytes) -> Any:
    load_plugins()
    return Image.open(io.BytesIO(encoded), formats=IMAGE_FORMATS)


def _refuse_size(size: tuple[int, int], least: int) -> None:
    width, height = size
    if min(size) < least:
        raise DataError(f"{width} x {height} pixels; the shorter side must have {least} (data.min_side)")
    if width * height > MAX_PIXELS:
        raise DataError(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are decoded")


def _on_white(picture: Any, encoded: bytes, tell: Tell) -> Any:
    if getattr(picture, "is_animated", False) and picture.format != "PSD":  # whose layers are one picture
        tell(FIRST_OF_SEVERAL)
    said = colours_of(picture, encoded)
    if picture.format == "TIFF":
        _check_tiff(picture)
    colours, opacity = _parts(picture, encoded)
    shown = _in_srgb(colours, said, tell)
    if opacity is not None:
        # Resizing first would blend the arbitrary colour of transparent pixels into the edges.
        white = Image.new("RGB", shown.size, "white")
        white.paste(shown, mask=opacity)
        shown = white
    return _upright(shown, picture, tell)


def _in_srgb(colours: Any, said: Colours, tell: Tell) -> Any:
    shown = None
    if said.profile:
        shown = of_profile(colours, said.profile)
    elif said.space:
        shown = of_space(colours, said.space)
    if shown is None and (said.damaged or said.profile or said.space):
        tell(NO_PROFILE)
    if shown is None:
        shown = colours if colours.mode == "RGB" else colours.convert("RGB")
    return shown


def _upright(shown: Any, picture: Any, tell: Tell) -> Any:
    """Turned as the EXIF data of the picture that it came from say."""
    try:
        turn = _TURNS.get(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # the parser raises whatever damage makes it meet
        tell(NO_EXIF)
        turn = None
    return shown.transpose(Image.Transpose[turn]) if turn else shown


def _parts(picture: Any, encoded: bytes) -> tuple[Any, Any]:
    """Colours (L, RGB, CMYK or LAB), and opacity (L) or None where all is opaque."""
    frame = picture.tile[0][1] if picture.format == "GIF" and picture.tile else None
    _refuse_kind(picture)
    picture.load()
    if picture.mode in _DEEP_GREY:
        return _of_deep_grey(picture)
    if picture.mode == "1":
        return _of_bits(picture)
    if picture.format == "PNG" and picture.mode in ("L", "RGB"):
        return picture, _keyed(picture, encoded) if "transparency" in picture.info else None
    if picture.mode in ("L", "RGB", "CMYK", "LAB") and "transparency" not in picture.info and frame is None:
        return picture, None
    if picture.mode in ("LA", "La"):
        both = picture.convert("LA")
        return both.getchannel("L"), both.getchannel("A")
    if picture.format == "TGA" and picture.mode == "RGBA" and not encoded[17] & 15:
        return picture.convert("RGB"), None  # its header says that none of the bits are opacity
    return _of_any_alpha(picture, frame)


def _refuse_kind(picture: Any) -> None:
    """Raises DataError for pixels of which Pillow does not say enough."""
    kind, mode = picture.format, picture.mode
    if mode == "P" and picture.palette is None:
        raise DataError("has no palette, which its pixels are places in; save it again with one")
    if kind == "PSD" and mode == "RGBA":
        raise DataError("is a Photoshop file with a fourth channel, opacity or a selection; save it as PNG")
    if mode == "LAB" and kind != "TIFF":
        raise DataError(f"holds CIELab colours in a {kind}, whose zero is not known; save it in sRGB")
    if mode not in _MODES and not (mode in _DEEP_GREY and kind in _DEEP_FORMATS):
        raise DataError(f"holds pixels of a kind that is not read ({mode}); save it with 8 bits a channel")


def _of_bits(picture: Any) -> tuple[Any, Any]:
    grey = picture.convert("L")
    if picture.format == "XBM":  # which is drawn in black where its bits are 1
        grey = ImageOps.invert(grey)
    key = picture.info.get("transparency")
    return grey, None if key is None else _mask(np.asarray(grey) != key)


def _of_any_alpha(picture: Any, frame: tuple[int, int, int, int] | None) -> tuple[Any, Any]:
    """Of a palette or of colours with opacity; what the first picture of a GIF does not cover is transparent."""
    covered = frame in (None, (0, 0, *picture.size))
    if covered and not picture.has_transparency_data:
        return picture.convert("RGB"), None
    both = picture.convert("RGBA")
    opacity = both.getchannel("A")
    if not covered:
        inside = opacity.crop(frame)
        opacity = Image.new("L", picture.size, 0)
        opacity.paste(inside, frame)
    return both.convert("RGB"), opacity


def _of_deep_grey(picture: Any) -> tuple[Any, Any]:
    """The upper 8 of 12 or 16 bits; polarity and the transparent value are those of the file."""
    values = np.asarray(picture).astype(np.int64)
    bits, inverse = 16, False
    if picture.format == "TIFF":
        bits, inverse = max(picture.tag_v2[_BITS]), picture.tag_v2.get(_PHOTOMETRIC) == 0
    grey = ((2**bits - 1 - values if inverse else values) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    key = picture.info.get("transparency")
    return Image.fromarray(grey), None if key is None else _mask(values != key)


def _keyed(picture: Any, encoded: bytes) -> Any:
    """The opacity of a PNG of which one value is transparent. Pillow compares it with pixels of another depth."""
    depth, key = encoded[24], picture.info["transparency"]
    most = 2 ** min(depth, 8) - 1
    values = np.atleast_3d(np.asarray(picture))
    wanted = np.atleast_1d(key)
    upper = wanted >> 8 if depth == 16 else (wanted & most) * (255 // most)
    other = values != upper
    if depth == 16:
        other |= np.asarray(_lower_bytes(encoded)) != wanted & 255
    return _mask(other.any(-1))


def _lower_bytes(encoded: bytes) -> Any:
    """Of a PNG of 16 bits a colour, of which Pillow keeps the upper bytes."""
    picture = _open(encoded)
    picture.tile = [(*tile[:3], "RGB;16L") for tile in picture.tile]
    picture.load()
    return picture


def _mask(opaque: NDArray[np.bool_]) -> Any:
    return Image.fromarray(np.where(opaque, 255, 0).astype(np.uint8))


def _check_tiff(picture: Any) -> None:
    """Raises DataError for what Pillow would take for something else; mends a palette of 8-bit numbers."""
    of = picture.tag_v2.get
    kind, raw = of(_PHOTOMETRIC), of(_COMPRESSION, 1) == 1
    if 3 in _each(of(_SAMPLE_FORMAT, 1)):
        raise DataError("holds floating-point pixels, whose white is not known; save it with 8 bits a channel")
    if set(_each(of(_SAMPLE_FORMAT, 1))) != {1} or max(_each(of(_BITS, 1))) > 16:
        raise DataError("holds signed or 32-bit numbers, whose white is not known; save it with 8 bits a channel")
    if kind == 5 and of(_INKS, 1) != 1:
        raise DataError("holds inks other than CMYK; save it in sRGB")
    if kind == 6 and raw and (of(_SUBSAMPLING, (2, 2)) != (1, 1) or of(_BLACK_AND_WHITE, _FULL) != _FULL):
        raise DataError("holds YCbCr colours in an order or range that is not read; save it in sRGB")
    if raw and of(_PLANES, 1) == 2 and len(_each(of(_BITS, 1))) > 1:
        premultiplied = 1 in _each(of(_EXTRA_SAMPLES, 0))
        if max(_each(of(_BITS, 1))) != 8 or kind not in (2, 5) or premultiplied:
            raise DataError("holds its channels one after the other; save it with the channels of a pixel together")
    if kind == 3 and max(of(_COLOUR_MAP)) < 256:  # 16 bits by the standard, 8 by some old programs
        picture.palette = ImagePalette.raw("RGB;L", bytes(of(_COLOUR_MAP)))


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)
