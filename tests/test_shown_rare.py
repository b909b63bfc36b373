"""Kinds of files that few data sets hold are shown rightly or refused too."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image

from harness.data.decode import opaque
from harness.errors import DataError
from test_shown import WHITE, everywhere, saved, words

PORTABLE = {
    "grey, 10 bits": (b"P5 2 2 1023\n" + words(512, 512, 512, 512), (128,) * 3),
    "grey, 8 bits of 100": (b"P5 2 2 100\n" + bytes([50] * 4), (127,) * 3),
    "colour, 16 bits": (b"P6 2 2 65535\n" + words(65535, 0, 32768) * 4, (255, 0, 128)),
    "bits, 1 is black": (b"P4 8 2\n\xff\xff", (0, 0, 0)),
    "text": (b"P3 1 2 255\n9 8 7 9 8 7\n", (9, 8, 7)),
}


@pytest.mark.parametrize("name", PORTABLE)
def test_portable_maps_are_scaled_by_their_largest_value(name: str) -> None:
    encoded, expected = PORTABLE[name]
    assert np.abs(np.subtract(everywhere(encoded), expected)).max() <= 1


def test_portable_floating_point_maps_are_refused() -> None:
    with pytest.raises(DataError, match="kind that is not read"):
        opaque(b"Pf\n2 2\n-1.0\n" + bytes(16))


def test_a_tga_is_opaque_unless_its_header_speaks_of_opacity() -> None:
    encoded = bytearray(saved(Image.new("RGBA", (4, 4), (10, 20, 30, 0)), "TGA"))
    assert encoded[17] & 15 == 8 and everywhere(bytes(encoded)) == WHITE
    encoded[17] &= 0xF0
    assert everywhere(bytes(encoded)) == (10, 20, 30)


def test_a_photoshop_file_with_a_fourth_channel_is_refused() -> None:
    def psd(channels: int) -> bytes:
        head = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, 4, 4, 8, 3)
        return head + struct.pack(">III", 0, 0, 0) + words(0) + bytes([10] * 16 + [20] * 16 + [30] * 16 + [0] * 16)

    assert everywhere(psd(3)) == (10, 20, 30)
    with pytest.raises(DataError, match="fourth channel, opacity or a selection"):
        opaque(psd(4))


def test_bits_of_a_drawing_are_black_on_white() -> None:
    assert everywhere(b"#define i_width 8\n#define i_height 1\nstatic char i_bits[] = {\n0xff };\n") == (0, 0, 0)
