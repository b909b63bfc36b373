"""Trainers with ideas of a study's own code, for tests of what such code does in networks and steps."""

from __future__ import annotations

import ast
import random
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.ideas.load import OwnIdeas, load_ideas
from harness.ideas.syntax import FileReader
from harness.models.build import Networks, Shapes, build
from harness.models.objective import Kind
from harness.rng import torch_generator
from harness.runs.record import Run
from harness.settings import Settings
from harness.training.trainer import Trainer
from runs import Counted, F, R, S, corpus, settings

HEAD = """
import torch
from torch import nn
from torch.nn.functional import relu, softplus
from harness.ideas import Network, adversarial, augment, discriminator, layer, penalty, term
"""


def run_with(code: str, base: Settings, **changed: Any) -> Run:
    """A run of every idea in the code, with its defaults but for `NAME__SETTING=value`."""
    source = HEAD + code
    reader = FileReader(ast.parse(source), "mine.py", "mine.py")
    reader.read()
    assert reader.problems == []
    ideas = {name: idea.in_run({**idea.settings, "on": True}) for name, idea in reader.ideas.items()}
    for path, value in changed.items():
        name, _, key = path.partition("__")
        ideas[name][key] = value
    prints = {"data": "d", "code.mine.py": "c"}
    return Run("0" * 12, "s", "c", 0, (), replace(base, ideas=ideas), prints, source={"mine.py": source})


def own_trainer(code: str, base: Settings | None = None, seed: int = 0, **changed: Any) -> Trainer:
    """A trainer of that run on random images; `changed` as in `run_with`."""
    return trainer_of(run_with(code, base or settings(), **changed), seed)


def trainer_of(run: Run, seed: int = 0) -> Trainer:
    """At step 0, on random images."""
    ideas = load_ideas(run)
    guides: dict[Kind, Counted] = {"f_c": Counted(F), "f_res": Counted(S)}
    return Trainer(run.settings, networks_of(run, ideas, seed), corpus(), guides, seed, ideas)


def networks_of(run: Run, ideas: OwnIdeas, seed: int = 0) -> Networks:
    """With their first weights."""
    with ideas.explained("building the networks"):
        return build(run.settings, Shapes(R, F), lambda name: torch_generator(seed, f"init {name}"), ideas.modules())


def state(networks: Networks) -> dict[str, Tensor]:
    """network/name -> all that is in it."""
    return {
        f"{network}/{name}": tensor
        for network, module in vars(networks).items()
        for name, tensor in module.state_dict().items()
    }


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def reseed(seed: int) -> None:
    """The global streams, which differ between processes."""
    torch.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)


def whole_state(trainer: Trainer) -> dict[str, Tensor]:
    """Networks, ideas and the moments of Adam."""
    adam = {
        f"{player}/{index}/{key}": value
        for player, optimizer in trainer.optimizers.items()
        for index, moments in optimizer.state_dict()["state"].items()
        for key, value in moments.items()
    }
    return {name: value.clone() for name, value in (state(trainer.networks) | adam).items()}
