"""Images without a caption: bad ones, or kept and trained on under their pseudo text features."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import layouts
from handmade import Handmade
from harness import cache
from harness.cli.main import app
from harness.data import dataset as data
from harness.data import sources
from harness.data.batches import batch_ids
from harness.data.features import CaptionFeatures
from harness.data.listing import Listing
from harness.data.packed import read_index
from harness.data.prepare import prepare
from harness.data.sources import open_source
from harness.data.sources.twemoji import Twemoji
from harness.errors import DataError
from harness.models.config import ConditionConfig
from harness.rng import torch_generator
from harness.settings import DataConfig
from runs import F, corpus

KEEP = "keep"


def bare_coco(root: Path) -> DataConfig:
    config = layouts.coco(root)
    listed = json.loads(Path(config.path).read_text())
    del listed["annotations"]
    Path(config.path).write_text(json.dumps(listed))
    return config


def empty_texts(root: Path) -> DataConfig:
    config = layouts.folder(root)
    for text in root.glob("*.txt"):
        text.write_text("\n \n")
    return config


def without_texts(root: Path) -> DataConfig:
    return DataConfig(source="folder", path=str(layouts.pictures(root)))


def other_column(layout: str) -> Callable[[Path], DataConfig]:
    return lambda root: replace(layouts.LAYOUTS[layout](root), caption_column="captoin")


def bare_tar(root: Path) -> DataConfig:
    pictures = {f"{key}.png": encoded for key, (encoded, _) in layouts.SAMPLES.items()}
    return DataConfig(source="webdataset", path=str(layouts.tar(root / "a.tar", pictures)))


def bare_zip(root: Path) -> DataConfig:
    import zipfile

    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        for key, (encoded, _) in layouts.SAMPLES.items():
            archive.writestr(f"{key}.png", encoded)
        archive.writestr("dataset.json", json.dumps({"labels": None}))
    return DataConfig(source="zip", path=str(root / "a.zip"))


def empty_cells(root: Path) -> DataConfig:
    layouts.pictures(root)
    rows = "".join(f'{key}.png,"  "\n' for key in layouts.SAMPLES)
    (root / "table.csv").write_text("image,caption\n" + rows)
    return DataConfig(source="table", path=str(root / "table.csv"))


BARE = {
    "folder": without_texts,
    "folder of empty texts": empty_texts,
    "coco": bare_coco,
    "csv of empty cells": empty_cells,
    **{layout: other_column(layout) for layout in layouts.LAYOUTS if "csv" in layout or "tsv" in layout},
    **{layout: other_column(layout) for layout in layouts.LAYOUTS if "json" in layout or "parquet" in layout},
    "webdataset": bare_tar,
    "webdataset of json": other_column("tars by a pattern"),
    "saved by datasets": other_column("saved by datasets"),
    "zip": bare_zip,
}


@pytest.mark.parametrize("layout", BARE)
def test_every_source_keeps_images_without_captions_where_it_is_told_to(layout: str, tmp_path: Path) -> None:
    config = BARE[layout](tmp_path)
    with pytest.raises(DataError, match="caption"):
        prepare(replace(config, resolution=8), tmp_path / "refused")
    kept = replace(config, uncaptioned=KEEP, resolution=8)
    records = open_source(kept).records()
    assert [record.key for record in records] == sorted(layouts.SAMPLES)
    assert all(record.captions == () and not record.fault for record in records)
    assert {record.key: record.read() for record in records} == {k: it[0] for k, it in layouts.SAMPLES.items()}
    _, index = prepare(kept, tmp_path / "cache")
    assert (index.images, index.uncaptioned, index.bad) == (12, 12, ())
    assert index.counted == "12 images, 12 of them without a caption"


@pytest.mark.parametrize("layout", ["csv", "jsonl", "parquet of images", "saved by datasets", "tars by a pattern"])
def test_a_column_that_is_not_there_is_reported_with_those_that_are(layout: str, tmp_path: Path) -> None:
    config = replace(other_column(layout)(tmp_path), uncaptioned=KEEP)
    told = " ".join(getattr(open_source(config).records(), "left_out", ()))
    assert "without the column 'captoin' (data.caption_column), so without captions; there are: " in told


def test_emoji_without_a_name_are_kept_too(tmp_path: Path) -> None:
    named, every = (Twemoji(DataConfig(uncaptioned=how)).records() for how in ("bad", KEEP))
    assert len(every) > len(named) and {record.key for record in named} < {record.key for record in every}
    assert all(record.captions for record in named) and not every.left_out
    assert sum(not record.captions for record in every) == len(every) - len(named)


def test_a_text_that_cannot_be_read_stays_a_bad_image(tmp_path: Path) -> None:
    config = layouts.folder(tmp_path)
    (tmp_path / f"{layouts.ONE}.txt").write_bytes(b"\xe9t\xe9")
    with pytest.raises(DataError, match=r"(?s)1 bad image.*is not UTF-8"):
        prepare(replace(config, uncaptioned=KEEP, resolution=8), tmp_path / "cache")


@pytest.fixture
def handmade(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty pictures of which every second has no caption."""
    plain = {number: Handmade(DataConfig())._record(number) for number in range(40)}
    altered = {number: (plain[number].read(), ()) for number in range(0, 40, 2)}
    monkeypatch.setattr(Handmade, "altered", altered)
    monkeypatch.setitem(sources.SOURCES, "handmade", Handmade)


def test_what_is_kept_changes_the_fingerprint_and_full_captions_do_not(tmp_path: Path, handmade: None) -> None:
    bad = DataConfig(source="handmade", resolution=8, on_bad_image="skip")
    kept = replace(bad, uncaptioned=KEEP, on_bad_image="fail")
    assert Listing(bad).hash != Listing(kept).hash
    (_, without), (_, index) = (prepare(config, tmp_path) for config in (bad, kept))
    assert (without.images, without.uncaptioned, len(without.bad)) == (20, 0, 20)
    assert (index.images, index.uncaptioned) == (40, 20) and index.fingerprint != without.fingerprint
    loaded = data.load(kept, tmp_path, index.fingerprint)
    assert sum(not captions for captions in loaded.captions) == 20
    lacking = len(loaded.held_out) - len(loaded.captioned(loaded.held_out))
    assert lacking == index.uncaptioned_held_out
    Handmade.altered.clear()
    whole = [prepare(config, tmp_path / "whole")[1].fingerprint for config in (bad, kept)]
    assert whole[0] == whole[1] and Listing(bad).hash == Listing(kept).hash


def test_an_index_of_an_earlier_version_has_no_uncaptioned_images(tmp_path: Path, handmade: None) -> None:
    folder, _ = prepare(DataConfig(source="handmade", resolution=8, on_bad_image="skip"), tmp_path)
    written = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps({k: v for k, v in written.items() if "uncaptioned" not in k}))
    assert read_index(folder).uncaptioned == 0


def test_commands_count_them_and_say_how_to_keep_them(
    tmp_path: Path, handmade: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    config = 'study: s\ndata: {source: handmade, resolution: 8}\nencoders: {clip: "embedded:clip-guide"}\n'
    Path("s.yaml").write_text(config + 'metrics: {clip: "embedded:clip-measure"}\n')
    with pytest.raises(DataError, match=r"(?s)20 bad images.*\nset data.uncaptioned: keep to train on images without"):
        app(["data", "prepare", "s.yaml"], standalone_mode=False)
    keep = ["s.yaml", "--set", "data.uncaptioned=keep"]
    app(["data", "prepare", *keep], standalone_mode=False)
    told = capsys.readouterr()
    assert told.out.startswith("40 images, 20 of them without a caption, fingerprint ")
    notes = " ".join(told.err.split())  # a terminal breaks the lines
    assert "handmade: 40 images, 20 of them without a caption" in notes
    assert "images to train on have no caption: they are always trained on under pseudo text features" in notes
    app(["data", "show", *keep], standalone_mode=False)
    assert "40 images, 20 of them without a caption" in " ".join(capsys.readouterr().err.split())
    assert Path("data.png").exists()
    assert cache.root() == tmp_path / "cache"


def half_captioned() -> tuple[CaptionFeatures, NDArray[np.bool_]]:
    """The corpus's captions without those of every third image, and which images have some."""
    text, there = corpus().text, np.arange(40) % 3 > 0
    rows = np.repeat(there, 2)
    return CaptionFeatures(text.features[rows], np.where(there, 2 * np.cumsum(there) - 2, -1)), there


@pytest.mark.parametrize("config", [ConditionConfig(), ConditionConfig(shared_noise=True, pseudo_probability=0.4)])
def test_an_uncaptioned_image_has_a_pseudo_feature_of_its_own_and_others_are_as_before(config: ConditionConfig) -> None:
    whole, (text, there) = corpus(), half_captioned()
    captions = tuple(texts if there[image] else () for image, texts in enumerate(whole.dataset.captions))
    subject = replace(whole, text=text, dataset=replace(whole.dataset, captions=captions))
    before, after = (each.batch(config, 3, 5, 32) for each in (whole, subject))
    ids = batch_ids(whole.dataset, 3, 5, 32)[0]
    captioned = torch.from_numpy(there[ids])
    assert 0 < captioned.sum() < 32 and torch.equal(before.real, after.real)
    assert torch.equal(before.pseudo, after.pseudo), "h' of every image stays"
    assert torch.equal(before.h[captioned], after.h[captioned])
    # The law, written down once more in float64: unit((1 - a) v + a e), drawn third of the random directions.
    rng = torch_generator(3, "condition", 5)
    draws = [torch.randn(32, F, generator=rng) for _ in range(2)]
    torch.rand(32, 1, generator=rng)
    draws.append(torch.randn(32, F, generator=rng))
    e = (draws[0] if config.shared_noise else draws[2]).double()
    e = e / e.norm(dim=1, keepdim=True)
    mixed = 0.25 * torch.from_numpy(whole.frozen["f_c"][ids]).double() + 0.75 * e
    expected = mixed / mixed.norm(dim=1, keepdim=True)
    torch.testing.assert_close(after.h[~captioned].double(), expected[~captioned], atol=1e-6, rtol=0)


def test_without_any_caption_training_is_that_of_pseudo_probability_one() -> None:
    whole = corpus()
    none = CaptionFeatures(np.empty((0, F), np.float32), np.full(40, -1))
    subject = replace(whole, text=none, dataset=replace(whole.dataset, captions=((),) * 40))
    for step in range(3):
        h = subject.batch(ConditionConfig(pseudo_probability=0.0), 0, step, 16).h
        assert torch.equal(h, whole.batch(ConditionConfig(pseudo_probability=1.0), 0, step, 16).h)
