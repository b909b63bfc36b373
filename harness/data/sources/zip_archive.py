"""Zip archives as the dataset tools of StyleGAN and LAFITE write them."""

from __future__ import annotations

import functools
import os
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data import reading
from harness.data.image_files import is_image
from harness.data.reading import printable
from harness.data.sources.matching import Texts
from harness.data.sources.record import (
    LeftOut,
    Record,
    Records,
    Source,
    caption_lines,
    field_captions,
    in_order,
    key_of,
)
from harness.errors import DataError

STORED_BY = ("open_clip", "ViT-B-32", "openai")
"""Family, model and tag of the network that LAFITE's tool computes the stored features with."""
WIDTH = 512
"""Numbers of a stored feature."""
MAX_JSON = 2**30
"""Bytes of dataset.json; LAFITE's may hold gigabytes of features, none of them needed where there are .txt entries."""
_SMALL_JSON = 2**24
"""Bytes of a dataset.json that is looked into though the captions are elsewhere."""
_BOMB = (2**20, 500)
"""An entry of more bytes than the first that shrank by more than the second is no text."""
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_NESTED = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
_FIX = "write or copy the zip again"
_KEEP = ", or set data.uncaptioned: keep to train on the images alone"
_ADD = "add to it one .txt entry per image, of the same name, with one caption per line"


class ZipArchive(Source):
    """`path` is a zip of images, with their captions in .txt entries beside them or under `captions` in dataset.json.

    dataset.json holds lists of pairs, {"labels": [["00000/img00000000.png", 6], ...]}, of which labels are not used.
    LAFITE's tool adds `clip_img_features` and `clip_txt_features` but leaves the captions themselves out.
    """

    name = "zip"
    reads = ("stored_features",)

    def records(self) -> Records:
        """Every image of the archive. Raises DataError."""
        path, left_out, records = reading.file_at(self._config.path, "data.path"), LeftOut(), []
        with reading.as_data_error(printable(path), _FIX):
            archive = _Zip(path, left_out)
            captions = archive.captions(left_out, needed=self._config.uncaptioned == "bad")
        for name, entry in archive.entries.items():
            if is_image(name):
                read = functools.partial(_read_image, path, archive.stamp, name)
                mark = f"{archive.stamp} {entry.header_offset} {entry.CRC}"
                texts, missing = captions.get(name, ((), "no caption: dataset.json lists none"))
                records.append(Record(key_of(name), texts, archive.where(name), mark, read, no_caption=missing))
        return in_order(records, printable(path), "put images into it", left_out)

    def stored_features(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """[len(keys),512], unit norm: the features of these images that LAFITE's tool stored, by `STORED_BY`. Raises
        DataError for an archive without them and, naming the image, for features that cannot be what they should."""
        path, kind, fix = self._config.path, "clip_img_features", "set data.stored_features: false to compute them"
        with reading.as_data_error(printable(path), _FIX):
            pairs = _Zip(reading.file_at(path, "data.path"), LeftOut()).pairs(kind)
            stored = {key_of(name): np.asarray(value, np.float32) for name, value in pairs}
        if not stored:
            raise DataError(f"{path} holds no {kind}; {fix}")
        features = np.empty((len(keys), WIDTH), np.float32)
        for row, key in enumerate(keys):
            if key not in stored:
                raise DataError(f"{path}: no {kind} of {key!r}; {fix}")
            length = np.linalg.norm(stored[key])
            if stored[key].shape != (WIDTH,) or not np.isfinite(length) or not length:
                raise DataError(f"{path}: {kind} of {key!r} must be {WIDTH} finite numbers, not all 0; {fix}")
            features[row] = stored[key] / length
        return features


class _Zip:
    """An archive whose entries are safe to read. Raises DataError for a hostile one."""

    def __init__(self, path: Path, left_out: LeftOut) -> None:
        """Hidden entries are counted in `left_out`."""
        self.path, self.stamp = path, reading.stamp(path)
        self.entries: dict[str, zipfile.ZipInfo] = {}
        """Name -> entry, without folders and hidden ones."""
        for entry in _open(path, self.stamp, os.getpid()).infolist():
            where = f"{printable(path)}: {entry.orig_filename!r}"
            _refuse(entry, where)
            if entry.filename in self.entries:
                raise DataError(f"{where} is there twice; write the zip again")
            parts = PurePosixPath(entry.filename).parts
            if entry.is_dir():
                continue
            if "__MACOSX" in parts or any(part.startswith(".") for part in parts):
                left_out.add("hidden entry", "of the archive", entry.filename)
            else:
                self.entries[entry.filename] = entry

    def where(self, name: str) -> str:
        return f"{printable(self.path)}: {printable(name)}"

    def captions(self, left_out: LeftOut, needed: bool) -> dict[str, tuple[tuple[str, ...], str]]:
        """Image's name -> captions, and why there are none. From .txt entries if any image has one, else from
        dataset.json. Raises DataError for an archive without any if they are `needed`."""
        images = [name for name in self.entries if is_image(name)]
        inner = {name for name in self.entries if name.endswith("/dataset.json")}
        texts = Texts(images, self.entries.keys() - {*images, *inner, "dataset.json"})
        texts.count_others(left_out)
        for name in sorted(inner):
            left_out.add("file", "called dataset.json, which captions are read from at the top of the archive", name)
        captions: dict[str, tuple[tuple[str, ...], str]] = {}
        if not any(texts.of(name) for name in images):
            for name, value in self.pairs("captions"):
                lines = field_captions(value, f"{self.where('dataset.json')}: {name}", left_out)
                captions[name] = lines, "" if lines else "no caption: dataset.json has an empty one"
            if needed and images and not captions:
                raise DataError(self._no_captions())
            return captions
        if "dataset.json" in self.entries and self.entries["dataset.json"].file_size <= _SMALL_JSON:
            others = self._metadata.get("captions") or ()
            left_out.add("caption", "listed in dataset.json, as there are .txt entries", "dataset.json", len(others))
        for image in images:
            text = texts.of(image)
            if text is None:
                captions[image] = (), texts.why_missing(image)
                continue
            lines = caption_lines(self._text(text), self.where(text))
            captions[image] = lines, "" if lines else f"no caption: {printable(text)} is empty"
        return captions

    def _no_captions(self) -> str:
        if inner := next((name for name in self.entries if name.endswith("/dataset.json")), ""):
            fix = "zip what is in that folder, not the folder itself"
            return f"{self.where(inner)} is not read, as it is not at the top of the archive; {fix}"
        holds = "no captions"
        if self._metadata.get("clip_txt_features"):
            holds = "only features of captions, which cannot be put into words"
        return f"{printable(self.path)} holds {holds}; {_ADD}{_KEEP}"

    def _text(self, name: str) -> str:
        return reading.decode_text(_open(self.path, self.stamp, os.getpid()).read(name), self.where(name))

    @functools.cached_property
    def _metadata(self) -> dict[str, Any]:
        """What dataset.json holds, empty without one."""
        if "dataset.json" not in self.entries:
            return {}
        where, size = self.where("dataset.json"), self.entries["dataset.json"].file_size
        if size > MAX_JSON:
            raise DataError(f"{where} holds {size:,} bytes, probably features, and no caption was found beside; {_ADD}")
        content = reading.parse_json(self._text("dataset.json"), where)
        if not isinstance(content, dict):
            raise DataError(f"{where} must hold an object, as StyleGAN's does, not a {type(content).__name__}")
        return content

    def pairs(self, kind: str) -> list[tuple[str, Any]]:
        """The pairs of an entry's name and a value that dataset.json lists under `kind`, as a list or an object."""
        where, listed = self.where("dataset.json"), self._metadata.get(kind) or []
        pairs = list(listed.items()) if isinstance(listed, dict) else listed
        if not isinstance(pairs, list):
            raise DataError(f"{where}: {kind} must be a list of pairs, not {listed!r:.80}")
        names: set[str] = set()
        for number, pair in enumerate(pairs):
            place = f"{where}: {kind}[{number}]"
            if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                raise DataError(f"{place} must be a pair of a name and a value, not {pair!r:.80}")
            if pair[0] not in self.entries:
                raise DataError(f"{place}: {pair[0]!r} is not in the archive; remove it")
            if pair[0] in names:
                raise DataError(f"{place}: {pair[0]!r} is listed twice; put its values into one pair")
            names.add(pair[0])
        return [(pair[0], pair[1]) for pair in pairs]


@functools.lru_cache(maxsize=2)  # reading the directory of a large archive takes seconds
def _open(path: Path, whole: str, process: int) -> zipfile.ZipFile:
    """The archive, open in this process: the place in a file that is open is shared with forked processes. `whole` is
    its stamp, so that another file is not taken for it."""
    return zipfile.ZipFile(path)


def _refuse(entry: zipfile.ZipInfo, where: str) -> None:
    name = entry.orig_filename
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name or _DRIVE.match(name):
        raise DataError(f"{where} leads out of the archive; name all entries relative to it, with forward slashes")
    if entry.flag_bits & 0x41:  # bits 0 and 6 of the format: encrypted, and strongly so
        raise DataError(f"{where} is encrypted; write the zip without a password")
    if name.lower().endswith(_NESTED):
        raise DataError(f"{where} is an archive within the archive; unpack it")
    if is_image(name):  # one too large is a bad one, when it is read
        return
    least, ratio = _BOMB
    if entry.file_size > least and entry.file_size > ratio * max(entry.compress_size, 1):
        swells = f"swells from {entry.compress_size:,} to {entry.file_size:,} bytes"
        raise DataError(f"{where} {swells}, more than a text does, and is not read; leave it out of the zip")
    reading.refuse_large(0 if name == "dataset.json" else entry.file_size, where)


def _read_image(path: Path, whole: str, name: str) -> bytes:
    with reading.as_data_error("its entry", _FIX):
        archive = _open(path, whole, os.getpid())
        reading.refuse_large(archive.getinfo(name).file_size)
        return reading.check_encoded(archive.read(name))
