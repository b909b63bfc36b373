"""Parquet tables, read by row group so that memory stays flat."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.data.reading import as_data_error, check_encoded, inside, need_column, printable, read_file, stamp
from harness.data.sources.record import LeftOut, Record, field_captions, has_captions, row_keys
from harness.errors import DataError
from harness.settings import DataConfig

MAX_GROUP = 2**31
"""Bytes of the images of one row group, which is read as a whole."""
_FIX = "write or copy it again"


def holds_images(path: Path, config: DataConfig) -> bool:
    """Whether the column of images holds them rather than their paths. Raises DataError without such a column."""
    with as_data_error(printable(path), _FIX):
        return not _is_text(_image_type(_open(path), path, config.image_column))


def read_paths(path: Path, config: DataConfig, left_out: LeftOut) -> Iterator[tuple[str, Any, Any]]:
    """Per row its place, the path of its image and its captions."""
    for place, _, image, caption in _cells(path, config, config.image_column, left_out):
        yield place, image, caption


def read_images(path: Path, root: Path, config: DataConfig, left_out: LeftOut) -> list[Record]:
    """One record per row, for a column of encoded images or of structs of `bytes` and `path`."""
    column, locate = config.image_column, functools.partial(inside, root, where="its path")
    with as_data_error(printable(path), _FIX):
        table = _open(path)
        # Groups with rows that may name a file in place of holding the image, as far as the table's end tells.
        naming = set()
        for group in range(table.num_row_groups):
            parts = [table.metadata.row_group(group).column(part) for part in range(table.metadata.num_columns)]
            size = sum(p.total_uncompressed_size for p in parts if f"{p.path_in_schema}.".startswith(f"{column}."))
            if size > MAX_GROUP:
                where = f"{printable(path)}: row group {group}"
                raise DataError(f"{where} holds {size:,} bytes of images; write the table with row_group_size=256")
            counts = [part.statistics for part in parts if part.path_in_schema == f"{column}.bytes"]
            if any(count is None or not count.has_null_count or count.null_count for count in counts):
                naming.add(group)
        leaf = f"{column}.path" if "path" in _fields(_image_type(table, path, column)) else None
        cells = list(_cells(path, config, leaf, left_out))
        keys = row_keys([image["path"] if image else None for _, _, image, _ in cells])
        whole, records = stamp(path), []
        for (key, name), (place, (group, row), image, caption) in zip(keys, cells, strict=True):
            read = functools.partial(_read, path, whole, locate, (column, group, row))
            mark = f"{whole} {group} {row}"
            if image and group in naming:
                mark += f" {stamp_of_named(image['path'], locate)}"
            records.append(Record(key, field_captions(caption, place, left_out), place, mark, read, name=name))
        return records


def image_of_cell(cell: Any, locate: Callable[[str], Path]) -> bytes:
    """The encoded image of a cell that holds it, or a struct of `bytes` and `path`. Raises DataError or OSError.
    `locate` gives the file of a path, or raises DataError for one that may not be read."""
    fields = cell if isinstance(cell, dict) else {"bytes": cell}
    if fields.get("bytes") is not None:
        return check_encoded(fields["bytes"])
    if not fields.get("path"):
        raise DataError("holds no image; remove the row")
    return read_file(locate(fields["path"]))


def stamp_of_named(path: str | None, locate: Callable[[str], Path]) -> str:
    """The stamp of a file that a row names; empty for a row that names none, or one that may not be read."""
    try:
        return stamp(locate(path)) if path else ""
    except DataError:  # it is raised again when the image is read
        return ""


def _open(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.ParquetFile(path)


def _image_type(table: Any, path: Path, column: str) -> Any:
    """The type of the column of images. Raises DataError when there is none, or none that can be read."""
    from pyarrow import types

    need_column(column, "data.image_column", table.schema_arrow.names, printable(path))
    kind = table.schema_arrow.field(column).type
    if _is_text(kind) or types.is_binary(kind) or types.is_large_binary(kind) or "bytes" in _fields(kind):
        return kind
    readable = "paths, bytes, or structs of bytes and path"
    raise DataError(f"{printable(path)}: column {column!r} (data.image_column) holds {kind}; it must hold {readable}")


def _is_text(kind: Any) -> bool:
    from pyarrow import types

    plain = kind.value_type if types.is_dictionary(kind) else kind
    return bool(types.is_string(plain) or types.is_large_string(plain))


def _fields(kind: Any) -> list[str]:
    from pyarrow import types

    return [kind.field(place).name for place in range(kind.num_fields)] if types.is_struct(kind) else []


def _cells(
    path: Path, config: DataConfig, leaf: str | None, left_out: LeftOut
) -> Iterator[tuple[str, tuple[int, int], Any, Any]]:
    """Per row: its place, row group and number therein, the image column as far as `leaf` selects it, and the captions.
    The images themselves are not read here."""
    table, column = _open(path), config.caption_column
    captioned = has_captions(config, table.schema_arrow.names, printable(path), left_out)
    columns = [*filter(None, [leaf]), *([column] if captioned else [])]
    total = 0
    for group in range(table.num_row_groups):
        part = table.read_row_group(group, columns=columns)
        nothing = [None] * table.metadata.row_group(group).num_rows
        captions = part.column(column).to_pylist() if captioned else nothing
        images = part.column(config.image_column).to_pylist() if leaf else nothing
        for row, (image, caption) in enumerate(zip(images, captions, strict=True)):
            yield f"{printable(path)}: row {total + row}", (group, row), image, caption
        total += len(nothing)


def _read(path: Path, whole: str, locate: Callable[[str], Path], place: tuple[str, int, int]) -> bytes:
    column, group, row = place
    with as_data_error("its row group", _FIX):
        cell = _group(path, whole, column, group)[row].as_py()
    return image_of_cell(cell, locate)


@functools.lru_cache(maxsize=2)  # rows are read in order: this group, and the next one
def _group(path: Path, whole: str, column: str, group: int) -> Any:
    """The images of a row group; `whole` is the file's stamp, so that another file is not taken for it."""
    return _open(path).read_row_group(group, columns=[column]).column(column)
