"""The benchmark: what it times adds up, and its cases are the shipped sizes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.models.precision import set_products
from harness.models.toggles import TOGGLES
from harness.settings import Settings
from harness.training import cost
from harness.training.trainer import Trainer
from runs import settings, trainer
from tools import bench

STUDY = Path(__file__).parent.parent / "ablations.yaml"


def test_cases_are_the_shipped_and_the_published_sizes() -> None:
    cases = {case.name: case.settings for case in bench.cases(STUDY)}
    assert list(cases) == [
        "quick origin", "quick full", "standard origin", "standard full", "(a) 32 px", "(b) 64 px", "(c) 256 px",
    ]  # fmt: skip
    assert cases["quick origin"].data.resolution == 16 and cases["standard full"].loss.resnet_guided
    published = cases["(b) 64 px"]
    assert (published.generator.w_dim, published.generator.mapping_layers, published.train.batch) == (512, 8, 16)
    assert (published.discriminator.channel_base, published.generator.channel_max) == (4096, 256)
    small, large = (bench.cases(STUDY, device)[-1].settings for device in ("cpu", "cuda"))
    assert (small.train.batch, large.train.batch, large.generator) == (4, 16, Settings().generator)


def test_every_part_of_a_step_is_timed_and_they_add_up() -> None:
    def make(seed: int) -> Trainer:
        return trainer(settings(*TOGGLES), seed)

    timing = bench.measure_step(SimpleNamespace(trainer=make), steps=2, reference=True)  # type: ignore[arg-type]
    assert timing.batch > 0 and timing.again > 0
    assert tuple(sorted(timing.parts)) == tuple(sorted(bench.PARTS))
    assert sum(timing.parts.values()) == pytest.approx(timing.step)
    assert timing.gflop > 0 and timing.textbook and timing.textbook > 0
    assert all(timing.parts[part] > 0 for part in bench.PARTS if part != "other")


def test_a_large_case_is_shown_enlarged_images() -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    large = bench.Enlarged(images, 4)[np.array([1])]
    assert large.shape == (1, 3, 8, 8)
    assert (large[:, :, ::4, ::4] == images[1:]).all() and (large[:, :, :4, :4] == images[1, :, :1, :1]).all()


def test_figures_are_written_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "cases", lambda study, device: [bench.Case("tiny", settings(*TOGGLES))])
    monkeypatch.setattr(
        bench, "prepared", lambda settings, device: SimpleNamespace(trainer=lambda seed: trainer(settings, seed))
    )
    monkeypatch.setattr(bench, "convolution_ceiling", lambda device, precision: 100.0)
    file = tmp_path / "bench.json"
    bench.main(steps=1, precision=bench.Precision.fp32, into=file)
    figures = json.loads(file.read_text())
    assert (figures["precision"], figures["ceiling_gflop_per_s"]) == ("fp32", 100)
    tiny = figures["cases"]["tiny"]
    assert sum(tiny["parts"].values()) == pytest.approx(tiny["step"]) and tiny["textbook"] is None


def test_the_ceiling_is_of_the_precision_and_multiplies_as_training_does(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(device: str, dtype: torch.dtype, channels: int, size: int) -> float:
        asked.append((dtype, torch.backends.cudnn.conv.fp32_precision))  # type: ignore[attr-defined]
        return float(size)

    monkeypatch.setattr(cost, "_convolution", note)
    set_products("tf32")
    for precision, dtype, products in (
        ("fp32", torch.float32, "ieee"),
        ("tf32", torch.float32, "tf32"),
        ("bf16", torch.bfloat16, "ieee"),
    ):
        asked.clear()
        assert cost.convolution_ceiling("cpu", precision) == 32, "the best of all sizes"
        assert set(asked) == {(dtype, products)}, precision
