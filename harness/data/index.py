"""What is known of a prepared data set as a whole: its index.json."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from harness.errors import DataError, RecordError
from harness.files import read


@dataclass(frozen=True)
class Index:
    """What `prepare` left, as index.json holds it."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True}

    fingerprint: str
    """16 hex digits over pixels' rule and size, names, captions, split and the content of every image file."""
    images: int
    held_out: int
    """How many of them are never trained on."""
    shards: int
    bad: tuple[str, ...]
    """Images left out, each with its file and the reason."""
    attribution: str
    notes: dict[str, int] = field(default_factory=dict)
    """What to know of how images were read, see `harness.data.shown` -> of how many."""
    repeats: int = 0
    """Images that are no picture of their own, as another one is the same; its captions are that one's too."""
    held_out_too: int = 0
    """Pictures of the data to train on that are not trained on, as the data that is held out has them too."""
    alike: int = 0
    """Pictures that are held out and look nearly like one to train on, if they are enough to be told."""
    alike_such_as: tuple[str, ...] = ()
    """The keys of the two that are nearest."""
    content: str = ""
    """See `harness.data.settle.content`."""
    pixels: str = ""
    """Which code decoded them, see `harness.code.engine`; other code decodes them again."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What was made of images that are one picture, in sentences; none where there are no such images."""
        told = []
        if self.repeats:
            some = "1 image is" if self.repeats == 1 else f"{self.repeats:,} images are"
            rest = "every picture is taken once, with the captions of all its images"
            told.append(f"{some} the same picture as another, to the last pixel at this resolution: {rest}")
        if self.held_out_too:
            some = "1 picture" if self.held_out_too == 1 else f"{self.held_out_too:,} pictures"
            told.append(f"{some} of the data to train on, held out by data.held_out too: not trained on")
        if self.alike:
            some = f"{self.alike:,} of {self.held_out:,} held-out pictures look nearly like ones to train on"
            pair = f"such as {' and '.join(map(repr, self.alike_such_as))}"
            told.append(f"{some}, {pair}: if they are copies in another size or quality, remove them from one side")
        return tuple(told)


def read_index(folder: Path) -> Index:
    """That of a folder of the cache. Raises DataError."""
    path, fix = folder / "index.json", f"delete the folder {folder}"
    try:
        index = read(path, Index, fix)
    except RecordError as error:
        raise DataError(str(error)) from error
    if index is None or min(index.images, index.held_out, index.shards) < 0:
        raise DataError(f"{path}: is missing, or counts less than nothing; {fix}")
    return index
