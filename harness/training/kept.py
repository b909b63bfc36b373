"""What a study's own code keeps where no parameter and no buffer has it: globals, plain attributes, closures."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import IOBase
from itertools import chain
from types import FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.ideas.imports import module_name
from harness.ideas.load import OwnIdeas
from harness.models.build import Networks
from harness.models.discriminator import OwnDiscriminator
from harness.models.own_layers import OwnLayers, WrongReturn

Moment = dict[str, object]
"""Place -> what it held then."""
_PLAIN = (int, float, complex, str, bytes, type(None), Tensor, np.ndarray, np.generic)
_OF_TORCH = frozenset(vars(nn.Module()))


def own_modules(networks: Networks) -> Iterator[tuple[str, Any]]:
    """Idea -> the `Foreign` around its module, in the networks that are trained and beside them."""
    for network in (networks.generator, networks.discriminator):
        for layers in (each for each in network.modules() if isinstance(each, OwnLayers)):
            yield from layers.items()
    for ideas in networks.ideas.children():
        yield from ideas.named_children()
    if isinstance(networks.discriminator, OwnDiscriminator):
        yield networks.discriminator.name, networks.discriminator.module


def refuse_unregistered(ideas: OwnIdeas, networks: Networks) -> None:
    """Raises WrongReturn where an own module holds weights that no Adam moves, though they ask for a gradient."""
    registered = trained_ids(networks)
    for idea, foreign in own_modules(networks):
        walk = _Walk(ideas)
        walk.through(idea, foreign.module)
        for place, value in walk.found.items():
            weights = value.parameters() if isinstance(value, nn.Module) else [value]
            asking = (each for each in weights if isinstance(each, nn.Parameter) and each.requires_grad)
            if any(id(each) not in registered for each in asking):
                problem = f"{place} is registered by no module, so that its weights are never trained nor saved"
                fix = "hold it in an nn.ModuleList, nn.ModuleDict or nn.ParameterList"
                raise WrongReturn(idea, f"{problem}: {fix}, or freeze it with .requires_grad_(False)")


def trained_ids(networks: Networks) -> set[int]:
    """Of every parameter that a network or an idea has registered."""
    return {id(each) for each in chain(*(network.parameters() for network in vars(networks).values()))}


def iterators(ideas: OwnIdeas, networks: Networks) -> list[str]:
    """Where own code keeps one: how far it has come cannot be seen."""
    return [place for place, value in _all(ideas, networks).items() if isinstance(value, Iterator)]


def moment(ideas: OwnIdeas, networks: Networks) -> Moment:
    """All that is plain in what own code keeps, as it is now."""
    return {place: _still(value) for place, value in _all(ideas, networks).items() if isinstance(value, _PLAIN)}


def moved(before: Moment, after: Moment, resumed: Moment, alike: Callable[[Tensor, Tensor], bool]) -> list[str]:
    """The places that a step has changed, and that a run has otherwise which was stopped before it.

    What is kept for the rest of the step alone is the same in both. An entry that one of them lacks is taken for one
    of a cache.
    """

    def differ(one: object, other: object) -> bool:
        if isinstance(one, Tensor) and isinstance(other, Tensor):
            return (one.shape, one.dtype) != (other.shape, other.dtype) or not alike(one, other)
        if isinstance(one, float) and isinstance(other, float):
            numbers = (torch.tensor(each, dtype=torch.float64) for each in (one, other))
            return one != other and not alike(*numbers)  # as NaN may be, or the sums of a GPU
        return type(one) is not type(other) or one != other

    places = before.keys() & after.keys() & resumed.keys()
    return sorted(at for at in places if differ(before[at], after[at]) and differ(after[at], resumed[at]))


def _all(ideas: OwnIdeas, networks: Networks) -> Mapping[str, object]:
    walk = _Walk(ideas)
    for file in ideas.source:
        if module := sys.modules.get(module_name(file)):
            for name, value in vars(module).items():
                if not name.startswith("__"):
                    walk.take(f"{file}: {name}", value)
    for idea, foreign in own_modules(networks):
        walk.through(idea, foreign.module)
        saved = foreign.state_dict()
        for name, buffer in foreign.named_buffers():
            if name not in saved:
                walk.take(f"{idea}.{name.removeprefix('module.')}", buffer)
    return walk.found


def _still(value: object) -> object:
    """A copy that can be compared with one of later on."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return torch.from_numpy(value.astype(np.float64))
    if isinstance(value, np.ndarray):
        return None if value.dtype.hasobject else (value.dtype, value.shape, value.tobytes())
    if isinstance(value, Tensor):
        is_plain = value.layout is torch.strided and not value.is_meta
        return value.detach().to("cpu", copy=True) if is_plain else repr(value)
    return value


class _Walk:
    """Takes apart what own code keeps; what is of other libraries stays whole."""

    def __init__(self, ideas: OwnIdeas) -> None:
        self._files, self._modules = ideas.source.keys(), set(map(module_name, ideas.source))
        self._seen = dict[int, object]()  # which holds on to all of it, so that no number is given twice
        self.found = dict[str, object]()

    def through(self, idea: str, module: nn.Module) -> None:
        """The attributes of an idea's module and of those in it."""
        for name, each in module.named_modules(prefix=idea):
            self._seen[id(each)] = each
            for part, value in self._parts(each):
                self.take(f"{name}{part}", value)

    def take(self, place: str, value: object) -> None:
        """The value, or what is in it."""
        if isinstance(value, _PLAIN):
            self.found[place] = value
        elif id(value) not in self._seen:
            self._seen[id(value)] = value
            if isinstance(value, nn.Module | Iterator) and not isinstance(value, IOBase):
                self.found[place] = value
            for part, each in self._parts(value):
                self.take(f"{place}{part}", each)

    def _parts(self, value: object) -> Iterable[tuple[str, object]]:
        if isinstance(value, dict):
            return [(f"[{key!r}]", each) for key, each in value.items()]
        if isinstance(value, set | frozenset):
            value = sorted(value, key=repr)
        if isinstance(value, list | tuple | deque):
            return [(": its length", len(value)), *((f"[{place}]", each) for place, each in enumerate(value))]
        if isinstance(value, FunctionType) and value.__code__.co_filename in self._files:
            names, cells = value.__code__.co_freevars, value.__closure__ or ()
            inner = {f".{name}": _content(cell) for name, cell in zip(names, cells, strict=True)}
            return [
                *inner.items(),
                *((f".{name}", each) for name, each in vars(value).items()),
                ("", value.__defaults__),
                ("", value.__kwdefaults__),
            ]
        of = value if isinstance(value, type) else type(value)
        if of.__module__ in self._modules and hasattr(value, "__dict__"):
            return [
                (f".{name}", each)
                for name, each in vars(value).items()
                if not name.startswith("__") and not (isinstance(value, nn.Module) and name in _OF_TORCH)
            ]
        return _state_of_draws(value)


def _content(cell: object) -> object:
    try:
        return cell.cell_contents  # type: ignore[attr-defined]
    except ValueError:
        return None  # nothing is in it yet


def _state_of_draws(value: object) -> Iterable[tuple[str, object]]:
    if isinstance(value, random.Random):
        return [("", value.getstate())]
    if isinstance(value, np.random.Generator):
        return [("", value.bit_generator.state)]
    if isinstance(value, np.random.RandomState):
        return [("", value.get_state())]
    return [("", value.get_state())] if isinstance(value, torch.Generator) else []
