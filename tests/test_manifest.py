"""The evaluation manifest: what every run of a study is measured with."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from harness.data.dataset import Dataset
from harness.metrics.manifest import make_manifest
from harness.models import encoders
from harness.models.toggles import apply
from harness.settings import Settings
from things import measured_settings, things, with_metrics


@pytest.fixture
def dataset() -> Dataset:
    return things()


@pytest.fixture
def settings() -> Settings:
    return measured_settings()


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "fingerprint", lambda name: f"print of {name}")


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
        assert "antialiased, centre square of 32 x 32" in cards["fd_emoji"]["resize"]

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
        assert guided.cards()["fd_dinov2"]["role"] == "further"
        assert guided.hash == make_manifest(dataset, same).hash

    def test_other_data_changes_the_hash_and_the_guide_does_not(self, dataset, settings):
        mine = make_manifest(dataset, settings)
        assert make_manifest(replace(dataset, fingerprint="other"), settings).hash != mine.hash
        guided = replace(settings, encoders=replace(settings.encoders, clip="embedded:other"))
        assert make_manifest(dataset, guided).hash == mine.hash
        assert make_manifest(dataset, guided).cards()["clip_score_seen"] != mine.cards()["clip_score_seen"]

    def test_cards(self, dataset, settings):
        manifest = make_manifest(dataset, settings)
        fd, score = manifest.cards()["fd_emoji"], manifest.cards()["clip_score"]
        assert (fd["n"], fd["n_real"], fd["extractor"]) == (130, 50, "embedded:resnet-measure")
        assert (score["n"], score["captions"], score["extractor"]) == (30, "held-out", "embedded:clip-measure")
        assert fd["manifest"] == score["manifest"] == manifest.hash
        assert manifest.cards()[manifest.names["fd"]] == fd
        assert set(manifest.cards()) == set(manifest.names.values())

    def test_no_torch(self):
        code = "import harness.metrics.manifest, harness.data.features, sys; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    def test_the_side_decides_captions_and_real_images(self, dataset, settings):
        mine = make_manifest(dataset, settings)
        assert (mine.side, list(mine.real), list(mine.apart)) == ("train", list(dataset.train), list(dataset.held_out))
        other = make_manifest(dataset, with_metrics(settings, side="held-out"))
        assert set(other.images) == set(dataset.held_out)
        assert list(other.real) == list(dataset.held_out) and list(other.apart) == list(dataset.train)
        assert other.cards()["fd_emoji"]["captions"] == "held-out" and other.cards()["fd_emoji"]["n_real"] == 10
        assert other.hash != mine.hash

    def test_of_many_images_no_more_than_the_samples_are_looked_at(self, dataset, settings):
        turned = replace(dataset, train=dataset.held_out, held_out=dataset.train)
        manifest = make_manifest(turned, with_metrics(settings, samples=20))
        asked = manifest.images[20:]
        assert len(set(asked)) == len(asked) == 20 and set(asked) < set(dataset.train)
        assert list(manifest.apart) == sorted(set(manifest.apart)) and len(manifest.apart) == 20
        assert list(manifest.real) == list(dataset.held_out)

    def test_three_real_images_have_no_neighbours_to_measure_by(self, dataset, settings):
        few = replace(dataset, held_out=dataset.held_out[:3])
        mine = make_manifest(few, with_metrics(settings, side="held-out"))
        assert set(mine.cards()) == {"fd_emoji", "kid_emoji", "clip_score", "r_precision", "clip_score_seen"}
