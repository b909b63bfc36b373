"""Malformed data: what is wrong is named with its file and its line or entry."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

import layouts
from harness.data.prepare import prepare
from harness.data.sources import open_source, parquet, zip_archive
from harness.errors import DataError
from harness.settings import DataConfig
from layouts import ONE, SAMPLES, refused

ENCODED = SAMPLES[ONE][0]


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png"])
def test_names_that_are_none_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"image": name, "caption": "x"}))
    refused(DataConfig(source="table", path=str(tmp_path / "t.jsonl")), r"t\.jsonl: line 1: .* is no file name")


def test_a_name_too_long_is_a_bad_image(tmp_path: Path) -> None:
    name = f"{'x' * 300}/a.png"
    layouts.pictures(tmp_path)
    told = {"images": [{"id": 1, "file_name": name}], "annotations": [{"image_id": 1, "caption": "x"}]}
    (tmp_path / "c.json").write_text(json.dumps(told))
    (tmp_path / "t.csv").write_text(f"image,caption\n{name},x\n{ONE}.png,y\n")
    for config in (
        DataConfig(source="coco", path=str(tmp_path / "c.json"), images=str(tmp_path)),
        DataConfig(source="table", path=str(tmp_path / "t.csv")),
    ):
        record = open_source(config).records()[-1]
        assert record.key.startswith("xxx")
        with pytest.raises(OSError, match="File name too long"):
            record.read()


def test_captions_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    config = layouts.folder(tmp_path)
    for encoding, told in (("utf-16-le", "is not UTF-8 but UTF-16"), ("latin-1", "is not UTF-8")):
        (tmp_path / f"{ONE}.txt").write_bytes("café".encode(encoding))
        [bad] = [record for record in open_source(config).records() if record.fault]
        assert bad.key == ONE and re.search(rf"{ONE}\.txt {told}.*save it as UTF-8", bad.fault)
    with pytest.raises(DataError, match=rf"(?s)1 bad image.*{ONE}\.png: .*\.txt is not UTF-8"):
        prepare(replace(config, resolution=8), tmp_path / "cache")
    kept, index = prepare(replace(config, resolution=8, on_bad_image="skip"), tmp_path / "cache")
    assert index.images == len(SAMPLES) - 1 and ONE in (kept / "bad.txt").read_text()
    (tmp_path / "t.csv").write_bytes("image,caption\na.png,café\n".encode("latin-1"))
    refused(DataConfig(source="table", path=str(tmp_path / "t.csv")), r"t\.csv.*utf-8")


COCO = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "x"}]}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", r"must hold an object with images and annotations, not a list"),
        ('{"images": []', r"no valid JSON: .*line 1 column 14"),
        ("[" * 200_000, r"no valid JSON"),
        (json.dumps({**COCO, "annotations": None}), r"must have a list 'annotations'"),
        (json.dumps({**COCO, "images": [3]}), r"images\[0\] must be an object, not 3"),
        (json.dumps({**COCO, "images": [{"id": 1}]}), r"images\[0\] has no 'file_name'"),
        (json.dumps({**COCO, "images": [{"id": [], "file_name": "a"}]}), r"images\[0\]: id must be a number or text"),
        (json.dumps({**COCO, "images": [{"id": 1, "file_name": 7}]}), r"images\[0\]: file_name must be text, not 7"),
        (json.dumps({**COCO, "images": COCO["images"] * 2}), r"images\[1\]: the id 1 is also that of 'a\.png'"),
        (json.dumps({**COCO, "annotations": [{"image_id": 2}]}), r"annotations\[0\]: no image has the id 2"),
        (json.dumps({**COCO, "annotations": [{"image_id": 1}]}), r"annotations\[0\] has no 'caption'"),
        (json.dumps({**COCO, "annotations": [{"image_id": 1, "caption": 5}]}), r"annotations\[0\]: .*text, not 5"),
        (json.dumps({"images": [], "annotations": []}), r"holds no captioned image; list images"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_named_with_its_entry(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(content)
    refused(DataConfig(source="coco", path=str(tmp_path / "c.json"), images=str(tmp_path)), r"c\.json.*" + told)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("t.csv", "image,caption\na.png,x,y\n", "line 2 has 3 cells, the header 2"),
        ("t.csv", 'image,caption\na.png,"x\nb.png,y\n', "line 3: unexpected end of data; check quotes"),
        ("t.csv", "image,caption\n,x\n", "line 2: the image must be the path of a file, not ''"),
        ("t.csv", "", r"no column 'image' \(data\.image_column\); there are: none"),
        ("t.csv", "image,caption\n", "holds no captioned image"),
        ("t.jsonl", '{"image": "a.png", "caption": 3}', "line 1: a caption must be text or a list of texts, not 3"),
        ("t.jsonl", '{"image": "a.png", "caption": [3]}', "line 1: a caption must be text, not 3"),
        ("t.jsonl", '\n{"image": 5, "caption": ""}', "line 2: the image must be the path of a file, not 5"),
        ("t.jsonl", "[]", "line 1 must be an object"),
        ("t.jsonl", '{"image"', "line 1 is no valid JSON"),
        ("t.xlsx", "", r"of no known format; allowed is \.csv, \.tsv, \.jsonl, \.parquet"),
    ],
)
def test_what_is_wrong_with_a_table_is_named_with_its_line(name: str, content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    refused(DataConfig(source="table", path=str(tmp_path / name)), rf"{name}.*{told}")


def test_parquet_columns_of_other_types_and_huge_row_groups_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = layouts.parquet(tmp_path / "t.parquet", [{"image": 3, "caption": "x"}])
    refused(config, r"t\.parquet: column 'image' \(data\.image_column\) holds int64; it must hold paths")
    monkeypatch.setattr(parquet, "MAX_GROUP", 1000)
    refused(layouts.parquet_structs(tmp_path), r"table\.parquet: row group 0 holds .*; .*row_group_size")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "must hold an object, as StyleGAN's does, not a list"),
        ('{"captions": 3}', "captions must be a list of pairs, not 3"),
        ('{"captions": [["a.png"]]}', r"captions\[0\] must be a pair"),
        ('{"captions": [["b.png", "x"]]}', r"captions\[0\]: 'b\.png' is not in the archive"),
        ('{"captions": {"a.png": 3}}', r"a\.png: a caption must be text"),
        ("{", "no valid JSON"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_what_is_wrong_with_dataset_json_is_named(content: str, told: str, tmp_path: Path) -> None:
    entries = {"a.png": ENCODED, "dataset.json": content.encode("utf-8", "surrogateescape")}
    refused(layouts.zipped(tmp_path / "z.zip", entries), rf"z\.zip: dataset\.json.*{told}")


def test_a_dataset_json_of_gigabytes_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "MAX_JSON", 10)
    refused(layouts.zipped(tmp_path / "z.zip", {"a.png": ENCODED, "dataset.json": "{" * 11}), r"z\.zip.*11 bytes")
