"""Whether the kernels of `triton_kernels` can be had here: on a GPU they take the place of PyTorch's operations."""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor


class Kernels(NamedTuple):
    """The module that has them, if any."""

    module: ModuleType | None
    why: str
    """There is none; empty if there is."""


def kernels_for(x: Tensor) -> ModuleType | None:
    """The module, for images that it takes; None: PyTorch's operations are to be used."""
    if x.device.type != "cuda" or (module := kernels().module) is None:
        return None
    return module if 4 * x.numel() < module.MOST else None  # a filter writes up to four times as many


@cache
def kernels() -> Kernels:
    """Made and tried once, on a GPU."""
    try:
        from harness.models import triton_kernels
    except ImportError as error:
        return Kernels(None, f"Triton cannot be imported: {error}")
    try:
        with torch.inference_mode():
            ones = torch.ones(1, 1, 4, 4, device="cuda")
            triton_kernels.filtered(ones, (4, 4), 1.0, 1, 1, is_up=False)
    except Exception as error:  # of a compiler that is missing, a driver too old, a folder that cannot be written
        said = [type(error).__name__, *str(error).split("\n")]  # what a compiler means is in the last line
        return Kernels(None, f"Triton makes no kernel here: {next(line for line in reversed(said) if line.strip())}")
    return Kernels(triton_kernels, "")
