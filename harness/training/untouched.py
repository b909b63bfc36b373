"""On trial, own layers and `after` are held to leave what they are given as it is, as others read it after them.

A term, penalty or adversarial loss is held to it in every step; these two alone here, as a training step has no time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from harness.ideas.step import Step
from harness.models.own_layers import OwnLayers, WrongReturn
from harness.training.trainer import Trainer

_FIX = "let it work on a copy, .clone()"


def hold(trainer: Trainer) -> None:
    """From here on raises WrongReturn, by the idea's name, where one of them changes in place what it is given."""
    for network in (trainer.networks.generator, trainer.networks.discriminator):
        for layers in (each for each in network.modules() if isinstance(each, OwnLayers)):
            for name, layer in layers.items():
                # Of x itself torch says so in the generator's step.
                layer.forward = _held(name, layer.forward, "it reads", _behind_x)
    for own in trainer.networks.ideas.children():
        for name, idea in own.named_children():
            module: Any = idea.module
            if hasattr(module, "after"):
                module.after = _held(name, module.after, "`after` is given", Step.given)


def _behind_x(x: Tensor, *read: Tensor) -> list[Tensor]:
    return [*read]


def _held(idea: str, call: Callable[..., Any], what: str, given: Callable[..., list[Tensor]]) -> Callable[..., Any]:
    """`call`, which may not change the tensors that `given` finds in its arguments."""

    def watched(*arguments: Any) -> Any:
        tensors = given(*arguments)
        versions = [each._version for each in tensors]
        gave = call(*arguments)
        if versions != [each._version for each in tensors]:
            raise WrongReturn(idea, f"changes in place what {what}, which is read after it as well: {_FIX}")
        return gave

    return watched
