"""Which numbers of GPUs may share a run: the others are refused before anything runs, with those that may."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.study.load import load_study
from harness.study.sharing_checks import problems
from runs import BASE

STUDY = "study: s\ntrain: {batch: 64, pl_batch_shrink: 2}\nresources: {gpus_per_run: %s}\n"


def refused(gpus: int, **changes: object) -> str:
    values = {"train.batch": 64, "train.pl_batch_shrink": 2, "discriminator.minibatch_std_group": 4}
    settings = BASE.with_values({**values, **{name.replace("__", "."): value for name, value in changes.items()}})
    return "".join(text for _, text in problems(settings, gpus))


def test_each_gpu_gets_whole_groups() -> None:
    assert not any(refused(gpus) for gpus in (1, 2, 4, 8, 16))
    assert refused(3) == "3 GPUs cannot share a run: train.batch = 64 is no multiple of 3; allowed: 1, 2, 4, 8, 16"
    assert "2 images, no multiple of discriminator.minibatch_std_group = 4" in refused(32)
    assert "1 image, no multiple of discriminator.minibatch_std_group = 4" in refused(64)
    assert refused(8, loss__group=16).endswith("no multiple of loss.group = 16; allowed: 1, 2, 4")
    assert not refused(32, discriminator__minibatch_std_group=0)
    few = refused(8, train__pl_batch_shrink=16)
    assert few.endswith("train.pl_batch_shrink = 16 leaves 4 images for a path length step; allowed: 1, 2, 4")
    assert not refused(8, train__pl_batch_shrink=16, train__pl_weight=0.0)
    layer = {"mine": {"kind": "layer", "at": 8}}
    assert "the layer mine would be given a part of the batch" in refused(2, ideas=layer)
    assert not refused(2, ideas={"mine": {"kind": "term", "weight": 1.0}})


def test_a_study_is_refused_at_the_line_of_the_setting(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(STUDY % 3)
    with pytest.raises(SpecError, match=r"study\.yaml:3:27: resources\.gpus_per_run: 3 GPUs cannot share a run"):
        load_study(path)
    path.write_text(STUDY % 2)
    assert load_study(path).resources.gpus_per_run == 2


def test_a_script_divides_its_work_itself() -> None:
    assert not refused(3, command__run="python train.py")
