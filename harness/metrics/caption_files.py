"""Captions of a folder of images, from anyone: each image has one and each caption an image. No torch here."""

from __future__ import annotations

import functools
import json
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.data.sources.beside import Texts, expected
from harness.data.sources.reading import each_once, text_of
from harness.data.sources.record import LeftOut
from harness.errors import DataError


def captions(source: Path, folder: Path, images: Sequence[Path], left_out: LeftOut | None = None) -> list[str]:
    """One caption for every image of the folder, in order.

    `source` is a text file of lines `relative/path<TAB>caption`, a JSON file {relative path: caption}, or a folder that
    holds `relative/path.txt` beside or instead of the image. Raises DataError naming what does not fit; texts of such a
    folder that belong to no image are counted in `left_out`.
    """
    keys, left_out = [path.relative_to(folder).as_posix() for path in images], left_out or LeftOut()
    if source.is_dir():
        found = _from_folder(source, keys, left_out)
    else:
        rows = _from_json(source) if source.suffix.lower() == ".json" else _from_lines(source)
        found = _assigned(rows, folder, keys)
    for key in keys:
        if key not in found:
            raise DataError(f"{source}: no caption for {key!r} of {folder}; every generated image needs one")
        if not found[key]:
            raise DataError(f"{source}: the caption of {key!r} is empty")
        if found[key][0] == found[key][-1] == '"':
            left_out.tell("caption", "in quotation marks, taken with them", f"{source}: {key}")
        left_out.doubtful([found[key]], f"{source}: {key}")
    return [found[key] for key in keys]


def _from_folder(source: Path, keys: Sequence[str], left_out: LeftOut) -> dict[str, str]:
    texts = Texts(keys, (path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()))
    for name in texts.spare():
        left_out.add("text", f"of {source} without an image of its name", name)
    found = {}
    for key in keys:
        beside = texts.of(key)
        if beside is None:
            told = f"no such file; every generated image needs its caption{texts.near(key)}"
            raise DataError(f"{source / expected(key)}: {told}")
        found[key] = _only_line(source / beside)
    return found


def _only_line(path: Path) -> str:
    lines = [line.strip() for line in _text(path).splitlines() if line.strip()]
    if len(lines) > 1:
        raise DataError(f"{path}: holds {len(lines)} captions; leave the one that the image was generated from")
    return "".join(lines)


def _text(path: Path) -> str:
    try:
        return text_of(path.read_bytes(), str(path)).replace("\r\n", "\n").replace("\r", "\n")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file; every generated image needs its caption") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _from_json(path: Path) -> Iterator[tuple[str, str, str]]:
    """Place, key and caption."""
    try:
        found = json.loads(_text(path), object_pairs_hook=functools.partial(each_once, where=str(path)))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(found, dict) or not all(isinstance(caption, str) for caption in found.values()):
        raise DataError(f'{path}: must be an object of texts, {{"relative/path.png": "caption"}}')
    return ((str(path), key, caption.strip()) for key, caption in found.items())


def _from_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        key, tab, caption = line.partition("\t")
        if not line.strip():
            continue
        if not tab:
            raise DataError(f"{path}:{number}: must be a relative path, a tab and a caption, not {line[:60]!r}")
        yield f"{path}:{number}", key, caption.strip()


def _assigned(rows: Iterator[tuple[str, str, str]], folder: Path, keys: Sequence[str]) -> dict[str, str]:
    """Image's key -> caption. Raises DataError for a caption of no image and for a second one of an image."""
    known, count = set(keys), Counter(map(_same, keys))
    alike = {_same(key): key for key in keys if count[_same(key)] == 1}
    found: dict[str, str] = {}
    for place, written, caption in rows:
        key = written if written in known else alike.get(_same(written))
        if key is None:
            told = f"{written!r} is no image in {folder}; keys are paths below it, such as {keys[0]!r}"
            raise DataError(f"{place}: {told}")
        if key in found:
            raise DataError(f"{place}: {written!r} has a caption already; give each image one")
        found[key] = caption
    return found


def _same(key: str) -> str:
    """Equal for paths that differ in their separators, how accents are composed or the case of the suffix alone."""
    root, suffix = posixpath.splitext(posixpath.normpath(key.replace("\\", "/")))
    return unicodedata.normalize("NFC", root) + suffix.lower()
