"""A run's own ideas in the run's process: imported from the text that the run carries, never from the disk."""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.parameter import is_lazy

from harness.errors import Diverged, HarnessError, MissingWeights
from harness.ideas import IdeaKind
from harness.ideas.forms import FORMS
from harness.ideas.imports import module_name
from harness.ideas.syntax import ideas_of
from harness.models import encoders
from harness.models.build import OwnModules
from harness.models.encoders.frozen import Clip, Resnet
from harness.models.encoders.load import load_clip, load_resnet
from harness.models.objective import Player
from harness.models.ops import Foreign
from harness.models.own_layers import OwnLayer, WrongReturn
from harness.rng import torch_generator
from harness.runs.record import Run
from harness.scheduler.failures import of_error

NOBODY = "nobody"
"""Stands for the player of what no Adam trains."""


class IdeaError(HarnessError):
    """The user's own code raised, or gave what no idea of its kind may give."""


@dataclass(frozen=True)
class ActiveIdea:
    """An idea that is on in a run."""

    name: str
    kind: IdeaKind
    player: Player | None
    function: Callable[..., Any]
    """The function or class, with its settings given but for those that name networks."""
    settings: Mapping[str, Any]
    """All entries, as in `Settings.ideas`."""
    networks: tuple[str, ...]
    """The settings among them that name networks for the constructor."""
    place: str
    """File and line of its definition."""

    @property
    def is_module(self) -> bool:
        return isinstance(cast(functools.partial[Any], self.function).func, type)

    @property
    def weight(self) -> float:
        return float(self.settings["weight"])

    @property
    def every(self) -> int:
        return int(self.settings["every"])


@dataclass(frozen=True)
class OwnIdeas:
    """The ideas that are on in a run, and the text that they come from; of most runs there are none."""

    ideas: tuple[ActiveIdea, ...] = ()
    source: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ideas)

    def of(self, kind: str, player: Player | None = None) -> list[ActiveIdea]:
        """Those of a kind, in the order of their names; of one player."""
        return [each for each in self.ideas if each.kind == kind and player in (None, each.player)]

    def modules(self) -> OwnModules:
        """What of them goes into the networks and beside them."""
        layers = []
        for each in self.of("layer"):
            at, reads = each.settings["at"], each.settings["reads"]
            made_with = FORMS["layer"].made_with(reads)
            layers.append(OwnLayer(each.name, cast(Player, each.player), at, _drawn(each), made_with, reads))
        whole = next(((each.name, _drawn(each)) for each in self.of("discriminator")), None)
        beside: dict[str, dict[str, Callable[[int], nn.Module]]] = {}
        for each in self.ideas:
            if each.is_module and each.kind not in ("layer", "discriminator"):
                beside.setdefault(each.player or NOBODY, {})[each.name] = _made_beside(each)
        return OwnModules(tuple(layers), whole, beside)

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Turns what own code raises into an IdeaError with its file and line; `what` was under way.

        What a machine lacks (memory, room on the disk, a device), diverging and our own errors stay what they are.
        """
        before = _of_the_process()
        try:
            yield
        except (Diverged, HarnessError):
            raise
        except (Exception, SystemExit) as error:
            if text := self._interference(before, what) or self._explanation(error, what):
                raise IdeaError(text) from error
            raise
        if text := self._interference(before, what):
            raise IdeaError(text)

    def _interference(self, before: Mapping[str, object], what: str) -> str:
        """What is said where own code has set something for the whole process; empty if it has not."""
        changed = [name for name, value in _of_the_process().items() if value != before[name]]
        if not changed:
            return ""
        problem = f"own code calls {changed[0]}, which changes it for all that the process does"
        return f"{what}: {problem}; leave it out, or take it back{self._named()}"

    def _explanation(self, error: BaseException, what: str) -> str:
        """Empty where the error is not of own code, as far as can be told."""
        if isinstance(error, WrongReturn):
            place = next((each.place for each in self.ideas if each.name == error.idea), error.idea)
            return f"{place}: {error}"
        if isinstance(error, Exception) and of_error(error) != "code":
            return ""  # of the machine: its memory, disk or device
        frames = [each for each in traceback.extract_tb(error.__traceback__) if each.filename in self.source]
        if frames:
            is_exit = isinstance(error, SystemExit)
            text = "ends the process, which own code may not: raise an error" if is_exit else _one_line(error)
            return f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].name}: {text}\n    {frames[-1].line}"
        called = getattr(error, "own_idea", "")
        if place := next((each.place for each in self.ideas if each.name == called), ""):
            return f"{place}: {called}: {_one_line(error)}"
        if self.ideas and any(word in str(error) for word in ("derivative", "grad")):
            # Of a backward pass, which has no frame of the code that it goes through.
            needs = "; its second derivative is needed by R1, path length and penalties"
            hint = needs if "derivative" in str(error) else ""
            return f"{what}: {_one_line(error)}{hint}{self._named()}"
        return ""

    def _named(self) -> str:
        ideas = ", ".join(f"{each.name} ({each.place})" for each in self.ideas)
        return f"; own ideas that are on: {ideas}" if ideas else ""


def load_ideas(run: Run) -> OwnIdeas:
    """The ideas that are on in a run, their modules imported. Raises IdeaError where the code cannot be imported."""
    chosen = {name: values for name, values in run.settings.ideas.items() if values["kind"] != "feature"}
    if not chosen:
        return OwnIdeas()
    _forget()
    # Were the study's folder on the path, code that the run does not carry would be imported from it.
    if run.code_files:
        sys.path[:] = [
            place for place in sys.path if not all((Path(place or ".") / file).is_file() for file in run.code_files)
        ]
    sys.meta_path.insert(0, _Texts(run.source, run.seed))
    for file, text in run.source.items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    blank, ideas = OwnIdeas((), run.source), []
    for idea in ideas_of(run.source, run.code_files):
        if idea.name in chosen:
            with blank.explained(f"importing {idea.file}"):
                function = getattr(importlib.import_module(module_name(idea.file)), idea.name, None)
            if not callable(function):
                problem = f"is {function!r} once its file has been imported, which changes the name"
                raise IdeaError(f"{idea.where}: {idea.name}: {problem}")
            values = chosen[idea.name]
            aside = {"on", "kind", "reads", "networks", *idea.networks, *FORMS[idea.kind].settings}
            own = {key: value for key, value in values.items() if key not in aside}
            call = functools.partial(function, **own)
            ideas.append(ActiveIdea(idea.name, idea.kind, idea.player, call, values, idea.networks, idea.where))
    return OwnIdeas(tuple(ideas), run.source)


def _forget() -> None:
    """Drops what an earlier run's text was imported as: a process may rehearse several runs."""
    for finder in [each for each in sys.meta_path if isinstance(each, _Texts)]:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if finder.has(name):
                del sys.modules[name]


def _of_the_process() -> dict[str, object]:
    """Call by which one part of a program changes all others -> what it has set."""
    try:
        folder = os.getcwd()
    except OSError:
        folder = ""  # it has been removed
    return {
        "torch.set_default_dtype": torch.get_default_dtype(),
        "torch.set_default_device": torch.get_default_device(),
        "torch.set_grad_enabled": torch.is_grad_enabled(),
        "os.chdir": folder,
    }


def seed_all(seed: int) -> None:
    """Every random stream that own code may draw from without being given one: torch's, NumPy's and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _drawn(idea: ActiveIdea) -> Callable[..., nn.Module]:
    """Its class, whose constructor draws from NumPy's and Python's streams as from torch's."""

    def make(*args: Any) -> nn.Module:
        seed = int(torch.randint(2**31, ()))
        # Each construction gets networks of its own, which it may take apart; loading them may draw.
        networks = {key: _network(idea.settings[key]) for key in idea.networks}
        seed_all(seed)
        module: nn.Module = idea.function(*args, **networks)
        if not isinstance(module, nn.Module):
            raise WrongReturn(idea.name, f"is a {type(module).__name__}; a {idea.kind} that is a class is an nn.Module")
        if lazy := next((name for name, each in module.named_parameters() if is_lazy(each)), ""):
            raise WrongReturn(idea.name, f"{lazy} has no shape yet; lazy layers cannot be used: give the size")
        if idea.player is None and idea.kind != "discriminator" and any(p.requires_grad for p in module.parameters()):
            problem = f"has parameters, and nobody trains those of an {idea.kind}; register them as buffers"
            raise WrongReturn(idea.name, problem)
        return module

    return make


def _made_beside(idea: ActiveIdea) -> Callable[[int], nn.Module]:
    """F -> its module. A constructor whose first parameter is `text_dim` is told F, one that it inherits too."""
    make = _drawn(idea)
    parameters = inspect.signature(cast(functools.partial[Any], idea.function).func).parameters.values()
    by_place = [each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    asks = FORMS[idea.kind].asks and tuple(by_place[:1]) == FORMS[idea.kind].asks
    return make if asks else lambda text_dim: make()


_GIVEN = "given_by_harness"
"""Attribute of the weights of networks that a constructor is given, which it may take apart."""


def _network(name: str) -> Clip | Resnet:
    """The frozen network of that name, on the CPU. Raises MissingWeights."""
    try:
        network = load_clip(name) if encoders.kind_of(name) == "clip" else load_resnet(name)
    except (ValueError, OSError) as error:
        raise MissingWeights(str(error)) from error
    for weights in network.parameters():
        setattr(weights, _GIVEN, True)
    return network


def fixed_weights(module: nn.Module) -> int:
    """How many first weights of own code are the same under every seed, as those that it has loaded by itself are.

    Of networks that constructors are given, and of constants, none count. Own modules are constructed twice more.
    """
    count = 0
    for foreign in (each for each in module.modules() if isinstance(each, Foreign)):
        made = []
        for seed in (1, 2):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                made.append(dict(foreign.make().named_parameters()))
        for name, weights in made[0].items():
            is_constant = bool((weights == weights.flatten()[:1]).all())
            if not is_constant and not hasattr(weights, _GIVEN) and torch.equal(weights, made[1][name]):
                count += weights.numel()
    return count


def _one_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    told = f"{type(error).__name__}: {text[0] if text else ''}".removesuffix(": ")
    if isinstance(error, NameError) and error.name == "__file__":
        return f"{told}: own code runs from its text, not from a file; name other files by their absolute paths"
    return told


class _Texts(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports modules from texts; what lies on the disk under their names now does not matter."""

    def __init__(self, source: Mapping[str, str], seed: int) -> None:
        self.files = {module_name(file): file for file in source}
        self.source, self.seed = source, seed

    def exec_module(self, module: ModuleType) -> None:
        """What a module draws when it is imported is a function of the run's seed and its name alone."""
        states = torch.get_rng_state(), np.random.get_state(), random.getstate()
        seed_all(torch_generator(self.seed, f"import {module.__name__}").initial_seed())
        try:
            super().exec_module(module)
        finally:
            torch.set_rng_state(states[0])
            np.random.set_state(states[1])
            random.setstate(states[2])

    def has(self, name: str) -> bool:
        """Whether a module of that name, or a folder of modules, is among the texts."""
        return name in self.files or any(each.startswith(f"{name}.") for each in self.files)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self.files:
            return self._folder(name)
        return importlib.util.spec_from_loader(name, self, origin=self.files[name], is_package=self.is_package(name))

    def get_source(self, name: str) -> str:
        return self.source[self.files[name]]

    def get_code(self, name: str) -> Any:
        return compile(self.get_source(name), self.files[name], "exec", dont_inherit=True)

    def is_package(self, name: str) -> bool:
        return self.files[name].endswith("__init__.py")

    def _folder(self, name: str) -> importlib.machinery.ModuleSpec | None:
        """Of a folder of modules that has no file of its own."""
        if not self.has(name):
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = []
        return spec
