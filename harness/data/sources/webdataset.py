"""WebDataset tars, read in place: members are found by their headers and read by offset, nothing is extracted."""

from __future__ import annotations

import functools
import itertools
import os
import posixpath
import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from harness.data import reading
from harness.data.image_files import is_image
from harness.data.reading import printable
from harness.data.sources.matching import count_missing_parts
from harness.data.sources.record import (
    LeftOut,
    Record,
    Records,
    Source,
    caption_lines,
    field_captions,
    has_captions,
    in_order,
)
from harness.errors import DataError
from harness.text import are, quantity

MAX_TARS = 100_000
_PICKLED = ("pyd", "pkl", "pickle", "pth", "pt")
_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_META = re.compile(r"__[^/]*__($|/)")
"""Names that the webdataset library keeps for what describes the tar."""
_FIX = "write or copy the tar again"


class WebDataset(Source):
    """`path` is a tar, a folder of tars or a pattern such as shards-{000..010}.tar.

    The members of a sample share their name up to the first dot. One is an image; the captions are the lines of the
    one that ends in .txt or, without it, the field `caption_column` of the one that ends in .json.
    """

    name = "webdataset"
    reads = ("caption_column",)

    def records(self) -> Records:
        """Every sample that has an image. Raises DataError."""
        where, column, records = printable(self._config.path), self._config.caption_column, list[Record]()
        left_out, fields = LeftOut(), set[str]()
        for path in _tars(self._config.path, left_out):
            with reading.as_data_error(printable(path), _FIX):
                records += _Tar(path, column, fields, left_out).records()
        if column in fields:
            reading.need_column(column, "data.caption_column", fields, f"{where}: a .json member")
        elif fields and not any(record.captions for record in records):
            has_captions(self._config, fields, f"{where}: a .json member", left_out)
        _refuse_twins(records)
        fix = "put into the tars an image and a .txt or .json of the same name per sample"
        return in_order(records, where, fix, left_out)


def _refuse_twins(records: Sequence[Record]) -> None:
    """Raises DataError for tars that each count from 0, as samples are told apart by their keys alone."""
    counts = Counter(record.key for record in records)
    if twice := [key for key, count in counts.items() if count > 1]:
        one, other, *_ = (record.where for record in records if record.key == twice[0])
        count = f"{quantity(len(twice), 'key')} {are(len(twice))} in several tars"
        fix = "write them anew, with keys that differ from tar to tar"
        raise DataError(f"{one} and {other} have the same name {twice[0]!r}; {count}: {fix}")


def _tars(pattern: str, left_out: LeftOut) -> list[Path]:
    if os.path.isdir(pattern):
        folder, tars = reading.folder_at(pattern, "data.path"), []
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                left_out.add("folder", "within that of the tars", path)
            elif path.name.lower().endswith((".tar", *_COMPRESSED)):
                tars.append(path)
            elif not path.name.startswith("."):
                left_out.add_file(str(path))
        if not tars:
            raise DataError(f"data.path: {printable(folder)} holds no .tar; give the folder that the tars are in")
    elif "{" in pattern and not os.path.exists(pattern):
        tars = [reading.file_at(name, "data.path") for name in _expand(pattern)]
    else:
        tars = [reading.file_at(pattern, "data.path")]
    count_missing_parts((path.name for path in tars), left_out)
    for path in tars:
        with reading.as_data_error(printable(path), _FIX), path.open("rb") as stream:
            kind = reading.archive_kind(stream.read(8))
        if kind or path.name.lower().endswith(_COMPRESSED):
            raise DataError(f"{printable(path)} is compressed, so single images cannot be read from it; decompress it")
    return tars


def _expand(pattern: str) -> list[str]:
    with reading.as_data_error(f"data.path: {printable(pattern)}", "write a pattern such as shards-{000..010}.tar"):
        from braceexpand import braceexpand  # all that webdataset itself does; importing that one loads torch

        # The library makes the whole list of a range before the first name: large ranges are refused before.
        spans = [abs(int(last[:19]) - int(first[:19])) for first, last in _RANGE.findall(pattern)]
        names = []
        if all(span <= MAX_TARS for span in spans):
            names = list(itertools.islice(braceexpand(pattern), MAX_TARS + 1))
        if not 0 < len(names) <= MAX_TARS:
            raise DataError(
                f"data.path: {printable(pattern)} names more than {MAX_TARS:,} tars; write a shorter pattern"
            )
        return names


def split_name(name: str) -> tuple[str, str]:
    """Key and extension by the rule of the webdataset library, which cuts at the first dot of the file's own name.
    Hidden files have no extension, and so no part in a sample."""
    folder, file = posixpath.split(name)
    stem, _, extension = file.partition(".")
    return posixpath.join(folder, stem), extension.lower() if stem else ""


class _Tar:
    """One tar. `fields` gathers the names of what .json members hold, `left_out` what is not among the records."""

    def __init__(self, path: Path, caption_column: str, fields: set[str], left_out: LeftOut) -> None:
        self._path, self._column, self._fields, self._left_out = path, caption_column, fields, left_out

    def records(self) -> Iterator[Record]:
        whole = reading.stamp(self._path)
        for key, members in self._samples().items():
            image = self._image(members)
            if not image:
                kinds = " and ".join(f".{printable(extension)}" for extension in sorted(members))
                self._left_out.add("sample", f"of {kinds} without an image", self._where(key))
                continue
            read = functools.partial(_read, self._path, image.offset_data, image.size)
            mark = f"{whole} {image.offset_data} {image.size}"
            captions, missing = self._captions(key, members)
            yield Record(key, captions, self._where(image.name), mark, read, no_caption=missing)

    def _where(self, name: str) -> str:
        return f"{printable(self._path)}: {printable(name)}"

    def _samples(self) -> dict[str, dict[str, tarfile.TarInfo]]:
        """Key -> extension -> member."""
        samples: dict[str, dict[str, tarfile.TarInfo]] = {}
        end = self._path.stat().st_size
        with tarfile.open(self._path, "r:") as tar:
            while member := tar.next():
                _refuse(member, end, self._where(member.name))
                if not member.isfile():
                    continue
                key, extension = split_name(member.name)
                if not extension or _META.match(member.name):
                    kind = "hidden, without a suffix or of what describes the tar"
                    self._left_out.add("member", kind, member.name)
                    continue
                sample = samples.setdefault(posixpath.normpath(key), {})
                if extension in sample:
                    raise DataError(f"{self._where(member.name)} is there twice; write the tar again")
                sample[extension] = member
            after = tar.offset
        # The reader takes a damaged header for the end, and would silently leave out all that follows.
        rest = _bytes_at(self._path, after, 2**20)
        if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):
            raise DataError(f"{printable(self._path)} is cut off or damaged at byte {after:,}; {_FIX}")
        return samples

    def _image(self, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
        """The member that is an image; of several the one with a plain extension, such as .jpg beside .mask.png."""
        images = {extension: member for extension, member in members.items() if is_image(f".{extension}")}
        plain = {extension: member for extension, member in images.items() if "." not in extension}
        if len(images) > 1 and plain:
            for extension in images.keys() - plain.keys():
                state = f"ending in .{printable(extension)} beside another"
                self._left_out.add("image", state, images[extension].name)
            images = plain
        if len(images) > 1:
            one, other = sorted(member.name for member in images.values())[:2]
            raise DataError(f"{self._where(one)}: the sample has another image, {printable(other)}; leave one of them")
        return next(iter(images.values()), None)

    def _captions(self, key: str, members: dict[str, tarfile.TarInfo]) -> tuple[tuple[str, ...], str]:
        """The captions of a sample, and why there are none."""
        extension = "txt" if "txt" in members else "json"
        text = members.get(extension)
        if text is None:
            beside = " and ".join(printable(member.name) for member in members.values())
            return (), f"no caption: {printable(key)}.txt and .json are not in the tar, which has {beside}"
        where = self._where(text.name)
        content = reading.decode_text(_content(self._path, text.offset_data, text.size, where), where)
        if extension == "txt":
            captions, reason = caption_lines(content, where), "is empty"
        elif not content.strip():
            captions, reason = (), "is empty"
        else:
            fields = reading.parse_json(content, where)
            if not isinstance(fields, dict):
                raise DataError(f"{where} must hold an object, not a {type(fields).__name__}")
            self._fields.update(fields)
            captions = field_captions(fields.get(self._column), where, self._left_out)
            reason = f"holds no text under {self._column!r} (data.caption_column)"
        return captions, "" if captions else f"no caption: {printable(key)}.{extension} {reason}"


def _refuse(entry: tarfile.TarInfo, end: int, where: str) -> None:
    """Raises DataError for a member that is no plain file or folder, or would lie outside."""
    if entry.name.startswith("/") or ".." in PurePosixPath(entry.name).parts:
        raise DataError(f"{where} leads out of the tar; name all members relative to it")
    if not (entry.isdir() or entry.isreg()) or entry.issparse():
        raise DataError(f"{where} is a link, a device or the like; put the file itself into the tar")
    if entry.name.lower().rsplit(".", 1)[-1] in _PICKLED:
        raise DataError(f"{where} is pickled, which may hold code and is never read; leave it out of the tar")
    if entry.size < 0 or entry.offset_data + entry.size > end:
        raise DataError(f"{where} goes on after the end of the file; {_FIX}")
    if not is_image(entry.name):  # an image is a bad one, when it is read
        reading.refuse_large(entry.size, where)


def _bytes_at(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size)


def _content(path: Path, offset: int, size: int, where: str = "") -> bytes:
    """All of a member. Raises DataError, which begins with `where`."""
    content = _bytes_at(path, offset, size)
    if len(content) < size:
        raise DataError(f"{where} ends after {len(content):,} of {size:,} bytes; {_FIX}".lstrip())
    return content


def _read(path: Path, offset: int, size: int) -> bytes:
    """An encoded image."""
    reading.refuse_large(size)
    return reading.check_encoded(_content(path, offset, size))
