"""Features of the tokens of captions by the guiding CLIP, for ideas that attend to words.

Computed once and memory-mapped as other features are, in half precision: of each caption the tokens up to its end, and
nothing of the padding behind it. Nobody pays for them where no idea reads "h_tokens".
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.data.dataset import Dataset
from harness.data.features import Features, Ids, batches, cached, load_clip
from harness.errors import MissingWeights
from harness.terminal.progress import Advance

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TokenFeatures:
    """Of some texts."""

    features: NDArray[np.float16]
    """[all tokens, F]: text after text, the tokens of each in consecutive rows."""
    first: Ids
    """[K+1]: row of each text's first token, and the end."""
    context: int
    """T, the most tokens that the CLIP reads."""

    def of(self, texts: Ids) -> Features:
        """[n,T,F] of these texts, zeros behind the end of each; all zeros for -1, which is none."""
        rows = np.zeros((len(texts), self.context, self.features.shape[1]), np.float32)
        for row, text in zip(rows, texts, strict=True):
            if text >= 0:
                start, end = self.first[text], self.first[text + 1]
                row[: end - start] = self.features[start:end]
        return rows


def caption_tokens(dataset: Dataset, name: str, device: str = "cpu") -> TokenFeatures:
    """Of all captions by the CLIP of that name, in the order of `clip_text`. Raises MissingWeights as `tokens_of`."""
    texts = [caption for captions in dataset.captions for caption in captions]
    return _cached("caption", dataset.fingerprint, texts, name, device)


def given_tokens(texts: Sequence[str], content: str, name: str, device: str = "cpu") -> TokenFeatures:
    """Of captions of no data set; `content` is their hash. Raises MissingWeights as `tokens_of`."""
    return _cached("given", content, texts, name, device)


def tokens_of(texts: Sequence[str], name: str) -> torch.Tensor:
    """[n,T,F] of any texts, in the precision of those that are stored.

    Raises MissingWeights for a CLIP that cannot be had, or that gives no features of tokens.
    """
    clip = load_clip(name, "cpu")
    with _refused(name):
        return clip.tokens(list(texts)).half().float()


def _cached(what: str, data: str, texts: Sequence[str], name: str, device: str) -> TokenFeatures:
    # Loaded once for both, and not at all where both are there.
    clip = functools.cache(lambda: load_clip(name, device))

    def counts(advance: Advance) -> Iterator[NDArray[np.int32]]:
        yield np.array([[clip().context]], np.int32)
        for part in batches(len(texts)):
            with _refused(name):
                yield clip().token_counts(list(texts[part])).cpu().numpy().astype(np.int32)[:, None]

    def features(advance: Advance) -> Iterator[NDArray[np.float16]]:
        yield np.empty((0, clip().dim), np.float16)
        for part in batches(len(texts)):
            with _refused(name):
                rows = clip().tokens(list(texts[part])).cpu().numpy()
            parts = [row[:count] for row, count in zip(rows, lengths[part], strict=True)]
            advance(sum(map(len, parts)))
            yield np.concatenate(parts).astype(np.float16)

    stored = cached(f"{what}-token-counts", data, name, len(texts) + 1, counts, np.int32)[:, 0]
    context, lengths = int(stored[0]), np.asarray(stored[1:], np.int64)
    first = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return TokenFeatures(cached(f"{what}-tokens", data, name, int(first[-1]), features, np.float16), first, context)


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """MissingWeights for what a CLIP without features of tokens raises."""
    try:
        yield
    except ValueError as error:
        problem = f"encoders.clip: {name} {error}"
        raise MissingWeights(f"{problem}; name another CLIP, or leave out ideas that read h_tokens") from error
