"""Data sets of the Hugging Face `datasets` library: saved in a folder, or by their name on the hub."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.data import reading
from harness.data.reading import printable
from harness.data.sources.matching import NamedFiles, count_missing_parts
from harness.data.sources.parquet import image_of_cell, stamp_of_named
from harness.data.sources.record import (
    LeftOut,
    Record,
    Records,
    Source,
    field_captions,
    has_captions,
    in_order,
    row_keys,
)
from harness.data.sources.table import FORMATS
from harness.errors import DataError
from harness.settings import DataConfig

_BATCH = 1000
_FIX_NAME = (
    "{name} is no folder here and could not be had from the hub: check the name, or download it where there is a "
    "network (`hf download --repo-type dataset {name} --local-dir FOLDER`) and give the folder"
)
_PARTS = (".parquet", ".arrow", ".csv", ".jsonl", ".tar", ".zip")


class HuggingFace(Source):
    """`path` is a folder that `save_to_disk` wrote, another folder that `load_dataset` can read, or a name on the hub.

    `image_column` holds images, which stay encoded, and `caption_column` a text or a list of texts. Data that comes
    with code of its own is refused. A name on the hub is downloaded unless HF_HUB_OFFLINE is set.
    """

    name = "huggingface"
    reads = ("split", "subset", "image_column", "caption_column")
    places = ()

    def records(self) -> Records:
        """Every row of the split. Raises DataError."""
        config, where, left_out = (
            self._config,
            f"{printable(self._config.path)}: {self._config.split}",
            LeftOut(),
        )
        root = Path(os.path.realpath(config.path)) if os.path.isdir(config.path) else None
        fix = "write or copy the folder again" if root else _FIX_NAME.format(name=printable(config.path))
        fix = f"check data.subset, or {fix}" if config.subset else fix
        with reading.as_data_error(where, fix):
            if root:
                _check_files(reading.folder_at(config.path, "data.path"), config, left_out)
            data = _split(_load(config), config, left_out)
            reading.need_column(config.image_column, "data.image_column", data.column_names, where)
            captioned = has_captions(config, data.column_names, where, left_out)
            images = _encoded_images(data, config.image_column, where)
            paths = list(_stored_paths(images, config.image_column))
            keys = row_keys([path for path, _ in paths])
            locate = functools.partial(_locate, root)
            # The library's fingerprint of saved data is not one of the files that rows are read from.
            files = _hash(reading.stamp(Path(file["filename"])) for file in data.cache_files)
            records = []
            batches = _cells(data, config.caption_column) if captioned else ()
            captions = [text for cells in batches for text in cells.to_pylist()] or [None] * len(keys)
            for row, ((key, name), (path, stored), caption) in enumerate(zip(keys, paths, captions, strict=True)):
                place = f"{where}: row {row}"
                read = functools.partial(_read, images, row, config.image_column, locate)
                mark = f"{data._fingerprint} {files} {row} {'' if stored else stamp_of_named(path, locate)}"
                texts = field_captions(caption, place, left_out)
                records.append(Record(key, texts, place, mark, read, name=name))
        return in_order(records, where, "give another split (data.split)", left_out)


def _check_files(folder: Path, config: DataConfig, left_out: LeftOut) -> None:
    """What the library passes over in a folder without a word: parts that are missing, rows that a quotation mark takes
    in, columns of one name, images that the metadata do not name."""
    every = (Path(parent, name) for parent, _, names in reading.walk(folder) for name in names)
    files = sorted(path for path in every if path.suffix.lower() in _PARTS)
    count_missing_parts((str(path.relative_to(folder)) for path in files), left_out)
    for path in files:
        if path.stem != "metadata" or path.suffix not in (".csv", ".jsonl"):
            continue
        with path.open("rb") as stream:
            if b"file_name" not in stream.read(2**16).replace(b"file_names", b""):  # several images a row
                continue
        named, columns = NamedFiles(path.parent), replace(config, image_column="file_name")
        for place, name, _ in FORMATS[path.suffix](path, path.parent, columns, left_out):
            named.find(name, place)
        named.count_unnamed(left_out)


def _load(config: DataConfig) -> Any:
    import datasets

    datasets.disable_progress_bars()
    if not config.path:
        raise DataError("data.path is empty: give a folder or the name of a data set on the hub")
    # Up to its version 3 the library can run code that comes with the data; later ones know no such setting.
    no_code = {"trust_remote_code": False} if int(datasets.__version__.split(".")[0]) < 4 else {}
    if not os.path.isdir(config.path) and config.path[0] not in "/.~":
        return datasets.load_dataset(config.path, config.subset or None, **no_code)
    folder = reading.folder_at(config.path, "data.path")
    if any((folder / name).exists() for name in ("dataset_dict.json", "state.json")):
        if config.subset:
            reason = f"{printable(config.path)} was written by save_to_disk, so it has no subset {config.subset!r}"
            raise DataError(f"{reason} (data.subset); leave that key out")
        return datasets.load_from_disk(str(folder))
    if scripts := sorted(folder.glob("*.py")):
        raise DataError(f"{printable(scripts[0])} is code to load the data, which is never run; give Parquet or images")
    # The library takes a file for unchanged by its time alone; what describes the data is part of what it goes by.
    return datasets.load_dataset(
        str(folder), config.subset or None, description=_hash(reading.stamps_below(folder)), **no_code
    )


def _hash(stamps: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(stamps)).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _split(loaded: Any, config: DataConfig, left_out: LeftOut) -> Any:
    """The split of the settings, the others are counted; data saved without splits is taken as it is."""
    import datasets

    if not isinstance(loaded, datasets.DatasetDict):
        _check_alone(str(loaded.split or ""), config, left_out)
        return loaded
    if config.split not in loaded:
        choices = reading.list_choices(config.split, list(loaded))
        raise DataError(f"{printable(config.path)} has no split {config.split!r} (data.split); {choices}")
    other = "" if config.held_out.path else config.held_out.split
    for name in sorted(loaded.keys() - {config.split, other}):
        left_out.add("row", f"of the split {name!r}", printable(config.path), loaded[name].num_rows)
    return loaded[config.split]


def _check_alone(name: str, config: DataConfig, left_out: LeftOut) -> None:
    """Raises DataError where another split was asked for than that of data saved as one alone, empty for none."""
    if config.split in (name, re.split(r"[+\[]", name)[0]):  # such as train[:100] and train+test
        return
    if config.split != DataConfig.split:
        place = f"{printable(config.path)} was saved as one split alone{f', {name!r}' if name else ''}"
        fix = f"name {'that one' if name else 'none'}, or save all splits together, as a DatasetDict"
        raise DataError(f"{place}: it has no split {config.split!r} (data.split); {fix}")
    left_out.note("data set", f"of the split {name!r} alone, taken for {config.split!r}", config.path, bool(name))


def _encoded_images(data: Any, column: str, where: str) -> Any:
    """That column alone, its images not decoded."""
    import datasets

    kind = data.features[column]
    plain = isinstance(kind, datasets.Value) and kind.dtype in ("string", "large_string", "binary", "large_binary")
    struct = isinstance(kind, dict) and "bytes" in kind and set(kind) <= {"bytes", "path"}
    if not (plain or struct or isinstance(kind, datasets.Image)):
        raise DataError(f"{where}: column {column!r} (data.image_column) holds {kind}; it must hold images")
    return data.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _cells(data: Any, column: str) -> Iterator[Any]:
    """A column in Arrow arrays of up to _BATCH rows."""
    for batch in data.select_columns([column]).with_format("arrow").iter(_BATCH):
        batch.validate(full=True)  # a damaged file would else be read beyond its end
        yield batch.column(0)


def _stored_paths(images: Any, column: str) -> Iterator[tuple[str | None, bool]]:
    """Per row the path, and whether the image itself is stored; the images stay untouched on disk."""
    from pyarrow import compute

    for cells in _cells(images, column):
        stored = compute.is_valid(compute.struct_field(cells, "bytes"))
        yield from zip(compute.struct_field(cells, "path").to_pylist(), stored.to_pylist(), strict=True)


def _read(images: Any, row: int, column: str, locate: Any) -> bytes:
    with reading.as_data_error("its row", "write or download the data set again"):
        cell = images[row][column]
    return image_of_cell(cell, locate)


def _locate(root: Path | None, path: str) -> Path:
    """A file that a row names instead of holding it: below the data's folder or the library's caches."""
    import datasets

    caches = (datasets.config.HF_DATASETS_CACHE, datasets.config.HF_CACHE_HOME)
    roots = [Path(os.path.realpath(os.path.expanduser(each))) for each in (root, *caches) if each]
    for each in roots:
        if Path(os.path.realpath(path if os.path.isabs(path) else each / path)).is_relative_to(each):
            return reading.inside(each, path, "its path")
    raise DataError(f"its path {path!r} leads out of {printable(roots[0])}; keep all images inside that folder")
