"""Which images are held out. A name's side depends on the name alone, so more data moves no image across."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def held_out(keys: Sequence[str], share: float) -> NDArray[np.bool_]:
    """[M]: whether each of these images is held out; about `share` of them,
    but at least two, and as many not held out, of four images or more."""
    draws = np.array([_unit(key) for key in keys])
    held: NDArray[np.bool_] = draws < share
    least, order = min(2, len(keys) // 2), draws.argsort()
    held[order[:least]] = True
    held[order[len(keys) - least :]] = False
    return held


def _unit(key: str) -> float:
    digest = hashlib.sha256(f"held-out\x00{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
