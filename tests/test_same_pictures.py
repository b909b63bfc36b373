"""One picture is one picture, under however many rows, names, links and formats, and it is on one side of the split."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from handmade import Handmade
from harness.data import dataset as data
from harness.data import pictures as merging
from harness.data import prepare as preparing
from harness.data import sources
from harness.data.packed import read_rows
from harness.data.pictures import choose_held_out
from harness.errors import DataError, SpecError
from harness.metrics.manifest import make_manifest
from harness.settings import DataConfig, HeldOutConfig, Settings
from harness.study.load import load_study
from layouts import zipped

SIDE = 16


def drawn(number: int, kind: str = "PNG", side: int = SIDE) -> bytes:
    """A picture of noise, another for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def put(folder: Path, names: Iterable[tuple[str, int]], kind: str = "PNG") -> Path:
    """`name`.png holds the picture of that number, in whatever format, and says so."""
    for name, number in names:
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(drawn(number, kind))
        path.with_suffix(".txt").write_text(f"picture {number}\n{name}\n")
    return folder


def prepared(config: DataConfig, cache: Path) -> tuple[Any, list[dict[str, Any]], data.Dataset]:
    folder, index = preparing.prepare(config, cache)
    return index, [row for row in read_rows(folder, range(index.shards)) if "bad" not in row], data.load(config, cache)


def whole(config: DataConfig, cache: Path) -> tuple[Any, list[dict[str, Any]], data.Dataset]:
    """As `prepared`: pixels, captions and rows are of one length, and every picture is there once."""
    index, found, dataset = prepared(config, cache)
    assert index.images == len(found) == len(dataset.images) == len(dataset.captions)
    assert len({image.tobytes() for image in dataset.images[:]}) == len(found), "a picture is there twice"
    assert len({row["key"] for row in found}) == len(found)
    assert [row["held_out"] for row in found] == [image in dataset.held_out for image in range(len(found))]
    assert len(dataset.train) + len(dataset.held_out) == len(found)
    return index, found, dataset


def of_folder(path: Path, **more: Any) -> DataConfig:
    return DataConfig(source="folder", path=str(path), resolution=SIDE, **more)


PLAIN = [(f"p{number:02d}", number) for number in range(40)]


def table(path: Path, found: list[dict[str, Any]]) -> DataConfig:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(found), path, row_group_size=7)
    return DataConfig(source="table", path=str(path), resolution=SIDE)


def saved(path: Path, found: list[dict[str, Any]]) -> DataConfig:
    import datasets

    kinds = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    datasets.Dataset.from_list(found, kinds).save_to_disk(str(path))
    return DataConfig(source="huggingface", path=str(path), resolution=SIDE)


def per_caption(names: Iterable[tuple[str, int]], stored: bool = True) -> list[dict[str, Any]]:
    found = []
    for name, number in names:
        cell = {"bytes": drawn(number), "path": f"{name}.png"} if stored else drawn(number)
        found += [{"image": cell, "caption": text} for text in (f"picture {number}", name)]
    return found


def test_data_without_equal_pictures_is_split_by_names_as_ever(tmp_path: Path) -> None:
    index, _found, dataset = whole(of_folder(put(tmp_path / "a", PLAIN)), tmp_path / "cache")
    assert dataset.held_out.tolist() == np.flatnonzero(choose_held_out([name for name, _ in PLAIN], 0.1)).tolist()
    assert (index.repeats, index.held_out_too, index.remarks) == (0, 0, ())


@pytest.mark.parametrize("write", [table, saved], ids=["parquet", "saved by datasets"])
def test_a_row_per_caption_is_the_same_data_as_a_file_per_picture(
    write: Callable[[Path, list[dict[str, Any]]], DataConfig], tmp_path: Path
) -> None:
    expected = whole(of_folder(put(tmp_path / "a", PLAIN)), tmp_path / "cache")[0]
    config = write(tmp_path / "b" / "rows.parquet", per_caption(PLAIN))
    index, _found, dataset = whole(config, tmp_path / "cache")
    assert index.fingerprint == expected.fingerprint and index.repeats == 40
    assert dataset.captions == tuple((f"picture {number}", name) for name, number in PLAIN)


def test_rows_in_another_order_fall_on_the_same_sides(tmp_path: Path) -> None:
    mixed = per_caption(PLAIN)
    one = whole(table(tmp_path / "a.parquet", mixed), tmp_path / "cache")[1]
    order = np.random.default_rng(0).permutation(len(mixed))
    other = whole(table(tmp_path / "b.parquet", [mixed[place] for place in order]), tmp_path / "cache")[1]
    assert {row["key"]: row["held_out"] for row in one} == {row["key"]: row["held_out"] for row in other}
    assert {row["key"]: set(row["captions"]) for row in one} == {row["key"]: set(row["captions"]) for row in other}


def test_rows_without_a_name_are_one_picture_too(tmp_path: Path) -> None:
    config = table(tmp_path / "a.parquet", per_caption(PLAIN, stored=False))
    index, found, dataset = whole(config, tmp_path / "cache")
    assert index.repeats == 40 and [row["key"] for row in found] == [f"{2 * row:09d}" for row in range(40)]
    assert dataset.captions[7] == ("picture 7", "p07")


def test_other_pictures_of_one_name_stay_apart_and_where_they_were(tmp_path: Path) -> None:
    named = [(name, number) for number, (name, _) in enumerate(PLAIN[:20] * 2)]
    found = [row for row in per_caption(named) if row["caption"].startswith("picture")]
    index, kept, dataset = whole(table(tmp_path / "a.parquet", found), tmp_path / "cache")
    numbers = [f"{row:09d}" for row in range(40)]
    assert index.repeats == 0 and [row["key"] for row in kept] == numbers
    assert dataset.held_out.tolist() == np.flatnonzero(choose_held_out(numbers, 0.1)).tolist()


def link(path: Path, new: Path) -> None:
    new.symlink_to(os.path.relpath(path, new.parent))


def again(path: Path, new: Path) -> None:
    new.write_bytes(drawn(int(path.stem[1:]), "BMP"))


@pytest.mark.parametrize("copy", [shutil.copy, os.link, link, again], ids=["copy", "hard link", "link", "other format"])
@pytest.mark.parametrize("name", ["a-first", "z-last"])
def test_a_picture_under_two_names_is_taken_once(copy: Callable[[Path, Path], Any], name: str, tmp_path: Path) -> None:
    folder = put(tmp_path / "a" / "m", PLAIN).parent
    (folder / name).mkdir()
    for file, number in PLAIN[:30]:
        copy(folder / "m" / f"{file}.png", folder / name / f"x{file}.png")
        (folder / name / f"x{file}.txt").write_text(f"picture {number}\nagain {number}\n")
    index, found, dataset = whole(of_folder(folder), tmp_path / "cache")
    assert (index.images, index.repeats) == (40, 30)
    first = sorted([f"m/{file}" for file, _ in PLAIN] + [f"{name}/x{file}" for file, _ in PLAIN[:30]])
    first = first[:30] + first[60:] if name == "a-first" else first[:40]
    assert [row["key"] for row in found] == first
    assert set(dataset.captions[3]) == {"picture 3", "p03", "again 3"} and len(dataset.captions[3]) == 3
    assert dataset.held_out.tolist() == np.flatnonzero(choose_held_out(first, 0.1)).tolist()


def test_more_names_and_more_pictures_move_nothing(tmp_path: Path) -> None:
    folder = put(tmp_path / "a", PLAIN)
    before = {row["sha256"]: row["held_out"] for row in whole(of_folder(folder), tmp_path / "cache")[1]}
    put(
        folder, [(f"z-{name}", number) for name, number in PLAIN] + [(f"a{number}", number) for number in range(60, 90)]
    )
    after = {row["sha256"]: row["held_out"] for row in whole(of_folder(folder), tmp_path / "cache")[1]}
    assert len(after) == 70 and all(after[digest] == held for digest, held in before.items())


def test_how_many_are_the_same_is_told_once_and_when_asked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = of_folder(put(tmp_path / "a", [*PLAIN, ("copy", 3)]))
    for describe, told in ((False, True), (True, True), (False, False)):
        caplog.clear()
        with caplog.at_level(logging.INFO, "harness"):
            preparing.prepare(config, tmp_path / "cache", describe)
        assert ("1 image is the same picture as another" in caplog.text) == told


def test_a_dozen_copies_are_too_few_pictures(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"but there are .*11 images are the same picture"):
        preparing.prepare(of_folder(put(tmp_path / "a", [(f"p{n}", 1) for n in range(12)])), tmp_path / "cache")


def copied(root: Path) -> Path:
    return Path(shutil.copytree(root / "a" / "val", root / "b"))


def linked(root: Path) -> Path:
    (root / "b").symlink_to(root / "a" / "val")
    return root / "b"


def renamed(root: Path) -> Path:
    return put(root / "b", [(f"other-{number}", number) for number in range(10)], "BMP")


def larger(root: Path) -> Path:
    return put(copied(root), [(f"more-{number}", 100 + number) for number in range(5)])


@pytest.mark.parametrize("other", [lambda root: root / "a" / "val", copied, linked, renamed, larger])
def test_what_is_held_out_is_not_trained_on(other: Callable[[Path], Path], tmp_path: Path) -> None:
    put(tmp_path / "a" / "val", PLAIN[:10])
    put(tmp_path / "a" / "train", PLAIN[10:])
    config = of_folder(tmp_path / "a", held_out=HeldOutConfig(path=str(other(tmp_path))))
    index, found, dataset = whole(config, tmp_path / "cache")
    assert len(dataset.train) == 30 and len(dataset.held_out) in (10, 15)
    assert all(row["key"].startswith("train/") != row["held_out"] for row in found)
    assert index.held_out_too == 10 and "10 pictures of the training data" in index.remarks[-1]


@pytest.mark.parametrize("other", ["a", "a/.", "b", "c"])
def test_holding_out_all_of_the_data_is_refused(other: str, tmp_path: Path) -> None:
    put(tmp_path / "a", PLAIN)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    config = of_folder(tmp_path / "a", held_out=HeldOutConfig(path=f"{tmp_path}/{other}"))
    with pytest.raises(DataError, match=r"but there are 0 and 40; 40 pictures .* because data\.held_out has the same"):
        preparing.prepare(config, tmp_path / "cache")


def test_a_study_whose_held_out_data_is_its_data_by_another_path_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "a", PLAIN)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    study = tmp_path / "s.yaml"
    for other in ("b", "./a", "../" + tmp_path.name + "/a", str(tmp_path / "a")):
        study.write_text(f"study: s\ndata: {{source: folder, path: a, resolution: 16, held_out: {{path: {other}}}}}\n")
        with pytest.raises(SpecError, match=r"data\.held_out\.path.* is the data that is trained on"):
            load_study(study)


def test_a_split_that_overlaps_is_not_trained_on(tmp_path: Path) -> None:
    import datasets

    def split(numbers: range) -> Any:
        stored = [{"bytes": drawn(number), "path": f"{number}.png"} for number in numbers]
        columns = {"image": stored, "caption": [f"picture {number}" for number in numbers]}
        return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())

    datasets.DatasetDict({"train": split(range(20)), "test": split(range(14, 24))}).save_to_disk(str(tmp_path / "a"))
    config = DataConfig(source="huggingface", path=str(tmp_path / "a"), resolution=SIDE)
    index, _, dataset = whole(replace(config, held_out=HeldOutConfig(split="test")), tmp_path / "cache")
    assert (len(dataset.train), len(dataset.held_out), index.held_out_too) == (14, 10, 6)


def test_one_file_under_several_spellings_in_a_table(tmp_path: Path) -> None:
    folder = put(tmp_path / "a" / "sub", PLAIN).parent
    link(folder / "sub" / "p03.png", folder / "linked.png")
    spelled = ["sub/p03.png", "./sub/p03.png", "sub/../sub/p03.png", str(folder / "sub" / "p03.png"), "linked.png"]
    found = [[f"sub/{name}.png", f"picture {number}"] for name, number in PLAIN]
    kept = []
    for turn in (spelled, spelled[::-1]):
        with (folder / "t.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["image", "caption"], *([name, f"as {name}"] for name in turn), *found])
        config = DataConfig(source="table", path=str(folder / "t.csv"), resolution=SIDE)
        kept.append(whole(config, tmp_path / "cache")[1])
        assert len(kept[-1]) == 40
    sides = [{row["key"]: row["held_out"] for row in found} for found in kept]
    assert sides[0] == sides[1] and len(kept[0][0]["captions"]) == 6


def test_coco_that_lists_an_image_per_caption(tmp_path: Path) -> None:
    put(tmp_path / "img", PLAIN)
    listed, told = [], []
    for place, (name, number) in enumerate(PLAIN):
        listed += [{"id": 2 * place, "file_name": f"{name}.png"}, {"id": 2 * place + 1, "file_name": f"./{name}.png"}]
        told += [{"image_id": 2 * place + each, "caption": f"{number} {each}"} for each in (0, 1)]
    (tmp_path / "c.json").write_text(json.dumps({"images": listed, "annotations": told}))
    config = DataConfig(source="coco", path=str(tmp_path / "c.json"), images=str(tmp_path / "img"), resolution=SIDE)
    found = whole(config, tmp_path / "cache")[1]
    assert [(row["key"], row["captions"]) for row in found] == [(name, [f"{n} 0", f"{n} 1"]) for name, n in PLAIN]


def test_stored_features_stay_with_their_pictures(tmp_path: Path) -> None:
    names = [(f"{place:02d}", place % 10) for place in range(20)]
    features = {f"{name}.png": [float(number + 1), *[1.0] * 511] for name, number in names}
    entries: dict[str, bytes | str] = {f"{name}.png": drawn(number) for name, number in names}
    entries |= {f"{name}.txt": f"picture {number}" for name, number in names}
    content = json.dumps({"clip_img_features": list(features.items())})
    config = replace(zipped(tmp_path / "data.zip", {**entries, "dataset.json": content}), resolution=SIDE)
    _, found, dataset = whole(replace(config, stored_features=True), tmp_path / "cache")
    assert dataset.stored is not None and len(found) == len(dataset.stored) == 10
    for row, feature in zip(found, dataset.stored, strict=True):
        assert round(float(feature[0] / feature[1])) == int(row["key"]) % 10 + 1
        assert row["captions"] == [f"picture {int(row['key']) % 10}"]


def test_a_search_and_the_measuring_see_every_picture_once(tmp_path: Path) -> None:
    config = of_folder(put(tmp_path / "a", [*PLAIN, *((f"z{name}", number) for name, number in PLAIN)]))
    dataset = whole(config, tmp_path / "cache")[2]
    tuned = data.tuning(dataset)
    assert not {*tuned.train, *tuned.held_out} & {*dataset.held_out} and not {*tuned.train} & {*tuned.held_out}
    manifest = make_manifest(dataset, Settings())
    asked = manifest.images[manifest.samples :]
    assert (
        len({dataset.images[image].tobytes() for image in asked}) == len(set(asked.tolist())) == len(dataset.held_out)
    )


def test_cut_short_while_pictures_are_joined_it_is_packed_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    names = [*PLAIN, *((f"z{name}", number) for name, number in PLAIN)]
    config = of_folder(put(tmp_path / "a", names))
    expected = whole(config, tmp_path / "other")[0].fingerprint
    write = merging.write_rows
    monkeypatch.setattr(merging, "write_rows", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(config, tmp_path / "cache")
    monkeypatch.setattr(merging, "write_rows", write)
    assert whole(config, tmp_path / "cache")[0].fingerprint == expected


def test_across_shards_one_picture_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sources.SOURCES, "handmade", Handmade)
    monkeypatch.setattr(Handmade, "altered", {})
    monkeypatch.setattr(preparing, "_FEW", 10**9)
    plain = Handmade(DataConfig(path="600"))
    monkeypatch.setattr(
        Handmade, "altered", {number: (plain._record(number % 7).read(), ("x",)) for number in range(590)}
    )
    index, found, dataset = whole(DataConfig(source="handmade", path="600", resolution=8), tmp_path)
    assert (index.shards, index.images, index.repeats) == (3, 17, 583)
    assert [row["key"] for row in found] == [f"key-{number:06d}" for number in (*range(7), *range(590, 600))]
    assert [image[:2, 0, 0].tolist() for image in dataset.images[:]] == [
        [number % 256, number // 256] for number in (*range(7), *range(590, 600))
    ]
