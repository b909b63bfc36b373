"""Features that LAFITE's tool stored with the images: used where the study asks for them, and never unnoticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layouts
from harness.data.dataset import fingerprint, load
from harness.data.features import guide_image
from harness.errors import DataError, SpecError
from harness.settings import DataConfig, EncoderConfig, Settings
from harness.study.load import load_study
from harness.training import setup as training
from layouts import SAMPLES

ROWS = {key: np.random.default_rng(number).normal(size=512) for number, key in enumerate(SAMPLES)}


def archive(folder: Path, rows: dict[str, Any]) -> DataConfig:
    entries = {name: content for key in SAMPLES for name, content in layouts.sample(key).items()}
    pairs = [[f"{key}.png", list(row)] for key, row in rows.items()]
    config = layouts.zipped(
        folder / "lafite.zip", {**entries, "dataset.json": json.dumps({"clip_img_features": pairs})}
    )
    return replace(config, resolution=8, stored_features=True)


def test_they_are_unit_vectors_in_the_order_of_the_images(tmp_path: Path) -> None:
    dataset = load(archive(tmp_path, ROWS), tmp_path)
    assert dataset.stored is not None and dataset.stored.dtype == np.float32
    for captions, row in zip(dataset.captions, dataset.stored, strict=True):
        [key] = [key for key, (_, texts) in SAMPLES.items() if texts == captions]
        assert np.allclose(row, ROWS[key] / np.linalg.norm(ROWS[key]), atol=1e-6)


def test_an_archive_of_features_without_captions_is_trained_on_where_such_images_are_kept(tmp_path: Path) -> None:
    """As LAFITE's tool writes it: the features of captions, and not the captions."""
    pairs = [[f"{key}.png", list(row)] for key, row in ROWS.items()]
    about = {"clip_img_features": pairs, "clip_txt_features": [[name, [row]] for name, row in pairs]}
    entries = {f"{key}.png": encoded for key, (encoded, _) in SAMPLES.items()}
    config = layouts.zipped(tmp_path / "lafite.zip", {**entries, "dataset.json": json.dumps(about)})
    config = replace(config, resolution=8, stored_features=True)
    with pytest.raises(DataError, match="holds only features of captions, which cannot be put into words"):
        load(config, tmp_path)
    dataset = load(replace(config, uncaptioned="keep"), tmp_path)
    assert dataset.captions == ((),) * len(SAMPLES) and dataset.stored is not None
    expected = np.array([row / np.linalg.norm(row) for _, row in sorted(ROWS.items())])
    assert np.allclose(guide_image(dataset, "open_clip:ViT-B-32/openai"), expected, atol=1e-6)


def test_they_decide_the_fingerprint(tmp_path: Path) -> None:
    config = archive(tmp_path, ROWS)
    mine, without = fingerprint(config, tmp_path), fingerprint(replace(config, stored_features=False), tmp_path)
    (tmp_path / "other").mkdir()
    other = fingerprint(archive(tmp_path / "other", {**ROWS, next(iter(ROWS)): np.ones(512)}), tmp_path)
    assert len({mine, without, other}) == 3
    assert load(replace(config, stored_features=False), tmp_path).stored is None


def test_training_reads_them_and_computes_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("computed")

    dataset = load(archive(tmp_path, ROWS), tmp_path)
    monkeypatch.setattr(training.features, "clip_image", refuse)
    settings = Settings(encoders=EncoderConfig(clip="open_clip:ViT-B-32/openai"))
    assert training._corpus(dataset, None, settings, "cpu").frozen["f_c"] is dataset.stored  # type: ignore[arg-type]


@pytest.mark.parametrize("row", [np.ones(511), np.zeros(512), np.full(512, np.nan), np.ones((2, 512))])
def test_what_cannot_be_features_is_refused_with_the_image(row: Any, tmp_path: Path) -> None:
    key = next(iter(ROWS))
    with pytest.raises(DataError, match=rf"lafite\.zip: clip_img_features of '{key}' must be 512 finite numbers"):
        load(archive(tmp_path, {**ROWS, key: row.tolist()}), tmp_path)


def test_absent_ones_are_named(tmp_path: Path) -> None:
    key, *others = ROWS
    with pytest.raises(DataError, match=rf"no clip_img_features of '{key}'; set data\.stored_features: false"):
        load(archive(tmp_path, {other: ROWS[other] for other in others}), tmp_path)
    with pytest.raises(DataError, match=r"holds no clip_img_features"):
        load(archive(tmp_path, {}), tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("encoders: {clip: embedded:clip-guide}", "not of encoders.clip = 'embedded:clip-guide'; set it to false"),
        (
            "encoders: {clip: open_clip:ViT-B-32/laion2b_s34b_b79k}",
            "not of encoders.clip = 'open_clip:ViT-B-32/laion2b",
        ),
    ],
)
def test_another_guide_is_refused(more: str, said: str, tmp_path: Path) -> None:
    archive(tmp_path, ROWS)
    study = tmp_path / "study.yaml"
    study.write_text(f"study: tiny\ndata: {{source: zip, path: lafite.zip, stored_features: true}}\n{more}\n")
    with pytest.raises(SpecError) as caught:
        load_study(study)
    assert "study.yaml:2:56: data.stored_features" in str(caught.value) and said in str(caught.value)


def test_mirrored_and_other_held_out_images_have_none(tmp_path: Path) -> None:
    archive(tmp_path, ROWS)
    study = tmp_path / "study.yaml"
    data = "{source: zip, path: lafite.zip, stored_features: true, mirror: true, held_out: {path: lafite.zip}}"
    study.write_text(f"study: tiny\ndata: {data}\nencoders: {{clip: open_clip:ViT-B-32/openai@x.pt}}\n")
    with pytest.raises(SpecError) as caught:
        load_study(study)
    assert "none of mirrored images" in str(caught.value) and "of data.held_out.path" in str(caught.value)
