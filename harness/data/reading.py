"""Reading what others wrote: paths stay inside their folder, every fault of a file becomes a DataError that names it,
and no read is without bound."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from harness.errors import DataError, nearest
from harness.text import escaped, listed, shortened

MAX_ENCODED = 2**28
"""Bytes of one encoded image; anything larger is refused unread."""
MAX_TEXT = 2**30
"""Bytes of a text that is read as one, such as COCO's captions; those of 2017 have 2^27."""
MAX_LINE = 2**22
EXTRA = "pip install '.[data]' in the checkout of the harness"
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf'\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
"""First bytes of a file -> kind of archive or compression."""


def printable(place: object) -> str:
    """A name or path as text that can be printed and stored anywhere."""
    text = str(place)
    return text if text.isprintable() else escaped(text)


def stamp(path: Path, *more: object) -> str:
    """Changes when a file may have changed; with an offset and a size in `more` it is that of a part of the file. A
    missing file has a stamp too.

    The time of the last change (ctime) is set by the system alone, also when a file is replaced or restored. Inode and
    device are no part of it: some network file systems number their files anew each time.
    """
    try:
        state = os.stat(path)
    except OSError:
        return "missing"
    return " ".join(str(part) for part in (path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, *more))


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`. Raises DataError for a folder that cannot be read: what it holds would be left out unsaid."""

    def fail(error: OSError) -> None:
        place, fix = printable(error.filename or folder), "allow it to be read, or name a folder without it"
        raise DataError(f"{place}: the folder cannot be read ({error.strerror or error}); {fix}")

    return os.walk(folder, onerror=fail)


def stamps_below(folder: Path) -> Iterator[str]:
    """The stamps of all files below a folder, without hidden ones; of a link, that of the file it leads to."""
    for parent, folders, files in walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (stamp(Path(parent, file)) for file in files if not file.startswith("."))


def inside(root: Path, name: str, where: str) -> Path:
    """The path of `name` below `root`, links followed. Raises DataError when it leads out; `where` names the entry.
    `root` must have its own links resolved, as `folder_at` does."""
    try:
        if b"\0" in os.fsencode(name):
            raise ValueError("a null byte")
        folder, file = os.path.split(os.path.join(root, name))
        path = os.path.join(real_folder(folder), file)
        if file in ("", ".", "..") or os.path.islink(path):
            path = os.path.realpath(path)
    except ValueError as error:  # also of half a surrogate pair
        raise DataError(f"{where}: {name!r} is no file name; rename it") from error
    if path != str(root) and not path.startswith(os.path.join(root, "")):
        raise DataError(f"{where}: {name!r} leads out of {printable(root)}; keep all images inside that folder")
    return Path(path)


@functools.lru_cache(maxsize=4096)  # a data set has many files and few folders
def real_folder(folder: str) -> str:
    """The folder itself, links followed; remembered until `forget_folders`."""
    return os.path.realpath(folder)


def forget_folders() -> None:
    """Look again at where folders lead: for a new listing."""
    real_folder.cache_clear()


@contextlib.contextmanager
def as_data_error(what: str, fix: str) -> Iterator[None]:
    """Whatever the reader of a format raises about the file `what` is raised as a DataError that ends with `fix`."""
    try:
        yield
    except DataError:
        raise
    except UnicodeDecodeError as error:
        if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") or 0 in error.object[: error.start]:
            raise DataError(f"{what} is not UTF-8 but UTF-16; save it as UTF-8") from error
        before = error.object[max(0, error.start - 30) : error.start].decode("utf-8", "replace")
        byte = f"the byte 0x{error.object[error.start]:02x} is no utf-8, but a letter in Latin-1"
        raise DataError(f"{what} is not UTF-8: after {before!r} {byte}; save it as UTF-8") from error
    except ModuleNotFoundError as error:
        package = str(error.name).split(".")[0]
        raise DataError(f"{what} needs the package {package}: {EXTRA}") from error
    except Exception as error:  # damage can make a parser raise anything
        reason = " ".join(printable(str(error).replace("\n", " ")).split()) or type(error).__name__
        raise DataError(f"{what} cannot be read: {reason}; {fix}") from error


def _existing(path: str, setting: str, kind: str) -> Path:
    """The file or folder `path`, its links resolved. Raises DataError, naming the setting."""
    if not path:
        raise DataError(f"{setting} is empty: give the path of a {kind}")
    with as_data_error(f"{setting}: {printable(path)}", f"give the path of a {kind} that may be read"):
        real = Path(os.path.realpath(path))
        if real.is_dir() if kind == "folder" else real.is_file():
            return real
        state = "is a folder, not a file" if real.is_dir() else f"is no {kind}" if real.exists() else "does not exist"
        raise DataError(f"{setting}: {printable(path)} {state}; give the path of a {kind}")


folder_at = functools.partial(_existing, kind="folder")
file_at = functools.partial(_existing, kind="file")


def read_file(path: Path) -> bytes:
    """An encoded image that is a file of its own. Raises DataError or OSError."""
    if path.exists() and not path.is_file():
        raise DataError("is no regular file; put the image itself there")
    refuse_large(path.stat().st_size)
    with path.open("rb") as stream:
        return check_encoded(stream.read(MAX_ENCODED))


def refuse_large(size: int, where: str = "") -> None:
    """Raises DataError for an image too large to be read, before it is."""
    if size > MAX_ENCODED:
        holds = f"{where} holds" if where else "holds"
        raise DataError(f"{holds} {size:,} bytes; at most {MAX_ENCODED:,} are read: store it smaller")


def check_encoded(encoded: bytes) -> bytes:
    """The bytes themselves. Raises DataError when there are none, too many or those of an archive."""
    if not encoded:
        raise DataError("is empty, 0 bytes; write or copy it again")
    if kind := archive_kind(encoded):
        raise DataError(f"is a {kind} archive, not an image; unpack it")
    refuse_large(len(encoded))
    return encoded


def archive_kind(start: bytes) -> str:
    """The kind of archive or compression of a file with these first bytes, empty if none."""
    return next((kind for magic, kind in _ARCHIVES.items() if start.startswith(magic)), "")


def decode_text(encoded: bytes, where: str) -> str:
    """UTF-8 as text, without a byte order mark. Raises DataError, also for a NUL, which no caption or JSON has."""
    with as_data_error(where, "save it as UTF-8"):
        text = encoded.decode("utf-8-sig")
    refuse_nul(text, where)
    return text


def refuse_nul(text: str, where: str) -> None:
    """Raises DataError for a text with a NUL: English in UTF-16 without its mark is UTF-8 that has one a letter."""
    if "\0" in text:
        reason = f"has a byte 0 after {text[: text.index(chr(0))][-30:]!r}, so it is probably UTF-16"
        raise DataError(f"{where} {reason}; save it as UTF-8")


def read_text(path: Path) -> str:
    """The text of a file. Raises DataError."""
    with as_data_error(printable(path), "make it a UTF-8 file that may be read"):
        if not path.is_file():
            raise DataError(f"{printable(path)} is no file; put the text itself there")
        if path.stat().st_size > MAX_TEXT:
            raise DataError(f"{printable(path)} holds {path.stat().st_size:,} bytes; at most {MAX_TEXT:,} are read")
        return decode_text(path.read_bytes(), printable(path))


def short_lines(stream: TextIO, where: str) -> Iterator[str]:
    """The lines of a file that is not read whole. Raises DataError for one of megabytes or with a NUL."""
    for line in iter(functools.partial(stream.readline, MAX_LINE + 1), ""):
        if len(line) > MAX_LINE:
            raise DataError(f"{where} has a line of more than {MAX_LINE:,} characters; write it again as text")
        refuse_nul(line, where)
        yield line


def parse_json(text: str, where: str) -> Any:
    """The JSON content. Raises DataError with the place of the fault, also for an object that has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=functools.partial(unique_keys, where=where))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no valid JSON: {error}; write or copy it again") from error


def unique_keys(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    """The object of these keys and values. Raises DataError for a key that is there twice: the first would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        [(key, _), *_] = Counter(key for key, _ in pairs).most_common()
        values = " and ".join(f"{value!r:.40}" for name, value in pairs if name == key)
        raise DataError(f"{where}: an object has the key {key!r} twice, with {values}; leave one of them")
    return found


def need_column(name: str, setting: str, columns: Collection[str], where: str) -> None:
    """Raises DataError unless `name` is one of the columns, and for two columns of that name, spaces and case aside:
    the text in one of them would be lost."""
    if name not in columns:
        raise DataError(f"{where} has no column {name!r} ({setting}); {list_choices(name, columns)}")
    twins = [other for other in columns if other.strip().casefold() == name.strip().casefold()]
    if len(twins) > 1:
        called = listed([repr(twin) for twin in twins])
        raise DataError(
            f"{where} has {len(twins)} columns called {name!r} ({setting}): {called}; rename or remove all but one"
        )


def list_choices(name: str, choices: Collection[str]) -> str:
    """What there is instead of `name`, as an error message says it, and the nearest match."""
    there = [printable(choice) for choice in sorted(choices)]
    return f"there are: {shortened(there, 20) or 'none'}{nearest(name, choices)}"
