"""WebDataset tars, read in place: members are found by their headers and read by offset, nothing is extracted."""

from __future__ import annotations

import functools
import itertools
import os
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from harness.data.formats import is_image
from harness.data.sources.numbers import gaps
from harness.data.sources.reading import (
    allowed,
    captions_of,
    checked,
    faults_of,
    file_at,
    folder_at,
    lines_of,
    need_column,
    packed_as,
    parsed,
    text_of,
)
from harness.data.sources.record import LeftOut, Record, Records, in_order, shown, stamp
from harness.errors import DataError
from harness.settings import DataConfig

MAX_TARS = 100_000
_PICKLED = ("pyd", "pkl", "pickle", "pth", "pt")
_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_META = re.compile(r"__[^/]*__($|/)")
_FIX = "write or copy the tar again"


class Shards:
    """`path` is a tar, a folder of tars or a pattern such as shards-{000..010}.tar.

    The members of a sample share their name up to the first dot. One is an image; the captions are the lines of the
    one that ends in .txt or, without it, the field `caption_column` of the one that ends in .json.
    """

    name: ClassVar[str] = "webdataset"
    needs: ClassVar[tuple[str, ...]] = ("path",)
    reads: ClassVar[tuple[str, ...]] = ("caption_column",)
    places: ClassVar[tuple[str, ...]] = ("path",)
    attribution = ""

    def __init__(self, config: DataConfig) -> None:
        self._config = config

    def records(self) -> Records:
        """Every sample that has an image. Raises DataError."""
        where, found, told = shown(self._config.path), list[Record](), _Told(set(), LeftOut())
        column = self._config.caption_column
        for path in _tars(self._config.path, told.left_out):
            with faults_of(shown(path), _FIX):
                found += _Tar(path, column, told).records()
        if column in told.fields:
            need_column(column, "data.caption_column", told.fields, f"{where}: a .json member")
        elif told.fields and not any(record.captions for record in found):
            need_column(column, "data.caption_column", told.fields, f"{where}: no .json member")
        fix = "put into the tars an image and a .txt or .json of the same name per sample"
        return in_order(found, where, fix, told.left_out)


def _tars(pattern: str, left_out: LeftOut) -> list[Path]:
    if os.path.isdir(pattern):
        folder = folder_at(pattern, "data.path")
        tars = _tars_in(folder, left_out)
        if not tars:
            raise DataError(f"data.path: {shown(folder)} holds no .tar; give the folder that the tars are in")
    elif "{" in pattern and not os.path.exists(pattern):
        tars = [file_at(name, "data.path") for name in _expanded(pattern)]
    else:
        tars = [file_at(pattern, "data.path")]
    gaps((path.name for path in tars), left_out)
    for path in tars:
        _refuse_compressed(path)
    return tars


def _tars_in(folder: Path, left_out: LeftOut) -> list[Path]:
    """The tars of the folder itself; what else it holds is counted."""
    tars = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            left_out.add("folder", "within that of the tars", path)
        elif path.name.lower().endswith((".tar", *_COMPRESSED)):
            tars.append(path)
        elif not path.name.startswith("."):
            left_out.file(str(path))
    return tars


def _expanded(pattern: str) -> Sequence[str]:
    with faults_of(f"data.path: {shown(pattern)}", "write a pattern such as shards-{000..010}.tar"):
        from braceexpand import braceexpand  # all that webdataset itself does; importing that one loads torch

        # The library makes the list of a range before anybody can stop it.
        spans = (abs(int(last[:19]) - int(first[:19])) for first, last in _RANGE.findall(pattern))
        names = (
            [] if any(span > MAX_TARS for span in spans) else list(itertools.islice(braceexpand(pattern), MAX_TARS + 1))
        )
        if not 0 < len(names) <= MAX_TARS:
            raise DataError(f"data.path: {shown(pattern)} names more than {MAX_TARS:,} tars; write a shorter pattern")
        return names


def _refuse_compressed(path: Path) -> None:
    with faults_of(shown(path), _FIX), path.open("rb") as stream:
        kind = packed_as(stream.read(8))
    if kind or path.name.lower().endswith(_COMPRESSED):
        raise DataError(f"{shown(path)} is compressed, which leaves no way to read one image of it; decompress it")


def split_name(name: str) -> tuple[str, str]:
    """Key and extension by the rule of the webdataset library, which cuts at the first dot of the file's own name.

    Hidden files have no extension, and so no part in a sample.
    """
    folder, file = posixpath.split(name)
    stem, _, extension = file.partition(".")
    return posixpath.join(folder, stem), extension.lower() if stem else ""


@dataclass(frozen=True)
class _Member:
    """Where in its tar a file lies."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class _Told:
    """What all tars say."""

    fields: set[str]
    """The names of what their .json members hold."""
    left_out: LeftOut


class _Tar:
    """One tar."""

    def __init__(self, path: Path, caption_column: str, told: _Told) -> None:
        self._path, self._column, self._all = path, caption_column, told

    def records(self) -> Iterator[Record]:
        whole = stamp(self._path)
        for key, members in self._samples().items():
            image = self._image(members)
            if not image:
                kinds = " and ".join(f".{shown(extension)}" for extension in sorted(members))
                self._all.left_out.add("sample", f"of {kinds} without an image", self._told(key))
                continue
            read = functools.partial(_read, self._path, image.offset, image.size)
            mark, captions = f"{whole} {image.offset} {image.size}", self._captions(members)
            fault = "" if captions else f"no caption: {self._lack(key, members)}"
            yield Record(key, captions, self._told(image.name), mark, read, fault)

    def _lack(self, key: str, members: dict[str, _Member]) -> str:
        """Why there is none."""
        if "txt" in members:
            return f"{shown(key)}.txt is empty"
        if "json" in members:
            return f"{shown(key)}.json holds no text under {self._column!r} (data.caption_column)"
        beside = " and ".join(shown(member.name) for member in members.values())
        return f"{shown(key)}.txt and .json are not in the tar, which has {beside}"

    def _told(self, name: str) -> str:
        return f"{shown(self._path)}: {shown(name)}"

    def _samples(self) -> dict[str, dict[str, _Member]]:
        """Key -> extension -> member."""
        samples: dict[str, dict[str, _Member]] = {}
        for member in self._members():
            key, extension = split_name(member.name)
            if not extension or _META.match(member.name):
                self._all.left_out.add("member", "hidden, without a suffix or of what describes the tar", member.name)
                continue
            sample = samples.setdefault(posixpath.normpath(key), {})
            if extension in sample:
                raise DataError(f"{self._told(member.name)} is there twice; write the tar again")
            sample[extension] = member
        return samples

    def _members(self) -> Iterator[_Member]:
        end = self._path.stat().st_size
        with tarfile.open(self._path, "r:") as tar:
            while entry := tar.next():
                _refuse(entry, end, self._told(entry.name))
                if entry.isfile():
                    yield _Member(entry.name, entry.offset_data, entry.size)
            self._refuse_rest(tar.offset)

    def _refuse_rest(self, offset: int) -> None:
        """The reader takes a damaged header for the end, and would silently leave out all that follows."""
        with self._path.open("rb") as stream:
            stream.seek(offset)
            rest = stream.read(2**20)
        if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):
            raise DataError(f"{shown(self._path)} is cut off or damaged at byte {offset:,}; {_FIX}")

    def _image(self, members: dict[str, _Member]) -> _Member | None:
        """The member that is an image; of several the one with a plain extension, such as .jpg beside .mask.png."""
        found = {extension: member for extension, member in members.items() if is_image(f".{extension}")}
        if len(found) > 1:
            plain = {extension: member for extension, member in found.items() if "." not in extension}
            for extension in found.keys() - plain.keys() if plain else ():
                self._all.left_out.add("image", f"ending in .{shown(extension)} beside another", found[extension].name)
            found = plain or found
        if len(found) > 1:
            one, other = sorted(member.name for member in found.values())[:2]
            raise DataError(f"{self._told(one)}: the sample has another image, {shown(other)}; leave one of them")
        return next(iter(found.values()), None)

    def _captions(self, members: dict[str, _Member]) -> tuple[str, ...]:
        text = members.get("txt") or members.get("json")
        if text is None:
            return ()
        where = self._told(text.name)
        content = text_of(_read(self._path, text.offset, text.size), where)
        if "txt" in members:
            return lines_of(content, where)
        fields = parsed(content, where)
        if not isinstance(fields, dict):
            raise DataError(f"{where} must hold an object, not a {type(fields).__name__}")
        self._all.fields.update(fields)
        return captions_of(fields.get(self._column), where, self._all.left_out)


def _refuse(entry: tarfile.TarInfo, end: int, told: str) -> None:
    """Raises DataError for a member that is no plain file or folder, or would lie outside."""
    if entry.name.startswith("/") or ".." in PurePosixPath(entry.name).parts:
        raise DataError(f"{told} leads out of the tar; name all members relative to it")
    if not (entry.isdir() or entry.isreg()) or entry.issparse():
        raise DataError(f"{told} is a link, a device or the like; put the file itself into the tar")
    if entry.name.lower().rsplit(".", 1)[-1] in _PICKLED:
        raise DataError(f"{told} is pickled, which may hold code and is never read; leave it out of the tar")
    if entry.size < 0 or entry.offset_data + entry.size > end:
        raise DataError(f"{told} goes on after the end of the file; {_FIX}")
    try:
        allowed(entry.size)
    except DataError as error:
        raise DataError(f"{told} {error}") from error


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        encoded = stream.read(size)
    if len(encoded) < size:
        raise DataError(f"ends after {len(encoded):,} of {size:,} bytes; {_FIX}")
    return checked(encoded)
