"""Sources of data: the same pictures in every layout are the same records; what is missing is named."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layouts
from harness.data.sources import SOURCES, Record, open_source, webdataset, zip_archive
from harness.data.sources.zip_archive import ZipArchive
from harness.errors import DataError
from harness.settings import DataConfig
from layouts import LAYOUTS, ONE, SAMPLES


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The datasets library keeps to a folder of its own, quietly and offline."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def listed(config: DataConfig) -> list[Record]:
    return list(open_source(config).records())


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def config(request: pytest.FixtureRequest, tmp_path: Path) -> DataConfig:
    return request.param(tmp_path)


def test_every_layout_gives_the_same_keys_captions_and_bytes(config: DataConfig) -> None:
    source = pickle.loads(pickle.dumps(open_source(config)))
    records = source.records()
    assert [record.key for record in records] == sorted(SAMPLES)
    assert {record.key: (record.read(), record.captions) for record in records} == SAMPLES
    assert [record.stamp for record in records] == [record.stamp for record in open_source(config).records()]
    assert all(str(Path(config.path).parent) in record.where for record in records), "the file is named"


def test_all_sources_are_covered(tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(len(LAYOUTS))]
    for folder in folders:
        folder.mkdir()
    covered = {layout(folder).source for layout, folder in zip(LAYOUTS.values(), folders, strict=True)}
    assert covered | {"twemoji"} == set(SOURCES)


def test_listing_the_sources_loads_neither_torch_nor_their_libraries() -> None:
    heavy = "{'torch', 'datasets', 'webdataset', 'pyarrow', 'pandas'}"
    code = f"import sys, harness.data.sources; print(sorted({heavy} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("source", sorted(set(SOURCES) - {"twemoji"}))
def test_a_path_that_is_not_there_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.*(does not exist|hf download)"):
        listed(DataConfig(source=source, path=str(tmp_path / "nowhere"), images=str(tmp_path)))
    with pytest.raises(DataError, match=r"data\.path is empty"):
        listed(DataConfig(source=source, images=str(tmp_path)))


@pytest.mark.parametrize(
    "layout", ["csv", "tsv", "jsonl", "parquet of paths", "parquet of images", "saved by datasets"]
)
def test_a_missing_column_is_named_with_those_there_are_and_the_nearest(layout: str, tmp_path: Path) -> None:
    config = LAYOUTS[layout](tmp_path)
    name = Path(config.path).name
    for setting in ("image_column", "caption_column"):
        right = getattr(config, setting)
        told = rf"{name}.*'{right}s' \(data\.{setting}\); there are: .*{right}.*; did you mean '{right}'\?"
        with pytest.raises(DataError, match=told):
            listed(replace(config, **{setting: f"{right}s"}))


def test_a_missing_field_of_the_samples_of_a_tar_is_named(tmp_path: Path) -> None:
    config = LAYOUTS["tars by a pattern"](tmp_path)
    with pytest.raises(DataError, match=r"shards-.*'captions'.*there are: caption and width; did you mean 'caption'\?"):
        listed(replace(config, caption_column="captions"))


@pytest.mark.parametrize("layout", ["saved by datasets", "image folder"])
def test_a_missing_split_is_named_with_those_there_are(layout: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no split 'training'.*there are: train; did you mean 'train'\?"):
        listed(replace(LAYOUTS[layout](tmp_path), split="training"))


def test_an_image_without_captions_is_a_record_without_captions(tmp_path: Path) -> None:
    config = layouts.folder(tmp_path)
    (tmp_path / f"{ONE}.txt").unlink()
    assert {record.key: record.captions for record in listed(config)}[ONE] == ()
    (tmp_path / f"{ONE}.txt").write_text(" \n\t\n")
    assert {record.key: record.captions for record in listed(config)}[ONE] == ()


def test_a_folder_is_listed_at_any_depth_without_what_is_hidden(tmp_path: Path) -> None:
    for name in ("a/b/one.PNG", "a/two.jpeg", "a/.hidden/three.png", ".four.png", "five.md", "a/x.y.webp"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "a" / "x.y.txt").write_bytes("\ufeffdotted\r\nagain\rand again".encode())
    found = {record.key: record.captions for record in listed(DataConfig(source="folder", path=str(tmp_path)))}
    assert found == {"a/b/one": (), "a/two": (), "a/x.y": ("dotted", "again", "and again")}


@pytest.mark.parametrize("source", ["folder", "webdataset"])
def test_an_empty_folder_says_what_to_put_there(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}.*(put|give)"):
        listed(DataConfig(source=source, path=str(tmp_path)))


def test_a_file_that_is_missing_is_a_bad_image_alone(tmp_path: Path) -> None:
    config = layouts.coco(tmp_path)
    (tmp_path / "images" / f"{ONE}.png").unlink()
    records = {record.key: record for record in listed(config)}
    assert records[ONE].stamp == "missing"
    with pytest.raises(OSError, match="No such file"):
        records.pop(ONE).read()
    assert {key: record.read() for key, record in records.items()} == {key: SAMPLES[key][0] for key in records}


def test_the_stamp_follows_the_file(tmp_path: Path) -> None:
    config = layouts.folder(tmp_path)
    before = {record.key: record.stamp for record in listed(config)}
    (tmp_path / f"{ONE}.png").write_bytes(b"other")
    after = {record.key: record.stamp for record in listed(config)}
    assert [key for key in before if before[key] != after[key]] == [ONE]


def test_paths_of_a_table_may_be_absolute_or_roundabout_within_its_folder(tmp_path: Path) -> None:
    layouts.pictures(tmp_path / "deep")
    one, two, three = list(SAMPLES)[:3]
    rows = [f"{tmp_path}/deep/{one}.png,first", f"./deep/{two}.png,second", f"deep/../deep/{three}.png,third"]
    (tmp_path / "t.csv").write_text("\n".join(["image,caption", *rows, f"deep/{one}.png,again"]))
    found = {record.key: record.captions for record in listed(DataConfig(source="table", path=str(tmp_path / "t.csv")))}
    assert found == {f"deep/{one}": ("first", "again"), f"deep/{two}": ("second",), f"deep/{three}": ("third",)}


def test_parquet_rows_that_share_a_name_or_have_none_are_numbered(tmp_path: Path) -> None:
    rows = layouts.embedded()
    plain = layouts.parquet(tmp_path / "p.parquet", [{**row, "image": row["image"]["bytes"]} for row in rows])
    shared = layouts.parquet(tmp_path / "s.parquet", [{**row, "image": {**row["image"], "path": "x"}} for row in rows])
    for config in (plain, shared):
        records = listed(config)
        assert [record.key for record in records] == [f"{row:09d}" for row in range(len(rows))]
        assert [record.read() for record in reversed(records)] == [row["image"]["bytes"] for row in reversed(rows)]


def test_a_parquet_struct_without_bytes_is_read_from_its_path(tmp_path: Path) -> None:
    layouts.pictures(tmp_path)
    rows = layouts.embedded()
    rows[0]["image"]["bytes"] = rows[1]["image"] = None
    records = listed(layouts.parquet(tmp_path / "t.parquet", rows))
    assert records[0].read() == SAMPLES[ONE][0]
    with pytest.raises(DataError, match="holds no image"):
        records[1].read()


def test_parquet_columns_of_categories_are_texts(tmp_path: Path) -> None:
    import pandas as pd

    layouts.pictures(tmp_path)
    rows = pd.DataFrame({"image": [f"{ONE}.png"] * 2, "caption": ["x", "y"]}).astype("category")
    rows.to_parquet(tmp_path / "t.parquet")
    (found,) = listed(DataConfig(source="table", path=str(tmp_path / "t.parquet")))
    assert (found.key, found.captions) == (ONE, ("x", "y"))


def test_a_row_group_is_read_when_asked_for_and_few_are_kept(tmp_path: Path) -> None:
    from harness.data.sources import parquet

    parquet._group.cache_clear()
    records = listed(layouts.parquet_structs(tmp_path))
    assert parquet._group.cache_info().misses == 0
    for record in records:
        record.read()
    told = parquet._group.cache_info()
    assert told.currsize <= 2 and told.misses == 3


def test_tars_take_the_plain_extension_and_the_name_up_to_the_first_dot(tmp_path: Path) -> None:
    encoded = SAMPLES[ONE][0]
    members = {"./a/x.mask.png": b"", "./a/x.jpg": encoded, "./a/x.txt": b"caption", "./a/x.json": b"unread"}
    layouts.tar(tmp_path / "t.tar", {**members, "__meta__": b"", "./a/._x.png": b"", "note.txt": b"", "README": b""})
    (record,) = listed(DataConfig(source="webdataset", path=str(tmp_path / "t.tar")))
    assert (record.key, record.captions, record.read()) == ("a/x", ("caption",), encoded)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_tars_of_all_formats_are_read_in_place(kind: int, tmp_path: Path) -> None:
    name = "long/" * (18 if kind == tarfile.USTAR_FORMAT else 40) + "ümlaut"
    with tarfile.open(tmp_path / "t.tar", "w", format=kind) as archive:
        for suffix, content in ((".png", SAMPLES[ONE][0]), (".txt", b"ein Wort")):
            entry = tarfile.TarInfo(name + suffix)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    (record,) = listed(DataConfig(source="webdataset", path=str(tmp_path)))
    assert (record.key, record.captions, record.read()) == (name, ("ein Wort",), SAMPLES[ONE][0])


@pytest.mark.parametrize("name", ["a.png", "a/b.c/d.e.PNG", "./a.txt", "a.b/c.json", "x/y.tar.gz", "/a.png"])
def test_members_names_are_split_as_webdataset_splits_them(name: str) -> None:
    from webdataset.tariterators import base_plus_ext

    key, extension = base_plus_ext(name)
    assert webdataset.split_name(name) == (key, extension.lower())


def test_a_pattern_of_tars_that_is_wrong_or_incomplete_is_named(tmp_path: Path) -> None:
    config = LAYOUTS["tars by a pattern"](tmp_path)
    with pytest.raises(DataError, match=r"shards-003\.tar does not exist"):
        listed(replace(config, path=str(tmp_path / "shards-{000..003}.tar")))
    with pytest.raises(DataError, match=r"shards-\{000\.\.002 ?.*write a pattern such as"):
        listed(replace(config, path=str(tmp_path / "shards-{000..002")))


def test_lafites_zip_without_captions_says_what_to_add_and_gives_its_features(tmp_path: Path) -> None:
    name = "00000/img00000000.png"
    features = {
        "labels": None,
        "clip_img_features": [[name, [3, 4] + [0] * 510]],
        "clip_txt_features": [[name, [[1, 2], [3, 4]]]],
    }
    entries = {name: SAMPLES[ONE][0], "dataset.json": json.dumps(features)}
    config = layouts.zipped(tmp_path / "lafite.zip", entries)
    with pytest.raises(DataError, match=r"lafite\.zip holds only features of captions.*add to it one \.txt entry per"):
        listed(config)
    with_texts = layouts.zipped(tmp_path / "lafite.zip", {**entries, "00000/img00000000.txt": "a face"})
    assert [record.captions for record in listed(with_texts)] == [("a face",)]
    stored = ZipArchive(with_texts).stored_features(["00000/img00000000"])
    assert stored.shape == (1, 512) and stored[0, :3].tolist() == [np.float32(0.6), np.float32(0.8), 0]
    with pytest.raises(DataError, match="holds no clip_img_features"):
        ZipArchive(layouts.zip_texts(tmp_path)).stored_features([ONE])


def test_an_open_zip_is_not_shared_with_a_forked_process(tmp_path: Path) -> None:
    first, *_ = open_source(layouts.zip_texts(tmp_path)).records()
    first.read()
    mine = zip_archive._open.cache_info().misses
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(first.read) == SAMPLES[first.key][0]
        assert pool.apply(_zips_opened) == mine + 1


def _zips_opened() -> int:
    return zip_archive._open.cache_info().misses


def test_stylegans_zip_has_no_captions(tmp_path: Path) -> None:
    entries = {"a.png": SAMPLES[ONE][0], "dataset.json": '{"labels": [["a.png", 6]]}'}
    with pytest.raises(DataError, match=r"style\.zip holds no captions; add .*\.txt entry"):
        listed(layouts.zipped(tmp_path / "style.zip", entries))
    inner = layouts.zipped(tmp_path / "style.zip", {f"my/{name}": entry for name, entry in entries.items()})
    with pytest.raises(DataError, match=r"my/dataset\.json is not read.*zip what is in that folder"):
        listed(inner)
    [told] = open_source(replace(inner, uncaptioned="keep")).records().left_out
    assert told.startswith("1 file called dataset.json, which captions are read from at the top")


def test_data_saved_without_splits_and_columns_of_paths_and_bytes_are_read(tmp_path: Path) -> None:
    import datasets

    layouts.pictures(tmp_path / "saved")
    keys = list(SAMPLES)
    columns: dict[str, list[Any]] = {
        "caption": [SAMPLES[key][1][0] for key in keys],
        "inner": [SAMPLES[key][0] for key in keys],
    }
    columns["both"] = [{"bytes": SAMPLES[key][0], "path": f"{key}.png"} for key in keys]
    columns |= {"outer": [f"{key}.png" for key in keys], "number": list(range(len(keys)))}
    datasets.Dataset.from_dict(columns).save_to_disk(str(tmp_path / "saved"))
    config = DataConfig(source="huggingface", path=str(tmp_path / "saved"))
    outer, inner, both = (listed(replace(config, image_column=name)) for name in ("outer", "inner", "both"))
    assert {record.key: record.read() for record in both} == {key: SAMPLES[key][0] for key in keys}
    assert {record.key: record.read() for record in outer} == {key: SAMPLES[key][0] for key in keys}
    assert [record.read() for record in inner] == [SAMPLES[key][0] for key in keys]
    assert [record.key for record in inner] == [f"{row:09d}" for row in range(len(keys))]
    with pytest.raises(DataError, match=r"saved.*row 0: a caption must be text"):
        listed(replace(config, image_column="outer", caption_column="inner"))
    with pytest.raises(DataError, match=r"saved.*'number' \(data.image_column\) holds Value.*must hold images"):
        listed(replace(config, image_column="number"))


@pytest.mark.parametrize(("source", "package"), [("huggingface", "datasets"), ("webdataset", "braceexpand")])
def test_a_package_that_is_not_installed_is_named(
    source: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LAYOUTS["saved by datasets" if source == "huggingface" else "tars by a pattern"](tmp_path)
    for module in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=rf"{package}: pip install '\.\[data\]' in the checkout"):
        listed(config)
