"""What a run is measured with where captions are in a file, missing from some images, or nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from harness.data import features
from harness.data.batches import Corpus
from harness.data.caption_counts import content
from harness.data.dataset import Dataset
from harness.errors import DataError
from harness.metrics import formulas, measure
from harness.metrics.captions import of_settings, read_captions
from harness.metrics.cards import missing_captions
from harness.metrics.definitions import NO_CAPTIONS, metrics_of
from harness.metrics.manifest import Manifest, make_manifest
from harness.models import encoders
from harness.models.encoders import load
from harness.rng import torch_generator
from harness.settings import Settings
from harness.training.samples import make_grid
from things import SIDE, FakeEncoder, measured_settings, things, with_metrics

GUIDE, SCORES = "embedded:clip-guide", {"clip_score", "r_precision", "clip_score_seen"}


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(encoders, "fingerprint", lambda name: f"print of {name}")
    monkeypatch.setattr(load, "load_clip", lambda name, device: FakeEncoder(name))
    monkeypatch.setattr(load, "load_resnet", lambda name, device: FakeEncoder(name))


@pytest.fixture
def settings() -> Settings:
    return measured_settings()


@pytest.fixture
def prompts(tmp_path: Path, settings: Settings) -> Settings:
    (tmp_path / "prompts.txt").write_text("a red cat\r\n\n a  blue dog \na red cat\na bird\n")
    return with_metrics(settings, captions=str(tmp_path / "prompts.txt"))


def captioned(which: Callable[[int], bool]) -> Dataset:
    """The data set with captions of those images alone."""
    whole = things()
    texts = tuple(own if which(image) else () for image, own in enumerate(whole.captions))
    return replace(whole, captions=texts, fingerprint="f" * 16)


def noise(z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return torch.tanh(z.repeat(1, 3 * SIDE * SIDE // z.shape[1]) + h.sum(1, keepdim=True)).view(-1, 3, SIDE, SIDE)


def told(manifest: Manifest, references: measure.References) -> list[str]:
    cards = measure.cards(manifest, references)
    return [*dict.fromkeys(text for it in metrics_of(cards) for text in missing_captions(it, cards[it.name]))]


def test_manifests_of_captioned_data_stay_as_they_are(settings: Settings) -> None:
    """Numbers that were measured before stand beside new ones by these."""
    others = (settings, with_metrics(settings, side="held-out"), with_metrics(settings, samples=16, seed=3))
    hashes = [make_manifest(things(), each).hash for each in others]
    assert hashes == ["9e3ebbb4e27e5937", "c2c0d0820e57fe09", "fcbdef44037c393b"]
    assert not any("captioned" in card for card in make_manifest(things(), settings).cards().values())


def test_without_any_caption_distances_are_of_images_from_pseudo_features(settings: Settings) -> None:
    dataset = captioned(lambda image: False)
    manifest = make_manifest(dataset, settings)
    assert set(manifest.images) == set(dataset.train) and set(manifest.captions) == {-1}
    assert len(manifest.images) == manifest.samples == 130
    assert np.ptp(np.bincount(manifest.images)[dataset.train]) == 1
    references = measure.load_references(dataset, manifest)
    values = measure.measure(noise, 16, manifest, references)
    assert set(values) == set(measure.cards(manifest, references)) == {"fd_emoji", "kid_emoji", "precision", "recall"}
    assert {card["captions"] for card in manifest.cards().values()} == {NO_CAPTIONS}
    assert told(manifest, references) == [
        "No image has a caption and metrics.captions names no file: images are generated from pseudo text features of "
        "real images, and CLIP score and R-precision are not measured."
    ]
    rows = measure.sanity(dataset, manifest, references)
    assert set(rows) == {"ceiling"} and set(rows["ceiling"]) == {*values, "n"}
    # The law of h', written down once more in float64.
    e = torch.randn(130, 12, generator=torch_generator(manifest.seed, "evaluation pseudo text")).double()
    v = torch.from_numpy(np.array(features.clip_image(dataset, GUIDE)[manifest.images])).double()
    mixed = 0.25 * v + 0.75 * e / e.norm(dim=1, keepdim=True)
    assert np.allclose(references.conditions, mixed / mixed.norm(dim=1, keepdim=True), atol=1e-6)
    quiet = settings.with_values({"condition.pseudo_noise": 0.0})
    clean = make_manifest(dataset, quiet)
    assert clean.hash == manifest.hash, "cells with other noise stand in one table, each measured as it was trained"
    assert np.allclose(measure.load_references(dataset, clean).conditions, v, atol=1e-6)
    assert manifest.hash != make_manifest(dataset, with_metrics(settings, side="held-out")).hash


def test_of_some_captions_those_that_are_there_are_drawn(settings: Settings) -> None:
    dataset = captioned(lambda image: image % 4 == 0)
    manifest = make_manifest(dataset, settings)
    first, last = manifest.images[:130], manifest.images[130:]
    assert set(first) == set(dataset.train[dataset.train % 4 == 0])
    assert set(last) == set(dataset.held_out[dataset.held_out % 4 == 0])
    assert manifest.cards()["fd_emoji"]["captioned"] == "10 of 50" and list(manifest.real) == list(dataset.train)
    assert manifest.cards()["clip_score"]["captioned"] == "5 of 10"
    references = measure.load_references(dataset, manifest)
    assert set(measure.measure(noise, 16, manifest, references)) == set(manifest.cards())
    assert told(manifest, references) == [
        "Distances are of images generated from the captions of 10 of 50 images to train on; the others have none.",
        "CLIP score and R-precision take the captions of 5 of 10 held-out images; the others have none.",
    ]
    rows = measure.sanity(dataset, manifest, references)
    assert rows["floor"]["n"] == 5 and rows["ceiling"]["n"] == 10 and "clip_score" in rows["gap"]


@pytest.mark.parametrize(
    ("there", "of_distances", "of_scores"), [("train", "train", "train"), ("held-out", "held-out", "held-out")]
)
def test_of_one_side_alone_its_captions_serve_for_both(
    settings: Settings, there: str, of_distances: str, of_scores: str
) -> None:
    dataset = captioned(lambda image: (image % 6 == 0) == (there == "held-out"))
    manifest = make_manifest(dataset, settings)
    assert (manifest.of_distances, manifest.of_scores) == (of_distances, of_scores)
    references = measure.load_references(dataset, manifest)
    values = measure.measure(noise, 16, manifest, references)
    assert (
        set(values) == set(manifest.cards()) >= SCORES
        and "clip_score" in measure.sanity(dataset, manifest, references)["ceiling"]
    )
    lines = told(manifest, references)
    assert any("No held-out image has a caption" in line for line in lines) == (there == "train")


@pytest.mark.parametrize("which", [lambda image: True, lambda image: False], ids=["captioned", "bare"])
def test_a_file_of_captions_comes_first(prompts: Settings, which: Callable[[int], bool]) -> None:
    dataset = captioned(which)
    manifest = make_manifest(dataset, prompts)
    assert manifest.given == ("a red cat", "a blue dog", "a bird")
    assert set(manifest.images) == {-1} and np.ptp(np.bincount(manifest.captions[:130])) == 1
    assert list(np.bincount(manifest.captions[130:])) == [11, 11, 11]  # 130 / 4 over 3 captions
    cards = manifest.cards()
    assert {card["captions"] for card in cards.values()} == {"given"}
    references = measure.load_references(dataset, manifest)
    texts = [manifest.given[line] for line in manifest.captions]
    assert np.allclose(references.conditions, FakeEncoder(GUIDE).text(texts), atol=1e-6)
    values = measure.measure(noise, 16, manifest, references)
    assert set(values) == set(cards) and told(manifest, references) == []
    card = measure.cards(manifest, references)["r_precision"]
    assert (card["rivals"], card["distinct"], card["asked"], card["n"]) == (2, 3, 3, 33)
    z = measure.evaluation_latents(manifest, 16)
    own = references.clip(measure.quantise(noise(z, torch.from_numpy(references.conditions)))[130:]).numpy()
    right = FakeEncoder("embedded:clip-measure").text(texts[130:]).numpy()
    assert values["clip_score"] == pytest.approx(formulas.clip_score(own, right), rel=1e-5)
    assert values["r_precision"] == formulas.r_precision(own, right, seed=manifest.seed)
    rows = measure.sanity(dataset, manifest, references)
    assert set(rows) == {"ceiling"} and not SCORES & set(rows["ceiling"])


def test_the_lines_are_part_of_the_hash_and_their_place_is_not(prompts: Settings, tmp_path: Path) -> None:
    dataset = captioned(lambda image: False)
    mine = make_manifest(dataset, prompts)
    (tmp_path / "other.txt").write_text("a red cat\na blue dog\na bird")
    same = make_manifest(dataset, with_metrics(prompts, captions=str(tmp_path / "other.txt")))
    assert same.hash == mine.hash and content(same.given) == content(mine.given)
    (tmp_path / "other.txt").write_text("a red cat\na blue dog\na fish")
    assert make_manifest(dataset, with_metrics(prompts, captions=str(tmp_path / "other.txt"))).hash != mine.hash


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, r"metrics.captions: .*p.txt does not exist; give the path of a file"),
        (lambda path: path.mkdir(), r"metrics.captions: .*p.txt is a folder, not a file"),
        (lambda path: path.write_text(" \n\n"), r"metrics.captions: .*p.txt holds no caption; write one a line"),
        (lambda path: path.write_bytes(b"caf\xe9"), r"metrics.captions: .*p.txt is not UTF-8: .*save it as UTF-8"),
        (lambda path: path.write_bytes("a cat\n".encode("utf-16-le")), r"p.txt has a byte 0 after 'a'.*as UTF-8"),
    ],
    ids=["missing", "folder", "empty", "latin-1", "utf-16"],
)
def test_a_file_that_holds_no_captions_is_refused(tmp_path: Path, write: Callable[[Path], None], said: str) -> None:
    write(tmp_path / "p.txt")
    with pytest.raises(DataError, match=said):
        read_captions(str(tmp_path / "p.txt"))
    assert read_captions("") == ()


def test_a_plan_counts_lines_that_count_once_and_names_doubtful_ones(prompts: Settings) -> None:
    path = Path(prompts.metrics.captions)
    assert of_settings("no data", prompts) == (
        "1 line of metrics.captions equal to an earlier one, left out: a red cat",
    )
    path.write_text("a cat\nnan\n")
    (line,) = of_settings("no data", prompts)
    assert line.startswith("1 caption reading 'nan', as programs write a missing one, taken as it stands: ")
    path.write_text("a cat\n")
    assert of_settings("no data", prompts) == ()


def grid(dataset: Dataset, settings: Settings, folder: Path) -> tuple[list[tuple[str | None, int | None]], np.ndarray]:
    text = features.clip_text(dataset, GUIDE)
    corpus = Corpus(dataset, text, {"f_c": features.clip_image(dataset, GUIDE)})
    made = make_grid(corpus, settings, read_captions(settings.metrics.captions))
    made.write_real(folder)
    shown = [(row["caption"], row["image_id"]) for row in json.loads((folder / "captions.json").read_text())]
    assert len(shown) == len(made.conditions) == len(made.latents) == len(made.real)
    assert np.allclose(made.conditions.norm(dim=1), 1, atol=1e-5)
    return shown, np.asarray(Image.open(folder / "real.png"))


def test_the_grid_shows_given_captions_then_others_then_images_without(prompts: Settings, tmp_path: Path) -> None:
    half = captioned(lambda image: image % 4 == 0)
    shown, real = grid(half, prompts, tmp_path)
    assert shown[:3] == [("a red cat", None), ("a blue dog", None), ("a bird", None)]
    assert real.shape == (SIDE, 13 * SIDE, 3) and (real[:, : 3 * SIDE] == 255).all()
    rest = shown[3:]
    assert {image for _, image in rest} == set(half.held_out.tolist())
    assert [text for text, _ in rest[:5]] == [half.captions[image or 0][0] for _, image in rest[:5]]
    assert [text for text, _ in rest[5:]] == [None] * 5
    plain, _ = grid(things(), measured_settings(), tmp_path)
    assert all(text == things().captions[image or 0][0] for text, image in plain)
    (tmp_path / "prompts.txt").write_text("\n".join(f"line {number}" for number in range(40)))
    shown, real = grid(half, prompts, tmp_path)
    assert shown == [(f"line {number}", None) for number in range(16)] and (real == 255).all()
