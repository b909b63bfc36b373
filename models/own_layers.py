"""Layers of a study's own code inside the built-in networks.

They draw their first weights as their constructors do, each from a stream named after its place, so that no built-in
layer starts otherwise beside them. They compute in the dtype of conditions and images, whatever the blocks use.

Shapes: N samples, C channels, H x W pixels of a feature map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from harness.models.objective import Player
from harness.models.ops import Foreign


class WrongReturn(TypeError):
    """A function or module of a study's own code gave what none of its kind may give."""

    def __init__(self, idea: str, problem: str) -> None:
        super().__init__(f"{idea}: {problem}")
        self.idea, self.problem = idea, problem

    def __reduce__(self) -> tuple[type[WrongReturn], tuple[str, str]]:
        return type(self), (self.idea, self.problem)


@contextmanager
def calling(idea: str) -> Iterator[None]:
    """Notes on an exception which idea was called: where a call does not reach its code, no line of it tells."""
    try:
        yield
    except Exception as error:
        error.own_idea = idea  # type: ignore[attr-defined]
        raise


@dataclass(frozen=True)
class OwnLayer:
    """A layer of a study's own code, and where it stands."""

    name: str
    network: Player
    at: int
    """H of the feature maps that it works on."""
    make: Callable[..., nn.Module]
    """Sizes -> the module: x [N,C,H,W], and what it reads, to the shape of x."""
    made_with: tuple[str, ...] = ("channels",)
    """The sizes that it is made with: "channels" C, "text_dim" F, "w_dim" W."""
    reads: tuple[str, ...] = ()
    """What it is given behind x: "h" [N,F], "w" [N,W], "h_tokens" [N,T,F]."""


class OwnLayers(nn.ModuleDict):
    """The own layers at one place, one after the other; most places have none."""

    def __init__(self, layers: Iterable[OwnLayer], **sizes: int) -> None:
        """`sizes`: by the names in `made_with` of the layers."""
        chosen = list(layers)
        super().__init__(
            {layer.name: Foreign(partial(layer.make, *(sizes[name] for name in layer.made_with))) for layer in chosen}
        )
        self.reads = {layer.name: layer.reads for layer in chosen}

    def forward(self, x: Tensor, given: Mapping[str, Tensor | None], dtype: torch.dtype, run: int = 0) -> Tensor:
        """x [N,C,H,W] of any dtype to the same; `run`: samples that are given at a time, 0: all."""
        for name, layer in self.items():
            inputs = [x.to(dtype), *(given[each] for each in self.reads[name])]
            parts = zip(*(torch.split(each, run or len(x)) for each in inputs if each is not None), strict=True)
            with calling(name):
                outputs = [self._checked(name, layer(*part), part[0]) for part in parts]
            x = (torch.cat(outputs) if len(outputs) > 1 else outputs[0]).to(x.dtype)
        return x

    @staticmethod
    def _checked(name: str, output: object, x: Tensor) -> Tensor:
        if not isinstance(output, Tensor) or output.shape != x.shape:
            raise WrongReturn(name, f"gave {described(output)}; a layer gives the shape of its x, {list(x.shape)}")
        return output


def described(value: object) -> str:
    """What it is, as a message says it."""
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else f"{type(value).__name__}"
