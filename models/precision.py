"""How a GPU computes: with products of 32 bits as they are, or of factors rounded to 10 bits behind the point (TF32);
and the same bytes every time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

Products = Literal["ieee", "tf32"]


def set_products(products: Products) -> None:
    """From here on, in the whole process. PyTorch's own default is TF32 in convolutions alone."""
    cudnn: Any = torch.backends.cudnn
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    for backend in backends:
        backend.fp32_precision = products


def same_every_time() -> None:
    """From here on a GPU takes kernels that give equal bytes for equal inputs; PyTorch warns of what has none.

    A run that was interrupted ends as it would have, and two cells that are the same training get the same weights.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cuda.enable_mem_efficient_sdp(False)  # attention, whose gradient it adds up in any order
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # for finding faults


@contextmanager
def rounded_products(on: bool) -> Iterator[None]:
    """TF32 inside the block, if `on`; IEEE products behind it."""
    if not on:
        yield
        return
    set_products("tf32")
    try:
        yield
    finally:
        set_products("ieee")
