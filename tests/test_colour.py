"""Colours are brought to sRGB as a browser does it; the values come from the standards' formulas in float64."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from harness.data.colour import coded
from harness.data.decode import NO_PROFILE, opaque
from harness.errors import DataError
from pictures_by_hand import SIDE, cmyk, gamma, grey, matrix, png, profile, xyz

Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
D65, D50 = np.array([0.95047, 1.0, 1.08883]), np.array([0.9642, 1.0, 0.8249])
SRGB: Primaries = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
P3: Primaries = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE: Primaries = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO: Primaries = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
BT2020: Primaries = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046))
CONES = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
DRAW = np.random.default_rng(0)
COLOURS = DRAW.integers(0, 256, (16, 16, 3), dtype=np.uint8)


def to_d50(primaries: Primaries, white: np.ndarray = D65) -> np.ndarray:
    """[XYZ, RGB] of the colorants, adapted to D50."""
    parts = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    parts = parts * np.linalg.solve(parts, white)
    adapt = np.linalg.inv(CONES) @ np.diag((CONES @ D50) / (CONES @ white)) @ CONES
    return adapt @ parts


def light(values: np.ndarray) -> np.ndarray:
    """sRGB's curve."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def stored(linear: np.ndarray) -> np.ndarray:
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def expected(pixels: np.ndarray, primaries: Primaries, exponent: float | None, white: np.ndarray = D65) -> np.ndarray:
    """[...,3] in 0..255 of sRGB."""
    values = pixels / 255
    linear = light(values) if exponent is None else values**exponent
    return stored(linear @ (np.linalg.inv(to_d50(SRGB)) @ to_d50(primaries, white)).T)


def saved(picture: Image.Image, kind: str = "PNG", **settings: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def array(encoded: bytes) -> np.ndarray:
    return np.asarray(opaque(encoded)).astype(int)


def near(found: np.ndarray, wanted: np.ndarray, levels: float = 1.5) -> None:
    assert np.abs(found - wanted).max() <= levels, np.abs(found - wanted).max()


WIDE = {"P3": (P3, 2.2, D65), "Adobe RGB": (ADOBE, 2.19921875, D65), "ProPhoto": (PROPHOTO, 1.8, D50)}


@pytest.mark.parametrize("name", WIDE)
def test_an_embedded_profile_of_rgb_is_followed(name: str) -> None:
    primaries, exponent, white = WIDE[name]
    icc = matrix(to_d50(primaries, white).T.tolist(), exponent)
    exponent = round(exponent * 256) / 256
    wanted = expected(COLOURS, primaries, exponent, white)
    assert np.abs(wanted - COLOURS).max() > 20
    picture = Image.fromarray(COLOURS)
    for kind in ("PNG", "TIFF", "WEBP"):
        settings = {"lossless": True} if kind == "WEBP" else {}
        near(array(saved(picture, kind, icc_profile=icc, **settings)), wanted)
    jpeg = saved(picture.resize((64, 64), 0), "JPEG", quality=100, subsampling=0, icc_profile=icc)
    near(array(jpeg), expected(np.asarray(Image.open(io.BytesIO(jpeg))), primaries, exponent, white))


def test_a_palette_and_an_opacity_keep_their_colours() -> None:
    icc = matrix(to_d50(P3).T.tolist(), 2.2)
    few = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16), "P")
    few.putpalette(COLOURS.reshape(-1).tobytes())
    exponent = round(2.2 * 256) / 256
    near(array(saved(few, icc_profile=icc)), expected(COLOURS, P3, exponent))
    half = Image.fromarray(np.dstack([COLOURS, np.full((16, 16), 128, np.uint8)]))
    blended = 255 + (expected(COLOURS, P3, exponent) - 255) * 128 / 255
    near(array(saved(half, icc_profile=icc)), blended, 2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_pixels_in_srgb_stay_as_they_are_to_the_byte(kind: str) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(COLOURS)
    plain = array(saved(picture, kind))
    assert (array(saved(picture, kind, icc_profile=icc)) == plain).all()
    other = matrix(to_d50(SRGB).T.tolist(), 2.2)
    assert (array(saved(picture, kind, icc_profile=other)) != plain).any(), "a curve of 2.2 is not that of sRGB"


def test_a_grey_profile_is_followed() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    for exponent in (1.0, 1.8):
        wanted = stored((values / 255) ** (round(exponent * 256) / 256))[..., None].repeat(3, -1)
        near(array(saved(Image.fromarray(values), icc_profile=grey(exponent))), wanted)
    both = Image.merge("LA", (Image.fromarray(values), Image.new("L", (16, 16), 0)))
    assert (array(saved(both, icc_profile=grey(1.0))) == 255).all()
    deep = Image.fromarray(values.astype(np.uint16) * 257)
    near(array(saved(deep, icc_profile=grey(1.8))), stored((values / 255) ** (461 / 256))[..., None].repeat(3, -1))


def test_grey_of_16_bits_with_opacity_has_its_grey_profile() -> None:
    import zlib

    row = struct.pack(">16H", *(value for level in range(0, 256, 32) for value in (level * 257, 65535)))
    told: list[str] = []
    picture = opaque(png(16, 4, row, (b"iCCP", b"x\0\0" + zlib.compress(grey(1.0)))), tell=told.append)
    near(np.asarray(picture)[0, :, 0].astype(int), stored(np.arange(0, 256, 32) / 255))
    assert told == []


def test_grey_with_a_profile_of_rgb_has_equal_parts_of_the_three() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    icc = matrix(to_d50(ADOBE).T.tolist(), 1.8)
    near(
        array(saved(Image.fromarray(values), "JPEG", quality=100, icc_profile=icc))[..., 0],
        stored((values / 255) ** (461 / 256)),
        4,
    )


def test_inks_are_read_by_their_profile() -> None:
    # Paper is pure white; any ink makes L 50, a 0, b 0: a table that no formula without the profile would give.
    corners = [(255, 128, 128)] + [(128, 128, 128)] * 15
    icc = cmyk(corners)
    level = 128 / 255 * 100
    wanted = stored(np.array(((level + 16) / 116) ** 3))
    for inks, grey_level in (((255, 0, 0, 0), wanted), ((0, 0, 0, 0), 255), ((0, 0, 0, 255), wanted)):
        picture = Image.new("CMYK", (16, 16), inks)
        near(array(saved(picture, "TIFF", icc_profile=icc)), np.full((16, 16, 3), grey_level), 2)
        near(array(saved(picture, "JPEG", quality=100, icc_profile=icc)), np.full((16, 16, 3), grey_level), 3)


RGB_ICC = matrix(to_d50(P3).T.tolist(), 2.2)
UNUSABLE = {
    "no profile": b"no profile at all",
    "empty": b"",
    "cut off": RGB_ICC[:200],
    "of grey": grey(1.8),
    "of inks": cmyk([(255, 128, 128)] + [(0, 128, 128)] * 15),
    "a link between devices": profile(b"RGB ", {b"wtpt": xyz(1, 1, 1)}, kind=b"link"),
    "without colorants": profile(b"RGB ", {name: gamma(1.8) for name in (b"rTRC", b"gTRC", b"bTRC")}),
    "a size of gigabytes": RGB_ICC[:128] + struct.pack(">I", 2**31 - 1) + RGB_ICC[132:],
}


@pytest.mark.parametrize("name", [name for name in UNUSABLE if name != "empty"])
def test_a_profile_that_cannot_be_used_is_passed_over_and_told(name: str) -> None:
    told: list[str] = []
    encoded = saved(Image.fromarray(COLOURS), icc_profile=UNUSABLE[name])
    assert (np.asarray(opaque(encoded, tell=told.append)) == COLOURS).all()
    assert told == [NO_PROFILE]
    told.clear()
    opaque(saved(Image.fromarray(COLOURS), icc_profile=RGB_ICC), tell=told.append)
    assert told == []


def test_a_damaged_profile_in_a_png_is_told() -> None:
    told: list[str] = []
    opaque(png(8, 2, b"\x10\x20\x30" * SIDE, (b"iCCP", b"x\0\0no deflate")), tell=told.append)
    assert told == [NO_PROFILE]


def test_random_bytes_in_a_profile_never_end_the_process() -> None:
    draw = np.random.default_rng(1)
    for _ in range(300):
        damaged = bytearray(RGB_ICC)
        for place in draw.integers(0, len(damaged), 8):
            damaged[place] = draw.integers(256)
        opaque(saved(Image.fromarray(COLOURS[:2, :2]), icc_profile=bytes(damaged)))


def chrm(primaries: Primaries, white: tuple[float, float] = (0.3127, 0.3290)) -> bytes:
    return struct.pack(">8I", *(round(value * 100000) for pair in (white, *primaries) for value in pair))


def gama(exponent: float) -> bytes:
    return struct.pack(">I", round(100000 / exponent))


ROW = COLOURS[0, :SIDE]


def of_png(*chunks: tuple[bytes, bytes]) -> np.ndarray:
    return array(png(8, 2, ROW.tobytes(), *chunks))[0]


def test_a_png_tells_its_curve_and_primaries_in_chunks() -> None:
    near(of_png((b"gAMA", gama(1.0))), expected(ROW, SRGB, 1.0))
    near(of_png((b"gAMA", gama(2.2)), (b"cHRM", chrm(P3))), expected(ROW, P3, None))
    near(of_png((b"gAMA", gama(1.8)), (b"cHRM", chrm(ADOBE))), expected(ROW, ADOBE, 1.8))
    values = np.arange(0, 256, 32, dtype=np.uint8)
    found = array(png(8, 0, values.tobytes(), (b"gAMA", gama(1.0))))[0, :, 0]
    near(found, stored(values / 255))


def test_a_pngs_chunks_of_srgb_change_nothing() -> None:
    for chunks in (
        [(b"gAMA", gama(2.2))],
        [(b"gAMA", gama(2.2)), (b"cHRM", chrm(SRGB))],
        [(b"sRGB", b"\0"), (b"gAMA", gama(1.0)), (b"cHRM", chrm(P3))],
        [(b"cHRM", chrm(P3))],
        [(b"gAMA", b"\0\0\0\0")],
        [(b"gAMA", gama(1.0)), (b"cHRM", b"\0" * 32)],
        [(b"cICP", bytes([1, 13, 0, 1])), (b"gAMA", gama(1.0))],
    ):
        assert (of_png(*chunks) == ROW).all(), chunks


def test_cicp_goes_before_a_profile_and_a_profile_before_srgb() -> None:
    import zlib

    iccp = (b"iCCP", b"x\0\0" + zlib.compress(matrix(to_d50(ADOBE).T.tolist(), 1.8)))
    near(of_png((b"cICP", bytes([12, 13, 0, 1])), iccp), expected(ROW, P3, None))
    near(of_png(iccp, (b"sRGB", b"\0"), (b"gAMA", gama(1.0))), expected(ROW, ADOBE, 461 / 256))
    near(of_png((b"cICP", bytes([9, 8, 0, 1]))), expected(ROW, BT2020, 1.0))


@pytest.mark.parametrize(
    "code", [(9, 16, 0, 1), (9, 18, 0, 1), (1, 13, 1, 1), (1, 13, 0, 0), (3, 13, 0, 1), (1, 11, 0, 1)]
)
def test_cicp_that_cannot_be_shown_is_refused(code: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"high dynamic range|colours of a kind that is not read"):
        of_png((b"cICP", bytes(code)))


def avif(*code: int) -> bytes:
    encoded = saved(Image.new("RGB", (16, 16), (200, 100, 50)), "AVIF", quality=100, subsampling="4:4:4")
    place = encoded.index(b"nclx") + 4
    return encoded[:place] + struct.pack(">HH", *code) + encoded[place + 4 :]


def test_an_avif_tells_its_colours_by_number() -> None:
    assert coded(1, 13) == coded(2, 2) == coded(1, 1)
    pixel = np.array([200, 100, 50])
    near(array(avif(1, 13))[0, 0], pixel, 2)
    near(array(avif(12, 13))[0, 0], expected(pixel, P3, None), 3)
    for transfer, told in ((16, "PQ"), (18, "HLG")):
        with pytest.raises(DataError, match=rf"high dynamic range \({told}\).*save it"):
            opaque(avif(9, transfer))


def test_a_jpeg_2000_tells_its_colours_in_a_box() -> None:
    encoded = saved(Image.fromarray(COLOURS), "JPEG2000")
    assert (array(encoded) == COLOURS).all()
    place = encoded.index(b"colr") - 4
    box = encoded[place : place + struct.unpack_from(">I", encoded, place)[0]]
    icc = b"\2\0\0" + matrix(to_d50(P3).T.tolist(), 2.2)
    start = encoded.index(b"jp2h") - 4

    def instead(content: bytes) -> bytes:
        new = struct.pack(">I4s", 8 + len(content), b"colr") + content
        size = struct.unpack_from(">I", encoded, start)[0] + len(new) - len(box)
        changed = encoded.replace(box, new)
        return changed[:start] + struct.pack(">I", size) + changed[start + 4 :]

    near(array(instead(icc)), expected(COLOURS, P3, 563 / 256))
    with pytest.raises(DataError, match=r"JPEG 2000's number 21"):
        opaque(instead(b"\1\0\0" + struct.pack(">I", 21)))


def test_a_bmp_may_hold_a_profile() -> None:
    icc = matrix(to_d50(P3).T.tolist(), 2.2)
    rows = COLOURS[::-1, :, ::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 124, 16, 16, 1, 24, 0, len(rows), 0, 0, 0, 0).ljust(56, b"\0") + b"DEBM"
    header = header.ljust(112, b"\0") + struct.pack("<III", 124 + len(rows), len(icc), 0)
    encoded = b"BM" + struct.pack("<IHHI", 138 + len(rows) + len(icc), 0, 0, 138) + header + rows + icc
    near(array(encoded), expected(COLOURS, P3, 563 / 256))
    assert (array(encoded.replace(b"DEBM", b"BGRs")) == COLOURS).all()
