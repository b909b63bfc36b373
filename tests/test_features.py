"""The feature cache and measuring, with small stand-ins for the frozen encoders."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import features
from harness.data.dataset import Dataset
from harness.errors import DataError, Diverged, describe_os_error
from harness.metrics import formulas as metrics
from harness.metrics import measure
from harness.metrics.manifest import Manifest, make_manifest
from harness.metrics.real_side import real_side
from harness.models import encoders
from harness.models.encoders import load
from harness.settings import Settings
from harness.terminal import progress
from things import SIDE, FakeEncoder, measured_settings, things, with_metrics


@pytest.fixture
def dataset() -> Dataset:
    return things()


@pytest.fixture
def settings() -> Settings:
    return measured_settings()


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    FakeEncoder.calls = 0
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders, "fingerprint", lambda name: f"print of {name}")
    monkeypatch.setattr(load, "load_clip", lambda name, device: FakeEncoder(name))
    monkeypatch.setattr(load, "load_resnet", lambda name, device: FakeEncoder(name))


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
        def crash(advance: object) -> Iterator[features.Features]:
            yield np.ones((3, 12), np.float32)
            raise MemoryError

        with pytest.raises(MemoryError):
            features.cached("clip-image", dataset.fingerprint, "embedded:clip-guide", 5, crash)
        assert features.clip_image(dataset, "embedded:clip-guide").shape == (60, 12)

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_told_before_anything_is_mapped(self, dataset, tmp_path, monkeypatch, number):
        def full(descriptor: int, offset: int, size: int) -> None:
            assert offset == 0 and size == os.fstat(descriptor).st_size > 60 * 12 * 4
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "posix_fallocate", full)
        with pytest.raises(OSError, match=r"scratch\.npy") as caught:
            features.clip_image(dataset, "embedded:clip-guide")
        assert "make room or use another place" in describe_os_error(caught.value)
        assert not [*tmp_path.rglob("scratch.npy")]

    def test_a_file_system_that_takes_no_places_is_written_all_the_same(self, dataset, monkeypatch):
        def refuse(descriptor: int, offset: int, size: int) -> None:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "posix_fallocate", refuse)
        assert features.clip_image(dataset, "embedded:clip-guide").shape == (60, 12)

    def test_progress_is_shown_once_while_they_are_computed(self, dataset, monkeypatch, caplog):
        monkeypatch.setattr(progress, "_LINE_S", 0.0)
        monkeypatch.setattr(features.batches, "__defaults__", (20,))
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                features.clip_image(dataset, "embedded:clip-guide")
                features.clip_text(dataset, "embedded:clip-guide")
        images, texts = (f"clip-{kind} features by embedded:clip-guide" for kind in ("image", "text"))
        assert caplog.messages[:3] == [f"{images}: {done} of 60" for done in (20, 40, 60)]
        counts = [int(line.removesuffix(" of 90").removeprefix(f"{texts}: ")) for line in caplog.messages[3:]]
        assert counts == sorted(set(counts)) and len(counts) == 3 and counts[-1] == 90, "captions, equal ones too"

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
    def compute(advance: object) -> list[features.Features]:
        with calls.open("a") as file:
            file.write("once\n")
        return [np.ones((5, 2), np.float32)]

    assert features.cached("slow", dataset.fingerprint, "embedded:clip-guide", 5, compute).sum() == 10


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

    def test_the_real_side_is_computed_once_and_is_of_the_real_images(self, dataset, manifest, references, monkeypatch):
        network = references.networks[0]
        assert network.side.to_array().tolist() == real_side(network.real).to_array().tolist()
        monkeypatch.setattr("harness.metrics.real_side.gaussian", None)
        again = measure.load_references(dataset, manifest).networks[0].side
        assert again.to_array().tolist() == network.side.to_array().tolist()
        fewer = replace(manifest, real=manifest.real[:-1])
        with pytest.raises(TypeError):  # other images, another side
            measure.load_references(dataset, fewer)

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
        fake = references.networks[0].encode(images[:count]).numpy()
        assert values["fd_emoji"] == pytest.approx(
            metrics.frechet_distance(references.networks[0].real, fake), rel=1e-5
        )
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

    def test_the_ceiling_of_the_held_out_side_is_of_training_images(self, dataset, settings):
        manifest = make_manifest(dataset, with_metrics(settings, side="held-out"))
        references = measure.load_references(dataset, manifest)
        ceiling = measure.sanity(dataset, manifest, references)["ceiling"]
        train = features.resnet_image(dataset, "embedded:resnet-measure", dataset.train)
        assert ceiling["fd_emoji"] == metrics.frechet_distance(references.networks[0].real, train)
        assert ceiling["n"] == len(train) and len(references.networks[0].real) == len(dataset.held_out)

    def test_two_held_out_images_leave_out_what_cannot_be_said_of_them(self, dataset, settings):
        few = replace(dataset, held_out=dataset.held_out[:2])
        manifest = make_manifest(few, settings)
        references = measure.load_references(few, manifest)
        rows = measure.sanity(few, manifest, references)
        assert set(manifest.names.values()) - set(rows["ceiling"]) == {"precision", "recall"}
        assert set(measure.measure(_noise, 16, manifest, references)) == set(manifest.names.values())

    def test_sanity_rows(self, dataset, manifest, references):
        rows = measure.sanity(dataset, manifest, references)
        assert set(rows["ceiling"]) == {*manifest.names.values(), "n"}
        assert set(rows["floor"]) == {"clip_score", "clip_score_seen", "r_precision", "n"}
        assert rows["ceiling"]["n"] == len(dataset.held_out)
