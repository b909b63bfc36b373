"""Which of many images are one picture, and on which side of the split a picture is.

Two images are one picture if their prepared pixels are equal: copies, links and other spellings of one file, rows that
hold it again, and the same pixels saved in another format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.data.split import held_out


@dataclass(frozen=True)
class Image:
    """One image as it was read."""

    key: str
    name: str
    """See `harness.data.sources.record.Record`."""
    captions: tuple[str, ...]
    pixels: bytes
    """The digest of its prepared pixels; empty for a bad one, which is like no other."""
    apart: bool
    """Whether it is of data of its own that is held out."""


@dataclass(frozen=True)
class Picture:
    """What one or several images are, in the place of the first of them."""

    key: str
    """The first one's: more names for a picture that come later in order move it nowhere."""
    captions: tuple[str, ...]
    """Of all its images, each once."""
    held_out: bool


@dataclass(frozen=True)
class Pictures:
    """The pictures that some images are."""

    of: tuple[Picture | None, ...]
    """Per image: the picture, where it is the first of that one; None where it is left out for another."""
    repeats: int
    """Images that are left out since another is the same picture."""
    held_out_too: int
    """Pictures of the data to train on that are left out of it, since the data that is held out has them too."""


def pictures(images: Sequence[Image], share: float | None) -> Pictures:
    """The pictures that these are, about `share` of them held out; None where those held out are data of their own."""
    groups = _groups(images)
    apart = {images[group[0]].pixels for group in groups if images[group[0]].apart} - {b""}
    both = [group for group in groups if not images[group[0]].apart and images[group[0]].pixels in apart]
    keys = _keys(images, groups)
    sides = [images[group[0]].apart for group in groups] if share is None else held_out(keys, share).tolist()
    found: list[Picture | None] = [None] * len(images)
    for group, key, side in zip(groups, keys, sides, strict=True):
        found[group[0]] = Picture(key, _captions([images[place] for place in group]), side)
    for group in both:
        found[group[0]] = None
    return Pictures(tuple(found), len(images) - len(groups), len(both))


def _captions(images: Sequence[Image]) -> tuple[str, ...]:
    """Those of all, each once; those of one image as they are."""
    if len(images) == 1:
        return images[0].captions
    return tuple(dict.fromkeys(caption for image in images for caption in image.captions))


def _groups(images: Sequence[Image]) -> list[list[int]]:
    """Places of the images of each picture of each kind of data, in the order of their first ones."""
    groups: dict[tuple[bool, bytes | int], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault((image.apart, image.pixels or place), []).append(place)
    return list(groups.values())


def _keys(images: Sequence[Image], groups: Sequence[Sequence[int]]) -> list[str]:
    """Per picture: its name if all have one of their own, else the key of its first image."""
    names = [images[group[0]].name for group in groups]
    if all(names) and max(Counter(names).values()) == 1:
        return names
    return [images[group[0]].key for group in groups]
