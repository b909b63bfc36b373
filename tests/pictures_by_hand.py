"""Image files and colour profiles made byte by byte, so that what they mean is known without any library."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

SIDE = 8


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(depth: int, colour: int, row: bytes, *more: tuple[bytes, bytes], width: int = SIDE) -> bytes:
    """Every row the same."""
    header = struct.pack(">IIBBBBB", width, SIDE, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *more, (b"IDAT", zlib.compress((b"\0" + row) * SIDE)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


def tiff(tags: dict[int, tuple[int, ...]], strip: bytes, order: str = "<", side: int = SIDE) -> bytes:
    """Uncompressed, in one strip unless StripOffsets (273) has more; they are counted from the strips' start."""
    every = {256: (side,), 257: (side,), 259: (1,), 273: (0,), 278: (side,), 279: (len(strip),), **tags}
    wide = {273, 279}
    head = 8 + 2 + 12 * len(every) + 4
    extra = b""

    def field(number: int, values: Sequence[int], start: int) -> bytes:
        nonlocal extra
        code, kind = ("I", 4) if number in wide else ("H", 3)
        shifted = [value + start if number == 273 else value for value in values]
        packed = struct.pack(f"{order}{len(shifted)}{code}", *shifted)
        if len(packed) > 4:
            place = head + len(extra)
            extra += packed
            packed = struct.pack(f"{order}I", place)
        return struct.pack(f"{order}HHI", number, kind, len(values)) + packed.ljust(4, b"\0")

    sizes = sum(len(v) * (4 if n in wide else 2) for n, v in every.items() if len(v) * (4 if n in wide else 2) > 4)
    fields = b"".join(field(number, every[number], head + sizes) for number in sorted(every))
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IH", 8, len(every)) + fields + b"\0\0\0\0" + extra + strip


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr", pcs: bytes = b"XYZ ") -> bytes:
    """An ICC profile of version 2."""
    start, entries, data = 128 + 4 + 12 * len(tags), b"", b""
    for name, content in tags.items():
        content = content.ljust(-(-len(content) // 4) * 4, b"\0")
        entries += name + struct.pack(">II", start + len(data), len(content))
        data += content
    header = struct.pack(">I4xI4s4s4s12x4s", start + len(data), 0x02200000, kind, space, pcs, b"acsp").ljust(68, b"\0")
    return (header + fixed(0.9642, 1, 0.8249)).ljust(128, b"\0") + struct.pack(">I", len(tags)) + entries + data


def fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65536) for number in numbers))


def xyz(*numbers: float) -> bytes:
    return b"XYZ \0\0\0\0" + fixed(*numbers)


def gamma(exponent: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(exponent * 256))


def matrix(columns: Sequence[Sequence[float]], exponent: float) -> bytes:
    """Of RGB: the colorants in the space that profiles are joined in, and one curve."""
    tags = {b"wtpt": xyz(0.9642, 1, 0.8249)}
    tags |= {name: xyz(*column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns, strict=True)}
    return profile(b"RGB ", tags | {name: gamma(exponent) for name in (b"rTRC", b"gTRC", b"bTRC")})


def grey(exponent: float) -> bytes:
    return profile(b"GRAY", {b"wtpt": xyz(0.9642, 1, 0.8249), b"kTRC": gamma(exponent)})


def cmyk(corners: Sequence[tuple[int, int, int]]) -> bytes:
    """By a table of 2 points an ink: Lab of the 16 corners, black ink changing fastest, each 0..255 as lut8 has it."""
    straight = bytes(range(256))
    table = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    table += straight * 4 + bytes(value for corner in corners for value in corner) + straight * 3
    return profile(b"CMYK", {b"wtpt": xyz(0.9642, 1, 0.8249), b"A2B0": table}, b"prtr", b"Lab ")
