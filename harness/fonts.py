"""Letters of any script in a drawing: fonts that are installed here and have them, else words in their place."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Collection

FONT = "DejaVu Sans"
"""It comes with matplotlib, so that it is everywhere."""
_LIKED = ("Noto Sans CJK", "Noto Sans", "Noto", "Droid", "Source Han", "WenQuanYi", "Unifont")
"""How the names of fonts with many letters begin, before all others."""
_MOST = 6
"""Further fonts in one text."""


def drawable(text: str) -> str:
    """The text, letters that no font here has given in words: "a [3 CJK letters] sign"."""
    lacking = missing(text)
    if not lacking:
        return text
    parts = itertools.groupby(text, key=lambda letter: _script(letter) if letter in lacking else "")
    return "".join(_in_words(script, len(list(letters))) if script else "".join(letters) for script, letters in parts)


def missing(text: str) -> frozenset[str]:
    """The letters of a text that no font here has."""
    return _lacking(frozenset(text), families(text))


def families(text: str) -> tuple[str, ...]:
    """Fonts for the text, those that are asked for a letter first in front."""
    found = [FONT]
    for font in _others() if _lacking(frozenset(text), (FONT,)) else ():
        lacking = _lacking(frozenset(text), tuple(found))
        if not lacking or len(found) > _MOST:
            break
        if len(_lacking(lacking, (font,))) < len(lacking):
            found.append(font)
    return tuple(found)


def _lacking(letters: Collection[str], fonts: tuple[str, ...]) -> frozenset[str]:
    return frozenset(
        letter
        for letter in letters
        if not (letter.isspace() or _unseen(letter) or any(ord(letter) in _has(font) for font in fonts))
    )


def _unseen(letter: str) -> bool:
    """Joiners, marks of direction and selectors, which are not drawn themselves."""
    return unicodedata.category(letter) in ("Cf", "Cc") or "\ufe00" <= letter <= "\ufe0f"


@functools.cache
def _files() -> dict[str, str]:
    """Family -> its upright file of normal weight."""
    from matplotlib.font_manager import fontManager

    upright = [entry for entry in fontManager.ttflist if entry.style == "normal"]
    by_weight = sorted(upright, key=lambda entry: abs((entry.weight if isinstance(entry.weight, int) else 400) - 400))
    found: dict[str, str] = {}
    for entry in by_weight:
        found.setdefault(entry.name, entry.fname)
    return found


@functools.cache
def _others() -> tuple[str, ...]:
    names = [name for name in _files() if name != FONT and not name.startswith(("Last Resort", "cm", "STIX"))]

    def rank(name: str) -> tuple[int, str]:
        return next((place for place, liked in enumerate(_LIKED) if name.startswith(liked)), len(_LIKED)), name

    return tuple(sorted(names, key=rank))


@functools.cache
def _has(font: str) -> frozenset[int]:
    """The code points of a font; none of what matplotlib cannot draw, such as fonts of coloured pictures."""
    from matplotlib.ft2font import FT2Font

    try:
        opened = FT2Font(_files()[font])
        return frozenset(opened.get_charmap()) if opened.scalable else frozenset()
    except (KeyError, OSError, RuntimeError, ValueError):
        return frozenset()


def _script(letter: str) -> str:
    """What to call a letter: the script for those of an alphabet, its own name for a sign."""
    name = unicodedata.name(letter, f"U+{ord(letter):04X}")
    return name.split()[0].split("-")[0] if unicodedata.category(letter)[0] in "LMN" else name.lower()


def _in_words(script: str, count: int) -> str:
    if script != script.lower() and not script.startswith("U+"):
        return f"[{count} {script if script == 'CJK' else script.title()} letter{'' if count == 1 else 's'}]"
    return f"[{script}]" if count == 1 else f"[{count} x {script}]"
