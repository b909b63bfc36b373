"""The width of a network is that of the features which it gives, in every estimate that asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.runs.record import Run
from harness.scheduler.slots import Slot
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.training import cost, timing
from harness.training.stand_in import frozen_network, width_of
from harness.training.work import Trial

STUDY = """study: tiny
data: {resolution: 8}
encoders: {clip: "embedded:clip-guide", resnet: "timm:lcnet_050"}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 100}
train: {kimg: 10, batch: 8, snapshots: 2}
toggles: [resnet_guided]
design: {kind: full, seeds: 1}
"""
WIDTH = 1280
"""Of lcnet_050, by its paper; timm's own number is 256, of the layer before."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda config, cache: "data")
    (tmp_path / "study.yaml").write_text(STUDY)
    return next(run for run in make_plan(load_study(tmp_path / "study.yaml")).runs if run.cell != "origin")


def test_of_networks_of_images_and_of_clips() -> None:
    assert width_of(frozen_network("timm:lcnet_050")) == WIDTH
    for name in ("embedded:resnet-guide", "embedded:clip-guide"):
        network = frozen_network(name)
        assert width_of(network) == network.dim


def test_shapes_of_a_checkpoint(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "load_image", lambda name, device, size: frozen_network(name, size))
    assert cost._widths(run)["f_res"] == WIDTH


@pytest.mark.parametrize(
    "take",
    [
        lambda run: timing._work(run.settings),
        lambda run: timing._trainer(run, Trial((run,), Slot(0, "cpu", 1), 1, 1, 2, 2)),
    ],
    ids=["counted", "timed"],
)
def test_the_features_that_steps_are_tried_with(
    run: Run, monkeypatch: pytest.MonkeyPatch, take: Callable[[Run], Any]
) -> None:
    class Seen(Exception):
        pass

    def corpus(settings: Any, widths: dict[str, int]) -> Any:
        raise Seen(widths["f_res"])

    monkeypatch.setattr(timing, "random_corpus", corpus)
    with pytest.raises(Seen, match=f"^{WIDTH}$"):
        take(run)
