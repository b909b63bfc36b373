"""What a source of captioned images is, and what it gives: records in order, clean captions, and what it left out."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import ClassVar

from harness.data.image_files import IMAGE_SUFFIXES
from harness.data.reading import list_choices, need_column, printable, refuse_nul
from harness.errors import DataError
from harness.settings import DataConfig
from harness.text import is_utf8, without_halves

NO_CAPTIONS = frozenset(("nan", "NaN", "NAN", "None", "none", "null", "NULL", "NA", "N/A", "n/a", "<NA>", "#N/A"))
"""What programs write in the place of a text that is missing."""
_MARK = "\ufeff"
"""What some programs write at the beginning of a text, and is in its middle where such texts were joined."""
_AS_CODE = re.compile(r"[\[({]\s*(['\"]).*\1[\s,]*[\])}]", re.DOTALL)
"""A list of texts written as programs do, such as ['a cat', 'a dog'], or an object."""


@dataclass(frozen=True)
class Record:
    """One captioned image, not yet decoded."""

    key: str
    """What the picture is, whatever its order and size: decides on which side of the split it falls."""
    captions: tuple[str, ...]
    """The main caption first, then the others, none empty. Without any it is a bad one, unless data.uncaptioned keeps
    it."""
    where: str
    """The file, and the place in it, as an error message names it."""
    stamp: str
    """Changes when the encoded image may have changed, known without reading it; see `reading.stamp`."""
    read: Callable[[], bytes]
    """The encoded image. Raises DataError or OSError, which make it a bad one; `where` is put in front of them."""
    fault: str = ""
    """Why it is a bad one, where that is known without reading the image."""
    no_caption: str = ""
    """Why it has no caption, where something says it, such as which text is not there."""
    name: str = ""
    """What its file is called, where others may be called so too, such as rows that hold one picture. It becomes the
    key in the end if every picture has a name of its own."""


class Records(list[Record]):
    """Records sorted by key, and in `left_out` a line for each kind of thing that is not among them."""

    left_out: tuple[str, ...] = ()


class Source:
    """A kind of data. It must be picklable, and cheap until `records` is called."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("path",)
    """Settings of `data:` that must be given, such as ("path", "images")."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Further settings of `data:` that it reads."""
    places: ClassVar[tuple[str, ...]] = ("path",)
    """Those of both that are paths of this machine."""
    attribution: ClassVar[str] = ""
    """Whom to credit, empty if unknown."""

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def records(self) -> Sequence[Record]:
        """All records, each key once, sorted by key; no image is read. Raises DataError for what is wrong with the
        whole or with hostile content; a single missing image or caption is left to be listed among the bad ones."""
        raise NotImplementedError


class LeftOut:
    """What of a source is not among its records, counted by the reason, with an example of each."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, noun: str, reason: str, example: object, count: int = 1) -> None:
        """`count` more things called `noun`, such as "file" and "without a suffix", are left out; none for 0."""
        self.note(noun, f"{reason}, left out", example, count)

    def note(self, noun: str, state: str, example: object, count: int = 1) -> None:
        """As `add`, of things that are not left out and are worth a look."""
        if count:
            before, first = self._counts.get((noun, state), (0, printable(example)))
            self._counts[noun, state] = before + count, first

    def add_file(self, name: str) -> None:
        """A file that is neither an image nor anything else that is read."""
        suffix = os.path.splitext(name)[1].lower()
        self.add("file", f"ending in {printable(suffix)}" if suffix else "without a suffix", name)

    def note_doubtful(self, captions: Iterable[str], where: str) -> None:
        """Captions probably not meant as they are: one of NO_CAPTIONS, or a list of several written as text."""
        for caption in captions:
            if caption in NO_CAPTIONS:
                self.note("caption", f"reading {caption!r}, as programs write a missing one, taken as it stands", where)
            elif caption[0] in "[({" and _AS_CODE.fullmatch(caption):
                self.note("caption", "written as a list or object of texts, taken as one text as it stands", where)

    def lines(self) -> tuple[str, ...]:
        """One per reason: "3 files ending in .svg, left out: such as a/b.svg"."""
        lines = []
        for (noun, state), (count, example) in self._counts.items():
            if count > 1:
                noun, example = f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s", f"such as {example}"
            lines.append(f"{count:,} {noun} {state}: {example}")
        return tuple(lines)


def in_order(records: Iterable[Record], what: str, fix: str, left_out: LeftOut) -> Records:
    """Records sorted by key. Raises DataError for none at all, for two records of one key and for a key that is not
    UTF-8; `fix` says what to put into `what` when there are none."""
    ordered = Records(sorted(records, key=lambda record: record.key))
    for record in ordered:
        if not is_utf8(record.key):
            raise DataError(f"{record.where}: the name {record.key!r} is not UTF-8; rename it")
        left_out.note_doubtful(record.captions, record.where)
    for one, other in itertools.pairwise(ordered):
        if one.key == other.key:
            raise DataError(f"{one.where} and {other.where} have the same name {one.key!r}; rename one of them")
    ordered.left_out = left_out.lines()
    if not ordered:
        raise DataError("; ".join((f"{what} holds no captioned image; {fix}", *ordered.left_out)))
    return ordered


def clean_captions(captions: Iterable[object], where: str) -> tuple[str, ...]:
    """Captions stripped, empty ones dropped, each once. Raises DataError when one is no text."""
    texts = []
    for caption in captions:
        if not isinstance(caption, str):
            raise DataError(f"{where}: a caption must be text, not {caption!r}")
        refuse_nul(caption, f"{where}: a caption")
        texts.append(" ".join(without_halves(caption).replace(_MARK, "").split()))
    return tuple(dict.fromkeys(filter(_is_seen, texts)))


def _is_seen(text: str) -> bool:
    """Whether something of it would be printed: not of a zero-width space or a soft hyphen alone."""
    return any(unicodedata.category(character) not in ("Cf", "Cc", "Zs") for character in text)


def caption_lines(text: str, where: str) -> tuple[str, ...]:
    """One caption per line that is not empty."""
    return clean_captions(text_lines(text), where)


def text_lines(text: str) -> list[str]:
    """Lines that end as those of any system do."""
    return re.split(r"\r\n|\r|\n", text)


def field_captions(value: object, where: str, left_out: LeftOut) -> tuple[str, ...]:
    """Captions of a field that holds one text, several or nothing; empty ones of several are counted. Raises DataError
    for anything else."""
    if value is not None and not isinstance(value, str | list):
        raise DataError(f"{where}: a caption must be text or a list of texts, not {value!r:.80}")
    values = value if isinstance(value, list) else [value]
    captions = clean_captions((each for each in values if each is not None), where)
    empty = sum(each is None or not clean_captions([each], where) for each in values)
    left_out.add("empty caption", "of an image with others", where, empty if captions else 0)
    return captions


def has_captions(config: DataConfig, columns: Collection[str], where: str, left_out: LeftOut) -> bool:
    """Whether the column of captions is one of `columns`. Raises DataError if it is not, unless images without a
    caption are kept: then it is noted."""
    column = config.caption_column
    if column not in columns and config.uncaptioned == "keep":
        state = f"without the column {column!r} (data.caption_column), so without captions"
        left_out.note("table", f"{state}; {list_choices(column, columns)}", where)
        return False
    need_column(column, "data.caption_column", columns, where)
    return True


def key_of(name: str) -> str:
    """A relative path as the key of its image: normalised, without the suffix of images."""
    path = os.path.normpath(name)
    stem, suffix = os.path.splitext(path)
    return stem if suffix.lower() in IMAGE_SUFFIXES else path


def row_keys(paths: Sequence[str | None]) -> list[tuple[str, str]]:
    """Key and name of rows that hold their images. The stored file names' stems are the keys if all are there and
    differ; else keys are numbers, and the stems that are there are names."""
    stems = [key_of(PurePosixPath(path.replace("\\", "/")).name) if path else "" for path in paths]
    if all(stems) and max(Counter(stems).values(), default=0) == 1:
        return [(stem, "") for stem in stems]
    return [(f"{row:09d}", stem) for row, stem in enumerate(stems)]
