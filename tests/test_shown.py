"""Pixels are those that a viewer shows on white, whatever the file's kind, depth, transparency and polarity."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data import decode as shown
from harness.data.decode import FIRST_OF_SEVERAL, NO_EXIF, decode, opaque
from harness.errors import DataError
from harness.settings import DataConfig
from pictures_by_hand import SIDE, chunk, png, tiff

WHITE = (255, 255, 255)


def saved(picture: Image.Image, kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def array(encoded: bytes) -> np.ndarray:
    picture = opaque(encoded)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def everywhere(encoded: bytes) -> tuple[int, ...]:
    """The one colour of the whole image."""
    pixels = array(encoded).reshape(-1, 3)
    assert (pixels == pixels[0]).all()
    return tuple(pixels[0].tolist())


def words(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}H", *numbers)


TRANSPARENT = {
    "grey 1": (1, 0, b"\xff", words(1)),
    "grey 1, black": (1, 0, b"\x00", words(0)),
    "grey 2": (2, 0, b"\xaa" * 2, words(2)),
    "grey 4": (4, 0, b"\x55" * 4, words(5)),
    "grey 8": (8, 0, b"\x55" * SIDE, words(0x55)),
    "grey 8, upper byte without meaning": (8, 0, b"\x55" * SIDE, words(0x0155)),
    "grey 16": (16, 0, words(40000) * SIDE, words(40000)),
    "colour 8": (8, 2, b"\x10\x20\x30" * SIDE, words(0x10, 0x20, 0x30)),
    "colour 16": (16, 2, words(1000, 2000, 3000) * SIDE, words(1000, 2000, 3000)),
    "grey 8 and opacity": (8, 4, b"\x40\x00" * SIDE, None),
    "grey 16 and opacity": (16, 4, words(9999, 0) * SIDE, None),
    "colour 16 and opacity": (16, 6, words(1, 2, 3, 0) * SIDE, None),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_png_that_is_transparent_everywhere_is_white(name: str) -> None:
    depth, colour, row, key = TRANSPARENT[name]
    assert everywhere(png(depth, colour, row, *([(b"tRNS", key)] if key else []))) == WHITE


OTHER = {
    "grey 2": (2, 0, b"\xaa" * 2, words(1), (170,) * 3),
    "grey 4": (4, 0, b"\x55" * 4, words(0x55), None),  # of 4 bits the lower 4 count: 5
    "grey 4, another": (4, 0, b"\x55" * 4, words(6), (85,) * 3),
    "grey 16, one less": (16, 0, words(40000) * SIDE, words(39999), (156,) * 3),
    "colour 16, one more": (16, 2, words(1000, 2000, 3000) * SIDE, words(1000, 2000, 3001), (3, 7, 11)),
    "colour 8": (8, 2, b"\x10\x20\x30" * SIDE, words(0x10, 0x20, 0x31), (16, 32, 48)),
}


@pytest.mark.parametrize("name", OTHER)
def test_only_the_one_value_is_transparent(name: str) -> None:
    depth, colour, row, key, expected = OTHER[name]
    assert everywhere(png(depth, colour, row, (b"tRNS", key))) == (expected or WHITE)


def test_an_interlaced_png_of_16_bits_loses_its_transparent_pixels_alone() -> None:
    # Adam7 of a 2 x 2 image: pass 1 has (0,0), pass 6 has (0,1), pass 7 the second row.
    import zlib

    key, other = words(1000, 2000, 3000), words(1001, 2000, 3000)
    passes = b"\0" + key + b"\0" + other + b"\0" + other + key
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 1)),
        (b"tRNS", key), (b"IDAT", zlib.compress(passes)), (b"IEND", b""),
    ]  # fmt: skip
    found = array(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    assert found[:, :, 0].tolist() == [[255, 3], [3, 255]]


def test_a_palette_with_partial_opacity_is_blended() -> None:
    palette, opacity = bytes([200, 100, 0, 0, 0, 0]), bytes([128, 255])
    encoded = png(8, 3, b"\0" * SIDE, (b"PLTE", palette), (b"tRNS", opacity))
    exact = [255 + (value - 255) * 128 / 255 for value in (200, 100, 0)]
    assert np.abs(np.array(everywhere(encoded)) - exact).max() <= 1


GREY = {
    # photometric, bits, strip, order -> grey
    "1 bit, white is 0": (0, 1, b"\xff", "<", 0),
    "1 bit, black is 0": (1, 1, b"\xff", "<", 255),
    "4 bits, white is 0": (0, 4, b"\x33" * 4, "<", 255 - 51),
    "8 bits, white is 0": (0, 8, b"\x28" * SIDE, "<", 255 - 0x28),
    "8 bits, black is 0": (1, 8, b"\x28" * SIDE, "<", 0x28),
    "16 bits, white is 0": (0, 16, struct.pack("<H", 40000) * SIDE, "<", (65535 - 40000) >> 8),
    "16 bits, black is 0": (1, 16, struct.pack("<H", 40000) * SIDE, "<", 40000 >> 8),
    "16 bits, black is 0, big end first": (1, 16, struct.pack(">H", 40000) * SIDE, ">", 40000 >> 8),
    "12 bits, black is 0": (1, 12, b"\xab\xca\xbc" * (SIDE // 2), "<", 0xAB),
}


@pytest.mark.parametrize("name", GREY)
def test_grey_tiffs_have_their_polarity_and_depth(name: str) -> None:
    photometric, bits, row, order, expected = GREY[name]
    tags = {258: (bits,), 262: (photometric,), 277: (1,)}
    assert everywhere(tiff(tags, row * SIDE, order)) == (expected,) * 3


@pytest.mark.parametrize("packing", ["tiff_lzw", "tiff_adobe_deflate"])
def test_packing_a_grey_tiff_changes_nothing(packing: str) -> None:
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    for photometric, wanted in ((1, values >> 8), (0, (65535 - values) >> 8)):
        picture = Image.fromarray(values)
        assert picture.mode == "I;16"
        encoded = saved(picture, "TIFF", compression=packing, tiffinfo={262: photometric})
        assert (array(encoded)[..., 0] == wanted).all()


COLOUR = {
    "8 bits": ({258: (8, 8, 8), 262: (2,), 277: (3,)}, bytes([10, 20, 30]), (10, 20, 30)),
    "16 bits": ({258: (16,) * 3, 262: (2,), 277: (3,)}, struct.pack("<3H", 10 << 8, 20 << 8, 65535), (10, 20, 255)),
    "opacity": ({258: (8,) * 4, 262: (2,), 277: (4,), 338: (2,)}, bytes([10, 20, 30, 0]), WHITE),
    "opacity multiplied in": (
        {258: (8,) * 4, 262: (2,), 277: (4,), 338: (1,)}, bytes([100, 0, 50, 128]), (227, 127, 177),
    ),
    "no opacity but something else": (
        {258: (8,) * 4, 262: (2,), 277: (4,), 338: (0,)}, bytes([10, 20, 30, 0]), (10, 20, 30),
    ),
    "grey with opacity multiplied in": ({258: (8, 8), 262: (1,), 277: (2,), 338: (1,)}, bytes([64, 128]), (191,) * 3),
    "grey with opacity": ({258: (8, 8), 262: (1,), 277: (2,), 338: (2,)}, bytes([64, 0]), WHITE),
    "inks": ({258: (8,) * 4, 262: (5,), 277: (4,)}, bytes([0, 255, 255, 0]), (255, 0, 0)),
    "CIELab": ({258: (8,) * 3, 262: (8,), 277: (3,)}, bytes([255, 0, 0]), WHITE),
    "YCbCr": ({258: (8,) * 3, 262: (6,), 277: (3,), 530: (1, 1)}, bytes([76, 85, 255]), (254, 0, 0)),
    "palette of 8-bit numbers": (
        {258: (8,), 262: (3,), 277: (1,), 320: tuple([10] * 256 + [20] * 256 + [30] * 256)}, b"\7", (10, 20, 30),
    ),
    "palette": (
        {258: (8,), 262: (3,), 277: (1,), 320: tuple([10 << 8] * 256 + [20 << 8] * 256 + [30 << 8] * 256)}, b"\7",
        (10, 20, 30),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COLOUR)
def test_colour_tiffs_are_read_as_their_fields_say(name: str) -> None:
    tags, pixel, expected = COLOUR[name]
    assert np.abs(np.subtract(everywhere(tiff(tags, pixel * SIDE * SIDE)), expected)).max() <= 1


def test_a_negative_a_of_cielab_is_green() -> None:
    tags = {258: (8,) * 3, 262: (8,), 277: (3,)}
    # sRGB (0, 255, 0) is L 87.8, a -79.3, b 81.0 under D50.
    red, green, blue = everywhere(tiff(tags, struct.pack("3b", 0, -79, 81).replace(b"\0", b"\xe0", 1) * SIDE * SIDE))
    assert red < 40 and green > 250 and blue < 40


def test_planes_that_are_stored_apart_are_put_together() -> None:
    plane = SIDE * SIDE
    strip = bytes([10]) * plane + bytes([20]) * plane + bytes([30]) * plane
    tags = {258: (8,) * 3, 262: (2,), 277: (3,), 284: (2,), 273: (0, plane, 2 * plane), 279: (plane,) * 3}
    assert everywhere(tiff(tags, strip)) == (10, 20, 30)
    more = {258: (8,) * 4, 277: (4,), 338: (2,), 273: (0, plane, 2 * plane, 3 * plane), 279: (plane,) * 4}
    assert everywhere(tiff({**tags, **more}, strip + bytes(plane))) == WHITE


APART = {277: (3,), 284: (2,), 273: (0, 64, 128), 279: (64,) * 3}
REFUSED = {
    "16 bits apart": (
        tiff({**APART, 258: (16,) * 3, 262: (2,), 273: (0, 128, 256), 279: (128,) * 3}, b"\0\x0a" * 192),
        "one after the other",
    ),
    "CIELab apart": (tiff({**APART, 258: (8,) * 3, 262: (8,)}, b"\x40" * 192), "one after the other"),
    "YCbCr apart": (tiff({**APART, 258: (8,) * 3, 262: (6,), 530: (1, 1)}, b"\x40" * 192), "one after the other"),
    "signed": (tiff({258: (8,), 262: (1,), 277: (1,), 339: (2,)}, b"\1" * 64), "signed or 32-bit numbers"),
    "signed 16": (tiff({258: (16,), 262: (1,), 277: (1,), 339: (2,)}, b"\1\0" * 64), "signed or 32-bit numbers"),
    "32 bits": (tiff({258: (32,), 262: (1,), 277: (1,)}, b"\1\0\0\0" * 64), "signed or 32-bit numbers"),
    "floating": (tiff({258: (32,), 262: (1,), 277: (1,), 339: (3,)}, b"\0" * 256), "floating-point"),
    "other inks": (tiff({258: (8,) * 4, 262: (5,), 277: (4,), 332: (2,)}, b"\0" * 256), "inks other than CMYK"),
    "YCbCr by twos": (tiff({258: (8,) * 3, 262: (6,), 277: (3,)}, b"\0" * 256), "YCbCr"),
    "YCbCr of a narrow range": (
        tiff({258: (8,) * 3, 262: (6,), 277: (3,), 530: (1, 1), 532: (16, 235, 128, 240, 128, 240)}, b"\0" * 192),
        "YCbCr",
    ),
    "a mask": (tiff({258: (1,), 262: (4,), 277: (1,)}, b"\0" * 64), "a TIFF of a kind that is not read.*save it again"),
    "no palette": (png(8, 3, b"\1" * SIDE), "palette"),
    "an icon, cut off": (b"\0\0\1\0" + bytes(60), "an icon of a kind that is not read, or damaged|cannot be read"),
    "Photoshop": (b"8BPS\0\1" + bytes(60), "a Photoshop file"),
    "HEIC": (b"\0\0\0\x18ftypheic" + bytes(60), "a HEIC, HEIF or AVIF image"),
    "JPEG XL": (b"\xff\x0a" + bytes(60), "a JPEG XL image"),
    "SVG": (b" \n<svg xmlns=''></svg>", "an SVG drawing"),
    "a web page": (b"<!DOCTYPE html><p>404", "a web page"),
    "PostScript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a PostScript file"),
    "nothing": (b"", "empty"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_shown_rightly_is_refused_by_name(name: str) -> None:
    encoded, told = REFUSED[name]
    with pytest.raises(DataError, match=told):
        opaque(encoded)


def test_a_gif_is_transparent_where_its_first_picture_is_not() -> None:
    colours = bytes([200, 0, 0, 0, 0, 200])
    small = Image.new("P", (2, 2), 1)
    small.putpalette(colours)
    encoded = bytearray(saved(small, "GIF"))
    encoded[6:10] = struct.pack("<HH", 4, 4)  # the screen grows, the picture stays
    found = array(bytes(encoded))
    assert found.shape == (4, 4, 3) and (found[:2, :2] == [0, 0, 200]).all()
    assert (found[2:] == 255).all() and (found[:, 2:] == 255).all()


def test_a_gifs_transparent_index_is_white_also_where_another_index_has_its_colour() -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "P")
    picture.putpalette(bytes([9, 9, 9] * 2 + [90, 0, 0] + [0, 90, 0]))
    found = array(saved(picture, "GIF", transparency=1, optimize=False))
    assert found[0].tolist() == [[9, 9, 9], [255, 255, 255]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_a_moving_picture_the_first_is_read_and_told(kind: str) -> None:
    first, second = Image.new("RGB", (16, 16), (255, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 255))
    still, moving = [], []
    opaque(saved(first, kind), tell=still.append)
    settings = {} if kind in ("GIF", "TIFF", "PNG") else {"quality": 100}
    found = opaque(saved(first, kind, save_all=True, append_images=[second], **settings), tell=moving.append)
    assert np.abs(np.asarray(found).astype(int) - [255, 0, 0]).max() <= 3
    assert still == [] and moving == [FIRST_OF_SEVERAL]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_undone_once(kind: str) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :12] = 255
    stored = {  # how the camera's sensor saw the upright picture, by EXIF's number
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    for number, pixels in stored.items():
        exif = Image.Exif()
        exif[0x0112] = number
        encoded = saved(Image.fromarray(np.ascontiguousarray(pixels)), kind, exif=exif)
        found = array(encoded)
        assert found.shape == upright.shape, number
        assert np.abs(found - upright)[1:-1, 1:-1].mean() < 8, number


def test_damaged_camera_data_are_told() -> None:
    told: list[str] = []
    plain = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
    encoded = saved(plain, "PNG", exif=b"Exif\0\0 no TIFF at all")
    assert (np.asarray(opaque(encoded, tell=told.append)) == np.asarray(plain)).all() and told == [NO_EXIF]


def test_inks_of_a_jpeg_are_stored_inverted() -> None:
    inks = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(np.subtract(everywhere(saved(inks, "JPEG", quality=100)), (255, 0, 0))).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000"])
def test_a_file_that_ends_early_is_refused(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    encoded = saved(noise, kind)
    opaque(encoded)
    for share in (0.5, 0.9):
        with pytest.raises(DataError):
            opaque(encoded[: int(len(encoded) * share)])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_huge_image_is_refused_before_it_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MAX_PIXELS", 1000)
    with pytest.raises(DataError, match="at most 1,000 are decoded"):
        opaque(saved(Image.new("RGB", (40, 40)), kind))
    with pytest.raises(DataError, match="a PNG of a kind that is not read, or damaged"):
        opaque(png(8, 0, b"", width=0))


def test_plain_pixels_are_those_of_the_file_to_the_byte() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 4), dtype=np.uint8)
    plain = Image.fromarray(noise[..., :3])
    assert (array(saved(plain, "PNG")) == noise[..., :3]).all()
    jpeg = saved(plain, "JPEG")
    assert (array(jpeg) == np.asarray(Image.open(io.BytesIO(jpeg)))).all()
    see_through = Image.fromarray(noise)
    white = Image.alpha_composite(Image.new("RGBA", (32, 32), "white"), see_through).convert("RGB")
    assert (array(saved(see_through, "PNG")) == np.asarray(white)).all()
    config = DataConfig(resolution=32)
    assert (decode(saved(see_through, "PNG"), config) == np.asarray(white).transpose(2, 0, 1)).all()
