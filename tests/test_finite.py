"""Losses that break, where a GPU is not waited for at every update; and what else would wait for one."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode, resolve_name

from harness.data.features import load_clip
from harness.errors import Diverged
from harness.models.toggles import TOGGLES
from harness.training.feed import Feed
from harness.training.finite import UNREAD_STEPS, Finite
from harness.training.trainer import Trainer
from runs import settings, trainer, weights

EVERY = {"r1_interval": 1, "pl_interval": 1, "style_mixing": 0.9}
WAITING = re.compile(
    r"torch\.(Tensor\.)?(__bool__|__float__|__int__|__index__|item|tolist|numpy|cpu|is_nonzero|nonzero|argwhere|unique"
    r"|masked_select|equal|allclose|tensor|as_tensor|from_numpy|bincount|repeat_interleave)"
)
"""What needs a number of the device on the host, or copies one from the host that is not pinned."""


class Calls(TorchFunctionMode):
    """Notes calls that would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = str(resolve_name(func) or getattr(func, "__name__", func))
        if WAITING.fullmatch(name if name.startswith("torch.") else f"torch.{name}"):
            self.waiting.append(name)
        if name.endswith("__getitem__") and any(isinstance(each, torch.Tensor) for each in _parts(args[1])):
            self.waiting.append(f"{name} by a tensor")
        return func(*args, **(kwargs or {}))


def _parts(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def deferred(subject: Trainer) -> Trainer:
    """As a trainer on a GPU reads whether its losses are finite."""
    subject.finite = Finite(subject.optimizers.values(), subject.device, deferred=True)
    return subject


def test_the_calls_that_wait_are_noticed() -> None:
    x = torch.arange(3.0)
    with Calls() as calls:
        bool(x[0] > 0), float(x[1]), x.tolist(), x[0].item(), x.nonzero(), torch.tensor([1.0]), x[x > 1]
    assert len(calls.waiting) == 7, calls.waiting


@pytest.mark.parametrize("toggles", [(), TOGGLES], ids=["origin", "full"])
def test_no_part_of_a_step_waits_for_the_device(toggles: tuple[str, ...]) -> None:
    chosen = settings(*toggles, **EVERY)
    moved = replace(chosen.encoders, crop=0.125, pixel_noise=0.02)
    subject = deferred(trainer(replace(chosen, encoders=moved)))
    subject.step(0)  # constants are made once
    batch = subject.batch(1)
    with Calls() as calls:
        for phase in subject.phases:
            phase.take(batch, 1)
        subject.average(1)
    assert [phase.name for phase in subject.phases] == ["discriminator", "R1", "generator", "path length"]
    assert calls.waiting == []


def test_losses_that_hold_give_the_same_bits_whether_they_are_read_at_once_or_not() -> None:
    one, other = trainer(settings(**EVERY)), deferred(trainer(settings(**EVERY)))
    for step in range(3):
        one.step(step)
        other.step(step)
    other.finite.check()
    for name in vars(one.networks):
        assert weights(getattr(one.networks, name)).equal(weights(getattr(other.networks, name)))


@pytest.mark.parametrize("player", ["generator", "discriminator"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_broken_update_and_all_after_it_are_left_out_and_told(player: str, bad: float) -> None:
    subject = deferred(trainer(settings(**EVERY)))
    subject.step(0)
    before = copy.deepcopy([each.state_dict() for each in subject.optimizers.values()])
    heavy = {name: weights(getattr(subject.networks, name)) for name in ("generator", "discriminator")}
    leaf = next(getattr(subject.networks, player).parameters())
    subject.update(player, 7, leaf.square().sum() * bad)  # type: ignore[arg-type]
    subject.update("generator", 8, (next(subject.networks.generator.parameters()) * -bad).sum())
    for step in range(9, 12):
        subject.step(step)
    for name, value in heavy.items():
        assert weights(getattr(subject.networks, name)).equal(value)
    after = [each.state_dict() for each in subject.optimizers.values()]
    for old, new in zip(before, after, strict=True):
        for index, state in old["state"].items():
            assert all(new["state"][index][name].equal(value) for name, value in state.items())
    with pytest.raises(Diverged, match=rf"^step 7: the {player}'s loss is {bad:g}"):
        subject.finite.check()
    with pytest.raises(Diverged, match=r"^step 7: "):
        subject.step(UNREAD_STEPS)


def test_precision_of_products_is_that_of_the_step_inside_it_and_exact_outside() -> None:
    matmul: Any = torch.backends.cuda.matmul
    seen = []
    for precision in ("fp32", "tf32"):
        load_clip("embedded:clip-guide", "cpu")  # as every process that computes does first
        subject = trainer(settings(precision=precision))
        judge = subject.networks.discriminator
        judge.register_forward_hook(lambda *_: seen.append(matmul.fp32_precision))
        subject.step(0)
        assert matmul.fp32_precision == "ieee"
    assert set(seen[: len(seen) // 2]) == {"ieee"} and set(seen[len(seen) // 2 :]) == {"tf32"}


def test_batches_read_ahead_are_those_of_their_steps_in_any_order() -> None:
    subject = trainer(settings())
    ahead = Feed(subject.read, subject.device, ahead=True)
    for step in (0, 1, 2, 7, 8, 3, 3):
        expected, given = subject.batch(step), ahead.batch(step)
        assert given.real.dtype == torch.float32
        for name in ("real", "h", "pseudo"):
            assert getattr(given, name).equal(getattr(expected, name))
        assert given.frozen.keys() == expected.frozen.keys()
        assert all(given.frozen[kind].equal(rows) for kind, rows in expected.frozen.items())
