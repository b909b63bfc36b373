"""Random draws without hidden state: a generator is a pure function of (seed, purpose, step)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def _digest(seed: int, purpose: str, step: int) -> bytes:
    return hashlib.sha256(f"{seed}\x00{purpose}\x00{step}".encode()).digest()


def numpy_generator(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """The NumPy generator of one purpose ("data", "latents", ...) at one step; equal arguments give equal draws."""
    entropy = int.from_bytes(_digest(seed, purpose, step), "big")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(entropy)))


def torch_generator(seed: int, purpose: str, step: int = 0, device: str = "cpu") -> torch.Generator:
    """The torch generator of one purpose at one step, on `device`; draws differ between devices, as torch's do."""
    import torch

    return torch.Generator(device=device).manual_seed(torch_seed(seed, purpose, step))


def torch_seed(seed: int, purpose: str, step: int = 0) -> int:
    """What the torch generator of one purpose at one step is seeded with."""
    return int.from_bytes(_digest(seed, purpose, step)[:8], "big") >> 1
