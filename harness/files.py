"""Reading and writing files that other programs may have changed, and locks.

What is read is checked against its type, and a pipe in the place of a file is refused rather than waited for.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from filelock import FileLock

from harness.errors import FULL, HarnessError, RecordError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

LARGEST = 2**29
"""Bytes of a file of records; real ones are far smaller."""
_T = TypeVar("_T")


def user_path(text: str, source: str) -> Path:
    """A path as a user has written it, in which `~` is a home folder. Raises HarnessError, which begins with `source`.

    An unknown user's `~name` is no folder of that name: nothing is looked for or written there.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        problem = f"{text!r} begins with a home folder that this machine does not know"
        raise HarnessError(f"{source}: {problem}; write the path from the root, /...") from error


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file of at most LARGEST bytes, for reading. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        if state.st_size > LARGEST:
            raise OSError(errno.EFBIG, f"it has {state.st_size:,} bytes")
        return open(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, fix: str) -> bytes | None:
    """All of a regular file; None where there is none. Raises RecordError, whose message ends with `fix`."""
    try:
        with open_regular(path) as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); {fix}") from error


def read(path: str | Path, kind: type[_T], fix: str) -> _T | None:
    """The JSON file `path` as a `kind`; None where there is none. Raises RecordError, whose message ends with `fix`."""
    text = read_bytes(path, fix)
    return None if text is None else parse(text, kind, str(path), fix)


def parse(text: bytes, kind: type[_T], where: str, fix: str) -> _T:
    """JSON as a `kind`. Raises RecordError, whose message has `where` and `fix`."""
    from pydantic import ValidationError

    try:
        checks: Any = kind  # mypy takes no type for a key of a cache
        value: _T = _adapter(checks).validate_json(text)
    except ValidationError as error:
        raise RecordError(f"{where}: {_problem(error, fix)}") from error
    return value


def read_json(path: Path) -> Any:
    """The content of a JSON file, of any type. Raises RecordError."""
    try:
        with open_regular(path) as file:
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: cannot be read ({error}); delete or correct it") from error


def _problem(error: ValidationError, fix: str) -> str:
    """What is wrong first, as `cannot be used (cost.seconds: Input should be a valid number)`, and the fix."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))[:200]
    why = first["msg"]
    if first["type"] == "unexpected_keyword_argument":  # versions to come note more, and packs go to machines of others
        why, fix = "not known here", f"update the harness if a later version of it has written that, else {fix}"
    return f"cannot be used ({place + ': ' if place else ''}{why}); {fix}"


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Checks and builds a `kind`."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Replace `path` by `text`; see `replacing`."""
    with replacing(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def named(path: Path) -> Iterator[None]:
    """An error of a full disk gets the name of what was written; the system names no file in it."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path, durable: bool) -> Iterator[Path]:
    """A temporary file to write, which then replaces `path`: readers see the old file or the new one, never a part.

    `durable`: also after a power failure. If writing fails, the temporary file is deleted.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with named(path):
            yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
        if durable:
            sync(path.parent)
    except IsADirectoryError as error:
        raise RecordError(f"{path}: is a folder; move it away") from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *of: str) -> None:
    """Delete temporary files of `folder` that a killed process left while it replaced these files, by default any."""
    for name in of or ("*",):
        for leftover in folder.glob(f".{name}.[0-9]*"):
            leftover.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's names, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def write_json(path: Path, value: Mapping[str, Any], durable: bool = False) -> None:
    write_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n", durable)


def alone(root: Path, what: str, wait_s: float = -1) -> FileLock:
    """A lock of the study's folder for one kind of work, to be entered; it is released when the process ends, however.

    Raises filelock.Timeout after `wait_s` seconds, by default never.
    """
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / f".{what}.lock", timeout=wait_s)
