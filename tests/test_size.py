"""The room that a run's files will take, against the files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.data import features
from harness.frozen_networks import encoders_read
from harness.models.config import GeneratorConfig
from harness.models.toggles import TOGGLES
from harness.runs.record import Run
from harness.settings import Settings
from harness.training import checkpoint, cost
from harness.training.trainer import Trainer
from own_code import trainer_of
from runs import BASE, F, R, S, settings, trainer
from trap_ideas import run_of

WIDER = replace(BASE.generator, channel_base=512, channel_max=64, w_dim=64)


def planned(chosen: Settings) -> Run:
    chosen = replace(chosen, data=replace(chosen.data, resolution=R))
    prints = {path: name for path, name in encoders_read(chosen).items()}
    return Run("0" * 12, "study", "cell", 0, (), chosen, {"data": "0" * 16, **prints})


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features of the widths of `runs` in the cache, and encoders that cannot be loaded."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cost, "load_image", lambda *_: pytest.fail("an encoder was loaded"))
    for kind, name, width in (("clip-text", BASE.encoders.clip, F), ("resnet-image", BASE.encoders.resnet, S)):
        folder = features._folder(kind, "0" * 16, name)[0]
        folder.mkdir(parents=True)
        np.save(folder / "features.npy", np.zeros((3, width), np.float32))


def written_mb(subject: Trainer, folder: Path) -> float:
    """MiB of a checkpoint after a step and of the final generator."""
    subject.step(0)
    checkpoint.save(subject, folder, 1, "run")
    weights = dict(subject.networks.averaged.state_dict())
    checkpoint.write_tensors(folder / "generator.safetensors", weights, {"run": "run"})
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 2**20


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(("generator", "tolerance"), [(BASE.generator, 0.03), (WIDER, 0.01)], ids=["tiny", "wider"])
@pytest.mark.parametrize("subset", [(), ("transform_w",), ("separate_features",), tuple(TOGGLES)], ids="+".join)
def test_it_is_that_of_the_files(
    subset: tuple[str, ...], generator: GeneratorConfig, tolerance: float, tmp_path: Path
) -> None:
    """Of the tiny ones a third is names."""
    chosen = replace(settings(*subset), generator=replace(generator, **transforms(subset)))
    assert cost.state_mb(planned(chosen)) == pytest.approx(written_mb(trainer(chosen), tmp_path), rel=tolerance)


@pytest.mark.usefixtures("cached")
def test_own_code_counts_but_for_what_it_has_frozen(tmp_path: Path) -> None:
    own = run_of("pretrained", "frozen_d", "learned", "adaptive", "first")
    subject = trainer_of(own)
    files = written_mb(subject, tmp_path)
    base = planned(own.settings)
    run = replace(base, fingerprints=base.fingerprints | own.fingerprints | {"data": "0" * 16}, source=own.source)
    assert cost.state_mb(run) == pytest.approx(files, rel=0.03)
    assert sum(each.nbytes for each in subject.networks.state(frozen=True).values()) > 0.3 * files * 2**20


def transforms(subset: tuple[str, ...]) -> dict[str, object]:
    """What these toggles change of a generator."""
    before, after = vars(BASE.generator), vars(settings(*subset).generator)
    return {name: value for name, value in after.items() if value != before[name]}


def test_widths_that_are_not_cached_are_asked_of_the_encoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    chosen = settings("resnet_guided")
    embedded = replace(chosen.encoders, clip="embedded:clip-guide", resnet="embedded:resnet-guide")
    run = planned(replace(chosen, encoders=embedded))
    assert cost.state_mb(run) > 1, "the embedded encoders themselves"
    widths = {"embedded:clip-guide": 1000, "embedded:resnet-guide": 3000}
    monkeypatch.setattr(cost, "load_image", lambda name, device, size: Wide(widths[name]))
    one = cost.state_mb(run)
    widths["embedded:resnet-guide"] = 4000
    assert cost.state_mb(run) - one == pytest.approx(1000 * 1000 * 8 / 2**20, rel=1e-4), "the projection alone"


class Wide:
    """In the place of an encoder."""

    def __init__(self, dim: int) -> None:
        assert torch.get_default_device().type == "cpu", "its weights would have no data"
        self.dim, self.size = dim, 8

    def buffers(self) -> Iterator[torch.Tensor]:
        yield torch.zeros(1)

    def image(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), self.dim)
