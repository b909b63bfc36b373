"""Whether several GPUs can share a run: each must get whole groups of images, or its result would be another one."""

from __future__ import annotations

from harness.settings import Settings
from harness.study.search_space import Problems
from harness.text import quantity

MOST = 64
"""Numbers of GPUs that a message may name."""


def problems(settings: Settings, gpus: int) -> Problems:
    """What keeps so many GPUs from sharing a run of these settings; a script divides its work itself."""
    if gpus == 1 or settings.command.run:
        return
    if reason := _why_not(settings, gpus):
        fits = [str(each) for each in range(1, MOST + 1) if not _why_not(settings, each)]
        yield ("resources", "gpus_per_run"), f"{gpus} GPUs cannot share a run: {reason}; allowed: {', '.join(fits)}"


def _why_not(settings: Settings, gpus: int) -> str:
    """Empty if they can."""
    train, group = settings.train, settings.discriminator.minibatch_std_group
    if train.batch % gpus:
        return f"train.batch = {train.batch} is no multiple of {gpus}"
    each = train.batch // gpus
    if settings.loss.group and each % settings.loss.group:
        return f"each would get {quantity(each, 'image')}, no multiple of loss.group = {settings.loss.group}"
    if group and each % group:
        return f"each would get {quantity(each, 'image')}, no multiple of discriminator.minibatch_std_group = {group}"
    measured = train.batch // train.pl_batch_shrink
    if train.pl_weight and measured % gpus:
        left = quantity(measured, "image")
        return f"train.pl_batch_shrink = {train.pl_batch_shrink} leaves {left} for a path length step"
    for name, idea in settings.ideas.items():
        if gpus > 1 and idea["kind"] in ("layer", "discriminator"):
            return f"the {idea['kind']} {name} would be given a part of the batch, and may compute over all of it"
    return ""
