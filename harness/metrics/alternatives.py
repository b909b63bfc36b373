"""What a caption metric could have gone wrong on: how many captions differ, and what of them is read. No torch here
but for the tokenizers that need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics import formulas
from models import tokens

Ids = NDArray[np.int64]


def about_captions(metric: str, texts: Sequence[str], features: NDArray[Any], clip: str) -> dict[str, Any]:
    """What the card of a caption metric says of these captions, whose features by that CLIP are rows of `features`.

    "asked" captions, of which so many "distinct" ones are left in the features; "cut" of them are longer than the
    "context", where its tokenizer can be had. Of R-precision also the number of "rivals" of a caption, and "chance".
    """
    card: dict[str, Any] = {"asked": len(texts), "distinct": len(set(formulas.alike(features)))}
    try:
        reader = tokens.reader(clip)
    except (ValueError, OSError):
        pass  # such as without a network: the features came from the cache
    else:
        card |= {"context": reader.context, "cut": sum(text.cut for text in reader.read(texts))}
    if metric == "r_precision":
        rivals = formulas.rivals(features)
        card |= {"rivals": rivals, "chance": round(1 / (1 + rivals), 6)}
    return card
