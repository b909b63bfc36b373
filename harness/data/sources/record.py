"""What a source of captioned images is, and what all sources share: records, captions and paths that stay inside."""

from __future__ import annotations

import functools
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from harness.errors import DataError
from harness.settings import DataConfig

MAX_ENCODED = 2**28
"""Bytes of one encoded image; anything larger is refused unread."""
NO_CAPTIONS = frozenset(("nan", "NaN", "NAN", "None", "none", "null", "NULL", "NA", "N/A", "n/a", "<NA>", "#N/A"))
"""What programs write in the place of a text that is missing."""
_AS_CODE = re.compile(r"[\[({]\s*(['\"]).*\1[\s,]*[\])}]", re.DOTALL)
"""A list of texts written as programs do, such as ['a cat', 'a dog'], or an object."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Record:
    """One captioned image, not yet decoded."""

    key: str
    """What the picture is, whatever its order and size: decides on which side of the split it falls."""
    captions: tuple[str, ...]
    """The main caption first, then the others, none empty; an image without any is a bad one."""
    where: str
    """The file, and the place in it, as an error message names it."""
    stamp: str
    """Changes when the encoded image may have changed, known without reading it; see the function of this name."""
    read: Callable[[], bytes]
    """The encoded image. Raises DataError or OSError, which make it a bad one; `where` is put in front of them."""
    fault: str = ""
    """Why it is a bad one, where that is known without reading the image."""
    name: str = ""
    """What its file is called, where others may be called so too, such as rows that hold one picture: its key in the
    end, if no other picture has that name."""


class Records(list[Record]):
    """Records sorted by key, and in `left_out` a line for all of each kind that is not among them."""

    left_out: tuple[str, ...] = ()


class Source(Protocol):
    """A kind of data. Built from the settings, it must be picklable and cheap until `records` is asked."""

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    """Settings of `data:` that must be given, such as ("path", "images")."""
    reads: ClassVar[tuple[str, ...]]
    """Further settings of `data:` that it reads."""
    places: ClassVar[tuple[str, ...]]
    """Those of both that are paths of this machine."""

    def __init__(self, config: DataConfig) -> None: ...

    attribution: str
    """Whom to credit, empty if unknown."""

    def records(self) -> Sequence[Record]:
        """All records, each key once, sorted by key; no image is read. Raises DataError for what is wrong with the
        whole or with hostile content; a single missing image or caption is left to be listed among the bad ones."""
        ...


def _many(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("ry") else f"{noun}s"


class LeftOut:
    """What of a source is not among its records, counted by the reason, with an example of each."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], tuple[int, str]] = {}

    def add(self, noun: str, reason: str, example: object, count: int = 1) -> None:
        """`count` more things called `noun`, such as "file" and "without a suffix", are left out; none for 0."""
        self.tell(noun, f"{reason}, left out", example, count)

    def tell(self, noun: str, state: str, example: object, count: int = 1) -> None:
        """As `add`, of things that are not left out and are worth a look."""
        if count:
            before, first = self._found.get((noun, state), (0, shown(example)))
            self._found[noun, state] = before + count, first

    def file(self, name: str) -> None:
        """A file that is neither an image nor anything else that is read."""
        suffix = os.path.splitext(name)[1].lower()
        self.add("file", f"ending in {shown(suffix)}" if suffix else "without a suffix", name)

    def doubtful(self, captions: Iterable[str], where: str) -> None:
        """Counts those that are most likely not meant as they are: one of NO_CAPTIONS, or a written list of several."""
        for caption in captions:
            if caption in NO_CAPTIONS:
                self.tell("caption", f"reading {caption!r}, as programs write a missing one, taken as it stands", where)
            elif caption[0] in "[({" and _AS_CODE.fullmatch(caption):
                self.tell("caption", "written as a list or object of texts, taken as one text as it stands", where)

    def lines(self) -> tuple[str, ...]:
        """One per reason: "3 files ending in .svg, left out: such as a/b.svg"."""
        return tuple(
            f"{count:,} {noun if count == 1 else _many(noun)} {state}: {'such as ' if count > 1 else ''}{example}"
            for (noun, state), (count, example) in self._found.items()
        )


def stamp(path: Path, *more: object) -> str:
    """The stamp of a file or, with an offset and a size in `more`, of a part of it; a missing file has one too.

    The time of the last change is set by the system alone, and by whatever replaces or restores a file. Inode and
    device are no part of it: some network file systems number their files anew each time.
    """
    try:
        state = os.stat(path)
    except OSError:
        return "missing"
    return " ".join(str(part) for part in (path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, *more))


def stamps_below(folder: Path) -> Iterator[str]:
    """The stamps of all files below a folder, without hidden ones; of links those of what they lead to."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (stamp(Path(parent, file)) for file in files if not file.startswith("."))


def stamp_inside(root: Path | None, name: str | None) -> str:
    """The stamp of a file that a row names, where it may; empty for a row that names none, or one that lies outside."""
    try:
        return stamp(inside(root, name, "its path")) if root and name else ""
    except DataError:
        return ""


def shown(place: object) -> str:
    """A name or path as text that can be printed and stored anywhere: control characters and what is no UTF-8 are
    escaped."""
    text = str(place).encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


def inside(root: Path, name: str, told: str) -> Path:
    """The path of `name` below `root`, links followed. Raises DataError when it leads out; `told` names the entry.

    `root` must have its own links resolved, as `harness.data.sources.reading.folder_at` does.
    """
    try:
        if b"\0" in os.fsencode(name):
            raise ValueError("a null byte")
        folder, file = os.path.split(os.path.join(root, name))
        path = os.path.join(real_folder(folder), file)
        if file in ("", ".", "..") or os.path.islink(path):
            path = os.path.realpath(path)
    except ValueError as error:  # also of half a surrogate pair
        raise DataError(f"{told}: {name!r} is no file name; rename it") from error
    if path != str(root) and not path.startswith(os.path.join(root, "")):
        raise DataError(f"{told}: {name!r} leads out of {shown(root)}; keep all images inside that folder")
    return Path(path)


@functools.lru_cache(maxsize=4096)
def real_folder(folder: str) -> str:
    """The folder itself, links followed; remembered, as a data set has many files and few folders."""
    return os.path.realpath(folder)


def forget_folders() -> None:
    """Look again at where folders lead: for a new listing."""
    real_folder.cache_clear()


def clean(captions: Iterable[object], where: str) -> tuple[str, ...]:
    """Captions stripped, empty ones dropped, each once. Raises DataError when one is no text."""
    found: dict[str, None] = {}
    for caption in captions:
        if not isinstance(caption, str):
            raise DataError(f"{where}: a caption must be text, not {caption!r}")
        text = " ".join(caption.encode("utf-8", "replace").decode().split())
        if text:
            found[text] = None
    return tuple(found)


def in_order(records: Iterable[Record], what: str, fix: str, left_out: LeftOut | None = None) -> Records:
    """Records sorted by key. Raises DataError for none at all, for two records of one key and for a key that is not
    UTF-8; `fix` says what to put into `what` when there are none."""
    ordered, left_out = Records(sorted(records, key=lambda record: record.key)), left_out or LeftOut()
    for record in ordered:
        if _SURROGATE.search(record.key):
            raise DataError(f"{record.where}: the name {record.key!r} is not UTF-8; rename it")
        left_out.doubtful(record.captions, record.where)
    for one, other in itertools.pairwise(ordered):
        if one.key == other.key:
            raise DataError(f"{one.where} and {other.where} have the same name {one.key!r}; rename one of them")
    ordered.left_out = left_out.lines()
    if not ordered:
        told = "".join(f"; {line}" for line in ordered.left_out)
        raise DataError(f"{what} holds no captioned image; {fix}{told}")
    return ordered
