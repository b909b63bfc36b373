"""Own code that is wrong where no line of it is under way, and right code that looks odd."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.ideas.load import IdeaError
from harness.ideas.syntax import _NAME, _OF_TORCH
from harness.training import checkpoint
from own_code import equal, own_trainer, reseed, run_with, trainer_of, whole_state
from runs import settings

AUGMENT = "@augment\nclass mine(nn.Module):\n    def forward(self, images, rng):\n        return "
TERM = '@term("generator")\ndef mine(step):\n    '
WRONG = {
    TERM + "return 0\nglobals().pop('mine')": "is None once its file has been imported",
    AUGMENT + "images.double()": "gave images of torch.float64 on cpu; it was given torch.float32 on cpu",
    AUGMENT + "images.detach()": "without a gradient",
    AUGMENT + "images\n    def after(self):\n        pass": r"TypeError: .*after\(\) takes 1 positional argument",
    TERM + 'return step.logit("x").mean().detach()': "does not depend on any weight of its player",
    TERM + 'step.images["x"].mul_(0.5)\n    return step.logit("x").mean()': r"changes in place .*\.clone\(\)",
    TERM + 'step.h.zero_()\n    return step.logit("x").mean()': r"changes in place .*\.clone\(\)",
    '@adversarial\ndef mine(player, logits):\n    return logits["x"].neg_().mean()': "changes in place",
    '@penalty("discriminator")\ndef mine(step):\n    return step.leaf(step.real).square().mean()': "no gradient",
    'def plain(f):\n    return lambda: f\n@term("generator")\n@plain\ndef mine(step): ...': "TypeError: .*argument",
    '@term("generator")\nclass mine(nn.Module):\n    pass': "NotImplementedError: .*missing the required",
    '@layer("generator", at=8)\nclass mine(nn.Module):\n    def __init__(self, channels):\n'
    "        super().__init__()\n        self.lazy = nn.LazyConv2d(8, 1)": "lazy.weight has no shape yet",
}
"""Code that is wrong where no line of it is under way -> what is said of it, behind its place."""


@pytest.mark.parametrize("code", WRONG, ids=range(len(WRONG)))
def test_an_idea_that_gives_or_does_what_it_may_not_is_told_with_its_place(code: str) -> None:
    with pytest.raises(IdeaError, match=rf"^mine\.py:\d+: mine: .*{WRONG[code]}"):
        own_trainer(code, settings(pl_weight=0)).step(0)


@pytest.mark.parametrize(
    "call", ["torch.set_default_dtype(torch.float64)", "os.chdir('/')", "torch.set_grad_enabled(0)"]
)
@pytest.mark.parametrize("when", ["import", "step"])
def test_what_is_set_for_the_whole_process_is_told(call: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(".")  # which is gone back to
    code = f"import os\n{call if when == 'import' else ''}\n{TERM}value = step.logit('x').mean()\n"
    code += f"    {call if when == 'step' else ''}\n    return value"
    try:
        with pytest.raises(IdeaError, match=call.partition("(")[0]):
            own_trainer(code, settings(pl_weight=0)).step(0)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)


def test_what_a_module_draws_at_its_import_is_of_the_runs_seed() -> None:
    """Whatever was imported before it, and a module that it imports draws by itself."""
    code = 'import numpy\nW = torch.randn(8) * numpy.random.rand()\n@term("generator")\ndef mine(step):\n'
    code += '    return (W * step.images["x"].mean()).sum()'
    losses = []
    for seed, stream in ((0, 1), (0, 2), (1, 1)):
        reseed(stream)
        run = replace(run_with(code, settings()), seed=seed)
        losses.append(trainer_of(run).step(0)["generator/mine"].item())
    assert losses[0] == losses[1] != losses[2]


def test_tied_weights_of_own_code_are_saved_and_stay_tied(tmp_path: Path) -> None:
    code = """
@layer("generator", at=8)
class tied(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.one, self.other = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.other.weight = self.one.weight
    def forward(self, x):
        return self.other(self.one(x))
"""
    whole = own_trainer(code)
    whole.step(0)
    checkpoint.save(whole, tmp_path, 1, "run")
    resumed = own_trainer(code)
    assert checkpoint.restore(resumed, tmp_path, "run") == 1
    for trainer in (whole, resumed):
        trainer.step(1)
    assert equal(whole_state(whole), whole_state(resumed))
    tied = resumed.networks.generator.blocks[1]
    (one, other) = (
        value
        for name, value in tied.named_parameters(remove_duplicate=False)
        if name.endswith((".one.weight", ".other.weight"))
    )
    assert one is other


def test_names_that_a_module_would_hide_are_those_of_this_torch() -> None:
    names = {name for name in dir(nn.ModuleDict()) if _NAME.fullmatch(name)}
    assert names <= _OF_TORCH
