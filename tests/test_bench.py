"""The benchmark: what it times adds up, and its cases are the shipped sizes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.models.toggles import TOGGLES
from harness.training.trainer import Trainer
from runs import settings, trainer
from tools import bench

STUDY = Path(__file__).parent.parent / "ablations.yaml"


def test_cases_are_the_shipped_and_the_published_sizes() -> None:
    cases = {case.name: case.settings for case in bench.cases(STUDY)}
    assert list(cases) == [
        "quick origin", "quick full", "standard origin", "standard full", "(a) 32 px", "(b) 64 px",
    ]  # fmt: skip
    assert cases["quick origin"].data.resolution == 16 and cases["standard full"].loss.resnet_guided
    published = cases["(b) 64 px"]
    assert (published.generator.w_dim, published.generator.mapping_layers, published.train.batch) == (512, 8, 16)
    assert (published.discriminator.channel_base, published.generator.channel_max) == (4096, 256)


def test_every_part_of_a_step_is_timed_and_they_add_up() -> None:
    def make(seed: int) -> Trainer:
        return trainer(settings(*TOGGLES), seed)

    timing = bench.measure_step(SimpleNamespace(trainer=make), steps=2, reference=True)  # type: ignore[arg-type]
    assert tuple(sorted(timing.parts)) == tuple(sorted(bench.PARTS))
    assert sum(timing.parts.values()) == pytest.approx(timing.step)
    assert timing.gflop > 0 and timing.textbook and timing.textbook > 0
    assert all(timing.parts[part] > 0 for part in bench.PARTS if part != "other")
