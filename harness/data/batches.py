"""What a training step reads: real images, and the frozen encoders' features of them, looked up and never recomputed.

Sampling is stateless: which images and captions make up step k is a pure function of (seed, k).
Shapes: n images of a batch, R pixels, F features of the guiding CLIP.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from harness.data.dataset import Dataset
from harness.data.features import CaptionFeatures, unit_range
from harness.data.token_features import TokenFeatures
from harness.models.config import ConditionConfig
from harness.models.objective import Kind
from harness.rng import numpy_generator, torch_generator


@dataclass(frozen=True)
class Batch:
    """The real side of one step and its conditions."""

    real: Tensor  # r [n,3,R,R] in [-1,1], before `on` as uint8; fewer where several processes share the run
    h: Tensor  # [n,F], unit norm
    pseudo: Tensor  # h' [n,F], unit norm
    frozen: Mapping[Kind, Tensor]  # f_c(r) [n,F], and of further networks that an active term reads
    tokens: Tensor | None = None  # h_tokens [n,T,F]; None unless an idea that is on reads them

    def on(self, device: torch.device | str) -> Batch:
        """Ready for training on that device; of a pinned batch the host does not wait for the copies."""
        moved = self._each(lambda part: part.to(device, non_blocking=True))
        return replace(moved, real=unit_range(moved.real))

    def clone(self) -> Batch:
        """The same in memory of its own."""
        return self._each(torch.clone)

    @property
    def tensors(self) -> list[Tensor]:
        """All of it, in a fixed order."""
        tokens = [] if self.tokens is None else [self.tokens]
        return [self.real, self.h, self.pseudo, *self.frozen.values(), *tokens]

    def pinned(self) -> Batch:
        """In memory that a GPU copies from by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        tokens = None if self.tokens is None else change(self.tokens)
        frozen = {kind: change(rows) for kind, rows in self.frozen.items()}
        return Batch(change(self.real), change(self.h), change(self.pseudo), frozen, tokens)


class Conditions(NamedTuple):
    """What the batch of a step is generated and judged under."""

    h: Tensor  # [n,F]
    pseudo: Tensor  # h' [n,F]
    tokens: Tensor | None  # of the captions behind h [n,T,F]; zeros where h is a pseudo text feature


@dataclass(frozen=True)
class Corpus:
    """A data set with the features of all its images and captions."""

    dataset: Dataset
    text: CaptionFeatures
    frozen: Mapping[Kind, NDArray[np.float32]]  # f_c(r) [M,F], and of further networks that an active term reads
    mirror: Corpus | None = None  # of the mirrored images, where training shows them too
    tokens: TokenFeatures | None = None  # of all captions; None unless an idea that is on reads them

    @property
    def text_dim(self) -> int:
        return int(self.frozen["f_c"].shape[1])

    def batch(self, config: ConditionConfig, seed: int, step: int, size: int) -> Batch:
        """The batch of one step on the CPU: a pure function of (seed, step)."""
        return self.read(config, seed, step, size).on("cpu")

    def read(
        self,
        config: ConditionConfig,
        seed: int,
        step: int,
        size: int,
        places: slice | Sequence[int] = slice(None),  # of the images that are read, in the batch
    ) -> Batch:
        """What `batch` gives, with real images of 8 bits, as they are stored."""
        ids, flipped = batch_ids(self.dataset, seed, step, size)[0], self._flipped(seed, step, size)
        h, pseudo, tokens = self.conditions(config, seed, step, size)
        frozen = {kind: self._frozen(kind, ids, flipped) for kind in self.frozen}
        real = self._of(lambda corpus: corpus.dataset.images, ids[places], flipped[places])
        return Batch(torch.from_numpy(np.ascontiguousarray(real)), h, pseudo, frozen, tokens)

    def conditions(self, config: ConditionConfig, seed: int, step: int, size: int, phase: str = "") -> Conditions:
        """Of one step's batch; each `phase` has random directions of its own."""
        ids, captions = batch_ids(self.dataset, seed, step, size)
        text = torch.from_numpy(self.text.of(ids, captions))
        image = self._frozen("f_c", ids, self._flipped(seed, step, size))
        captioned = torch.from_numpy(self.text.has(ids))
        rng = torch_generator(seed, f"condition {phase}".strip(), step)
        h, pseudo, is_pseudo = _conditions(config, text, image, captioned, rng)
        tokens = None
        if self.tokens is not None:
            tokens = torch.from_numpy(self.tokens.of(np.where(is_pseudo, -1, self.text.rows(ids, captions))))
        return Conditions(h, pseudo, tokens)

    def _frozen(self, kind: Kind, ids: NDArray[np.int64], flipped: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(self._of(lambda corpus: corpus.frozen[kind], ids, flipped))

    def _flipped(self, seed: int, step: int, size: int) -> NDArray[np.bool_]:
        return flips(self.dataset, seed, step, size) if self.mirror else np.zeros(size, np.bool_)

    def _of(self, part: Callable[[Corpus], Any], ids: NDArray[np.int64], flipped: NDArray[np.bool_]) -> NDArray[Any]:
        """Rows `ids` of a part of this corpus, or of the mirrored one where `flipped`."""
        rows: NDArray[Any] = part(self)[ids]
        if self.mirror and flipped.any():
            rows[flipped] = part(self.mirror)[ids[flipped]]
        return rows


def _conditions(
    config: ConditionConfig, text: Tensor, image: Tensor, captioned: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, NDArray[np.bool_]]:
    """h, h' and whether h is a pseudo text feature too [n], of captions t and images v, all [n,F] (LAFITE, Sec. 3.1).

    h = unit((1 - text_noise) t + text_noise e), h' = unit((1 - pseudo_noise) v + pseudo_noise e), e a random unit
    vector of its own for every sample and feature; with shared_noise, for every sample. With pseudo_probability, and
    always for an image that is not `captioned` [n], h is an h' of its own too.
    """
    # All are drawn whatever the settings, so that no setting moves the draws of another.
    of_text, of_image = _directions(text, rng), _directions(image, rng)
    chance, of_other = torch.rand(len(text), 1, generator=rng), _directions(image, rng)
    if config.shared_noise:
        of_image = of_other = of_text
    h = _perturb(text, config.text_noise, of_text)
    pseudo = _perturb(image, config.pseudo_noise, of_image)
    other = _perturb(image, config.pseudo_noise, of_other)
    is_pseudo = (chance < config.pseudo_probability) | ~captioned[:, None]
    return torch.where(is_pseudo, other, h), pseudo, is_pseudo[:, 0].numpy()


def pseudo_text(image: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    """h' [n,F] of images v [n,F], with noise of its own."""
    return _perturb(image, noise, _directions(image, rng))


def _directions(like: Tensor, rng: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(like.shape, generator=rng), dim=1)


def _perturb(feature: Tensor, share: float, direction: Tensor) -> Tensor:
    return F.normalize((1 - share) * feature + share * direction, dim=1)


def batch_ids(dataset: Dataset, seed: int, step: int, batch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Image ids and the index of each one's caption, both [batch], for one step.

    The train ids are walked in a new order every epoch, and every position of the walk has its caption: steps of 16
    and steps of 32 see the same sequence, and any step can be asked for first.
    """
    ids, draws = _walk(dataset, seed, step, batch, "caption")
    choices = [len(dataset.captions[image]) for image in ids]
    return ids, (draws * choices).astype(np.int64)


def flips(dataset: Dataset, seed: int, step: int, batch: int) -> NDArray[np.bool_]:
    """[batch]: which of the images of `batch_ids` are shown mirrored at that step, by chance one half."""
    return np.asarray(_walk(dataset, seed, step, batch, "mirror")[1] < 0.5)


def _walk(
    dataset: Dataset, seed: int, step: int, batch: int, purpose: str
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Image ids, and a number in [0,1) for each place of the walk, both [batch]."""
    count = len(dataset.train)
    epochs, places = np.divmod(np.arange(step * batch, (step + 1) * batch), count)
    ids, draws = np.empty(batch, np.int64), np.empty(batch)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        ids[here] = dataset.train[_order(seed, int(epoch), count)[places[here]]]
        draws[here] = _draws(seed, purpose, int(epoch), count)[places[here]]
    return ids, draws


@functools.lru_cache(maxsize=4)  # each step asks for one epoch or two, and a permutation of a large data set is slow
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return numpy_generator(seed, "data", epoch).permutation(count)


@functools.lru_cache(maxsize=8)
def _draws(seed: int, purpose: str, epoch: int, count: int) -> NDArray[np.float64]:
    return numpy_generator(seed, purpose, epoch).random(count)
