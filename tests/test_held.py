"""What own code is held to by the trial alone: leave what others read, have trained weights, keep no state."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

from harness.ideas.load import IdeaError
from harness.training import checkpoint, kept, untouched
from harness.training.ranks import Ranks, unit_of
from harness.training.trainer import Trainer
from own_code import own_trainer
from runs import settings

LAYER = """
@layer("generator", at=8{})
class mine(nn.Module):
    def __init__(self, channels{}):
        super().__init__()
"""
OF_H, PLAIN = LAYER.format(', reads=("h",)', ", text_dim"), LAYER.format("", "")
TERM = '@term("{}")\ndef mine(step):\n    {}\n    return step.logit("x").mean()'
OWN_D = """
@discriminator
class mine(nn.Module):
    def __init__(self, resolution, text_dim):
        super().__init__()
        self.text = nn.Linear(3, text_dim)
    def forward(self, images):
        text = self.text(images.mean((2, 3)))
        return {}
"""
IN_PLACE = {
    "a feature it asks for first": TERM.format("generator", 'step.feature("f_txt", "r").add_(1)'),
    "a batch it reads first": TERM.format("discriminator", "step.real.mul_(0.5)"),
    "a penalty's own batch": '@penalty("discriminator")\ndef mine(step):\n    step.images["x"].data.mul_(0)\n'
    '    return step.logit("x").mean()',
    "data": TERM.format("generator", 'step.images["x"].data.clamp_(-0.01, 0.01)'),
    "numpy": TERM.format("generator", "step.real.numpy()[:] *= -1"),
    "what after is given": "@augment\nclass mine(nn.Module):\n    def forward(self, images, rng):\n"
    "        return images\n    def after(self, step):\n        step.h.data.neg_()",
    "logits": '@adversarial\ndef mine(player, logits):\n    logits["x"].data.neg_()\n    return logits["x"].mean()',
    "a judgement behind logits": '@adversarial\ndef mine(player, logits):\n    logits._step.judge("r").b.data.neg_()\n'
    '    return logits["x"].mean()',
    "the condition of a layer": f"{OF_H}    def forward(self, x, h):\n        h.data.zero_()\n        return x",
    "x of a layer": f"{PLAIN}    def forward(self, x):\n        x.data.mul_(0.5)\n        return x",
}
SET = {"h": "step.h = step.h.roll(1, 0)", "logit": "step.logit = step.logit"} | {
    "features": "step.features.update({key: value.clone() for key, value in step.features.items()})"
}
MADE = "conv = nn.Conv2d(x.shape[1], x.shape[1], 1)\n        return conv(x)"
WEIGHTS = {
    "a list": f"{PLAIN}        self.convs = [nn.Conv2d(channels, channels, 1)]\n"
    "    def forward(self, x):\n        return x",
    "an object": f"class Held:\n    pass\n{PLAIN}        self.held = Held()\n"
    "        self.held.parts = {'a': {nn.Parameter(torch.ones(3))}}\n    def forward(self, x):\n        return x",
    "each call": f"{PLAIN}    def forward(self, x):\n        {MADE}",
    "a global": f"W = nn.Linear(1, 1)\n{TERM.format('generator', 'return W(step.real.mean()[None]).sum()')}",
    "an augment": f"@augment\ndef mine(images, rng):\n        x = images\n        {MADE}",
}
TOLD = {
    "a list": "mine.convs[0] is registered by no module",
    "an object": "mine.held.parts['a'][0] is registered by no module",
    **dict.fromkeys(["each call", "a global", "an augment"], "computes with weights that no module registers"),
}


def on_trial(code: str, ranks: int = 1) -> Trainer:
    trainer = own_trainer(code, settings(pl_weight=0))
    trainer.ranks = Ranks(0, ranks, unit_of(trainer.settings), is_rehearsal=True)
    untouched.hold(trainer)
    return trainer


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", IN_PLACE)
def test_what_others_read_may_not_be_changed_in_any_way(case: str, ranks: int) -> None:
    with pytest.raises(IdeaError, match=r"^mine\.py:\d+: mine: changes in place what it is given.*\.clone\(\)"):
        on_trial(IN_PLACE[case], ranks).step(0)


@pytest.mark.parametrize("name", SET)
def test_a_step_that_others_see_keeps_its_attributes(name: str) -> None:
    with pytest.raises(IdeaError, match=rf"^mine\.py:\d+: mine: sets step\.{name}, which other ideas read"):
        on_trial(TERM.format("generator", SET[name])).step(0)


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_no_adam_moves_are_refused(case: str) -> None:
    with pytest.raises(
        IdeaError, match=rf"^mine\.py:\d+: mine: {re.escape(TOLD[case])}.*ParameterList.*requires_grad_"
    ):
        on_trial(WEIGHTS[case]).step(0)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (OWN_D.format("text[:, 0], text, text.double()"), "gave a tensor of torch.float64 on cpu; it was given"),
        (OWN_D.format("text[:, 0].half(), text, text"), "gave a tensor of torch.float16 on cpu; it was given"),
        (f"{PLAIN}    def forward(self, x):\n        return x.to('meta')", "gave a tensor of torch.float32 on meta"),
    ],
)
def test_what_the_networks_go_on_with_is_of_their_kind(code: str, told: str) -> None:
    with pytest.raises(IdeaError, match=rf"^mine\.py:\d+: mine: {told}.*write \.to\(images\)"):
        on_trial(code).step(0)


RIGHT = """
FROZEN, CACHE = nn.Linear(3 * 8 * 8, 4).requires_grad_(False), {}

@augment
def shown(images, rng):
    return images.mul_(0.5).add_(torch.rand((), generator=rng))

@layer("generator", at=8)
class scaled(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.tied = [nn.Conv2d(channels, channels, 1)]
        self.conv, self.beside = self.tied[0], [FROZEN]
    def forward(self, x):
        return self.conv(x).mul_(0.5)

@term("generator")
def kept(step):
    step.judge(step.images["x"]).b.detach().clamp_(-1, 1)
    seen = CACHE.setdefault("net", FROZEN)(step.images["x"].flatten(1))
    return seen.square().mean() + step.feature("f_img", "x").square().mean()

@penalty("discriminator")
def slope(step):
    real = step.leaf(step.real)
    (slope,) = torch.autograd.grad(step.logit(real).sum(), real, create_graph=True)
    return slope.square().mean() + step.real.mean()
"""


def test_right_code_is_let_through() -> None:
    losses = on_trial(RIGHT).step(0)
    assert {"generator/kept", "discriminator/slope"} <= losses.keys()


STATE = """
import collections, functools, itertools, random, time
import numpy

CALLS, BEGAN, TABLE, SHAPES, COUNTS, ALL = 0, time.perf_counter(), {}, {}, {"n": 0}, collections.deque(maxlen=9)
MEAN, DRAWN, TURNS, SET = numpy.zeros(2), random.Random(0), itertools.cycle([1, 2]), numpy.random.default_rng(0)

def counter():
    count = [0.0]
    def more():
        count[0] += 0.5
    return more

@functools.cache
def table(n):
    return torch.arange(n)

class Past:
    every = 0

more, past = counter(), Past()

@term("generator")
class mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.average, self.last = torch.zeros(()), None
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("lost", torch.zeros(()), persistent=False)
    def forward(self, step):
        self.last = step.images["x"].detach()
        TABLE.setdefault("ones", table(3) + 1)
        SHAPES[step.number] = step.number * 2
        self.seen += 1
        {}
        return step.logit("x").mean()
"""
MOVES = {
    "global CALLS; CALLS += 1": "mine.py: CALLS",
    "COUNTS['n'] += 1": "mine.py: COUNTS['n']",
    "ALL.append(step.number)": "mine.py: ALL: its length",
    "MEAN.__iadd__(1.5)": "mine.py: MEAN",
    "DRAWN.random()": "mine.py: DRAWN",
    "SET.random()": "mine.py: SET",
    "more()": "mine.py: more.count[0]",
    "past.every += 1": "mine.py: past.every",
    "Past.every += 1": "mine.py: Past.every",
    "mine.calls = getattr(mine, 'calls', 0) + 1": "mine.py: mine.calls",
    "self.average = 0.9 * self.average + step.real.mean()": "mine.average",
    "self.lost += 1": "mine.lost",
}


def moved(code: str) -> list[str]:
    """In the second step, and otherwise where a run was stopped before it."""
    moments = []
    state = dict[str, torch.Tensor]()
    for is_resumed in (False, True):
        trainer = own_trainer(code, settings(pl_weight=0))
        if is_resumed:
            checkpoint.put(trainer, state)
        else:
            trainer.step(0)
            state = {name: value.clone() for name, value in checkpoint.state(trainer).items()}
        for step in (None, 1):
            if step:
                trainer.step(step)
            moments.append(kept.moment(trainer.own.ideas, trainer.networks))
    assert kept.iterators(trainer.own.ideas, trainer.networks) == ["mine.py: TURNS"]
    alike = partial(torch.allclose, rtol=0, atol=0, equal_nan=True)
    return kept.moved(moments[0], moments[1], moments[3], alike)


def test_what_lasts_from_step_to_step_and_is_in_no_checkpoint_is_found() -> None:
    assert moved(STATE.replace("{}\n        return", "pass\n        return")) == []
    code = STATE.replace("{}\n        return", "\n        ".join(MOVES) + "\n        return")
    found = moved(code)
    assert [place for place in MOVES.values() if not any(each.startswith(place) for each in found)] == []
    assert {each.partition("[")[0] for each in found} <= {place.partition("[")[0] for place in MOVES.values()}
