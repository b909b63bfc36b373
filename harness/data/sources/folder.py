"""Images of a folder, each with its captions in a text file beside it."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.data.formats import is_image
from harness.data.sources.beside import TEXT, Texts
from harness.data.sources.reading import faults_of, folder_at, key_of, lines_of, read_file, read_text
from harness.data.sources.record import LeftOut, Record, Records, in_order, inside, shown, stamp
from harness.errors import DataError
from harness.settings import DataConfig


class Folder:
    """`path` is a folder; `cats/tom.png` anywhere below it has one caption per line in `cats/tom.txt`.

    Hidden files and folders are passed over and counted, as is all else that is not read. Links may lead to other files
    of the folder, never out of it; a linked folder is not entered, as what it leads to is found where it lies.
    """

    name: ClassVar[str] = "folder"
    needs: ClassVar[tuple[str, ...]] = ("path",)
    reads: ClassVar[tuple[str, ...]] = ()
    places: ClassVar[tuple[str, ...]] = ("path",)
    attribution = ""

    def __init__(self, config: DataConfig) -> None:
        self._path = config.path

    def records(self) -> Records:
        """Every image of the folder, with or without captions. Raises DataError."""
        root, left_out = folder_at(self._path, "data.path"), LeftOut()
        with faults_of(shown(root), "allow its folders to be read"):
            names = list(_names(root, left_out))
        images = [name for name in names if is_image(name)]
        texts = Texts(images, itertools.filterfalse(is_image, names))
        for name in texts.spare():
            left_out.add("text", "without an image of its name", name)
        for name in names:
            if not (is_image(name) or name.lower().endswith(TEXT)):
                left_out.file(name)
        fix = "put images there, each with its captions in a .txt file of the same name"
        return in_order((_record(root, name, texts) for name in images), shown(root), fix, left_out)


def _names(root: Path, left_out: LeftOut) -> Iterator[str]:
    """Relative paths of the files that are not hidden."""
    for parent, folders, files in os.walk(root, onerror=_fail):
        for folder in folders:
            path = os.path.join(parent, folder)
            if folder.startswith("."):
                left_out.add("hidden folder", "with all that is in it", os.path.relpath(path, root))
            elif os.path.islink(path):
                inside(root, os.path.relpath(path, root), shown(path))
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for file in files:
            name = os.path.relpath(os.path.join(parent, file), root)
            if not file.startswith("."):
                yield name
            elif is_image(file):
                left_out.add("hidden image", "whose name begins with a dot", name)


def _fail(error: OSError) -> None:
    raise error


def _record(root: Path, name: str, texts: Texts) -> Record:
    where = shown(root / name)
    path = inside(root, name, where)
    beside = texts.of(name)
    captions, fault = ((), texts.missing(name)) if beside is None else _captions(root, beside)
    return Record(key_of(name), captions, where, stamp(path), functools.partial(read_file, path), fault)


def _captions(root: Path, beside: str) -> tuple[tuple[str, ...], str]:
    """The captions in a file, or none and what is wrong with it."""
    text = inside(root, beside, shown(root / beside))
    try:
        captions = lines_of(read_text(text), shown(text))
    except DataError as error:
        return (), str(error)
    return captions, "" if captions else f"no caption: {shown(beside)} is empty"
