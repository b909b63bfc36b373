"""A run's first steps on trial: what is wrong with a study's own code ends before any run waits for it."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from harness.errors import Diverged
from harness.ideas.load import IdeaError, OwnIdeas, fixed_weights, load_ideas
from harness.models.precision import rounded_products
from harness.runs.record import Run
from harness.scheduler.slots import Slot
from harness.training import checkpoint, kept, untouched
from harness.training.checkpoint import digest
from harness.training.ranks import Ranks, unit_of
from harness.training.setup import Prepared, prepare
from harness.training.trainer import Trainer

_Values = dict[str, Tensor]


def rehearse(run: Run, slot: Slot) -> str:
    """Take every part of two steps, whatever its interval, and throw them away. Raises what that raises.

    IdeaError where a loss of own code is not finite, own code changes what it has frozen, or a run that is stopped
    would go on otherwise than one that is not. Gives what a reader should know of weights that own code has loaded by
    itself, of modules that no run carries and of terms that give 0; empty where there is nothing.
    """
    torch.set_num_threads(slot.threads)
    modules = set(sys.modules)
    prepared = prepare(run.settings, slot.torch_device, run.fingerprints["data"], load_ideas(run))
    named = ", ".join(f"{idea.name} ({idea.place})" for idea in prepared.ideas.ideas)
    state, first, whole = _two_steps(run, slot, prepared, named)
    # As if the run had been stopped between the two: what own code had in memory alone is gone.
    resumed = _trainer(run, slot, replace(prepared, ideas=load_ideas(run)))
    checkpoint.put(resumed, state)
    _refuse_other(whole, _second_step(resumed, named), named)
    return "; ".join(_remarks(resumed, [first, whole.values], set(sys.modules) - modules))


class _Second(NamedTuple):
    """The second step."""

    values: _Values
    """What it has computed."""
    before: kept.Moment
    after: kept.Moment


def _second_step(trainer: Trainer, named: str) -> _Second:
    ideas, networks = trainer.own.ideas, trainer.networks
    before = kept.moment(ideas, networks)
    return _Second(_whole_step(trainer, 1, named), before, kept.moment(ideas, networks))


def _refuse_other(whole: _Second, resumed: _Second, named: str) -> None:
    """Raises IdeaError where the step is another one in a run that was stopped before it, or has other things left."""
    # A GPU's sums differ from call to call, and the second player's losses come after an update made of such.
    is_exact = all(value.device.type == "cpu" for value in whole.values.values())
    alike = partial(torch.allclose, rtol=0 if is_exact else 0.05, atol=0 if is_exact else 0.01, equal_nan=True)
    is_same = torch.equal if is_exact else alike
    named = f"own ideas that are on: {named}"
    problem = "a run that is stopped would go on otherwise than one that is not"
    fix = "register what lasts from step to step as buffers, and draw from rng or step.rng() alone"
    if moved := kept.moved(whole.before, whole.after, resumed.after, alike):
        raise IdeaError(f"{moved[0]} changes in every step, and no checkpoint holds it: {problem}; {fix}; {named}")
    again = resumed.values
    if other := [name for name, value in whole.values.items() if name not in again or not is_same(value, again[name])]:
        place = min(other, key=lambda name: name.endswith("/total"))  # which has the others in it
        raise IdeaError(f"{place}: {problem}; {fix}; {named}")


def _remarks(trainer: Trainer, steps: Sequence[Mapping[str, Tensor]], imported: Collection[str]) -> list[str]:
    """What is no mistake for certain. `steps`: what each step has computed; `imported`: modules."""
    networks = trainer.networks
    with trainer.own.ideas.explained("building the networks"):
        count = sum(map(fixed_weights, (networks.generator, networks.discriminator, networks.ideas)))
    remarks = []
    for idea in trainer.own.ideas.of("term"):
        if idea.weight and not any(bool(losses[f"{idea.player}/{idea.name}"]) for losses in steps):
            text = f"{idea.name} ({idea.place}) gave 0 in every step that was tried"
            remarks.append(f"{text}: a cell in which it stays 0 is the one without it, under another name")
    if count:
        text = f"{count:,} first weights of own code are the same under every seed: if it loads them by itself"
        remarks.append(
            f"{text}, the run's id is of the code alone and not of them; a setting of the type Network has both"
        )
    for place in kept.iterators(trainer.own.ideas, networks):
        text = f"{place} is an iterator, and no checkpoint holds how far it has come"
        remarks.append(f"{text}: if steps take from it, a run that is stopped goes on otherwise; count by step.number")
    if files := _not_carried(imported):
        text = f"own code imports {', '.join(files)}, which no run carries and whose changes train nothing anew"
        remarks.append(f"{text}: put it into the study's folder")
    return remarks


def _not_carried(modules: Collection[str]) -> list[str]:
    """The files of those modules that are neither installed nor Python's own or this program's."""
    of_others = [sys.modules[name] for name in sorted(modules) if name.partition(".")[0] != "harness"]
    files = [Path(str(getattr(module, "__file__", None) or "")) for module in of_others]
    python = sysconfig.get_paths()["stdlib"]
    return [
        str(file)
        for file in files
        if file.suffix == ".py"
        and not {"site-packages", "dist-packages"} & set(file.parts)
        and not file.resolve().is_relative_to(python)
    ]


def _two_steps(run: Run, slot: Slot, prepared: Prepared, named: str) -> tuple[_Values, _Values, _Second]:
    """The state behind the first step, on the CPU, what that one has computed, and the second one."""
    trainer = _trainer(run, slot, prepared)
    frozen = _frozen(trainer)
    first = _whole_step(trainer, 0, named)
    now = _frozen(trainer)
    if changed := [name for name, content in frozen.items() if now[name] != content]:
        problem = f"{changed[0]} has requires_grad False, so that no checkpoint holds it, and was changed all the same"
        raise IdeaError(f"{problem}; register what your code changes as a buffer; own ideas that are on: {named}")
    with trainer.own.during("drawing samples", partial(trainer.stream, step=0)), torch.inference_mode():
        prepared.grid.draw(trainer.networks.averaged, prepared.device)
    state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in checkpoint.state(trainer).items()}
    return state, first, _second_step(trainer, named)


def _trainer(run: Run, slot: Slot, prepared: Prepared) -> Trainer:
    """With the rows of one of the run's processes, as all together might not fit."""
    try:
        trainer = prepared.trainer(run.seed)
    except (AttributeError, RuntimeError) as error:
        if text := _wrong_constructor(error, prepared.ideas):
            raise IdeaError(text) from error
        raise
    trainer.ranks = Ranks(0, slot.ranks, unit_of(run.settings), is_rehearsal=True)
    untouched.hold(trainer)
    return trainer


def _wrong_constructor(error: AttributeError | RuntimeError, ideas: OwnIdeas) -> str:
    """What is said where a class of own code cannot be made as a module, which shows in lines that are not its own."""
    made, problem = getattr(error, "obj", None), "its __init__ does not call super().__init__() before all else"
    name = type(made).__name__ if isinstance(made, nn.Module) and "_parameters" not in vars(made) else ""
    if not name and (found := re.match(r"Error\(s\) in loading state_dict for (\w+)", str(error))):
        name, problem = found[1], "it has parameters or buffers of other names or shapes each time that it is made"
    places = [f"{each.name} ({each.place})" for each in ideas.ideas if each.is_module]
    where = next((each.place for each in ideas.ideas if each.name == name), "")
    if not (name and places):
        return ""
    return f"{where}: {name}: {problem}" if where else f"{name}: {problem}; own modules: {', '.join(places)}"


def _whole_step(trainer: Trainer, step: int, named: str) -> dict[str, Tensor]:
    """The losses of a step with every part of it and, where sums are exact, the state behind it.

    Raises IdeaError where a loss is not finite.
    """
    values = dict[str, Tensor]()
    is_tf32 = trainer.settings.train.precision == "tf32"
    for phase in trainer.phases:
        with rounded_products(is_tf32), trainer.own.during(phase.name, partial(trainer.stream, step=step)):
            try:
                values |= phase.take(trainer.batch(step), step)
                trainer.finite.check()
            except Diverged as error:
                raise IdeaError(f"{error}; own ideas that are on: {named}") from error
    trainer.average(step)
    return values | (checkpoint.state(trainer) if trainer.device.type == "cpu" else {})


def _frozen(trainer: Trainer) -> dict[str, str]:
    """Name -> hash of what own code has frozen."""
    return {name: digest({name: value.cpu()}, {}) for name, value in trainer.networks.state(frozen=True).items()}
