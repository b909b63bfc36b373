"""The feature cache, the manifest and measuring, with small stand-ins for the frozen encoders."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data import features
from harness.data.dataset import Dataset
from harness.errors import DataError, Diverged
from harness.metrics import formulas as metrics
from harness.metrics import measure
from harness.metrics.manifest import Manifest, make_manifest
from harness.study.settings import EncoderConfig, MetricConfig, Settings
from models import encoders
from models.toggles import apply

SIDE = 8


class FakeEncoder:
    """A fixed random projection of the pixels, and texts hashed to directions."""

    calls = 0

    def __init__(self, name: str, dim: int = 12) -> None:
        self.dim = dim
        self.matrix = torch.randn(3 * SIDE * SIDE, dim, generator=torch.Generator().manual_seed(len(name)))

    def image(self, images: torch.Tensor) -> torch.Tensor:
        type(self).calls += 1
        return torch.nn.functional.normalize(images.flatten(1) @ self.matrix)

    def text(self, texts: list[str]) -> torch.Tensor:
        rows = [np.random.default_rng(list(text.encode())).normal(size=self.dim) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.array(rows), dtype=torch.float32))


@pytest.fixture
def dataset() -> Dataset:
    rng = np.random.default_rng(0)
    captions = tuple((f"thing {i // 2}", f"alias {i}")[: 1 + i % 2] for i in range(60))
    held_out = np.arange(0, 60, 6)
    return Dataset(
        name="things",
        images=rng.integers(0, 256, size=(60, 3, SIDE, SIDE), dtype=np.uint8),
        captions=captions,
        train=np.setdiff1d(np.arange(60), held_out),
        held_out=held_out,
        fingerprint="0123456789abcdef",
        attribution="nobody",
    )


@pytest.fixture
def settings() -> Settings:
    return Settings(
        encoders=EncoderConfig(clip="embedded:clip-guide", resnet="embedded:resnet-guide"),
        metrics=MetricConfig(clip="embedded:clip-measure", resnet="embedded:resnet-measure", samples=130),
    )


def with_metrics(settings: Settings, **changes: Any) -> Settings:
    return replace(settings, metrics=replace(settings.metrics, **changes))


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeEncoder.calls = 0
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders, "fingerprint", lambda name: f"print of {name}")
    monkeypatch.setattr(encoders, "load_clip", lambda name, device: FakeEncoder(name))
    monkeypatch.setattr(encoders, "load_resnet", lambda name, device: FakeEncoder(name))


class TestCache:
    def test_computed_once_and_mapped(self, dataset):
        first = features.clip_image(dataset, "embedded:clip-guide")
        assert first.shape == (60, 12)
        assert FakeEncoder.calls == 1
        again = features.clip_image(dataset, "embedded:clip-guide")
        assert FakeEncoder.calls == 1
        assert isinstance(again, np.memmap)
        assert np.array_equal(first, again)

    def test_the_key_is_data_encoder_and_what(self, dataset):
        features.clip_image(dataset, "embedded:clip-guide")
        features.clip_image(dataset, "embedded:clip-measure")
        features.clip_image(replace(dataset, fingerprint="f" * 16), "embedded:clip-guide")
        features.clip_image(dataset, "embedded:clip-guide", dataset.held_out)
        features.resnet_image(dataset, "embedded:clip-guide")
        assert FakeEncoder.calls == 5

    def test_rows_follow_the_ids(self, dataset):
        whole = features.resnet_image(dataset, "embedded:resnet-guide")
        part = features.resnet_image(dataset, "embedded:resnet-guide", dataset.held_out)
        assert np.allclose(part, whole[dataset.held_out], atol=1e-6)

    @pytest.mark.parametrize("some", [False, True])
    def test_captions_are_found_by_image_and_index(self, dataset, some):
        ids = dataset.held_out if some else None
        text = features.clip_text(dataset, "embedded:clip-guide", ids)
        images, index = (np.array([6, 18]), np.array([0, 0])) if some else (np.array([3, 4, 59]), np.array([1, 0, 1]))
        wanted = FakeEncoder("embedded:clip-guide").text(
            [dataset.captions[i][j] for i, j in zip(images, index, strict=True)]
        )
        assert np.allclose(text.of(images, index), wanted, atol=1e-6)

    def test_equal_captions_have_equal_bits(self, dataset):
        text = features.clip_text(dataset, "embedded:clip-guide")
        assert np.array_equal(text.of(np.array([10]), np.array([0])), text.of(np.array([11]), np.array([0])))

    def test_images_without_captions(self, dataset):
        bare = replace(dataset, captions=((),) * 60, fingerprint="bare")
        assert features.clip_text(bare, "embedded:clip-guide").features.shape == (0, 12)

    def test_a_damaged_file_says_what_to_delete(self, dataset, tmp_path):
        features.clip_image(dataset, "embedded:clip-guide")
        (path,) = tmp_path.rglob("features.npy")
        path.write_bytes(b"not an array")
        with pytest.raises(DataError, match=f"delete the folder {path.parent}"):
            features.clip_image(dataset, "embedded:clip-guide")

    def test_a_crash_while_computing_leaves_nothing_behind(self, dataset):
        def crash() -> features.Features:
            raise MemoryError

        with pytest.raises(MemoryError):
            features.cached("clip-image", dataset, "embedded:clip-guide", crash)
        assert features.clip_image(dataset, "embedded:clip-guide").shape == (60, 12)

    def test_two_processes_compute_once(self, dataset, tmp_path):
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_ask, args=(dataset, tmp_path / "calls")) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert [worker.exitcode for worker in workers] == [0] * 4
        assert (tmp_path / "calls").read_text() == "once\n"


def _ask(dataset: Dataset, calls: Path) -> None:
    def compute() -> features.Features:
        with calls.open("a") as file:
            file.write("once\n")
        return np.ones((5, 2), np.float32)

    assert features.cached("slow", dataset, "embedded:clip-guide", compute).sum() == 10


class TestManifest:
    def test_every_train_image_is_used_evenly(self, dataset, settings):
        manifest = make_manifest(dataset, settings)
        images = manifest.images[: manifest.samples]
        assert len(images) == 130
        assert set(images) == set(dataset.train)
        counts = np.bincount(images)[dataset.train]
        assert counts.max() - counts.min() == 1
        assert all(
            caption < len(dataset.captions[image])
            for image, caption in zip(manifest.images, manifest.captions, strict=True)
        )
        assert set(manifest.captions[:130]) == {0, 1}

    def test_held_out_captions_are_repeated_alike(self, dataset, settings):
        manifest = make_manifest(dataset, settings)
        held_out = manifest.images[manifest.samples :]
        assert set(np.bincount(held_out)[dataset.held_out]) == {3}  # 130 / 4 over 10 captions
        few = make_manifest(dataset, replace(settings, metrics=replace(settings.metrics, samples=16)))
        assert list(few.images[16:]) == list(dataset.held_out)

    def test_pure_and_hashed(self, dataset, settings):
        one, two = make_manifest(dataset, settings), make_manifest(dataset, settings)
        assert one.hash == two.hash
        assert len(one.hash) == 16
        assert np.array_equal(one.images, two.images)

    @pytest.mark.parametrize(
        "change", [{"seed": 1}, {"samples": 131}, {"clip": "embedded:other"}, {"resnet": "embedded:other"}]
    )
    def test_any_change_of_measuring_changes_the_hash(self, dataset, settings, change):
        other = replace(settings, metrics=replace(settings.metrics, **change))
        assert make_manifest(dataset, other).hash != make_manifest(dataset, settings).hash

    def test_further_networks_are_part_of_the_hash_and_have_cards(self, dataset, settings):
        mine = make_manifest(dataset, settings)
        more = with_metrics(settings, more=("timm:dinov2", "torch_fidelity:inception-v3-compat"))
        manifest = make_manifest(dataset, more)
        assert manifest.hash != mine.hash
        cards = manifest.cards()
        assert set(cards) - set(mine.cards()) == {"fd_dinov2", "kid_dinov2", "fid", "kid"}
        assert (cards["fd_dinov2"]["role"], cards["fd_emoji"]["role"]) == ("further", "headline")
        assert (cards["fid"]["n"], cards["fid"]["n_real"]) == (130, 50)
        assert "TensorFlow 1, not antialiased, to 299 x 299" in cards["fid"]["resize"]
        assert "antialiased, to 32 x 32" in cards["fd_emoji"]["resize"]

    def test_what_training_has_seen_is_renamed_and_a_diagnostic(self, dataset, settings):
        manifest = make_manifest(dataset, with_metrics(settings, clip="embedded:clip-guide"))
        assert manifest.names["clip_score"] == "clip_score_seen"
        cards = manifest.cards()
        assert set(cards) == {"fd_emoji", "kid_emoji", "precision", "recall", "clip_score_seen", "r_precision_seen"}
        assert cards["clip_score_seen"]["role"] == cards["r_precision_seen"]["role"] == "diagnostic"

    def test_an_image_network_is_seen_only_where_it_guides(self, dataset, settings):
        same = with_metrics(settings, resnet="embedded:resnet-guide", more=("timm:dinov2",))
        assert make_manifest(dataset, same).names["fd"] == "fd_emoji"
        guided = make_manifest(dataset, apply(same, ["resnet_guided"]))
        assert [number.recorded for number in guided.measured if number.role == "diagnostic"] == [
            "fd_emoji_seen", "kid_emoji_seen", "precision_seen", "recall_seen", "clip_score_seen",
        ]  # fmt: skip
        assert guided.card("fd_dinov2")["role"] == "further"
        assert guided.hash == make_manifest(dataset, same).hash

    def test_other_data_changes_the_hash_and_the_guide_does_not(self, dataset, settings):
        mine = make_manifest(dataset, settings)
        assert make_manifest(replace(dataset, fingerprint="other"), settings).hash != mine.hash
        guided = replace(settings, encoders=replace(settings.encoders, clip="embedded:other"))
        assert make_manifest(dataset, guided).hash == mine.hash
        assert make_manifest(dataset, guided).card("clip_score_seen") != mine.card("clip_score_seen")

    def test_cards(self, dataset, settings):
        manifest = make_manifest(dataset, settings)
        fd, score = manifest.card("fd_emoji"), manifest.card("clip_score")
        assert (fd["n"], fd["n_real"], fd["extractor"]) == (130, 50, "embedded:resnet-measure")
        assert (score["n"], score["captions"], score["extractor"]) == (30, "held-out", "embedded:clip-measure")
        assert fd["manifest"] == score["manifest"] == manifest.hash
        assert manifest.card("fd") == fd
        assert set(manifest.cards()) == set(manifest.names.values())

    def test_no_torch(self):
        code = "import harness.metrics.manifest, harness.data.features, sys; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _noise(z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return torch.tanh(z.repeat(1, 3 * SIDE * SIDE // z.shape[1]) + h.sum(1, keepdim=True)).view(-1, 3, SIDE, SIDE)


class TestMeasure:
    @pytest.fixture
    def manifest(self, dataset, settings) -> Manifest:
        return make_manifest(dataset, settings)

    @pytest.fixture
    def references(self, dataset, manifest) -> measure.References:
        return measure.load_references(dataset, manifest)

    def test_every_metric_the_same_at_every_call(self, manifest, references):
        values = measure.measure(_noise, 16, manifest, references)
        assert set(values) == set(manifest.names.values())
        assert all(np.isfinite(value) for value in values.values())
        assert measure.measure(_noise, 16, manifest, references) == values

    def test_further_networks_see_the_very_same_images_once(self, dataset, settings):
        manifest = make_manifest(dataset, with_metrics(settings, more=("timm:dinov2", "timm:other")))
        references = measure.load_references(dataset, manifest)
        drawn = []

        def count(z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            drawn.append(len(z))
            return _noise(z, h)

        values = measure.measure(count, 16, manifest, references)
        assert sum(drawn) == len(manifest.images)
        assert set(values) == set(measure.cards(manifest, references)) == set(manifest.cards())
        z, h = measure.evaluation_latents(manifest, 16)[:130], torch.from_numpy(references.conditions[:130])
        fake = FakeEncoder("timm:dinov2").image(measure.quantise(_noise(z, h))).numpy()
        real = features.resnet_image(dataset, "timm:dinov2", manifest.real)
        assert values["fd_dinov2"] == pytest.approx(metrics.frechet_distance(real, fake), rel=1e-4)
        assert measure.cards(manifest, references)["fd_dinov2"]["d"] == 12
        assert set(measure.sanity(dataset, manifest, references)["ceiling"]) == {*manifest.cards(), "n"}

    def test_what_training_has_seen_is_measured_once_under_its_name(self, dataset, settings):
        manifest = make_manifest(dataset, with_metrics(settings, clip="embedded:clip-guide"))
        references = measure.load_references(dataset, manifest)
        values = measure.measure(_noise, 16, manifest, references)
        assert set(values) == set(manifest.cards())
        assert "clip_score" not in values and "clip_score_seen" in values
        rows = measure.sanity(dataset, manifest, references)
        assert set(rows["floor"]) == {"clip_score_seen", "r_precision_seen", "n"}

    def test_the_batch_size_does_not_matter(self, manifest, references, monkeypatch):
        values = measure.measure(_noise, 16, manifest, references)
        monkeypatch.setattr(features, "BATCH", 7)
        assert measure.measure(_noise, 16, manifest, references) == pytest.approx(values, rel=1e-4)

    def test_each_sample_has_its_latent_and_its_caption(self, dataset, manifest, references):
        asked = []

        def record(z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            asked.append((z, h))
            return _noise(z, h)

        measure.measure(record, 16, manifest, references)
        z, h = (torch.cat(parts) for parts in zip(*asked, strict=True))
        texts = [dataset.captions[i][j] for i, j in zip(manifest.images, manifest.captions, strict=True)]
        assert torch.equal(z, measure.evaluation_latents(manifest, 16))
        assert torch.allclose(h, FakeEncoder("embedded:clip-guide").text(texts), atol=1e-6)

    def test_values_are_those_of_the_saved_images(self, manifest, references):
        count = manifest.samples
        z = measure.evaluation_latents(manifest, 16)
        images = measure.quantise(_noise(z, torch.from_numpy(references.conditions)))
        assert torch.allclose((images + 1) * 127.5, ((images + 1) * 127.5).round(), atol=1e-4)
        values = measure.measure(_noise, 16, manifest, references)
        fake = references.resnet(images[:count]).numpy()
        assert values["fd_emoji"] == pytest.approx(metrics.frechet_distance(references.real, fake), rel=1e-5)
        own = references.clip(images[count:]).numpy()
        assert values["clip_score"] == pytest.approx(metrics.clip_score(own, references.captions), rel=1e-5)

    def test_quantise_clips_and_rounds(self):
        read_back = measure.quantise(torch.tensor([-3.0, -1.0, 0.0, 0.5, 1.0, 7.0]))
        assert torch.allclose((read_back + 1) * 127.5, torch.tensor([0.0, 0.0, 128.0, 191.0, 255.0, 255.0]))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_images_that_are_not_finite_are_divergence(self, manifest, references, value):
        with pytest.raises(Diverged):
            measure.measure(lambda z, h: torch.full((len(z), 3, SIDE, SIDE), value), 16, manifest, references)

    def test_perfect_images_beat_noise(self, dataset, manifest, references):
        asked = iter(range(len(manifest.images)))

        def copy(z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
            ids = manifest.images[[next(asked) for _ in z]]
            return features.to_unit_range(dataset.images[ids], "cpu")

        perfect, noise = (measure.measure(g, 16, manifest, references) for g in (copy, _noise))
        assert perfect["fd_emoji"] < 0.1 * noise["fd_emoji"]
        assert perfect["precision"] == perfect["recall"] == 1.0

    def test_sanity_rows(self, dataset, manifest, references):
        rows = measure.sanity(dataset, manifest, references)
        assert set(rows["ceiling"]) == {*manifest.names.values(), "n"}
        assert set(rows["floor"]) == {"clip_score", "clip_score_seen", "r_precision", "n"}
        assert rows["ceiling"]["n"] == len(dataset.held_out)

    def test_shuffling_leaves_nothing_in_its_place(self):
        for count in (2, 3, 50):
            order = measure._derangement(count, 1)
            assert sorted(order) == list(range(count))
            assert not np.any(order == np.arange(count))
