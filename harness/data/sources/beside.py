"""Which text file belongs to which image: that of the same name, however its letters and suffixes are written."""

from __future__ import annotations

import functools
import os
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from harness.data.formats import is_image
from harness.data.sources.record import shown

TEXT = ".txt"


class Texts:
    """Texts assigned to images, all given as paths relative to one folder.

    `a.png` has `a.txt`; failing that a text no other image has: `a.TXT`, `a.png.txt`, or the same name with its accents
    composed otherwise, as macOS writes them.
    """

    def __init__(self, images: Collection[str], others: Iterable[str]) -> None:
        self._others = set(others)
        self._texts = {name for name in self._others if name.lower().endswith(TEXT)}
        self._of = {image: text for image in images if (text := expected(image)) in self._texts}
        self._by_name = _grouped((_same(name), name) for name in self.spare())
        self._of |= {image: found[0] for image in images if len(found := self._found(image)) == 1}

    def of(self, image: str) -> str | None:
        """The text of the image, None if there is none."""
        return self._of.get(image)

    def spare(self) -> list[str]:
        """The texts that belong to no image."""
        return sorted(self._texts.difference(self._of.values()))

    def missing(self, image: str) -> str:
        """Which text was looked for, and which files of nearly that name are there."""
        return f"no caption: {shown(expected(image))} is not there{self.near(image)}"

    def near(self, image: str) -> str:
        """The files that may be meant as the image's text, as the end of a message; empty without any."""
        near = self._found(image) or self._alike.get(alike(image), ())
        return f"; there is {' and '.join(map(shown, sorted(near)[:3]))}" if near else ""

    @functools.cached_property
    def _alike(self) -> dict[str, list[str]]:
        return _grouped((alike(name), name) for name in self._others)

    def _found(self, image: str) -> Sequence[str]:
        if image in self._of:
            return ()
        keys = (_same(expected(image)), _same(image + TEXT)) if self._by_name else ()
        return list(dict.fromkeys(name for key in keys for name in self._by_name.get(key, ())))


def expected(image: str) -> str:
    """The name of the text that holds an image's captions."""
    return os.path.splitext(image)[0] + TEXT


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for key, name in pairs:
        found[key].append(name)
    return dict(found)


def same_name(name: str) -> str:
    """Equal for images' names that differ in how accents are composed or in the case of the suffix alone."""
    root, suffix = os.path.splitext(name)
    return unicodedata.normalize("NFC", root) + (suffix.lower() if is_image(suffix) else suffix)


def alike(name: str) -> str:
    """Equal for names that a reader may take for each other: the letters and digits before the suffixes."""
    folder, file = os.path.split(name)
    letters = unicodedata.normalize("NFKC", file.partition(".")[0]).casefold()
    return os.path.join(folder, "".join(filter(str.isalnum, letters)) or letters)


def _same(text: str) -> str:
    """Equal for texts whose names differ in how accents are composed or in the case of a suffix."""
    return same_name(os.path.splitext(text)[0])
