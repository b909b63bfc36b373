"""Images of a folder, each with its captions in a text file beside it."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from harness.data.config import DataConfig
from harness.data.sources.reading import faults_of, folder_at, is_image, key_of, lines_of, read_file, read_text
from harness.data.sources.record import Record, in_order, inside, shown, stamp
from harness.errors import DataError


class Folder:
    """`path` is a folder; `cats/tom.png` anywhere below it has one caption per line in `cats/tom.txt`.

    Hidden files and folders are passed over. Links may lead to other files of the folder, never out of it; a linked
    folder is not entered, as what it leads to is found where it lies.
    """

    name: ClassVar[str] = "folder"
    needs: ClassVar[tuple[str, ...]] = ("path",)
    reads: ClassVar[tuple[str, ...]] = ()
    places: ClassVar[tuple[str, ...]] = ("path",)
    attribution = ""

    def __init__(self, config: DataConfig) -> None:
        self._path = config.path

    def records(self) -> Sequence[Record]:
        """Every image of the folder, with or without captions. Raises DataError."""
        root = folder_at(self._path, "data.path")
        with faults_of(shown(root), "allow its folders to be read"):
            names = list(_images(root))
        fix = "put images there, each with its captions in a .txt file of the same name"
        return in_order((_record(root, name) for name in names), shown(root), fix)


def _images(root: Path) -> Iterator[str]:
    """Relative paths of the images."""
    for parent, folders, files in os.walk(root, onerror=_fail):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for folder in folders:
            if os.path.islink(path := os.path.join(parent, folder)):
                inside(root, os.path.relpath(path, root), shown(path))
        for file in files:
            if is_image(file) and not file.startswith("."):
                yield os.path.relpath(os.path.join(parent, file), root)


def _fail(error: OSError) -> None:
    raise error


def _record(root: Path, name: str) -> Record:
    where = shown(root / name)
    path = inside(root, name, where)
    beside = str(Path(name).with_suffix(".txt"))
    text = inside(root, beside, shown(root / beside))
    captions, fault = _captions(text) if os.path.lexists(text) else ((), "")
    return Record(key_of(name), captions, where, stamp(path), functools.partial(read_file, path), fault)


def _captions(text: Path) -> tuple[tuple[str, ...], str]:
    """The captions in a file, or none and what is wrong with it."""
    try:
        return lines_of(read_text(text), shown(text)), ""
    except DataError as error:
        return (), str(error)
