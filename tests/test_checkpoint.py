"""Training states on disk: going on from one is not having stopped, and a wrong file is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.errors import RecordError
from harness.training import checkpoint
from models.toggles import TOGGLES
from runs import settings, trainer, weights


@pytest.mark.parametrize("subset", [(), ("transform_w",), tuple(TOGGLES)], ids="+".join)
@pytest.mark.parametrize("stop", [1, 2, 4])
def test_resumed_is_uninterrupted(tmp_path: Path, subset: tuple[str, ...], stop: int) -> None:
    whole = trainer(settings(*subset))
    for step in range(6):
        if step == stop:
            checkpoint.save(whole, tmp_path, step, "run")
        whole.step(step)
    resumed = trainer(settings(*subset))
    start = checkpoint.restore(resumed, tmp_path, "run")
    for step in range(start, 6):
        resumed.step(step)
    assert start == stop
    for name, network in vars(whole.networks).items():
        assert weights(network).equal(weights(getattr(resumed.networks, name))), name
    assert whole.pl_mean.equal(resumed.pl_mean)
    for player, adam in whole.optimizers.items():
        ours, theirs = adam.state_dict()["state"], resumed.optimizers[player].state_dict()["state"]
        assert all(value.equal(theirs[index][key]) for index in ours for key, value in ours[index].items())


def test_nothing_to_restore_is_step_0(tmp_path: Path) -> None:
    assert checkpoint.restore(trainer(settings()), tmp_path / "none", "run") == 0


def test_the_newest_two_are_kept_and_the_newest_is_taken(tmp_path: Path) -> None:
    subject = trainer(settings())
    for step in (1, 2, 3, 10):
        checkpoint.save(subject, tmp_path, step, "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000003.safetensors", "000000010.safetensors"]
    assert checkpoint.restore(subject, tmp_path, "run") == 10


def test_another_runs_state_is_refused(tmp_path: Path) -> None:
    subject = trainer(settings())
    checkpoint.save(subject, tmp_path, 1, "run")
    with pytest.raises(RecordError, match="belongs to run 'run', not 'other'"):
        checkpoint.restore(subject, tmp_path, "other")


def test_a_damaged_file_is_refused_by_name(tmp_path: Path) -> None:
    subject = trainer(settings())
    checkpoint.save(subject, tmp_path, 1, "run")
    path = tmp_path / "000000001.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordError, match=r"000000001\.safetensors: cannot be read"):
        checkpoint.restore(subject, tmp_path, "run")


def test_the_projection_of_unequal_widths_is_in_the_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    checkpoint.save(trainer(settings(*TOGGLES)), tmp_path, 1, "run")
    stored = load_file(tmp_path / "000000001.safetensors")["projection"]
    torch.testing.assert_close(stored.T @ stored, torch.eye(8, dtype=torch.float64))
