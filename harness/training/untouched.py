"""On trial, own code is held to what a training step has no time to look at, after each of its calls.

What it is given stays as it is, as others read it after it: neither written to in place, which `_version` counts, nor
round that by `.data` or `.numpy()`, which only the contents show. What it gives is made by weights that are trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from harness.ideas.step import Step
from harness.models.discriminator import Judgement
from harness.models.objective import Image
from harness.models.own_layers import WrongReturn
from harness.training.kept import own_modules, refuse_unregistered, trained_ids
from harness.training.trainer import Trainer


def hold(trainer: Trainer) -> None:
    """From here on raises WrongReturn, by the idea's name."""
    with trainer.own.ideas.explained("building the networks"):
        refuse_unregistered(trainer.own.ideas, trainer.networks)
    watch, kinds = _Watch(trained_ids(trainer.networks)), {each.name: each.kind for each in trainer.own.ideas.ideas}
    calls = trainer.own._calls
    for name, module in own_modules(trainer.networks):
        module.forward = watch.held(name, kinds[name], module.forward)
        if hasattr(module.module, "after"):
            module.module.after = watch.held(name, "after", module.module.after)
    for name, call in calls.items():
        if not isinstance(call, nn.Module):
            calls[name] = watch.held(name, kinds[name], call)


class _Given(NamedTuple):
    """A tensor, and how it was."""

    tensor: Tensor
    version: int
    content: Tensor

    @property
    def is_changed(self) -> bool:
        return self.tensor._version != self.version or not torch.equal(_bytes(self.tensor), self.content)


class _Seen:
    """A step as own code sees it: all that others read of it, from the moment on that it is there."""

    def __init__(self, step: Step) -> None:
        self.step, self.given = step, dict[int, _Given]()
        judge, feature = step.judge, step.feature

        def judged(image: Image | Tensor) -> Judgement:
            it = judge(image)
            if isinstance(image, str):  # others get the same one
                self._note(*it)
            return it

        def read(kind: str, image: Image | None = None) -> Tensor:
            return self._note(feature(kind, image))

        vars(step).update(images=_Images(step.images, self._note), judge=judged, feature=read)
        self._note(step.h, step.pseudo, *step.features.values())
        self.attributes, self.features = dict(vars(step)), dict(step.features)

    def _note(self, *tensors: Tensor) -> Tensor:
        for each in tensors:
            self.given.setdefault(id(each), _given(each))
        return tensors[0]

    def set_anew(self) -> str:
        """The name of an attribute that is not what it was; empty if all are."""
        step, now = self.step, self.step.features
        names = sorted(vars(step).keys() | self.attributes.keys())
        replaced = [name for name in names if vars(step).get(name) is not self.attributes.get(name)]
        if any(now.get(kind) is not value for kind, value in self.features.items()):
            replaced.append("features")
        if any(id(value) not in self.given for value in now.values()):
            replaced.append("features")
        self.features = dict(now)
        return replaced[0] if replaced else ""


class _Images(Mapping[Image, Tensor]):
    """A step's images, each noted when it is read."""

    def __init__(self, images: Mapping[Image, Tensor], note: Callable[[Tensor], Tensor]) -> None:
        self._images, self._note = images, note

    def __getitem__(self, image: Image) -> Tensor:
        return self._note(self._images[image])

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


class _Watch:
    """Around calls of own code; one step is under way at a time."""

    def __init__(self, trained: set[int]) -> None:
        self._trained = trained
        self._seen: _Seen | None = None

    def held(self, idea: str, kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, looked at when it has ended; `kind` is that of the idea, or "after"."""

        def watched(*arguments: Any) -> Any:
            given, seen = self._given(kind, arguments)
            gave = call(*arguments)
            if any(each.is_changed for each in (*given, *(seen.given.values() if seen else ()))):
                problem = "changes in place what it is given, which is read after it as well"
                raise WrongReturn(idea, f"{problem}: let it work on a copy, .clone()")
            if seen and (name := seen.set_anew()):
                problem = f"sets step.{name}, which other ideas read as well"
                raise WrongReturn(idea, f"{problem}: give what it computes a name of its own")
            every = gave if isinstance(gave, tuple | list) else [gave]
            outputs = [each for each in every if isinstance(each, Tensor)]
            if any(id(each) not in self._trained for each in _weights_behind(outputs)):
                problem = "computes with weights that no module registers, so that they are never trained"
                fix = "make them in __init__, as attributes or in an nn.ModuleList or nn.ParameterList"
                raise WrongReturn(idea, f"{problem}: {fix}, or freeze them with .requires_grad_(False)")
            if kind in ("layer", "discriminator"):
                _refuse_other_kind(idea, kind, arguments[0], outputs)
            return gave

        return watched

    def _given(self, kind: str, arguments: tuple[Any, ...]) -> tuple[list[_Given], _Seen | None]:
        """What of the arguments is there for others too, and the step among them."""
        if kind in ("augment", "discriminator"):
            return [], None  # a copy that nobody reads again
        given = [_given(each) for each in arguments if isinstance(each, Tensor)]
        for each in arguments:
            if isinstance(each, Mapping):  # the logits of an adversarial loss
                given += map(_given, each.values())
            step = getattr(each, "_step", each)
            if isinstance(step, Step) and (self._seen is None or self._seen.step is not step):
                self._seen = _Seen(step)
        return given, None if kind == "layer" else self._seen


def _given(tensor: Tensor) -> _Given:
    return _Given(tensor, tensor._version, _bytes(tensor).clone())


def _bytes(tensor: Tensor) -> Tensor:
    """By which a NaN is what it was."""
    return tensor.detach().flatten().view(torch.uint8)


def _weights_behind(outputs: list[Tensor]) -> Iterator[nn.Parameter]:
    """The parameters with a gradient from which these were computed."""
    waiting, seen = [each.grad_fn for each in outputs], set[object]()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            if isinstance(weights := getattr(node, "variable", None), nn.Parameter):
                yield weights
            waiting += [each for each, _ in node.next_functions]


def _refuse_other_kind(idea: str, kind: str, given: Tensor, outputs: list[Tensor]) -> None:
    """Raises WrongReturn where what follows could not compute with it. A layer's dtype is put right behind it."""
    for each in outputs:
        if each.device != given.device or (kind == "discriminator" and each.dtype != given.dtype):
            gave, wanted = (f"{one.dtype} on {one.device}" for one in (each, given))
            raise WrongReturn(idea, f"gave a tensor of {gave}; it was given one of {wanted}: write .to(images)")
