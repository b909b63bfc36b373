"""A run's first steps on trial: what is wrong with a study's own code ends before any run waits for it."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from harness.errors import Diverged
from harness.ideas.load import IdeaError, fixed_weights, load_ideas
from harness.models.precision import rounded_products
from harness.runs.record import Run
from harness.scheduler.slots import Slot
from harness.training import checkpoint
from harness.training.checkpoint import digest
from harness.training.ranks import Ranks, unit_of
from harness.training.setup import Prepared, prepare
from harness.training.trainer import Trainer


def rehearse(run: Run, slot: Slot) -> str:
    """Take every part of two steps, whatever its interval, and throw them away. Raises what that raises.

    IdeaError where a loss of own code is not finite, own code changes what it has frozen, or a run that is stopped
    would go on otherwise than one that is not. Gives what a reader should know of weights that own code has loaded by
    itself, and of modules that no run carries; empty where there is nothing.
    """
    torch.set_num_threads(slot.threads)
    modules = set(sys.modules)
    prepared = prepare(run.settings, slot.torch_device, run.fingerprints["data"], load_ideas(run))
    named = ", ".join(f"{idea.name} ({idea.place})" for idea in prepared.ideas.ideas)
    state, values = _two_steps(run, slot, prepared, named)
    # As if the run had been stopped between the two: what own code had in memory alone is gone.
    resumed = _trainer(run, slot, replace(prepared, ideas=load_ideas(run)))
    checkpoint.put(resumed, state)
    again = _whole_step(resumed, 1, named)
    # A GPU's sums differ from call to call, and the second player's losses come after an update made of such.
    alike = torch.equal if prepared.device == "cpu" else partial(torch.allclose, rtol=0.05, atol=0.01)
    if other := [name for name, value in values.items() if name not in again or not alike(value, again[name])]:
        place = min(other, key=lambda name: name.endswith("/total"))  # which has the others in it
        problem = f"{place}: a run that is stopped would go on otherwise than one that is not"
        fix = "register what lasts from step to step as buffers, and draw from rng or step.rng() alone"
        raise IdeaError(f"{problem}; {fix}; own ideas that are on: {named}")
    networks = resumed.networks
    with resumed.own.ideas.explained("building the networks"):
        count = sum(map(fixed_weights, (networks.generator, networks.discriminator, networks.ideas)))
    remarks = []
    if count:
        text = f"{count:,} first weights of own code are the same under every seed: if it loads them by itself"
        remarks.append(
            f"{text}, the run's id is of the code alone and not of them; a setting of the type Network has both"
        )
    if files := _not_carried(set(sys.modules) - modules):
        text = f"own code imports {', '.join(files)}, which no run carries and whose changes train nothing anew"
        remarks.append(f"{text}: put it into the study's folder")
    return "; ".join(remarks)


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


def _two_steps(run: Run, slot: Slot, prepared: Prepared, named: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state behind the first step, on the CPU, and what the second one computes."""
    trainer = _trainer(run, slot, prepared)
    frozen = _frozen(trainer)
    _whole_step(trainer, 0, named)
    now = _frozen(trainer)
    if changed := [name for name, content in frozen.items() if now[name] != content]:
        problem = f"{changed[0]} has requires_grad False, so that no checkpoint holds it, and was changed all the same"
        raise IdeaError(f"{problem}; register what your code changes as a buffer; own ideas that are on: {named}")
    with trainer.own.during("drawing samples", partial(trainer.stream, step=0)), torch.inference_mode():
        prepared.grid.draw(trainer.networks.averaged, prepared.device)
    state = {name: tensor.detach().to("cpu", copy=True) for name, tensor in checkpoint.state(trainer).items()}
    return state, _whole_step(trainer, 1, named)


def _trainer(run: Run, slot: Slot, prepared: Prepared) -> Trainer:
    """With the rows of one of the run's processes, as all together might not fit."""
    trainer = prepared.trainer(run.seed)
    trainer.ranks = Ranks(0, slot.ranks, unit_of(run.settings), is_rehearsal=True)
    return trainer


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
