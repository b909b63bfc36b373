"""Which file is meant: the text of an image, the file that a table names, and the parts that numbered names promise."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from harness.data.image_files import is_image
from harness.data.reading import inside, printable, real_folder
from harness.data.sources.record import LeftOut
from harness.errors import DataError

TEXT = ".txt"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?:-of-(?P<all>\d+))?(?P<after>\D*)", re.DOTALL)


class Texts:
    """Texts assigned to images, all given as paths relative to one folder.

    `a.png` has `a.txt`; failing that a text no other image has: `a.TXT`, `a.png.txt`, or the same name with its accents
    composed otherwise, as macOS writes them.
    """

    def __init__(self, images: Collection[str], others: Iterable[str]) -> None:
        self._others = set(others)
        self._texts = {name for name in self._others if name.lower().endswith(TEXT)}
        self._by_image = {image: text for image in images if (text := expected_text(image)) in self._texts}
        self._unused = _grouped(self.unused(), lambda text: normal_name(os.path.splitext(text)[0]))
        self._by_image |= {image: texts[0] for image in images if len(texts := self._candidates(image)) == 1}

    def of(self, image: str) -> str | None:
        """The text of the image, None if there is none."""
        return self._by_image.get(image)

    def unused(self) -> list[str]:
        """The texts that belong to no image."""
        return sorted(self._texts.difference(self._by_image.values()))

    def count_others(self, left_out: LeftOut) -> None:
        """Counts the texts that belong to no image, and what is no text."""
        for name in self.unused():
            left_out.add("text", "without an image of its name", name)
        for name in sorted(self._others - self._texts):
            left_out.add_file(name)

    def why_missing(self, image: str) -> str:
        """Which text was looked for, and which files of nearly that name are there."""
        return f"no caption: {printable(expected_text(image))} is not there{self.suggestion(image)}"

    def suggestion(self, image: str) -> str:
        """The files that may be meant as the image's text, as the end of a message; empty without any."""
        return _there_is(self._candidates(image) or self._similar.get(similar_name(image), ()))

    @functools.cached_property
    def _similar(self) -> dict[str, list[str]]:
        return _grouped(self._others, similar_name)

    def _candidates(self, image: str) -> list[str]:
        """Unused texts whose names mean that of the image's."""
        if image in self._by_image:
            return []
        stems = dict.fromkeys((normal_name(os.path.splitext(image)[0]), normal_name(image)))
        return [name for stem in stems for name in self._unused.get(stem, ())]


def expected_text(image: str) -> str:
    """The name of the text that holds an image's captions."""
    return os.path.splitext(image)[0] + TEXT


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _there_is(names: Iterable[str]) -> str:
    """Up to three of the names as the end of a message; empty without any."""
    listed = " and ".join(map(printable, sorted(names)[:3]))
    return f"; there is {listed}" if listed else ""


def normal_name(name: str) -> str:
    """Equal for names of images that differ only in how accents are composed or in the case of the suffix."""
    root, suffix = os.path.splitext(name)
    return unicodedata.normalize("NFC", root) + (suffix.lower() if is_image(suffix) else suffix)


def similar_name(name: str) -> str:
    """Equal for names that a reader may take for each other: the letters and digits before the suffixes."""
    folder, file = os.path.split(name)
    letters = unicodedata.normalize("NFKC", file.partition(".")[0]).casefold()
    return os.path.join(folder, "".join(filter(str.isalnum, letters)) or letters)


class NamedFiles:
    """Finds files below `root` by the names that a table has for them, and remembers which it was asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._named: defaultdict[str, set[str]] = defaultdict(set)
        self._list_files = functools.cache(_list_files)

    def find(self, name: str, where: str) -> tuple[Path, str]:
        """The file, and its name with forward slashes. Where there is none of that name, one that differs in its
        separators, in spaces around it, in how accents are composed or in the case of the suffix is taken. Raises
        DataError as `inside`, and for an address."""
        if _ADDRESS.match(name):
            raise DataError(f"{where}: {name!r:.80} is an address, and nothing is downloaded; name files on this disk")
        path = inside(self._root, name, where)
        for spelling in (name.strip(), name.strip().replace("\\", "/")):
            if spelling != name and not os.path.lexists(path):
                name, path = spelling, inside(self._root, spelling, where)
        folder, file = os.path.split(os.path.join(self._root, name))
        if not os.path.lexists(path):
            forms = (folder, unicodedata.normalize("NFC", folder), unicodedata.normalize("NFD", folder))
            folder = next(filter(os.path.isdir, forms), folder)
            equal = [there for there in self._list_files(folder) if normal_name(there) == normal_name(file)]
            if len(equal) == 1:
                [file] = equal
                path = inside(self._root, os.path.join(folder, file), where)
        self._named[real_folder(folder)].add(file)
        return path, name

    def why_missing(self, path: Path) -> str:
        """Why there is no such file, where something says it; else empty."""
        try:
            path.lstat()
            return ""
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):  # such as a name that is too long: reading it says so
                return ""
        if os.path.isdir(path.parent):
            wanted = similar_name(path.name)
            near = [name for name in self._list_files(str(path.parent)) if similar_name(name) == wanted]
            return f"there is no {printable(path.name)}{_there_is(near)}" if near else ""
        first = next(folder for folder in path.parents if os.path.isdir(folder.parent))
        wanted, near = similar_name(first.name), list[str]()
        with contextlib.suppress(OSError):
            near = [each.name for each in first.parent.iterdir() if similar_name(each.name) == wanted and each.is_dir()]
        return f"there is no folder {printable(path.parent)}{_there_is(near)}"

    def count_unnamed(self, left_out: LeftOut) -> None:
        """Counts the images beside those that were asked for."""
        for folder, named in self._named.items():
            for name in filter(is_image, self._list_files(folder)):
                if name not in named:
                    left_out.add("image", "beside those that are named", os.path.join(folder, name))


def _list_files(folder: str) -> list[str]:
    """The files of a folder, sorted, without hidden ones; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    except OSError:
        return []


def count_missing_parts(names: Iterable[str], left_out: LeftOut) -> None:
    """Counts the parts missing between the first and the last number of files called alike, or of those that names
    such as train-00000-of-00003.parquet say there are."""
    groups: defaultdict[tuple[str, str, str], dict[int, str]] = defaultdict(dict)
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            groups[match["before"], match["all"] or "", match["after"]][int(match["number"])] = match["number"]
    for (before, promised, after), there in groups.items():
        first, last = (0, int(promised) - 1) if promised else (min(there), max(there))
        count = last + 1 - first - len(there)
        if count > 0:
            missing = next(number for number in range(first, last + 1) if number not in there)
            width = len(next(iter(there.values())))
            name = f"{before}{missing:0{width}d}{f'-of-{promised}' if promised else ''}{after}"
            left_out.note("part", "missing by the numbers of the others", name, count)


def count_other_parts(path: Path, left_out: LeftOut) -> None:
    """Counts the other parts where a file's name says that it is one of several."""
    match = _NUMBERED.fullmatch(path.name)
    promised = int(match["all"] or 1) if match else 1
    left_out.add("part", f"of the {promised} that {path.name} is one of", path.parent, promised - 1)
