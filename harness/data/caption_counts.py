"""How the captions of a prepared data set read to a CLIP, which sees no more of one than its context.

    <cache>/features/<hash>/about.json    which data set and CLIP, as for features
                            counts.json   what is counted of the captions, once

Torch is loaded only for tokenizers that need it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from harness import cache
from harness.data.dataset import without_split
from harness.data.features import feature_folder
from harness.data.packed import Row, find_prepared, read_rows
from harness.errors import RecordError
from harness.files import read, write_json
from harness.models import encoders
from harness.models.encoders import tokens
from harness.processes import run_in_processes


@dataclass(frozen=True)
class Counts:
    """Captions of a data set as a CLIP reads them."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True}

    context: int
    """Most tokens of a caption that are read."""
    captions: int
    """Of all images, also the further ones of an image."""
    cut: int
    """How many of them are longer than that."""
    written: int
    """How many different ones there are as written."""
    read: int
    """How many different ones there are to the CLIP."""
    held_out: int
    """Images that are held out; R-precision ranks the main caption of each."""
    equal: int
    """How many of those main captions read as another one of them does."""
    distinct: int
    """How many different ones they are."""


def content(captions: Sequence[str]) -> str:
    """16 hex digits over captions that are of no data set, in their order."""
    return hashlib.sha256(json.dumps(captions).encode()).hexdigest()[:16]


def count_captions(data: str, clip: str, with_torch: bool = False, given: Sequence[str] = ()) -> Counts | None:
    """Of the data set with that fingerprint, by the CLIP of that name; counted once and stored. None for data that is
    not prepared and for a tokenizer that cannot be had, or that needs torch unless `with_torch`. Captions that are
    `given` are counted in place of those of the data, as if each were that of a held-out image."""
    folder, about = feature_folder("captions", content(given) if given else data, clip)
    counts = None
    with contextlib.suppress(RecordError):  # a damaged file: it is counted again
        counts = read(folder / "counts.json", Counts, "delete it")
    prepared = find_prepared(without_split(data), cache.root())
    if counts or not prepared or (tokens.needs_torch(clip) and not with_torch):
        return counts
    try:
        reader = tokens.reader(clip)
    except (ValueError, OSError):
        return None
    folder_of_data, index = prepared
    if given:
        rows = [Row(captions=[caption], held_out=True) for caption in given]
    else:
        rows = [row for row in read_rows(folder_of_data, range(index.shards)) if "bad" not in row]
    counts = _count(reader, rows)
    with contextlib.suppress(OSError):  # a cache that cannot be written: it is counted again next time
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "about.json", about)
        write_json(folder / "counts.json", asdict(counts))
    return counts


def _count(reader: tokens.Reader, rows: Sequence[Row]) -> Counts:
    captions = [caption for row in rows for caption in row["captions"]]
    texts = list(dict.fromkeys(captions))
    by_text = dict(zip(texts, reader.read(texts), strict=True))
    main = Counter(by_text[row["captions"][0]].tokens for row in rows if row["held_out"] and row["captions"])
    return Counts(
        context=reader.context,
        captions=len(captions),
        cut=sum(by_text[caption].cut for caption in captions),
        written=len(texts),
        read=len({text.tokens for text in by_text.values()}),
        held_out=sum(main.values()),
        equal=sum(times for times in main.values() if times > 1),
        distinct=len(main),
    )


def count_in_process(data: str, clips: Iterable[str], given: Sequence[str] = ()) -> None:
    """Counts for those CLIPs that need torch, in a process of its own; nothing is downloaded."""
    heavy = [clip for clip in dict.fromkeys(clips) if is_clip(clip) and tokens.needs_torch(clip)]
    missing = [clip for clip in heavy if not all(count_captions(data, clip, given=each) for each in ((), given))]
    if missing:
        count = functools.partial(_count_offline, data, missing, given)
        deque(run_in_processes(count, range(len(missing)), 1, "counts captions"), maxlen=0)


def _count_offline(data: str, clips: Sequence[str], given: Sequence[str], number: int) -> int:
    os.environ["HF_HUB_OFFLINE"] = "1"
    for captions in {(), tuple(given)}:
        count_captions(data, clips[number], with_torch=True, given=captions)
    return number


def is_clip(name: str) -> bool:
    """Whether the name and its files are there; what is wrong with them is reported where they are loaded."""
    try:
        encoders.check(name, "clip")
    except (ValueError, OSError):
        return False
    return True
