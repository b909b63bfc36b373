"""Images of a folder, each with its captions in a text file beside it."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from harness.data.image_files import is_image
from harness.data.reading import folder_at, inside, printable, read_file, read_text, stamp, walk
from harness.data.sources.matching import Texts
from harness.data.sources.record import LeftOut, Record, Records, Source, caption_lines, in_order, key_of
from harness.errors import DataError


class Folder(Source):
    """`path` is a folder; `cats/tom.png` anywhere below it has one caption per line in `cats/tom.txt`.

    Hidden files and folders are skipped and counted, as is all else that is not read. Links may lead to other files of
    the folder, never out of it; a linked folder is not entered, as what it leads to is found where it lies.
    """

    name = "folder"

    def records(self) -> Records:
        """Every image of the folder, with or without captions. Raises DataError."""
        root, left_out = folder_at(self._config.path, "data.path"), LeftOut()
        names = list(_file_names(root, left_out))
        images = [name for name in names if is_image(name)]
        texts = Texts(images, itertools.filterfalse(is_image, names))
        texts.count_others(left_out)
        records = []
        for name in images:
            where, captions, fault, no_caption = printable(root / name), tuple[str, ...](), "", ""
            path, text_name = inside(root, name, where), texts.of(name)
            if text_name is None:
                no_caption = texts.why_missing(name)
            else:
                text = inside(root, text_name, printable(root / text_name))
                try:
                    captions = caption_lines(read_text(text), printable(text))
                    no_caption = "" if captions else f"no caption: {printable(text_name)} is empty"
                except DataError as error:
                    fault = str(error)
            read = functools.partial(read_file, path)
            records.append(Record(key_of(name), captions, where, stamp(path), read, fault, no_caption))
        fix = "put images there, each with its captions in a .txt file of the same name"
        return in_order(records, printable(root), fix, left_out)


def _file_names(root: Path, left_out: LeftOut) -> Iterator[str]:
    """Relative paths of the files that are not hidden."""
    for parent, folders, files in walk(root):
        for folder in folders:
            path = os.path.join(parent, folder)
            if folder.startswith("."):
                left_out.add("hidden folder", "with all that is in it", os.path.relpath(path, root))
            elif os.path.islink(path):
                inside(root, os.path.relpath(path, root), printable(path))
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        for file in files:
            name = os.path.relpath(os.path.join(parent, file), root)
            if not file.startswith("."):
                yield name
            elif is_image(file):
                left_out.add("hidden image", "whose name begins with a dot", name)
