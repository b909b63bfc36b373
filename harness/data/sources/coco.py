"""Data in the format of COCO's caption files."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.data.reading import file_at, folder_at, parse_json, printable, read_file, read_text, stamp
from harness.data.sources.matching import NamedFiles
from harness.data.sources.record import LeftOut, Record, Records, Source, clean_captions, in_order, key_of
from harness.errors import DataError


class Coco(Source):
    """`path` is a JSON file such as captions_train2014.json, `images` the folder that its file names are in. Images of
    one file, under several numbers or other spellings of its path, are one image with all their captions."""

    name = "coco"
    needs = ("path", "images")
    places = ("path", "images")

    def records(self) -> Records:
        """Every image that the file lists, with its captions in the file's order. Raises DataError."""
        path = file_at(self._config.path, "data.path")
        root = folder_at(self._config.images, "data.images")
        where = printable(path)
        content = parse_json(read_text(path), where)
        names = _file_names(content, where)
        if self._config.uncaptioned == "keep" and isinstance(content, dict):
            content.setdefault("annotations", [])  # as in the files of COCO's test images
        captions = _captions(content, names, where)
        files, left_out = NamedFiles(root), LeftOut()
        same_file: dict[Path, list[tuple[int | str, str]]] = {}
        for number, written in names.items():
            file, name = files.find(written, f"{where}: image {number!r}")
            same_file.setdefault(file, []).append((number, name))
        records = []
        for file, numbered in same_file.items():
            name = min(os.path.normpath(name) for _, name in numbered)
            texts = tuple(dict.fromkeys(text for number, _ in numbered for text in captions[number]))
            fault = files.why_missing(file)
            no_caption = "" if texts else f"no caption: no annotation in {where} is of it"
            read = functools.partial(read_file, file)
            records.append(Record(key_of(name), texts, printable(root / name), stamp(file), read, fault, no_caption))
        files.count_unnamed(left_out)
        return in_order(records, where, "list images and annotations in it", left_out)


def _file_names(content: Any, where: str) -> dict[int | str, str]:
    """Image number -> file name."""
    names: dict[int | str, str] = {}
    for place, entry in _entries(content, "images", where):
        number, name = _field(entry, "id", place), _field(entry, "file_name", place)
        if not isinstance(name, str) or not name:
            raise DataError(f"{place}: file_name must be text, not {name!r:.80}")
        if number in names:
            raise DataError(f"{place}: the id {number!r} is also that of {names[number]!r}; make all ids differ")
        names[number] = name
    return names


def _captions(content: Any, names: dict[int | str, str], where: str) -> dict[int | str, tuple[str, ...]]:
    captions: dict[int | str, list[str]] = {number: [] for number in names}
    for place, entry in _entries(content, "annotations", where):
        number = _field(entry, "image_id", place)
        if number not in captions:
            raise DataError(f"{place}: no image has the id {number!r}; list that image or remove the annotation")
        if "caption" not in entry:
            raise DataError(f"{place} has no 'caption'; the file must be one of captions, such as captions_*.json")
        captions[number].extend(clean_captions([entry["caption"]], place))
    return {number: clean_captions(texts, where) for number, texts in captions.items()}


def _entries(content: Any, name: str, where: str) -> Sequence[tuple[str, dict[str, Any]]]:
    """The objects of a list of the file, each with the place that an error message names."""
    if not isinstance(content, dict):
        raise DataError(f"{where} must hold an object with images and annotations, not a {type(content).__name__}")
    if not isinstance(content.get(name), list):
        raise DataError(f"{where} must have a list {name!r}, as COCO's caption files have")
    entries = [(f"{where}: {name}[{number}]", entry) for number, entry in enumerate(content[name])]
    for place, entry in entries:
        if not isinstance(entry, dict):
            raise DataError(f"{place} must be an object, not {entry!r:.80}")
    return entries


def _field(entry: dict[str, Any], name: str, place: str) -> Any:
    """A field that must be there, and must be a number or a text."""
    if name not in entry:
        raise DataError(f"{place} has no {name!r}; write it as COCO's caption files do")
    if not isinstance(entry[name], int | str):
        raise DataError(f"{place}: {name} must be a number or text, not {entry[name]!r:.80}")
    return entry[name]
