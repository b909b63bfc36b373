"""From files to weights: the same pictures in every layout are prepared alike and train the same generator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layouts
from harness.data import dataset as data
from harness.data import prepare as preparing
from harness.data.dataset import Dataset
from harness.data.decode import decode
from harness.data.pictures import choose_held_out
from harness.models.toggles import apply
from harness.settings import DataConfig, EncoderConfig, MetricConfig, Settings, TrainConfig
from harness.training.setup import prepare
from layouts import LAYOUTS, SAMPLES
from tiny import TINY

STEPS = 3
TRAINED = apply(
    Settings(
        generator=TINY.generator,
        discriminator=TINY.discriminator,
        encoders=EncoderConfig(clip="embedded:clip-guide", resnet="embedded:resnet-guide"),
        metrics=MetricConfig(clip="embedded:clip-measure", resnet="embedded:resnet-measure", samples=16),
        train=TrainConfig(batch=8),
    ),
    ("paired_contrast", "resnet_guided"),
)


@dataclass(frozen=True)
class Written:
    """The pictures in one layout, and a cache that no other layout shares."""

    config: DataConfig
    cache: Path

    def load(self) -> Dataset:
        return data.load(self.config, self.cache)

    def weights(self) -> str:
        """Digest of the generator, of the average and of the discriminator after a few steps."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HARNESS_CACHE", str(self.cache))
            trainer = prepare(replace(TRAINED, data=self.config), "cpu").trainer(seed=0)
            for step in range(STEPS):
                trainer.step(step)
        digest = hashlib.sha256()
        for network in vars(trainer.networks).values():
            for name, tensor in network.state_dict().items():
                digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()


def written(layout: layouts.Layout, folder: Path) -> Written:
    (folder / "data").mkdir()
    return Written(replace(layout(folder / "data"), resolution=8), folder / "cache")


@pytest.fixture(scope="module", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The datasets library keeps to a folder of its own, quietly and without the network."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub"))
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
        patch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        yield


@pytest.fixture(scope="module", params=LAYOUTS.values(), ids=LAYOUTS)
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return written(request.param, tmp_path_factory.mktemp("layout"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """What all layouts are compared with: a folder."""
    return written(layouts.folder, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def trained(plain: Written) -> str:
    return plain.weights()


def test_every_layout_is_prepared_as_the_same_data(layout: Written, plain: Written) -> None:
    loaded, keys = layout.load(), sorted(SAMPLES)
    pixels = np.stack([decode(SAMPLES[key][0], layout.config) for key in keys])
    assert loaded.images.dtype == np.uint8 and np.array_equal(np.array(loaded.images), pixels)
    assert loaded.captions == tuple(SAMPLES[key][1] for key in keys)
    held = choose_held_out(keys, layout.config.held_out.share)
    assert loaded.held_out.tolist() == np.flatnonzero(held).tolist()
    assert loaded.train.tolist() == np.flatnonzero(~held).tolist()
    assert loaded.fingerprint == data.fingerprint(layout.config, layout.cache) == plain.load().fingerprint


def test_what_was_prepared_is_not_decoded_again(
    layout: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = layout.load()

    def decoded(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(preparing, "decode", decoded)
    again = layout.load()
    assert np.array_equal(np.array(again.images), np.array(first.images))
    assert (again.captions, again.fingerprint) == (first.captions, first.fingerprint)
    with pytest.raises(AssertionError, match="decoded again"):
        replace(layout, cache=tmp_path).load()


def test_every_layout_trains_the_same_weights(layout: Written, trained: str) -> None:
    assert layout.weights() == trained


@pytest.mark.parametrize("part", ["pictures", "captions"])
def test_other_data_train_other_weights(
    part: str, trained: str, plain: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes the comparison above one: the weights follow the pictures and the order of the captions."""
    others = [*list(SAMPLES.values())[1:], SAMPLES[layouts.ONE]]
    pictures = {key: (other[0], own[1]) for (key, own), other in zip(SAMPLES.items(), others, strict=True)}
    captions = {key: (encoded, texts[::-1]) for key, (encoded, texts) in SAMPLES.items()}
    monkeypatch.setattr(layouts, "SAMPLES", pictures if part == "pictures" else captions)
    other = written(layouts.folder, tmp_path)
    assert other.load().fingerprint != plain.load().fingerprint
    assert other.weights() != trained
