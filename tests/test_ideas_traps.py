"""What own code would break without anybody noticing: first weights, frozen parts, draws, buffers, resumed runs."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from harness.errors import HarnessError, RecordError
from harness.ideas.load import load_ideas
from harness.models.build import Networks, Shapes, construct
from harness.models.encoders.load import load_clip, load_resnet
from harness.training import checkpoint
from harness.training.trainer import Trainer
from own_code import equal, own_trainer, reseed, run_with, state, whole_state
from runs import settings
from trap_ideas import first_weights, trap_trainer

PLAIN = ("first", "second", "in_d", "head")
STATEFUL = ("noisy", "learned", "adaptive")
PRETRAINED = ("pretrained", "frozen_d")


def of(networks: Networks, *ideas: str) -> dict[str, Tensor]:
    """What these ideas have."""
    return {name: each for name, each in state(networks).items() if any(f".{idea}." in name for idea in ideas)}


# First weights.


def limits(weights: dict[str, Tensor], name: str) -> float:
    """The largest weight that torch's layers draw; 0: the layer starts with a constant."""
    kind, value = name.split(".module.")[1], weights[name]
    if kind in ("norm.weight", "norm.bias", "attention.in_proj_bias", "attention.out_proj.bias", "gamma"):
        return 0.0
    if kind == "attention.in_proj_weight":
        return float((6 / (value.shape[0] + value.shape[1])) ** 0.5)  # Xavier
    if kind in ("drawn", "of_numpy", "of_python"):
        return {"drawn": 5.0}.get(kind, 1.0)
    return float(weights[name.replace(".bias", ".weight")][0].numel() ** -0.5)  # 1 / sqrt(fan-in)


@pytest.mark.parametrize("idea", PLAIN)
def test_plain_layers_draw_their_first_weights_as_torch_does(idea: str) -> None:
    weights = of(first_weights(*PLAIN), idea)
    assert len(weights) >= 13
    for name, value in weights.items():
        limit = limits(weights, name)
        if limit:
            assert value.abs().max() <= limit and value.std() > 0.1 * limit, name
        else:
            assert bool((value == {"weight": 1.0, "gamma": 0.25}.get(name.rpartition(".")[2], 0.0)).all()), name


def test_first_weights_are_a_function_of_seed_and_place_alone() -> None:
    reseed(1)
    every = first_weights(*PLAIN)
    reseed(2)
    assert equal(of(every, *PLAIN), of(first_weights(*PLAIN), *PLAIN))
    for idea in PLAIN:  # whatever else there is
        assert equal(of(every, idea), of(first_weights(idea), idea)), idea

    other, drawn = first_weights(*PLAIN, seed=1), of(every, *PLAIN)
    for name, value in drawn.items():
        if limits(drawn, name):
            assert not torch.equal(value, state(other)[name]), name
            assert name.replace(".first.", ".second.") == name or not torch.equal(
                value, drawn[name.replace(".first.", ".second.").replace("blocks.0.", "blocks.1.")]
            )


def test_built_in_layers_start_as_they_do_without_own_code() -> None:
    origin = state(first_weights())
    for ideas in (PLAIN, STATEFUL, PRETRAINED):
        beside = first_weights(*ideas)
        built_in = {name: each for name, each in state(beside).items() if name not in of(beside, *ideas)}
        assert equal(built_in, origin), ideas


def test_building_leaves_the_global_streams_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first_weights(*PLAIN)
    assert torch.equal(torch.get_rng_state(), before)


def test_networks_can_be_used_as_constructed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An own constructor that tries what it is made of, as to learn a shape, is not given memory that nobody filled."""
    code = """
from harness.models.discriminator import Conv
from harness.models.ops import Linear

@layer("discriminator", at=8)
class tries(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.linear = Conv(channels, channels, 3), Linear(channels, channels, activate=True, bias_init=1.0)
        tried = self.linear(self.conv(torch.ones(1, channels, 8, 8)).mean((2, 3)))
        assert bool((tried.abs() < 1e3).all()) and bool(tried.isfinite().all())
    def forward(self, x):
        return x + 0.01 * self.conv(x)
"""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **more: empty(*args, **more).fill_(float("nan")))
    run = run_with(code, settings())
    networks = construct(run.settings, Shapes(8, 8), load_ideas(run).modules())
    assert all(bool(value.isfinite().all()) for value in state(networks).values())


# Frozen parts.


def test_pretrained_weights_stay_as_their_constructor_loads_them() -> None:
    weights, published = first_weights("pretrained").generator.state_dict(), load_resnet("embedded:resnet-guide")
    (place,) = {name.partition("network.")[0] for name in weights if ".network." in name}
    for name, value in published.state_dict().items():
        assert torch.equal(weights[f"{place}network.{name}"], value), name
    assert torch.equal(weights[f"{place}conv.weight"].flatten(), torch.arange(64) / 64)
    assert torch.equal(weights[f"{place}conv.bias"], torch.arange(8) / 8)


def frozen_names(networks: Networks) -> set[str]:
    """As in `state`, of the trained networks."""
    both = {"generator": networks.generator, "discriminator": networks.discriminator}
    return {
        f"{network}/{name}"
        for network, module in both.items()
        for name, value in module.named_parameters()
        if not value.requires_grad
    }


@pytest.fixture(scope="module")
def with_frozen_parts() -> Trainer:
    """After three steps."""
    trainer = trap_trainer(*PRETRAINED, pl_interval=2, r1_interval=2)
    for step in range(3):
        trainer.step(step)
    return trainer


def test_frozen_parts_stay_frozen_and_out_of_adam(with_frozen_parts: Trainer) -> None:
    first, networks = first_weights(*PRETRAINED), with_frozen_parts.networks
    fixed, before, now = frozen_names(first), state(first), state(networks)
    for part in (".pretrained.module.projection.", ".pretrained.module.network.", ".frozen_d.module.network."):
        assert any(part in name for name in fixed), part
    assert frozen_names(networks) == fixed
    averaged = {name.replace("generator/", "averaged/") for name in fixed if name.startswith("generator/")}
    assert all(torch.equal(now[name], before[name]) for name in fixed | averaged)
    trained = [name for name in before if name.endswith((".pretrained.module.conv.bias", ".frozen_d.module.conv.bias"))]
    assert len(trained) == 3 and not any(torch.equal(now[name], before[name]) for name in trained)
    for player, adam in with_frozen_parts.optimizers.items():
        parameters = {f"{player}/{name}": each for name, each in getattr(networks, player).named_parameters()}
        in_adam = {id(each) for group in adam.param_groups for each in group["params"]}
        assert in_adam == {id(each) for name, each in parameters.items() if name not in fixed}


def test_frozen_parts_are_out_of_checkpoints_which_know_them(with_frozen_parts: Trainer, tmp_path: Path) -> None:
    checkpoint.save(with_frozen_parts, tmp_path, 3, "run")
    (path,) = tmp_path.iterdir()
    with safe_open(path, "pt") as file:
        names = set(file.keys())
    fixed, every = frozen_names(with_frozen_parts.networks), state(with_frozen_parts.networks)
    averaged = {name.replace("generator/", "averaged/") for name in fixed if name.startswith("generator/")}
    assert every.keys() - names == fixed | averaged

    again = trap_trainer(*PRETRAINED, pl_interval=2, r1_interval=2)
    assert checkpoint.restore(again, tmp_path, "run") == 3
    assert equal(state(again.networks), every)
    other = trap_trainer(*PRETRAINED, pl_interval=2, r1_interval=2, seed=1)  # another random projection
    with pytest.raises(RecordError, match="frozen"):
        checkpoint.restore(other, tmp_path, "run")


def test_a_network_that_a_constructor_is_given_is_loaded_frozen_and_draws_nothing() -> None:
    code = """
@discriminator
class projected(nn.Module):
    def __init__(self, resolution: int, text_dim: int, *, eye: Network = "embedded:resnet-guide"):
        super().__init__()
        self.eye = eye
        self.text = nn.Linear(3, text_dim)
        self.head = nn.Linear(eye.dim, 1)
    def forward(self, images):
        text = self.text(images.mean((2, 3)))
        return self.head(self.eye.image(images))[:, 0], text, text

@term("generator", weight=0.1)
class near(nn.Module):
    def __init__(self, *, eye: Network = "embedded:clip-guide"):
        super().__init__()
        self.eye = eye
    def forward(self, step):
        return self.eye.image(step.images["x"]).square().mean()
"""
    own = own_trainer(code)
    for name, module in (("resnet-guide", own.networks.discriminator), ("clip-guide", own.networks.ideas)):
        load = load_clip if "clip" in name else load_resnet
        (eye,) = {place for place, each in module.named_modules() if place.endswith(".eye")}
        for path, value in load(f"embedded:{name}").state_dict().items():
            assert torch.equal(module.state_dict()[f"{eye}.{path}"], value), path
        weights = [value for path, value in module.named_parameters() if path.startswith(f"{eye}.")]
        assert weights and not any(value.requires_grad for value in weights)
    before = of(own.networks, "near") | {
        name: value.clone() for name, value in state(own.networks).items() if ".eye." in name
    }
    other = own_trainer(code, projected__eye="embedded:resnet-measure").networks.discriminator.state_dict()
    assert torch.equal(
        other["module.module.text.weight"], own.networks.discriminator.state_dict()["module.module.text.weight"]
    )
    for step in range(2):
        own.step(step)
    assert before and equal(before, {name: state(own.networks)[name] for name in before})


# State and draws.


@pytest.mark.parametrize("stop", [1, 3])
def test_a_run_with_dropout_and_state_of_its_own_goes_on_to_the_same_bytes(tmp_path: Path, stop: int) -> None:
    whole = trap_trainer(*STATEFUL, pl_interval=2, r1_interval=2)
    start = whole_state(whole)
    for step in range(5):
        if step == stop:
            checkpoint.save(whole, tmp_path, step, "run")
        whole.step(step)
    reseed(7)
    resumed = trap_trainer(*STATEFUL, pl_interval=2, r1_interval=2)
    assert checkpoint.restore(resumed, tmp_path, "run") == stop
    for step in range(stop, 5):
        resumed.step(step)
    end = whole_state(whole)
    assert equal(end, whole_state(resumed))
    for part in (".p", "running_mean", "running_var", "head.weight"):
        names = [name for name in start if name.endswith(part)]
        assert names and not any(torch.equal(start[name], end[name]) for name in names), part


def test_dropout_differs_between_steps_and_seeds() -> None:
    means = []
    for seed in (0, 0, 1):
        trainer = trap_trainer("learned", seed=seed)
        means.append([trainer.step(step)["discriminator/learned"].item() for step in range(3)])
    assert means[0] == means[1] != means[2] and len(set(means[0])) == 3


def test_the_averaged_generator_has_the_trained_ones_buffers_and_measures_without_dropout() -> None:
    trainer = trap_trainer("noisy")
    for step in range(3):
        trainer.step(step)
    trained, averaged = trainer.networks.generator, trainer.networks.averaged
    buffers = dict(trained.named_buffers())
    assert buffers and all(torch.equal(value, averaged.get_buffer(name)) for name, value in buffers.items())
    assert trained.training and not any(each.training for each in averaged.modules())


def test_a_missing_second_derivative_is_told_with_its_place() -> None:
    trainer = trap_trainer("fast", pl_interval=1)
    with pytest.raises(HarnessError, match=r"derivative.*second derivative.*fast \(mine.py:\d+\)"):
        trainer.step(0)
    trap_trainer("second", pl_interval=1).step(0)  # which asks for the weights, and so has one
    trap_trainer("fast", pl_weight=0).step(0)  # nobody needs it


def test_a_setting_is_handed_on_whatever_marks_of_other_kinds_call_theirs() -> None:
    code = """
@augment
def weak(images, rng, *, weight: float = 1.0, every: int = 1, at: int = 1, size: int = 1):
    assert (weight, every, at, size) == (2.0, 3, 4, 5)
    return images
@term("generator")
def early(step, *, every: int = 1, at: int = 1, network: str = ""):
    assert (every, at, network) == (3, 4, "n")
    return step.images["x"].mean()
"""
    changed = {"weak__weight": 2.0, "weak__every": 3, "weak__at": 4, "weak__size": 5}
    own_trainer(code, **changed, early__every=3, early__at=4, early__network="n").step(0)


def test_a_run_without_files_of_code_keeps_its_path_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """It once lost every place, as nothing is among no files: no later import of its process found anything."""
    places = list(sys.path)
    monkeypatch.setattr("sys.path", list(places))
    idea = {"kind": "term", "on": True, "reads": (), "networks": (), "weight": 1.0, "player": "discriminator"}
    run = SimpleNamespace(settings=SimpleNamespace(ideas={"mine": idea}), code_files=(), source={})
    monkeypatch.setattr("sys.meta_path", list(sys.meta_path))
    with contextlib.suppress(Exception):
        load_ideas(run)  # type: ignore[arg-type]
    assert sys.path == places
