"""Letters of any script in a drawing: by installed fonts that have them, else words in their place."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Collection

FONT = "DejaVu Sans"
"""It comes with matplotlib, so it is always there."""
_PREFERRED = ("Noto Sans CJK", "Noto Sans", "Noto", "Droid", "Source Han", "WenQuanYi", "Unifont")
"""Beginnings of the names of fonts with many letters, which are tried first."""
_MOST_FONTS = 6
"""Further fonts for one text, so that drawing stays fast."""


def drawable(text: str) -> str:
    """The text, letters that no font here has given in words: "a [3 CJK letters] sign"."""
    absent = missing(text)
    if not absent:
        return text
    parts = itertools.groupby(text, key=lambda letter: _script(letter) if letter in absent else "")
    return "".join(_in_words(script, len(list(letters))) if script else "".join(letters) for script, letters in parts)


def missing(text: str) -> frozenset[str]:
    """The letters of a text that no font here has."""
    return _absent(text, families(text))


def families(text: str) -> tuple[str, ...]:
    """Fonts for the text, in the order in which they are tried for each letter."""
    fonts = [FONT]
    absent = _absent(text, (FONT,))
    for font in _others() if absent else ():
        if not absent or len(fonts) > _MOST_FONTS:
            break
        remaining = _absent(absent, (font,))
        if len(remaining) < len(absent):
            fonts.append(font)
            absent = remaining
    return tuple(fonts)


def _absent(letters: Collection[str], fonts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(
        letter
        for letter in letters
        if not any(ord(letter) in _code_points(font) for font in fonts)
        # Joiners, marks of direction and selectors are not drawn themselves.
        and not (letter.isspace() or unicodedata.category(letter) in ("Cf", "Cc") or "\ufe00" <= letter <= "\ufe0f")
    )


@functools.cache
def _files() -> dict[str, str]:
    """Family -> its upright file of normal weight."""
    from matplotlib.font_manager import fontManager

    upright = [entry for entry in fontManager.ttflist if entry.style == "normal"]
    by_weight = sorted(upright, key=lambda entry: abs((entry.weight if isinstance(entry.weight, int) else 400) - 400))
    return {entry.name: entry.fname for entry in reversed(by_weight)}


@functools.cache
def _others() -> tuple[str, ...]:
    names = [name for name in _files() if name != FONT and not name.startswith(("Last Resort", "cm", "STIX"))]
    return tuple(sorted(names, key=lambda name: ([not name.startswith(begin) for begin in _PREFERRED], name)))


@functools.cache
def _code_points(font: str) -> frozenset[int]:
    """The code points of a font; none for one that matplotlib cannot draw, such as fonts of coloured pictures."""
    from matplotlib.ft2font import FT2Font

    try:
        opened = FT2Font(_files()[font])
        return frozenset(opened.get_charmap()) if opened.scalable else frozenset()
    except (KeyError, OSError, RuntimeError, ValueError):
        return frozenset()


def _script(letter: str) -> str:
    """How a letter is named: by its script if it is of an alphabet, a sign by its own name."""
    name = unicodedata.name(letter, f"U+{ord(letter):04X}")
    return name.split()[0].split("-")[0] if unicodedata.category(letter)[0] in "LMN" else name.lower()


def _in_words(script: str, count: int) -> str:
    if script != script.lower() and not script.startswith("U+"):
        return f"[{count} {script if script == 'CJK' else script.title()} letter{'' if count == 1 else 's'}]"
    return f"[{script}]" if count == 1 else f"[{count} x {script}]"
