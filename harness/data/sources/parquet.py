"""Parquet tables, read by row group so that memory stays flat."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.data.sources.reading import captions_of, checked, faults_of, need_column, read_file, row_keys
from harness.data.sources.record import LeftOut, Record, inside, shown, stamp, stamp_inside
from harness.errors import DataError
from harness.settings import DataConfig

MAX_GROUP = 2**31
"""Bytes of the images of one row group, which is read as a whole."""
_FIX = "write or copy it again"


def holds_images(path: Path, config: DataConfig) -> bool:
    """Whether the column of images holds them rather than their paths. Raises DataError without such a column."""
    with faults_of(shown(path), _FIX):
        return not _is_text(_kind(_opened(path), path, config.image_column))


def rows(path: Path, config: DataConfig) -> Iterator[tuple[str, Any, Any]]:
    """Per row its place, the path of its image and its captions."""
    for place, _, image, caption in _cells(path, config, config.image_column):
        yield place, image, caption


def packed(path: Path, root: Path, config: DataConfig, left_out: LeftOut) -> list[Record]:
    """One record per row, for a column of encoded images or of structs of `bytes` and `path`."""
    column = config.image_column
    with faults_of(shown(path), _FIX):
        table = _opened(path)
        _refuse_large_groups(table, path, column)
        leaf = f"{column}.path" if "path" in _names(_kind(table, path, column)) else None
        cells = list(_cells(path, config, leaf))
        keys = row_keys([image["path"] if image else None for _, _, image, _ in cells])
        whole = stamp(path)
        by_name = {group for group in range(table.num_row_groups) if leaf and _may_lack_bytes(table, group, column)}
        found = []
        for (key, name), (where, (group, row), image, caption) in zip(keys, cells, strict=True):
            read = functools.partial(_read, path, whole, root, (column, group, row))
            mark = f"{whole} {group} {row}"
            if image and group in by_name:
                mark += f" {stamp_inside(root, image['path'])}"
            found.append(Record(key, captions_of(caption, where, left_out), where, mark, read, name=name))
        return found


def _may_lack_bytes(table: Any, group: int, column: str) -> bool:
    """Whether some rows of a group may name a file in place of holding the image, as far as the table's end tells."""
    told = table.metadata.row_group(group)
    parts = [told.column(place) for place in range(told.num_columns)]
    found = [part.statistics for part in parts if part.path_in_schema == f"{column}.bytes"]
    return any(each is None or not each.has_null_count or each.null_count for each in found)


def _opened(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path)


def _kind(table: Any, path: Path, column: str) -> Any:
    """The type of the column of images. Raises DataError when there is none, or none that can be read."""
    from pyarrow import types

    need_column(column, "data.image_column", table.schema_arrow.names, shown(path))
    kind = table.schema_arrow.field(column).type
    if _is_text(kind) or types.is_binary(kind) or types.is_large_binary(kind) or "bytes" in _names(kind):
        return kind
    told = "paths, bytes, or structs of bytes and path"
    raise DataError(f"{shown(path)}: column {column!r} (data.image_column) holds {kind}; it must hold {told}")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(plain) or types.is_large_string(plain))


def _names(kind: Any) -> list[str]:
    from pyarrow import types

    return [kind.field(place).name for place in range(kind.num_fields)] if types.is_struct(kind) else []


def _refuse_large_groups(table: Any, path: Path, column: str) -> None:
    for group in range(table.num_row_groups):
        told = table.metadata.row_group(group)
        parts = [told.column(place) for place in range(told.num_columns)]
        size = sum(part.total_uncompressed_size for part in parts if f"{part.path_in_schema}.".startswith(f"{column}."))
        if size > MAX_GROUP:
            where = f"{shown(path)}: row group {group}"
            raise DataError(f"{where} holds {size:,} bytes of images; write the table with row_group_size=256")


def _cells(path: Path, config: DataConfig, leaf: str | None) -> Iterator[tuple[str, tuple[int, int], Any, Any]]:
    """Per row: its place, row group and number therein, the image column as far as `leaf` selects it, and the captions.

    The images themselves are not read here.
    """
    table, column = _opened(path), config.caption_column
    need_column(column, "data.caption_column", table.schema_arrow.names, shown(path))
    total = 0
    for group in range(table.num_row_groups):
        part = table.read_row_group(group, columns=[leaf, column] if leaf else [column])
        captions = part.column(column).to_pylist()
        images = part.column(config.image_column).to_pylist() if leaf else [None] * len(captions)
        for row, (image, caption) in enumerate(zip(images, captions, strict=True)):
            yield f"{shown(path)}: row {total + row}", (group, row), image, caption
        total += len(captions)


@functools.lru_cache(maxsize=2)
def _group(path: Path, whole: str, column: str, group: int) -> Any:
    """The images of a row group; `whole` is the file's stamp, so that another file is not taken for it."""
    return _opened(path).read_row_group(group, columns=[column]).column(column)


def _read(path: Path, whole: str, root: Path, place: tuple[str, int, int]) -> bytes:
    column, group, row = place
    with faults_of("its row group", _FIX):
        cell = _group(path, whole, column, group)[row].as_py()
    encoded = cell.get("bytes") if isinstance(cell, dict) else cell
    if encoded is not None:
        return checked(encoded)
    if not isinstance(cell, dict) or not cell.get("path"):
        raise DataError("holds no image; remove the row")
    return read_file(inside(root, cell["path"], "its path"))
