"""What a caption metric could have gone wrong on: how many captions differ, and what of them is read. No torch here
but for the tokenizers that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics import formulas
from harness.models import tokens

Ids = NDArray[np.int64]


def further_right(texts: NDArray[Any], rows: Ids, further: NDArray[Any]) -> dict[int, tuple[int, ...]]:
    """Row of `texts` [N,F] -> other rows that fit its image as well, coinciding with a further caption of that image.

    `further` [A,F] are those captions, each of the image of a row.
    """
    first = formulas.alike(np.concatenate([texts, further]))
    found: dict[int, set[int]] = {}
    for row, met in zip(rows.tolist(), first[len(texts) :].tolist(), strict=True):
        if met < len(texts) and met != first[row]:
            found.setdefault(row, set()).add(met)
    return {row: tuple(sorted(others)) for row, others in found.items()}


def about_real(features: NDArray[Any]) -> dict[str, Any]:
    """What the card of an image network says of real images: the width "d", and how many are "real_distinct" ones."""
    return {"d": int(features.shape[1]), "real_distinct": len(set(formulas.alike(features)))}


def about_captions(metric: str, texts: Sequence[str], features: NDArray[Any], clip: str) -> dict[str, Any]:
    """What the card of a caption metric says of these captions, whose features by that CLIP are rows of `features`.

    "asked" captions, of which so many "distinct" ones are left in the features; "cut" of them are longer than the
    "context", where its tokenizer can be had. Of R-precision also the number of "rivals" of a caption, "chance", and
    what one image for all captions can reach at best, "constant": more than chance where one caption is frequent.
    """
    first = formulas.alike(features)
    card: dict[str, Any] = {"asked": len(texts), "distinct": len(set(first))}
    try:
        reader = tokens.reader(clip)
    except (ValueError, OSError):
        pass  # such as without a network: the features came from the cache
    else:
        card |= {"context": reader.context, "cut": sum(text.cut for text in reader.read(texts))}
    if metric == "r_precision":
        rivals = formulas.rivals(features)
        chance, frequent = 1 / (1 + rivals), float(np.bincount(first).max()) / len(first)
        card |= {"rivals": rivals, "chance": round(chance, 6), "constant": round(max(chance, frequent), 6)}
    return card
