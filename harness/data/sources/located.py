"""Files that a table names: found also where it writes their names in another way, and those that it leaves out."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import unicodedata
from pathlib import Path

from harness.data.formats import is_image
from harness.data.sources.beside import alike, same_name
from harness.data.sources.record import LeftOut, inside, real_folder, shown
from harness.errors import DataError

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Located:
    """Looks for files below `root` and remembers which it was asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._named: dict[str, set[str]] = {}
        self._listed = functools.cache(_files)

    def find(self, name: str, told: str) -> tuple[Path, str]:
        """The file, and its name with forward slashes. Where there is none of that name, one that differs in its
        separators, in spaces around it, in how accents are composed or in the case of the suffix is taken. Raises
        DataError as `inside`, and for an address."""
        if _ADDRESS.match(name):
            raise DataError(f"{told}: {name!r:.80} is an address, and nothing is downloaded; name files on this disk")
        path = inside(self._root, name, told)
        if name != name.strip() and not os.path.lexists(path):
            name = name.strip()
            path = inside(self._root, name, told)
        if "\\" in name and not os.path.lexists(path):
            name = name.replace("\\", "/")
            path = inside(self._root, name, told)
        folder, file = os.path.split(os.path.join(self._root, name))
        if not os.path.lexists(path):
            folder = next(filter(os.path.isdir, (folder, *_forms(folder))), folder)
            wanted = [there for there in self._listed(folder) if same_name(there) == same_name(file)]
            if len(wanted) == 1:
                file = wanted[0]
                path = inside(self._root, os.path.join(folder, file), told)
        self._named.setdefault(real_folder(folder), set()).add(file)
        return path, name

    def missing(self, path: Path) -> str:
        """Why there is no such file, where something says it; else empty."""
        if os.path.lexists(path):
            return ""
        if not path.parent.is_dir():
            return f"there is no folder {shown(path.parent)}{_near_folder(path.parent)}"
        near = [name for name in self._listed(str(path.parent)) if alike(name) == alike(path.name)]
        return f"there is no {shown(path.name)}; there is {' and '.join(map(shown, near[:3]))}" if near else ""

    def unnamed(self, left_out: LeftOut) -> None:
        """Counts the images beside those that were asked for."""
        for folder, named in self._named.items():
            others = [name for name in self._listed(folder) if is_image(name) and name not in named]
            for name in others:
                left_out.add("image", "beside those that are named", os.path.join(folder, name))


def _near_folder(folder: Path) -> str:
    """The folders that may be meant by the first part of a path that is not there, as the end of a message."""
    first = folder
    while not first.parent.is_dir():
        first = first.parent
    with contextlib.suppress(OSError):
        near = [each.name for each in first.parent.iterdir() if alike(each.name) == alike(first.name) and each.is_dir()]
        return f"; there is {' and '.join(map(shown, sorted(near)[:3]))}" if near else ""
    return ""


def _files(folder: str) -> list[str]:
    """The files of a folder, sorted, without hidden ones; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    except OSError:
        return []


def _forms(folder: str) -> list[str]:
    return [unicodedata.normalize(form, folder) for form in ("NFC", "NFD")]
