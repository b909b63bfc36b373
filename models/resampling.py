"""Images made larger, smaller and smooth, with the binomial filter [1,3,3,1] of StyleGAN2.

Shapes: N samples, C channels, H x W pixels. Everything can be differentiated as often as asked.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.kernels import kernels_for


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Low-pass filter: [N,C,H,W] -> [N,C,H+2p-3,W+2p-3]."""
    return _down(x, gain, 1, padding)


def downsample(x: Tensor) -> Tensor:
    """Filter and keep every second pixel: [N,C,H,W] -> [N,C,H/2,W/2]."""
    return _down(x, 1.0, 2, 1)


def upsample(x: Tensor) -> Tensor:
    """Insert zeros and filter: [N,C,H,W] -> [N,C,2H,2W]."""
    return _up(x, 4.0, 2, 1, (0, 0))  # three of four pixels are zeros: the gain of 4 keeps the mean


def _down(x: Tensor, gain: float, stride: int, padding: int) -> Tensor:
    result: Tensor = _Down.apply(x, gain, stride, padding)
    return result


def _up(x: Tensor, gain: float, stride: int, padding: int, extra: tuple[int, ...]) -> Tensor:
    result: Tensor = _Up.apply(x, gain, stride, padding, extra)
    return result


# The two are adjoint, <down(x), y> = <x, up(y)>, and linear: the gradient of each is the other, of any order. PyTorch's
# own rule for the gradient of a depthwise convolution is slow, above all the second time.


class _Down(torch.autograd.Function):
    """Pad, filter each channel, keep every `stride`-th pixel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float, stride: int, padding: int) -> Tensor:
        # Pixels at the far edge that the stride passes over: the way back has to append as many.
        extra = tuple((side + 2 * padding - 4) % stride for side in x.shape[2:])
        ctx.args = gain, stride, padding, extra
        if module := kernels_for(x):
            rows, columns = ((side + 2 * padding - 4) // stride + 1 for side in x.shape[2:])
            result: Tensor = module.filtered(x, (rows, columns), gain, stride, padding, is_up=False)
            return result
        return F.conv2d(x, _taps(x, gain), stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _up(grads[0], *ctx.args), None, None, None


class _Up(torch.autograd.Function):
    """Insert stride - 1 zeros between pixels, filter each channel, crop; `extra` rows and columns at the far edge."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float, stride: int, padding: int, extra: tuple[int, ...]) -> Tensor:
        ctx.args = gain, stride, padding
        if module := kernels_for(x):
            rows, columns = (
                (side - 1) * stride - 2 * padding + 4 + more for side, more in zip(x.shape[2:], extra, strict=True)
            )
            result: Tensor = module.filtered(x, (rows, columns), gain, stride, padding, is_up=True)
            return result
        if stride == 1:  # the filter is symmetric: an ordinary one, for which PyTorch is faster
            return F.conv2d(x, _taps(x, gain), padding=3 - padding, groups=x.shape[1])
        # PyTorch's CPU kernel for this in bf16 is some sixty times slower than the one for fp32.
        wide = x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x
        taps, groups = _taps(wide, gain), x.shape[1]
        y = F.conv_transpose2d(wide, taps, stride=stride, padding=padding, output_padding=extra, groups=groups)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _down(grads[0], *ctx.args), None, None, None, None


def _taps(like: Tensor, gain: float) -> Tensor:
    """[C,1,4,4], which sums to `gain` in each channel."""
    return _taps_of(like.shape[1], like.dtype, like.device, gain)


@cache  # made anew it would be a copy from the host in every filter; what is recorded as a graph reads it where it lies
def _taps_of(channels: int, dtype: torch.dtype, device: torch.device, gain: float) -> Tensor:
    """[C,1,4,4]; the first call may be in inference mode, later ones are not."""
    with torch.inference_mode(False):
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=dtype, device=device) * (math.sqrt(gain) / 8.0)
        return torch.outer(taps, taps).repeat(channels, 1, 1, 1)
