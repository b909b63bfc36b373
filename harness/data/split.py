"""Which images are held out. A name's side depends on the name alone, so more data moves no image across."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def held_out(keys: Sequence[str], share: float) -> NDArray[np.bool_]:
    """[M]: whether each of these images is held out; about `share` of them, and with two images or more not all."""
    draws = np.array([_unit(key) for key in keys])
    held: NDArray[np.bool_] = draws < share
    if len(keys) > 1 and held.all():
        held[draws.argmax()] = False
    if len(keys) > 1 and not held.any():
        held[draws.argmin()] = True
    return held


def _unit(key: str) -> float:
    digest = hashlib.sha256(f"held-out\x00{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
