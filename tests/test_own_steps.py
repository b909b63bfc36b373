"""What ideas of a study's own code do in a training step: a built-in formula through them gives the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from harness.errors import Diverged
from harness.ideas.load import IdeaError
from harness.models.objective import default_weights
from harness.scheduler.failures import of_error
from harness.training import checkpoint
from harness.training.trainer import Trainer
from own_code import own_trainer
from runs import settings, trainer, weights

STEPS = 5


def after_steps(subject: Trainer, first: int = 0, last: int = STEPS) -> torch.Tensor:
    """All weights after these steps."""
    for step in range(first, last):
        subject.step(step)
    return torch.cat([weights(network) for network in vars(subject.networks).values()])


def test_a_built_in_term_through_the_public_mechanism_gives_the_same_bits() -> None:
    code = """
@term("generator", weight=4.0)
def mine(step):
    return step.contrast(step.feature("f_img", "x"), step.feature("f_img", "r"))
"""
    assert after_steps(own_trainer(code)).equal(after_steps(trainer(settings("img_img_loss"))))
    assert not after_steps(own_trainer(code, mine__weight=3.9)).equal(after_steps(trainer(settings("img_img_loss"))))


def test_a_built_in_term_on_frozen_features_gives_the_same_bits() -> None:
    code = """
@term("generator", weight=4.0, reads=("f_res",))
def mine(step):
    return step.contrast(step.feature("f_res", "x"), step.feature("f_res", "r"))
"""
    only = settings("resnet_guided")
    only_weights = default_weights()
    only_weights["generator"]["iiv_d"] = only_weights["discriminator"]["iivd"] = 0.0
    only = replace(only, loss=replace(only.loss, weights=only_weights))
    assert after_steps(own_trainer(code)).equal(after_steps(trainer(only)))


def test_the_logistic_loss_as_an_own_one_gives_the_same_bits() -> None:
    code = """
@adversarial
def mine(player, logits):
    if player == "generator":
        return torch.stack([softplus(-logits["x"]).mean()]).sum()
    return softplus(-logits["r"]).mean() + torch.stack([softplus(logits["x"]).mean()]).sum()
"""
    assert after_steps(own_trainer(code)).equal(after_steps(trainer(settings())))


def test_r1_as_an_own_penalty_gives_the_same_bits() -> None:
    code = """
@penalty("discriminator", weight=5.0, every=2)
def mine(step):
    real = step.leaf(step.real)
    (gradient,) = torch.autograd.grad(step.logit(real).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
"""
    built_in = trainer(settings(r1_gamma=10.0, r1_interval=2))
    assert after_steps(own_trainer(code, settings(r1_gamma=0.0))).equal(after_steps(built_in))
    taken = [sorted(own_trainer(code, settings(r1_gamma=0.0)).step(step)) for step in range(3)]
    assert [("discriminator/mine" in names) for names in taken] == [True, False, True]


def test_all_penalties_share_the_correction_of_adam() -> None:
    """StyleGAN2's 1 / (1 + 1/interval), were the steps of all regularisers counted: 1 / (1 + 1/2 + 1/4)."""
    code = """
@penalty("discriminator", every=4)
def mine(step):
    return step.logit(step.real).square().mean()
"""
    subject = own_trainer(code, settings(r1_gamma=10.0, r1_interval=2, lr=0.0021))
    (group,) = subject.optimizers["discriminator"].param_groups
    assert group["lr"] == pytest.approx(0.0021 * 4 / 7, rel=1e-12)
    assert group["betas"][1] == pytest.approx(0.99 ** (4 / 7), rel=1e-12)


def test_what_d_sees_is_augmented_for_both_players_and_in_r1() -> None:
    code = """
SEEN = []
@augment
def mine(images, rng):
    SEEN.append((len(images), float(torch.rand((), generator=rng))))
    return -images
"""
    subject = own_trainer(code, settings(r1_gamma=10.0, r1_interval=1))
    seen: list[tuple[int, float]] = []
    subject.networks.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    subject.step(0)
    module = subject.own._calls["mine"].func.__globals__
    assert [count for count, _ in module["SEEN"]] == [8, 4, 4] == seen  # r and x, R1, x
    assert len({draw for _, draw in module["SEEN"]}) == 3, "each has random numbers of its own"
    again = own_trainer(code, settings(r1_gamma=10.0, r1_interval=1))
    again.step(0)
    assert again.own._calls["mine"].func.__globals__["SEEN"] == module["SEEN"]


def test_logits_of_real_images_are_there_for_the_generator_and_no_gradient_flows_through_them() -> None:
    code = """
@adversarial
def mine(player, logits):
    sign = 1 if player == "discriminator" else -1
    assert logits["r"].requires_grad == (player == "discriminator")
    return softplus(-sign * (logits["r"] - logits["x"])).mean()
"""
    assert torch.isfinite(after_steps(own_trainer(code))).all()


def test_a_penalty_may_read_generated_images() -> None:
    code = """
@penalty("discriminator", weight=1.0)
def mine(step):
    fake = step.leaf(step.images["x"])
    (gradient,) = torch.autograd.grad(step.logit(fake).sum(), fake, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()
"""
    subject = own_trainer(code)
    before = weights(subject.networks.generator)
    phase = next(phase for phase in subject.phases if phase.name == "mine")
    assert float(phase.take(subject.batch(0), 0)["discriminator/mine"]) > 0
    assert weights(subject.networks.generator).equal(before)
    assert not any(p.grad is not None for p in subject.networks.generator.parameters())


STATEFUL = """
import random
import numpy as np

@augment
class mine(nn.Module):
    def __init__(self, *, target: float = 0.6):
        super().__init__()
        self.target = target
        self.register_buffer("p", torch.zeros(()))
    def forward(self, images, rng):
        return images + self.p * torch.randn(images.shape, generator=rng)
    def after(self, step):
        self.p += 0.01 * (step.logit("r").sign().mean() - self.target)

@layer("generator", at=8)
class dropped(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels)
    def forward(self, x):
        return x + nn.functional.dropout(self.norm(self.conv(x)), 0.5, self.training)

@term("discriminator", weight=0.1)
class learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 1)
    def forward(self, step):
        noise = random.random() + np.random.rand()
        return (self.linear(step.feature("f_img", "r")) - noise).square().mean()
"""


@pytest.mark.parametrize("stop", [1, 3])
def test_state_of_ideas_dropout_and_global_random_numbers_resume_to_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole = own_trainer(STATEFUL)
    for step in range(stop):
        whole.step(step)
    checkpoint.save(whole, tmp_path, stop, "run")
    ended = after_steps(whole, stop)
    resumed = own_trainer(STATEFUL)
    torch.manual_seed(99)
    assert checkpoint.restore(resumed, tmp_path, "run") == stop
    assert after_steps(resumed, stop).equal(ended)
    p = whole.networks.state()["ideas/nobody.mine.module.p"]
    assert p != 0
    assert p.equal(resumed.networks.state()["ideas/nobody.mine.module.p"])
    assert whole.networks.state()["averaged/blocks.1.own.dropped.module.norm.running_mean"].any()


def test_the_weights_of_an_idea_are_trained_by_its_player_alone() -> None:
    subject = own_trainer(STATEFUL)
    before = {name: value.clone() for name, value in subject.networks.state().items() if "learned" in name}
    subject.g_step(subject.batch(0), 0)
    assert all(value.equal(before[name]) for name, value in subject.networks.state().items() if "learned" in name)
    subject.d_step(subject.batch(0), 0)
    assert not any(value.equal(before[name]) for name, value in subject.networks.state().items() if "learned" in name)


WRONG = {
    "a term that gives no scalar": ('@term("generator")\ndef mine(step):\n    return step.h', "gave a tensor of shape"),
    "a term that gives a number": ('@term("generator")\ndef mine(step):\n    return 1.0', "gave float"),
    "a term that gives nothing": ('@term("generator")\ndef mine(step):\n    step.h', "gave NoneType"),
    "an augment of another shape": ("@augment\ndef mine(images, rng):\n    return images[:1]", "of the same shape"),
    "a layer of another shape": (
        '@layer("generator", at=8)\nclass mine(nn.Module):\n    def __init__(self, channels):\n'
        "        super().__init__()\n    def forward(self, x):\n        return x[:, :1]",
        "a layer gives the shape of its x",
    ),
    "a discriminator of one output": (
        "@discriminator\nclass mine(nn.Module):\n    def __init__(self, resolution, text_dim):\n"
        "        super().__init__()\n        self.w = nn.Parameter(torch.ones(()))\n"
        "    def forward(self, images):\n        return self.w * images.mean((1, 2, 3))",
        "gives b, f_img, f_txt of shapes [4], [4, 8], [4, 8]",
    ),
    "a discriminator without weights": (
        "@discriminator\nclass mine(nn.Module):\n    def __init__(self, resolution, text_dim):\n"
        "        super().__init__()\n    def forward(self, images):\n        return images.mean((1, 2, 3))",
        "has no weights that are trained",
    ),
    "an error of its own": ('@term("generator")\ndef mine(step):\n    return step.h @ step.h', "RuntimeError"),
    "a feature that it does not say": (
        '@term("generator")\ndef mine(step):\n    return step.feature("f_dino", "x").mean()',
        'the idea has to say reads=("f_dino",)',
    ),
    "no second derivative": (
        '@layer("discriminator", at=8)\nclass mine(nn.Module):\n    def __init__(self, channels):\n'
        "        super().__init__()\n    def forward(self, x):\n"
        "        q = x.flatten(2).transpose(1, 2)[:, None]\n"
        "        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):\n"
        "            y = torch.nn.functional.scaled_dot_product_attention(q, q, q)\n"
        "        return x + y[:, 0].transpose(1, 2).reshape(x.shape)",
        "second derivative",
    ),
    "an adversarial loss without a gradient": (
        '@adversarial\ndef mine(player, logits):\n    return logits["x"].detach().mean()',
        "so it has no gradient",
    ),
    "an augment with weights": (
        "@augment\nclass mine(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.w = nn.Parameter(torch.ones(2))\n    def forward(self, images, rng):\n        return images",
        "register them as buffers",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_own_code_does_wrong_is_told_with_its_place(case: str) -> None:
    code, words = WRONG[case]
    with pytest.raises(IdeaError) as error:
        subject = own_trainer(code, settings(r1_gamma=1.0, r1_interval=1))
        subject.step(0)
    assert words in str(error.value), error.value
    assert "mine.py:" in str(error.value)
    assert "mine" in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        'torch.OutOfMemoryError("CUDA out of memory")',
        "MemoryError()",
        'RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can\'t allocate memory")',
        'RuntimeError("CUDA error: an illegal memory access was encountered")',
        'OSError(28, "No space left on device")',
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_idea(error: str) -> None:
    """So that the grid does with it what it does with a built-in run's."""
    code = f'@term("generator")\ndef mine(step):\n    raise {error}'
    with pytest.raises(Exception, match=r"memory|space|^$") as raised:
        own_trainer(code).step(0)
    assert not isinstance(raised.value, IdeaError)
    assert of_error(raised.value) in ("out_of_memory", "device", "storage")


def test_out_of_memory_and_divergence_stay_what_they_are() -> None:
    full = '@term("generator")\ndef mine(step):\n    raise torch.OutOfMemoryError("out of memory")'
    with pytest.raises(torch.OutOfMemoryError):
        own_trainer(full).step(0)
    with pytest.raises(Diverged, match="generator's loss is nan"):
        own_trainer('@term("generator")\ndef mine(step):\n    return step.images["x"].mean() / 0 * 0').step(0)
