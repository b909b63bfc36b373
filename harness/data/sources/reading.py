"""Reading what others wrote: every fault of a file becomes a DataError that names it, and no read is without bound."""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from harness.data.formats import IMAGE_SUFFIXES
from harness.data.sources.record import MAX_ENCODED, LeftOut, clean, shown
from harness.errors import DataError

MAX_TEXT = 2**30
"""Bytes of a text that is read as one, such as COCO's captions; those of 2017 have 2^27."""
MAX_LINE = 2**22
EXTRA = "pip install 'gan-ablation-harness[data]'"
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf'\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}


@contextlib.contextmanager
def faults_of(what: str, fix: str) -> Iterator[None]:
    """Whatever the reader of a format raises about the file `what` is raised as a DataError that ends with `fix`."""
    try:
        yield
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{what} {_not_utf8(error)}") from error
    except ModuleNotFoundError as error:
        package = str(error.name).split(".")[0]
        raise DataError(f"{what} needs the package {package}: {EXTRA}") from error
    except Exception as error:  # parsers raise whatever damage makes them meet
        reason = " ".join(shown(str(error).replace("\n", " ")).split()) or type(error).__name__
        raise DataError(f"{what} cannot be read: {reason}; {fix}") from error


def folder_at(path: str, setting: str) -> Path:
    """The folder `path`, its links resolved. Raises DataError, naming the setting."""
    return _existing(path, setting, "folder")


def file_at(path: str, setting: str) -> Path:
    """The file `path`, its links resolved. Raises DataError, naming the setting."""
    return _existing(path, setting, "file")


def _existing(path: str, setting: str, kind: str) -> Path:
    if not path:
        raise DataError(f"{setting} is empty: give the path of a {kind}")
    with faults_of(f"{setting}: {shown(path)}", f"give the path of a {kind} that may be read"):
        real = Path(os.path.realpath(path))
        found = real.is_dir() if kind == "folder" else real.is_file()
        there = real.exists()
    if not found:
        other = "a folder, not a file" if real.is_dir() else f"no {kind}"
        state = f"is {other}" if there else "does not exist"
        raise DataError(f"{setting}: {shown(path)} {state}; give the path of a {kind}")
    return real


def read_file(path: Path) -> bytes:
    """An encoded image that is a file of its own. Raises DataError or OSError."""
    if path.exists() and not path.is_file():
        raise DataError("is no regular file; put the image itself there")
    allowed(path.stat().st_size)
    with path.open("rb") as stream:
        return checked(stream.read(MAX_ENCODED))


def allowed(size: int) -> None:
    """Raises DataError for an image too large to be read, before it is."""
    if size > MAX_ENCODED:
        raise DataError(f"holds {size:,} bytes; at most {MAX_ENCODED:,} are read: store it smaller")


def checked(encoded: bytes) -> bytes:
    """The bytes themselves. Raises DataError when they are none at all or an archive."""
    if not encoded:
        raise DataError("is empty, 0 bytes; write or copy it again")
    if kind := packed_as(encoded):
        raise DataError(f"is a {kind} archive, not an image; unpack it")
    allowed(len(encoded))
    return encoded


def packed_as(start: bytes) -> str:
    """The kind of archive or compression that a file's first bytes tell of, empty if none."""
    return next((kind for magic, kind in _ARCHIVES.items() if start.startswith(magic)), "")


def text_of(encoded: bytes, where: str) -> str:
    """UTF-8 as text, without a byte order mark. Raises DataError."""
    try:
        return encoded.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} {_not_utf8(error)}") from error


def _not_utf8(error: UnicodeDecodeError) -> str:
    """What a text is instead, as far as can be said, and what to do."""
    if error.object[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "is not UTF-8 but UTF-16; save it as UTF-8"
    before = error.object[max(0, error.start - 30) : error.start].decode("utf-8", "replace")
    byte = f"0x{error.object[error.start]:02x}"
    return f"is not UTF-8: after {before!r} the byte {byte} is no utf-8, but a letter in Latin-1; save it as UTF-8"


def read_text(path: Path) -> str:
    """The text of a file. Raises DataError."""
    with faults_of(shown(path), "make it a UTF-8 file that may be read"):
        if not path.is_file():
            raise DataError(f"{shown(path)} is no file; put the text itself there")
        if path.stat().st_size > MAX_TEXT:
            raise DataError(f"{shown(path)} holds {path.stat().st_size:,} bytes; at most {MAX_TEXT:,} are read")
        return text_of(path.read_bytes(), shown(path))


def short_lines(stream: TextIO, where: str) -> Iterator[str]:
    """The lines of a file that is not read whole. Raises DataError for one of megabytes."""
    for line in iter(functools.partial(stream.readline, MAX_LINE + 1), ""):
        if len(line) > MAX_LINE:
            raise DataError(f"{where} has a line of more than {MAX_LINE:,} characters; write it again as text")
        yield line


def parsed(text: str, where: str) -> Any:
    """The JSON content. Raises DataError with the place of the fault, also for an object that has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=functools.partial(each_once, where=where))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no valid JSON: {error}; write or copy it again") from error


def each_once(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """The object of these keys and values. Raises DataError for a key that is there twice: the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        values = " and ".join(f"{value!r:.40}" for name, value in pairs if name == key)
        raise DataError(f"{where}: an object has the key {key!r} twice, with {values}; leave one of them")
    return found


def lines_of(text: str, where: str) -> tuple[str, ...]:
    """One caption per line that is not empty."""
    return clean(re.split(r"\r\n|\r|\n", text), where)


def captions_of(value: object, where: str, left_out: LeftOut) -> tuple[str, ...]:
    """Captions of a field that holds one text, several or nothing; empty ones of several are counted.

    Raises DataError for anything else.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        return clean([value], where)
    if isinstance(value, list):
        found = clean((each for each in value if each is not None), where)
        empty = sum(each is None or not each.strip() for each in value)
        left_out.add("empty caption", "of an image with others", where, empty if found else 0)
        return found
    raise DataError(f"{where}: a caption must be text or a list of texts, not {value!r:.80}")


def need_column(name: str, setting: str, there: Collection[str], where: str) -> None:
    """Raises DataError, listing the columns there are and the nearest match, unless `name` is one of them, and for two
    columns of that name, spaces and case aside: the text in one of them would be lost."""
    if name not in there:
        raise DataError(f"{where} has no column {name!r} ({setting}); {choices(name, there)}")
    twins = [other for other in there if other.strip().casefold() == name.strip().casefold()]
    if len(twins) > 1:
        told = f"{len(twins)} columns called {name!r} ({setting})"
        raise DataError(f"{where} has {told}: {', '.join(map(repr, twins))}; rename or remove all but one")


def choices(name: str, there: Collection[str]) -> str:
    """What there is instead of `name`, as an error message says it, and the nearest match."""
    listed = ", ".join(map(shown, sorted(there)[:20])) or "none"
    more = f" and {len(there) - 20} more" if len(there) > 20 else ""
    nearest = difflib.get_close_matches(name, there, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    return f"there are: {listed}{more}{hint}"


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
