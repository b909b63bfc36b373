"""What a reader of a cell's result should know: settings that change nothing or not what they seem to, and judges that
guided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from harness.frozen_networks import FrozenNetwork, frozen_networks, reads
from harness.metrics import names as metric_names
from harness.models.encoders.names import side_of
from harness.models.objective import active, features_needed
from harness.settings import Settings
from harness.text import listed, shortened


def remarks(settings: Settings, prints: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Of a cell's objective and training and, by fingerprints, of what measures it."""
    parts = () if settings.command.run else (_of_generator, _of_discriminator, _of_loss, _of_guides, _of_path_length)
    return (*(text for part in parts for text in part(settings)), *metric_names.remarks(prints or {}))


def remark_lines(remarks_of: Mapping[str, Iterable[str]]) -> list[str]:
    """Lines `cell: remark`; a remark that several cells share is on one line, that of all cells as `every cell`."""
    cells_of = cells_of_remarks(remarks_of)
    return [f"{shortened(cells) if cells else 'every cell'}: {remark}" for remark, cells in cells_of.items()]


def cells_of_remarks(remarks_of: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Remark -> the cells that it is on; none where it is on all of several."""
    cells: dict[str, list[str]] = {}
    for cell, remarks in remarks_of.items():
        for remark in remarks:
            cells.setdefault(remark, []).append(cell)
    every = len(remarks_of) if len(remarks_of) > 1 else 0
    return {remark: [] if len(named) == every else named for remark, named in cells.items()}


def _of_generator(settings: Settings) -> Iterator[str]:
    generator, resolution = settings.generator, settings.data.resolution
    if generator.conditioning == "modulate" and generator.modulate_from > resolution:
        text = f"generator.modulate_from {generator.modulate_from} is above data.resolution {resolution}"
        yield f"{text}, so every layer is concat: same training as with generator.conditioning concat"
    share = settings.condition.pseudo_probability
    if share > 0 and reads(settings, "h_tokens"):
        samples = "every sample" if share == 1 else f"{share:.0%} of the samples, by chance"
        yield f"condition.pseudo_probability: h_tokens, of ideas that read it, is zeros in {samples} of training"


def _of_discriminator(settings: Settings) -> Iterator[str]:
    own = [name for name, idea in settings.ideas.items() if idea["kind"] in ("term", "penalty", "augment")]
    instead = next((name for name, idea in settings.ideas.items() if idea["kind"] == "discriminator"), "")
    if settings.discriminator.heads == "separate" and instead:
        yield f"{instead} takes the place of the discriminator, so discriminator.heads changes nothing"
    elif settings.discriminator.heads == "separate" and own and not reads(settings, "f_img", ("discriminator",)):
        text = "no built-in term of the discriminator trains f_img: its head keeps its first weights"
        yield f"{text}, unless {' or '.join(own)} trains it"
    elif settings.discriminator.heads == "separate" and not reads(settings, "f_img"):
        yield "no active term reads f_img, so the separate image head changes nothing: same training as without it"
    elif settings.discriminator.heads == "separate" and not reads(settings, "f_img", ("discriminator",)):
        yield "no term of the discriminator trains f_img: the separate image head keeps its first weights"
    if not instead:
        yield from _of_minibatch_std(settings)


def _of_minibatch_std(settings: Settings) -> Iterator[str]:
    network, loss = settings.discriminator, settings.loss
    group, whole = network.minibatch_std_group, loss.group or settings.train.batch
    if group == 1:
        text = "discriminator.minibatch_std_group 1: a single image has no spread, so the layer gives every image the"
        yield f"{text} same and says nothing, in either layout; 0 switches it off"
    elif network.minibatch_std_layout == "strided" and group == whole:
        text = f"discriminator.minibatch_std_group {group} is all of {'loss.group' if loss.group else 'train.batch'}"
        yield f"{text}: same training as with discriminator.minibatch_std_layout neighbours"


def _of_loss(settings: Settings) -> Iterator[str]:
    loss, batch = settings.loss, settings.train.batch
    if loss.mix_logits and loss.mix_lambda == 1 and not loss.paired_contrast:
        yield "loss.mix_lambda 1 leaves h' no share of a logit: same training as without loss.mix_logits"
    if loss.group == batch:
        yield f"loss.group {loss.group} is the whole batch: same training as with loss.group 0"
    if loss.logit == "batch_sum" and loss.group == 1:
        yield "loss.logit batch_sum adds f.h of one image alone: same training as with loss.logit per_sample"
    elif loss.logit == "batch_sum":
        yield (
            f"loss.logit batch_sum adds f.h of {loss.group or batch} images to the logit of each: it does not say which"
            " of them fits its caption, and grows with their number; compare with cells of the same train.batch and "
            "loss.group"
        )


def _of_guides(settings: Settings) -> Iterator[str]:
    """Of how frozen networks see generated images; see `harness.training.views`."""
    config, pixels = settings.encoders, settings.data.resolution
    looking = _looking(settings)
    larger = {it.setting: side for it in looking if (side := it.size or side_of(it.name)) > pixels}
    if config.view == "crop" and larger:
        whom = listed([f"{path} ({side} px)" for path, side in larger.items()])
        text = f"encoders.view crop: images of {pixels} px are not cropped for {whom} but lie whole on white"
        yield f"{text}, so encoders.crop_from changes nothing" if len(larger) == len(looking) else text
    elif config.view == "shift" and looking and config.crop > 0 and not round(config.crop * pixels):
        text = f"encoders.crop {config.crop:g} of {pixels} px rounds to 0 pixels, so images are not shifted"
        same = "same training as with" if not config.pixel_noise else "only other random numbers than with"
        yield f"{text}: {same} encoders.crop 0"


def _looking(settings: Settings) -> list[FrozenNetwork]:
    """The frozen networks that are shown generated images, or may be by an idea."""
    needed = features_needed(active(settings.loss, "generator"))
    shown = {each.kind for each in needed if each.is_fake}
    networks = frozen_networks(settings).items()
    return [network for kind, network in networks if kind in shown or reads(settings, kind, players=())]


def _of_path_length(settings: Settings) -> Iterator[str]:
    train = settings.train
    if train.pl_weight > 0 and train.pl_decay == 1 and train.batch // train.pl_batch_shrink == 1:
        text = "train.pl_decay 1 with one image in a path length step (train.batch / train.pl_batch_shrink)"
        yield f"{text}: its length is compared with itself, so nothing is regularised, whatever train.pl_weight is"
