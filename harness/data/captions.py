"""How the captions of a prepared data set read to a CLIP, which sees no more of one than its context. No torch here but
for the tokenizers that need it.

    <cache>/features/<hash>/about.json    which data set and CLIP, as features have it
                            counts.json   what is counted, of the captions once and for all
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from harness import cache
from harness.data.dataset import without_split
from harness.data.features import feature_folder
from harness.data.packed import find_prepared, read_rows
from harness.data.prepare import run_in_processes
from harness.errors import RecordError
from harness.files import read, write_json
from harness.models import encoders
from harness.models.encoders import tokens
from harness.models.encoders.tokens import Reader

POOL = 100
"""Captions that R-precision ranks an image's own among, itself one of them, if so many differ."""


@dataclass(frozen=True)
class Counts:
    """Captions of a data set as a CLIP reads them."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True}

    context: int
    """Most tokens of a caption that are read."""
    captions: int
    """Of all images, further ones of an image among them."""
    cut: int
    """How many of them are longer than that."""
    written: int
    """How many different ones they are as written."""
    read: int
    """How many different ones they are to the CLIP."""
    held_out: int
    """Images that are held out; R-precision ranks the main caption of each."""
    equal: int
    """How many of those main captions read as another one of them does."""
    distinct: int
    """How many different ones they are."""


def counts(data: str, clip: str) -> Counts | None:
    """Of the data set with that fingerprint, by the CLIP of that name.

    None where it is not known: for data that is not prepared, and for a tokenizer that needs torch as long as nothing
    has called `count`.
    """
    return _stored(data, clip) if tokens.needs_torch(clip) else count(data, clip)


def count(data: str, clip: str) -> Counts | None:
    """As `counts`, counting what is not known; None for a tokenizer that cannot be had."""
    found, prepared = _stored(data, clip), find_prepared(without_split(data), cache.root())
    if found or not prepared:
        return found
    try:
        reader = tokens.reader(clip)
    except (ValueError, OSError):
        return None
    listed = (row for row in read_rows(prepared[0], range(prepared[1].shards)) if "bad" not in row)
    found = _counted(reader, [(row["captions"], row["held_out"]) for row in listed])
    folder, about = feature_folder("captions", data, clip)
    with contextlib.suppress(OSError):  # a cache that cannot be written: it is counted again
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "about.json", about)
        write_json(folder / "counts.json", asdict(found))
    return found


def count_apart(data: str, clips: Iterable[str]) -> None:
    """`count` for those CLIPs that take torch, in a process of its own; nothing is downloaded."""
    heavy = [clip for clip in dict.fromkeys(clips) if _is_clip(clip) and tokens.needs_torch(clip)]
    missing = [clip for clip in heavy if not _stored(data, clip)]
    if missing:
        deque(run_in_processes(functools.partial(_count_at, data, missing), range(len(missing)), 1), maxlen=0)


def _is_clip(name: str) -> bool:
    """Whether the name and its files are there; what is wrong with them is told where they are loaded."""
    try:
        encoders.check(name, "clip")
    except (ValueError, OSError):
        return False
    return True


def _count_at(data: str, clips: Sequence[str], number: int) -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    count(data, clips[number])
    return number


def _stored(data: str, clip: str) -> Counts | None:
    folder, _ = feature_folder("captions", data, clip)
    with contextlib.suppress(RecordError):  # damaged: it is counted again
        return read(folder / "counts.json", Counts, "delete it")
    return None


def _counted(reader: Reader, listed: Sequence[tuple[Sequence[str], bool]]) -> Counts:
    """`listed`: the captions of each image, and whether it is held out."""
    texts = list(dict.fromkeys(caption for captions, _ in listed for caption in captions))
    found = dict(zip(texts, reader.read(texts), strict=True))
    main = Counter(found[captions[0]].tokens for captions, held in listed if held and captions)
    return Counts(
        context=reader.context,
        captions=sum(len(captions) for captions, _ in listed),
        cut=sum(found[caption].cut for captions, _ in listed for caption in captions),
        written=len(texts),
        read=len({text.tokens for text in found.values()}),
        held_out=sum(main.values()),
        equal=sum(times for times in main.values() if times > 1),
        distinct=len(main),
    )


def remarks(data: str, guide: str, measure: str) -> tuple[str, ...]:
    """What is lost of the captions on these two CLIPs, or that it is not known yet; nothing where all is well."""
    if not (find_prepared(without_split(data), cache.root()) and _is_clip(guide) and _is_clip(measure)):
        return ()
    if guide == measure:
        found = [_remark(data, guide, "conditions the generator and measures")]
    else:
        found = [_remark(data, guide, "conditions the generator"), _remark(data, measure, "measures")]
    return tuple(told for told in (*found, _ranked(data, measure)) if told)


def _remark(data: str, clip: str, does: str) -> str:
    found = counts(data, clip)
    if found is None:
        whoever = "`harness data prepare` counts them if its tokenizer is here, run-grid once it is loaded"
        return f"how many captions {clip} cuts off is not known yet: {whoever}"
    equal = f"{found.equal:,} of {found.held_out:,} held-out captions"
    if found.cut:
        verb = "is" if found.read == 1 else "are"
        left = f"; of {found.written:,} different ones {found.read:,} {verb} left" if found.read < found.written else ""
        then = f"; {equal} then equal another" if found.equal else ""
        told = f"{found.cut:,} of {found.captions:,} captions are cut off at {found.context} tokens"
        return f"{told} by {clip}, which {does}{left}{then}"
    return f"{equal} equal another for {clip}, which {does}" if found.equal else ""


def _ranked(data: str, clip: str) -> str:
    """What equal captions leave of R-precision."""
    found = counts(data, clip)
    if not found or not found.equal or found.distinct >= POOL:
        return ""
    if found.distinct == 1:
        return f"R-precision is left out: the held-out captions are one for {clip}, so none is wrong for an image"
    chance = f"chance is {1 / found.distinct:.2g}"
    return f"R-precision ranks a caption among {found.distinct} different ones by {clip}: {chance}"
