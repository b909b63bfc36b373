"""One number for each channel: images scaled, shifted and passed through leaky ReLU.

Shapes: x [N,C,H,W], s [N,C]. Everything can be differentiated as often as asked: the derivatives of `scaled` and of the
sums over pixels that its s takes are each other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.kernels import kernels_for


def scaled(x: Tensor, s: Tensor) -> Tensor:
    """x * s, in x's dtype."""
    if kernels_for(x):
        result: Tensor = _Scaled.apply(x, s)
        return result
    return x * s.to(x.dtype)[:, :, None, None]


def activated(
    x: Tensor,              # written over
    s: Tensor | None,
    bias: Tensor,           # [C]
    noise: Tensor | None = None,  # [N,1,H,W], in x's dtype
    limit: float = 0.0,     # of what comes out, to either side; 0: none
) -> Tensor:  # fmt: skip
    """leaky_relu(x * s + bias + noise, 0.2), in x's dtype."""
    if kernels_for(x):
        result: Tensor = _Activated.apply(x, s, bias, noise, limit)
        return result
    shift = bias.to(x.dtype).view(1, -1, 1, 1)
    x = x + shift if s is None else torch.addcmul(shift, x, s.to(x.dtype)[:, :, None, None])
    if noise is not None:
        x += noise
    return clamped(leaky(x), limit)


def leaky(x: Tensor) -> Tensor:
    """leaky_relu(x, 0.2), written over `x`: its gradient needs the result alone."""
    return F.leaky_relu(x, 0.2, inplace=True)


def clamped(x: Tensor, limit: float) -> Tensor:
    """x cut off at `limit` to either side; 0: as it is."""
    return x.clamp(-limit, limit) if limit else x


# On a GPU.


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor) -> Tensor:
        ctx.save_for_backward(x, s)
        result: Tensor = _module(x).each(x, s)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, s = ctx.saved_tensors
        return _Scaled.apply(grads[0], s), _Dots.apply(grads[0], x).to(s.dtype)


class _Dots(torch.autograd.Function):
    """[N,C]: the sums of x * y over the pixels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        result: Tensor = _module(x).dots(x, y)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, y = ctx.saved_tensors
        return _Scaled.apply(y, grads[0]), _Scaled.apply(x, grads[0])


class _Activated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, s: Tensor | None, bias: Tensor, noise: Tensor | None, limit: float) -> Tensor:
        y: Tensor = _module(x).each(x, s, bias, noise, is_leaky=True, limit=limit)
        ctx.save_for_backward(x, s, y)
        ctx.limit, ctx.dtype = limit, bias.dtype
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, s, y = ctx.saved_tensors
        needed = ctx.needs_input_grad
        grad = _Sloped.apply(grads[0], y, ctx.limit)
        of_x = grad if s is None else _Scaled.apply(grad, s)
        of_s = _Dots.apply(grad, x).to(s.dtype) if needed[1] else None
        of_bias = grad.sum((0, 2, 3), dtype=ctx.dtype) if needed[2] else None
        return of_x, of_s, of_bias, grad.sum(1, keepdim=True) if needed[3] else None, None


class _Sloped(torch.autograd.Function):
    """The gradient of leaky ReLU and its limit, where they give y."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, y: Tensor, limit: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.limit = limit
        result: Tensor = _module(grad).sloped(grad, y, limit)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Sloped.apply(grads[0], *ctx.saved_tensors, ctx.limit), None, None


def _module(x: Tensor) -> Any:
    module = kernels_for(x)
    assert module is not None  # the functions of this file are asked on a GPU that has kernels
    return module
