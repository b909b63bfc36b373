"""Files as a source names them: printable names, stamps that notice a change, and paths that stay inside a folder."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness.errors import DataError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def printable(place: object) -> str:
    """A name or path as text that can be printed and stored anywhere: control characters and bytes that are no UTF-8
    are escaped."""
    text = str(place).encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda match: repr(match.group())[1:-1], text)


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


def stamps_below(folder: Path) -> Iterator[str]:
    """The stamps of all files below a folder, without hidden ones; of a link, that of the file it leads to."""
    for parent, folders, files in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        yield from (stamp(Path(parent, file)) for file in files if not file.startswith("."))


def inside(root: Path, name: str, where: str) -> Path:
    """The path of `name` below `root`, links followed. Raises DataError when it leads out; `where` names the entry.

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
