"""What stands against training cells, whether or not the design has them: of two toggles, and of settings together."""

from __future__ import annotations

from collections.abc import Sequence

from harness.data.sources.zip_archive import STORED_BY
from harness.design.factors import levels_of
from harness.design.kinds import DesignCell
from harness.frozen_networks import encoders_read
from harness.metrics import names as metric_names
from harness.models.objective import PLAYERS, active
from harness.settings import Settings
from harness.study import own, sharing_checks, temperature
from harness.study.overlay import shown
from harness.study.schema import Study, apply_toggles, overlaps
from harness.study.search_space import Problems


def overlap_problems(study: Study, cells: Sequence[DesignCell]) -> Problems:
    """Pairs of toggles that set the same, or need the same place, and are both on in one of these cells."""
    subsets = [set(cell.toggles) for cell in cells]
    for first, second, why in overlaps(study, study.toggle_names):
        if any({first.name, second.name} <= subset for subset in subsets):
            fix = f"add [{first.name}, {second.name}] to design.exclude"
            yield ("toggles", study.toggles.index(second)), f"{first.name} and {second.name} {why}; {fix}"


def cell_problems(study: Study, cells: Sequence[DesignCell]) -> Problems:
    """Of the settings of these cells, each by itself."""
    for cell in cells:
        settings = apply_toggles(study, cell.toggles)
        if (settings.data, settings.metrics) != (study.settings.data, study.settings.metrics):
            text = f"{cell.name} changes data or metrics, so its numbers could not be compared with the others"
            levels = apply_toggles(study, set(cell.toggles) & set(levels_of(study.factors)))
            is_toggle = (levels.data, levels.metrics) == (study.settings.data, study.settings.metrics)
            yield ("toggles" if is_toggle else "levels",), f"{text}: make it a study of its own"
            break
        for check in (_networks,) if settings.command.run else (_room, _group, _networks, _stored_features):
            yield from check(settings)
        yield from sharing_checks.problems(settings, study.resources.gpus_per_run)
        yield from (*temperature.problems(settings), *own.layer_problems(settings, study.code))
        if rivals := own.rivals(settings.ideas, study.code):
            yield ("design",), f"{cell.name} cannot be trained, as {rivals}; see design.exclude"


def _room(settings: Settings) -> Problems:
    """Batches and resolutions that leave a layer or a step nothing to work on."""
    train, group, resolution = settings.train, settings.discriminator.minibatch_std_group, settings.data.resolution
    if group and train.batch % group:
        fix = f"a batch of {-(-train.batch // group) * group}, or a group that divides it, or 0 to switch the layer off"
        text = f"{train.batch} cannot be split into groups of discriminator.minibatch_std_group = {group}: {fix}"
        yield ("train", "batch"), text
    if train.pl_weight and train.batch < train.pl_batch_shrink:
        text = f"{train.pl_batch_shrink} leaves no image of train.batch = {train.batch} for a path length step"
        yield ("train", "pl_batch_shrink"), f"{text}: at most {train.batch}, or train.pl_weight: 0"
    for player, network in (("generator", settings.generator), ("discriminator", settings.discriminator)):
        if network.channel_base < resolution:
            text = f"{network.channel_base} leaves no feature map at data.resolution = {resolution}"
            yield (player, "channel_base"), f"{text} (channel_base / resolution): at least {resolution}"


def _networks(settings: Settings) -> Problems:
    read = encoders_read(settings)
    if read.get("encoders.resnet", "").startswith("torch_fidelity:"):
        text = f"{shown(read['encoders.resnet'])} sees 8-bit images and gives no gradient, so it can only measure"
        yield ("encoders", "resnet"), f"{text}: name another network, such as timm:resnet50.a1_in1k"
    names = (settings.metrics.resnet, *settings.metrics.more)
    for place in metric_names.clashes(names):
        recorded = metric_names.recorded("fd", names[place])
        text = f"{shown(names[place])} would be recorded as {recorded}, as another network is: name one of the two"
        yield ("metrics", "more", place - 1), text


def _stored_features(settings: Settings) -> Problems:
    data, guide = settings.data, settings.encoders.clip
    if not data.stored_features:
        return
    path, fix = ("data", "stored_features"), "set it to false to compute them"
    library, model, tag = STORED_BY
    if guide.partition("@")[0] != f"{library}:{model}/{tag}":
        yield path, f"they are features of {library}:{model}/{tag}, not of encoders.clip = {shown(guide)}; {fix}"
    if data.mirror:
        yield path, f"there are none of mirrored images, as data.mirror asks for; {fix}"
    if data.held_out.path:
        yield path, f"there are none of the images of data.held_out.path; {fix}"


def _group(settings: Settings) -> Problems:
    size, batch, group = settings.loss.group, settings.train.batch, settings.discriminator.minibatch_std_group
    strided = settings.discriminator.minibatch_std_layout == "strided" and group
    if size and batch % size:
        yield ("loss", "group"), f"{size} does not divide train.batch = {batch}: a divisor, or 0 for the whole batch"
    elif size == 1 and any(active(settings.loss, player) for player in PLAYERS):
        text = "1 leaves no other sample to contrast a sample with, so that every contrastive term is constant"
        yield ("loss", "group"), f"{text}: 0 for the whole batch, or a divisor of train.batch = {batch} of at least 2"
    elif size and strided and size % group:
        text = f"{size} is no multiple of discriminator.minibatch_std_group = {group}"
        yield ("loss", "group"), f"{text}: a multiple of it, or 0 for the whole batch"
