"""Each idea of docs/ideas in a few training steps, with every regulariser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from gallery import GALLERY
from harness.ideas.load import fixed_weights
from own_code import run_with, trainer_of
from runs import settings, trainer, weights

IDEAS: list[tuple[str, tuple[str, ...], dict[str, Any]]] = [
    ("matching_aware", ("mismatched",), {}),
    ("matching_aware", ("ma_gp",), {}),
    ("hinge", ("hinge",), {}),
    ("relativistic", ("relativistic",), {}),
    ("relativistic", ("r2",), {}),
    ("attention", ("attention",), {}),
    ("diff_augment", ("diff_augment",), {}),
    ("ada", ("ada",), {"ada__kimg": 0.004}),
    ("projected", ("projected",), {"projected__network": "embedded:resnet-guide", "projected__width": 4}),
]


ALL = ("img_img_loss", "separate_features", "paired_contrast", "mix_logits", "resnet_guided")


@pytest.mark.parametrize(("toggles", "precision"), [((), "fp32"), (ALL, "bf16")], ids=["alone", "with all toggles"])
@pytest.mark.parametrize(("file", "names", "changed"), IDEAS, ids=[names[0] for _, names, _ in IDEAS])
def test_it_trains(
    file: str, names: tuple[str, ...], changed: dict[str, Any], toggles: tuple[str, ...], precision: str
) -> None:
    base = settings(*toggles, pl_interval=2, r1_interval=2, precision=precision)
    text = (GALLERY / f"{file}.py").read_text(encoding="utf-8")
    run = run_with(text, base, **changed)
    run = replace(run, settings=replace(run.settings, ideas={name: run.settings.ideas[name] for name in names}))
    own, origin = trainer_of(run), trainer(base)
    for step in range(5):
        losses, before = own.step(step), origin.step(step)
        assert all(value.isfinite() for value in losses.values())
    assert not torch.equal(weights(own.networks.discriminator), weights(origin.networks.discriminator))
    terms = losses.keys() - before.keys()
    assert terms == {f"discriminator/{name}" for name in names if name in ("mismatched", "ma_gp")}
    assert sum(map(fixed_weights, (own.networks.generator, own.networks.discriminator, own.networks.ideas))) == 0
    if file == "ada":  # p moved behind the fourth step, and the fifth is counted towards the next move
        (signs,) = (value for name, value in own.networks.ideas.named_buffers() if name.endswith(".signs"))
        assert signs[1] == 4
