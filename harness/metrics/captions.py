"""Which captions a run is measured with, and what the CLIPs that guide and measure it do not see of them, for the
reader of a plan."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator

from harness import cache
from harness.data.caption_counts import Counts, count_captions, is_clip
from harness.data.dataset import TUNING, without_split
from harness.data.pack_record import Pack
from harness.data.packed import Index, find_prepared
from harness.data.reading import file_at, printable, read_text
from harness.data.sources.record import LeftOut, clean_captions, text_lines
from harness.errors import DataError
from harness.metrics.definitions import POOL
from harness.settings import CommandConfig, EncoderConfig, MetricConfig, Settings
from harness.text import are

GIVEN = "metrics.captions"
"""The setting that names a file of captions; also the name of its fingerprint."""


def read_captions(path: str) -> tuple[str, ...]:
    """The captions of the file that metrics.captions names, one a line, each once; () for no file. Raises DataError."""
    captions = tuple(dict.fromkeys(_written(path))) if path else ()
    if path and not captions:
        raise DataError(f"{GIVEN}: {printable(path)} holds no caption; write one a line into it")
    return captions


def _written(path: str) -> list[str]:
    """Every caption of the file, as often as it stands there. Raises DataError."""
    file = file_at(path, GIVEN)
    try:
        text = read_text(file)
    except DataError as error:
        raise DataError(f"{GIVEN}: {error}") from error
    return [caption for line in text_lines(text) for caption in clean_captions([line], printable(file))]


def _doubtful(path: str) -> tuple[str, ...]:
    """Lines of the file that count once with an earlier one, or are probably no captions, counted."""
    left_out, times = LeftOut(), Counter(_written(path))
    repeated = next((caption for caption in times if times[caption] > 1), "")
    left_out.add("line", f"of {GIVEN} equal to an earlier one", repeated, times.total() - len(times))
    left_out.note_doubtful(times, path)
    return left_out.lines()


def why_not_scored(data: str, path: str, pack: Pack | None) -> str:
    """Why runs on data of that fingerprint have no caption metrics; empty where captions of a file or an image are
    there, and for data that is neither prepared nor told of by `pack`."""
    index = _index(data, pack)
    if path or not index:
        return ""
    train, held_out = _captioned(index)
    if train or (held_out and not data.endswith(TUNING)):  # of which the held-out images are no part
        return ""
    images = "image" if not held_out else "image to train on"
    return f"no {images} has a caption and {GIVEN} names no file"


def _index(data: str, pack: Pack | None) -> Index | None:
    """What is known of the data with that fingerprint: what its pack tells, else what is prepared here."""
    if pack and (index := pack.index(data)):
        return index
    prepared = find_prepared(without_split(data), cache.root())
    return prepared[1] if prepared else None


def _captioned(index: Index) -> tuple[int, int]:
    """How many images to train on, and held-out ones, have a caption."""
    both, held_out = index.images - index.uncaptioned, index.held_out - index.uncaptioned_held_out
    return both - held_out, held_out


def relevant(settings: Settings) -> Settings:
    """With defaults in place of all that `of_settings` does not read, so that cells that share the rest are equal."""
    guide, script = EncoderConfig(clip=settings.encoders.clip), CommandConfig(run=settings.command.run)
    return Settings(encoders=guide, metrics=settings.metrics, condition=settings.condition, command=script)


def of_settings(data: str, settings: Settings, pack: Pack | None = None) -> tuple[str, ...]:
    """What images without a caption mean for training and measuring, then `remarks`."""
    config, index = settings.metrics, _index(data, pack)
    lines = list(_without_captions(index, settings)) if index else []
    lines += _doubtful(config.captions) if os.path.isfile(config.captions) else ()  # else told of by `pack`
    guide = "" if settings.command.run else settings.encoders.clip
    return (*lines, *remarks(data, guide, config.clip, config.captions, pack, config.samples))


def _without_captions(index: Index, settings: Settings) -> Iterator[str]:
    if index.uncaptioned:
        yield from _to_train(index, settings)
        if not settings.metrics.captions:
            yield from _to_measure(index, settings)


def _to_train(index: Index, settings: Settings) -> Iterator[str]:
    """What images without a caption mean for training."""
    train, _ = _captioned(index)
    to_train = index.images - index.held_out
    chance = 1.0 if settings.command.run else settings.condition.pseudo_probability
    if not train and chance < 1:
        yield (
            f"no image to train on has a caption: all {to_train:,} are trained on under pseudo text features, as with "
            "condition.pseudo_probability 1"
        )
    elif train < to_train and chance < 1:
        without = to_train - train
        have, they = ("has", "it is") if without == 1 else ("have", "they are")
        yield (
            f"{without:,} of {to_train:,} images to train on {have} no caption: {they} always trained on "
            f"under pseudo text features, the others as condition.pseudo_probability {chance:g} says"
        )


def _to_measure(index: Index, settings: Settings) -> Iterator[str]:
    """What they mean for measuring, where no file gives captions."""
    train, held_out = _captioned(index)
    to_train = index.images - index.held_out
    if not train and not held_out:
        what = "images are generated from pseudo text features of real images, and clip_score and r_precision"
        what = "there is nothing to ask a script for" if settings.command.run else f"{what} are not measured"
        yield f"no image has a caption and {GIVEN} names no file: {what}"
        return
    if not held_out:
        yield "no held-out image has a caption: clip_score and r_precision take those of images to train on"
    elif held_out < index.held_out:
        captions = f"the captions of {held_out:,} of {index.held_out:,} held-out images"
        yield f"clip_score and r_precision take {captions}; the others have none"
    at_train = settings.metrics.side == "train"
    name, own, every = ("train", train, to_train) if at_train else ("held-out", held_out, index.held_out)
    if not own:
        yield f"no image of the {name} side has a caption: distances are of images generated from those of the other"
    elif own < every:
        captions = f"the captions of {own:,} of {every:,} images of the {name} side"
        yield f"distances are of images generated from {captions}; the others have none"


def remarks(
    data: str,
    guide: str,
    measure: str,
    path: str = "",
    pack: Pack | None = None,
    samples: int = MetricConfig.samples,
) -> tuple[str, ...]:
    """What these two CLIPs do not see of the captions of a data set with that fingerprint, or that it is not known yet;
    the measuring one of those in the file `path`, if there is one. Without a name there is no guide. R-precision asks
    `samples` captions at most.

    Nothing where all is well, and for data that is neither prepared nor told of by `pack`.
    """
    clips = filter(None, (guide, measure))
    if not (_index(data, pack) and all((pack and pack.encoder(name)) or is_clip(name) for name in clips)):
        return ()
    by_measure = _counts(data, measure, path, pack)
    own = "held-out captions"
    kind = f"captions of {GIVEN}" if path else own
    if guide == measure and not path:
        lines = [_remark(by_measure, guide, "conditions the generator and measures", own)]
    else:
        by_guide = [_remark(_counts(data, guide, "", pack), guide, "conditions the generator", own)] if guide else []
        lines = [*by_guide, _remark(by_measure, measure, "measures", kind)]
    if by_measure and by_measure.distinct == 1:
        alone = f"{GIVEN} holds one caption alone" if path else "one held-out image alone has a caption"
        one = f"all {kind} are the same for {measure}" if by_measure.equal else alone
        lines.append(f"R-precision is left out: {one}, so no caption is wrong for an image")
    elif by_measure and (by_measure.equal or path or samples < by_measure.held_out):
        lines.append(_ranking(by_measure, measure, samples))
    return tuple(filter(None, lines))


def _ranking(counts: Counts, measure: str, samples: int) -> str:
    """Among how many captions R-precision ranks one; empty where these are as many as it is meant for."""
    among = min(samples, counts.distinct)
    if among >= POOL:
        return ""
    is_part = samples < counts.held_out
    why = f", as metrics.samples asks {samples} of {counts.held_out}" if is_part else ""
    # Which of them are asked decides how many of those that are equal differ.
    most, more = (" at most", " or more") if is_part and counts.equal else ("", "")
    chance = f"chance is {1 / among:.2g}{more}"
    return f"R-precision ranks a caption among {among} different ones{most} by {measure}{why}: {chance}"


def _counts(data: str, clip: str, path: str, pack: Pack | None) -> Counts | None:
    """How a CLIP reads the captions of the file `path`, or without one those of the data with that fingerprint."""
    if pack and pack.index(data):
        return pack.counts((path and pack.captions(path)) or data, clip)
    return count_captions(data, clip, given=read_captions(path))


def _remark(counts: Counts | None, clip: str, does: str, kind: str) -> str:
    if counts is None:
        when = "`harness data prepare` counts them if its tokenizer is installed, run-grid once it is loaded"
        return f"how many captions {clip} cuts off is not known yet: {when}"
    equal = f"{counts.equal:,} of {counts.held_out:,} {kind}"
    if not counts.cut:
        return f"{equal} equal another for {clip}, which {does}" if counts.equal else ""
    captions = kind if kind == f"captions of {GIVEN}" else "captions"
    cut = f"{counts.cut:,} of {counts.captions:,} {captions} {are(counts.cut)} cut off at {counts.context} tokens"
    left = f"; of {counts.written:,} different ones {counts.read:,} {are(counts.read)} left"
    left = left if counts.read < counts.written else ""
    return f"{cut} by {clip}, which {does}{left}" + (f"; {equal} then equal another" if counts.equal else "")
