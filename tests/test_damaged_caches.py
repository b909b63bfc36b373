"""Prepared data and features that are not what was written: refused with the folder to delete."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data import dataset as data
from harness.data.packed import find_prepared, open_array
from harness.errors import DataError
from harness.settings import DataConfig
from hostile import device, write_images

PIXELS = np.arange(4 * 3 * 8 * 8, dtype=np.uint8).reshape(4, 3, 8, 8)


@pytest.fixture
def prepared(tmp_path: Path) -> tuple[DataConfig, Path, str]:
    """A data set of 24 images, its folder in the cache and its fingerprint."""
    write_images(tmp_path / "images")
    config = DataConfig(source="folder", path=str(tmp_path / "images"), resolution=8)
    fingerprint = data.load(config, tmp_path / "cache").fingerprint
    (index,) = (tmp_path / "cache" / "data").glob("*/index.json")
    return config, index.parent, fingerprint


def saved(path: Path, array: Any, **options: Any) -> bytes:
    np.save(path, array, **options)
    return path.read_bytes()


class Touching:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: text + b"\0",
        lambda text: text[:60],
        lambda text: b"",
        lambda text: text.replace(b"'|u1'", b"'|i1'"),
        lambda text: text.replace(b"False", b"True "),
        lambda text: text.replace(b"(4, 3, 8, 8)", b"(2, 3, 8, 8)"),
        lambda text: text.replace(b"(4, 3, 8, 8)", b"(4, 3, 8, 7)"),
        lambda text: text.replace(b"(4, 3, 8, 8)", b"(-4, 3,8, 8)"),
        lambda text: text.replace(b"(4, 3, 8, 8)", b"(10**9,3, 8)"),
        lambda text: text.replace(b"{", b"[", 1),
        lambda text: b"PK\3\4" + text,
    ],
)
def test_an_array_is_what_was_written_or_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "folder" / "00000.npy"
    path.parent.mkdir()
    sound = saved(path, PIXELS)
    assert (open_array(path, np.uint8, (None, 3, 8, 8)) == PIXELS).all()
    damaged = damage(sound)
    assert damaged != sound
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=f"delete the folder {path.parent}"):
        open_array(path, np.uint8, (None, 3, 8, 8))


@pytest.mark.parametrize(
    "array", [PIXELS.astype(">f4"), PIXELS.astype(np.float64), PIXELS[:3], PIXELS[0], PIXELS[None]]
)
def test_an_array_of_another_type_or_shape_is_refused(array: Any, tmp_path: Path) -> None:
    saved(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"in place of float32 \[4,3,\*,8\]"):
        open_array(tmp_path / "a.npy", np.float32, (4, 3, None, 8))


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    saved(tmp_path / "a.npy", np.array([Touching(canary)], dtype=object), allow_pickle=True)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Touching(canary)))
    for name in ("a.npy", "b.npy"):
        with pytest.raises(DataError, match="delete the folder"):
            open_array(tmp_path / name, np.float32, (1,))
    assert not canary.exists()


@pytest.mark.parametrize("kind", ["pipe", "folder", "circle", "sparse", "/dev/zero", "/nowhere/at/all"])
@pytest.mark.parametrize("name", ["00000.npy", "00000.jsonl", "index.json"])
def test_what_is_no_file_is_refused(prepared: tuple[DataConfig, Path, str], name: str, kind: str) -> None:
    config, folder, _ = prepared
    if (name, kind) == ("index.json", "/nowhere/at/all"):
        return  # as if it had not been prepared
    (folder / name).unlink()
    device(kind, folder / name)
    if name == "index.json" and kind == "circle":
        return
    with pytest.raises(DataError, match=f"delete the folder {folder}"):
        data.load(config, folder.parent.parent)


@pytest.mark.parametrize(
    "change",
    [
        {"images": 23}, {"images": 25}, {"images": "24"}, {"images": -24}, {"held_out": 3}, {"held_out": None},
        {"shards": 0}, {"shards": 2}, {"shards": 10**12}, {"shards": 1.5}, {"fingerprint": 7}, {"bad": "none"},
        {"bad": [1]}, {"attribution": {}},
    ],
)  # fmt: skip
def test_an_index_that_was_edited_is_refused(prepared: tuple[DataConfig, Path, str], change: dict[str, Any]) -> None:
    config, folder, _ = prepared
    path = folder / "index.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=f"delete the folder {folder}"):
        data.load(config, folder.parent.parent)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "\0\0", '{"key": "a"}', '{"key": "a", "captions": "b", "held_out": 0, "sha256": ""}', "[" * 10**5],
)
def test_a_caption_file_that_was_edited_is_refused(prepared: tuple[DataConfig, Path, str], line: str) -> None:
    config, folder, _ = prepared
    path = folder / "00000.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:5], line, *lines[6:]]) + "\n")
    with pytest.raises(DataError, match=f"delete the folder {folder}"):
        data.load(config, folder.parent.parent)


def test_a_pointer_leads_nowhere_but_to_prepared_data(prepared: tuple[DataConfig, Path, str], tmp_path: Path) -> None:
    config, folder, fingerprint = prepared
    cache = tmp_path / "cache"
    found = find_prepared(fingerprint, cache)
    assert found is not None and found[0] == folder
    pointer = cache / "data" / "found" / fingerprint
    (tmp_path / "planted").mkdir()
    (tmp_path / "planted" / "index.json").write_bytes((folder / "index.json").read_bytes())
    for text in ("../../planted", str(tmp_path / "planted"), f"{folder.name}/../{folder.name}", "", "\0", ".", "é"):
        pointer.write_text(text)
        assert find_prepared(fingerprint, cache) is None
    pointer.unlink()
    device("pipe", pointer)
    assert find_prepared(fingerprint, cache) is None
    assert find_prepared(f"../found/{fingerprint}", cache) is None
    pointer.unlink()
    assert len(data.load(config, cache, fingerprint).images) == 24, "a lost pointer costs a look at the source"
    assert find_prepared(fingerprint, cache) is not None
