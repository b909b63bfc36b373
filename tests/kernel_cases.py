"""What kernels of our own make, beside the same in float64 by PyTorch's operations on the processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from harness.models import channelwise, resampling
from harness.models.channelwise import activated, scaled
from harness.models.resampling import blur, downsample, upsample

LAYOUTS = (torch.contiguous_format, torch.channels_last)
PRECISE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 6e-2}
"""How far results may be off, relative to their norm; what is rounded to the limit itself has no gradient any more."""

Work = Callable[..., Tensor]


def filters_off(device: str, dtype: torch.dtype, shape: Sequence[int]) -> Iterator[tuple[str, float]]:
    """What was filtered or its gradient -> how far it is off, for images in memory either way."""
    works = [partial(blur, padding=padding, gain=4.0) for padding in (0, 1, 2, 3)]
    for layout, work in product(LAYOUTS, (*works, downsample, upsample)):
        x = torch.randn(*shape, dtype=torch.float64).to(dtype).contiguous(memory_format=layout)
        leaf, same = x.to(device).requires_grad_(True), x.double().requires_grad_(True)
        here, exact = work(leaf), exactly(work, same)
        weight = torch.randn_like(exact).to(dtype)
        (found,) = torch.autograd.grad(here, leaf, weight.to(device))
        (right,) = exactly(torch.autograd.grad, exact, same, weight.double())
        if min(shape[2:]) > 4:  # of a single pixel no order can be told
            assert here.is_contiguous(memory_format=layout) and found.is_contiguous(memory_format=layout)
        yield f"{work} {layout}", off(here, exact)
        yield f"gradient of {work} {layout}", off(found, right)


def channels_off(device: str, dtype: torch.dtype, shape: Sequence[int]) -> Iterator[tuple[str, float]]:
    """Images scaled and activated, with derivatives of first and second order -> how far they are off."""
    n, c, h, w = shape
    drawn = [torch.randn(*each, dtype=torch.float64) for each in (shape, (n, c), (c,), (n, 1, h, w), shape)]
    small = torch.float64 if dtype == torch.float64 else torch.float32
    given = [each.to(small if place in (1, 2) else dtype) for place, each in enumerate(drawn)]
    here, exact = (
        [each.detach().to(where, as_type or each.dtype).requires_grad_(True) for each in given]
        for where, as_type in ((device, None), ("cpu", torch.float64))
    )
    for limit, work in product((0.0, 1.5), (_scaled, _activated, _biased)):
        of_here, of_exact = (
            _derived(partial(work, limit=limit), here),
            exactly(_derived, partial(work, limit=limit), exact),
        )
        for place, (one, other) in enumerate(zip(of_here, of_exact, strict=True)):
            if one is not None and other is not None:
                yield f"{work.__name__} {limit} {place}", off(one, other)
            else:
                assert not any(each is not None and each.any() for each in (one, other)), (work, limit, place)


def _scaled(x: Tensor, s: Tensor, bias: Tensor, noise: Tensor, limit: float) -> Tensor:
    return scaled(x, s)


def _activated(x: Tensor, s: Tensor, bias: Tensor, noise: Tensor, limit: float) -> Tensor:
    return activated(x + 0, s, bias, noise, limit)


def _biased(x: Tensor, s: Tensor, bias: Tensor, noise: Tensor, limit: float) -> Tensor:
    return activated(x + 0, None, bias, None, limit)


def _derived(work: Work, leaves: Sequence[Tensor]) -> list[Tensor | None]:
    """The result, gradients of it, and of the squares of its gradients in x and s."""
    *given, weight = leaves
    y = work(*given)
    first = torch.autograd.grad((y * weight).sum(), given, retain_graph=True, allow_unused=True)
    slopes = torch.autograd.grad((work(*given) * weight).sum(), given[:2], create_graph=True, allow_unused=True)
    squares = torch.stack([each.double().square().sum() for each in slopes if each is not None]).sum()
    return [y, *first, *torch.autograd.grad(squares, leaves, allow_unused=True)]


def exactly(work: Callable[..., Any], *given: Any) -> Any:
    """What it gives without kernels, where they are tried on the processor."""
    with without_kernels():
        return work(*given)


@contextmanager
def without_kernels() -> Iterator[None]:
    chosen = channelwise.kernels_for
    try:
        channelwise.kernels_for = resampling.kernels_for = lambda x: None
        yield
    finally:
        channelwise.kernels_for = resampling.kernels_for = chosen


def off(one: Tensor, other: Tensor) -> float:
    return float((one.detach().cpu().double() - other.detach()).norm() / (other.detach().norm() + 1e-30))
