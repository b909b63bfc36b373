"""Zip archives as the dataset tools of StyleGAN and LAFITE write them."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.data.formats import is_image
from harness.data.sources.beside import TEXT, Texts
from harness.data.sources.reading import (
    allowed,
    captions_of,
    checked,
    faults_of,
    file_at,
    key_of,
    lines_of,
    parsed,
    text_of,
)
from harness.data.sources.record import LeftOut, Record, Records, in_order, shown, stamp
from harness.errors import DataError
from harness.settings import DataConfig

MAX_JSON = 2**30
"""Bytes of dataset.json; LAFITE's may hold gigabytes of features, none of them needed where there are .txt entries."""
_SMALL_JSON = 2**24
"""Bytes of a dataset.json that is looked into though the captions are elsewhere."""
_BOMB = (2**20, 500)
"""An entry of more bytes than the first that shrank by more than the second is no image or text."""
_ADD = "add to it one .txt entry per image, of the same name, with one caption per line"
_NESTED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


class Archive:
    """`path` is a zip of images, with their captions in .txt entries beside them or under `captions` in dataset.json.

    dataset.json holds lists of pairs, {"labels": [["00000/img00000000.png", 6], ...]}, of which labels are not used.
    LAFITE's tool adds `clip_img_features` and `clip_txt_features` but leaves the captions themselves out.
    """

    name: ClassVar[str] = "zip"
    needs: ClassVar[tuple[str, ...]] = ("path",)
    reads: ClassVar[tuple[str, ...]] = ("stored_features",)
    places: ClassVar[tuple[str, ...]] = ("path",)
    attribution = ""

    def __init__(self, config: DataConfig) -> None:
        self._path = config.path

    def records(self) -> Records:
        """Every image of the archive. Raises DataError."""
        path, left_out = file_at(self._path, "data.path"), LeftOut()
        where, whole = shown(path), stamp(path)
        with faults_of(where, "write or copy the zip again"):
            entries = _entries(path, whole, left_out)
            captions = _captions(path, whole, entries, left_out)
        found = []
        for name, entry in entries.items():
            if is_image(name):
                read = functools.partial(_read, path, whole, name)
                mark = f"{whole} {entry.header_offset} {entry.CRC}"
                texts, fault = captions.get(name, ((), "no caption: dataset.json lists none"))
                found.append(Record(key_of(name), texts, f"{where}: {shown(name)}", mark, read, fault))
        return in_order(found, where, "put images into it", left_out)

    def stored_features(self, kind: str = "clip_img_features") -> dict[str, NDArray[np.float32]] | None:
        """Key -> features that LAFITE's tool stored: [512] of the image, or [captions,512] with `clip_txt_features`.

        They are CLIP ViT-B/32's of the picture at its stored size. None when the archive has none.
        """
        path = file_at(self._path, "data.path")
        with faults_of(shown(path), "write or copy the zip again"):
            entries = _entries(path, stamp(path), LeftOut())
            content = _metadata(path, stamp(path), entries)
            pairs = _pairs(content, kind, entries, f"{shown(path)}: dataset.json")
            return {key_of(name): np.asarray(value, np.float32) for name, value in pairs} or None


@functools.lru_cache(maxsize=2)
def _opened(path: Path, whole: str, process: int) -> zipfile.ZipFile:
    """The archive, open in this process; `whole` is its stamp."""
    return zipfile.ZipFile(path)


def _entries(path: Path, whole: str, left_out: LeftOut) -> dict[str, zipfile.ZipInfo]:
    """Name -> entry, without folders and hidden ones, which are counted. Raises DataError for a hostile one."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in _opened(path, whole, os.getpid()).infolist():
        told = f"{shown(path)}: {entry.orig_filename!r}"
        _refuse(entry, told)
        if entry.filename in found:
            raise DataError(f"{told} is there twice; write the zip again")
        parts = PurePosixPath(entry.filename).parts
        if entry.is_dir():
            continue
        if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
            left_out.add("hidden entry", "of the archive", entry.filename)
        else:
            found[entry.filename] = entry
    return found


def _refuse(entry: zipfile.ZipInfo, told: str) -> None:
    name = entry.orig_filename
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name or ":" in name[:2]:
        raise DataError(f"{told} leads out of the archive; name all entries relative to it, with forward slashes")
    if entry.flag_bits & 0x41:
        raise DataError(f"{told} is encrypted; write the zip without a password")
    if name.lower().endswith(_NESTED):
        raise DataError(f"{told} is an archive within the archive; unpack it")
    least, ratio = _BOMB
    if entry.file_size > least and entry.file_size > ratio * max(entry.compress_size, 1):
        raise DataError(f"{told} swells from {entry.compress_size:,} to {entry.file_size:,} bytes; it is not read")
    try:
        allowed(0 if name == "dataset.json" else entry.file_size)
    except DataError as error:
        raise DataError(f"{told} {error}") from error


def _read(path: Path, whole: str, name: str) -> bytes:
    with faults_of("its entry", "write or copy the zip again"):
        return checked(_opened(path, whole, os.getpid()).read(name))


_Captions = dict[str, tuple[tuple[str, ...], str]]
"""Image's name -> captions, and what is wrong where there are none."""


def _captions(path: Path, whole: str, entries: dict[str, zipfile.ZipInfo], left_out: LeftOut) -> _Captions:
    """From .txt entries if any image has one, else from dataset.json."""
    images = [name for name in entries if is_image(name)]
    texts = Texts(images, (name for name in entries if not is_image(name)))
    for name in entries.keys() - set(images) - {"dataset.json"}:
        if not name.lower().endswith(TEXT):
            left_out.file(name)
    for name in texts.spare():
        left_out.add("text", "without an image of its name", name)
    if any(texts.of(name) for name in images):
        if "dataset.json" in entries and entries["dataset.json"].file_size <= _SMALL_JSON:
            others = _metadata(path, whole, entries).get("captions") or ()
            left_out.add("caption", "listed in dataset.json, as there are .txt entries", "dataset.json", len(others))
        return {name: _beside(path, whole, name, texts) for name in images}
    return _listed(path, whole, entries, left_out)


def _listed(path: Path, whole: str, entries: dict[str, zipfile.ZipInfo], left_out: LeftOut) -> _Captions:
    """What dataset.json says."""
    content, where = _metadata(path, whole, entries), f"{shown(path)}: dataset.json"
    pairs = _pairs(content, "captions", entries, where)
    if not pairs and any(map(is_image, entries)):
        features = "only features of captions" if content.get("clip_txt_features") else "no captions"
        raise DataError(f"{shown(path)} holds {features}, which cannot be asked for in words; {_ADD}")
    told = {name: captions_of(value, f"{where}: {name}", left_out) for name, value in pairs}
    return {name: (texts, "" if texts else "no caption: dataset.json has an empty one") for name, texts in told.items()}


def _beside(path: Path, whole: str, image: str, texts: Texts) -> tuple[tuple[str, ...], str]:
    name = texts.of(image)
    if name is None:
        return (), texts.missing(image)
    where = f"{shown(path)}: {shown(name)}"
    found = lines_of(text_of(_opened(path, whole, os.getpid()).read(name), where), where)
    return found, "" if found else f"no caption: {shown(name)} is empty"


def _metadata(path: Path, whole: str, entries: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    """What dataset.json holds, empty without one."""
    if "dataset.json" not in entries:
        return {}
    where, size = f"{shown(path)}: dataset.json", entries["dataset.json"].file_size
    if size > MAX_JSON:
        raise DataError(f"{where} holds {size:,} bytes, features most likely, and no caption was found beside; {_ADD}")
    content = parsed(text_of(_opened(path, whole, os.getpid()).read("dataset.json"), where), where)
    if not isinstance(content, dict):
        raise DataError(f"{where} must hold an object, as StyleGAN's does, not a {type(content).__name__}")
    return content


def _pairs(content: dict[str, Any], kind: str, entries: Iterable[str], where: str) -> list[tuple[str, Any]]:
    """The pairs of an entry's name and a value that are listed under `kind`, as a list or an object."""
    listed = content.get(kind) or []
    pairs = list(listed.items()) if isinstance(listed, dict) else listed
    if not isinstance(pairs, list):
        raise DataError(f"{where}: {kind} must be a list of pairs, not {listed!r:.80}")
    seen: set[str] = set()
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise DataError(f"{where}: {kind}[{number}] must be a pair of a name and a value, not {pair!r:.80}")
        if pair[0] not in entries:
            raise DataError(f"{where}: {kind}[{number}]: {pair[0]!r} is not in the archive; remove it")
        if pair[0] in seen:
            raise DataError(f"{where}: {kind}[{number}]: {pair[0]!r} is listed twice; put its values into one pair")
        seen.add(pair[0])
    return [(pair[0], pair[1]) for pair in pairs]
