"""How a GPU multiplies numbers of 32 bits: as they are, or with factors rounded to 10 bits behind the point (TF32)."""

from __future__ import annotations

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
