"""The operations StyleGAN2 is made of, in plain PyTorch: resampling and modulated convolution.

Shapes: N samples, I and O channels in and out, H x W pixels. Everything can be differentiated twice.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SQRT2 = math.sqrt(2.0)
_TAPS = (1.0, 3.0, 3.0, 1.0)


def blur(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    """Low-pass filter with the binomial [1,3,3,1] kernel: [N,C,H,W] -> [N,C,H+2p-3,W+2p-3]."""
    return _down(x, gain, 1, padding)


def downsample(x: Tensor) -> Tensor:
    """Filter and keep every second pixel: [N,C,H,W] -> [N,C,H/2,W/2]."""
    return _down(x, 1.0, 2, 1)


def upsample(x: Tensor) -> Tensor:
    """Insert zeros and filter: [N,C,H,W] -> [N,C,2H,2W], the mean kept."""
    return _up(x, 4.0, 2, 1, 0)


def leaky(x: Tensor) -> Tensor:
    """leaky_relu(x, 0.2), written over `x`; its gradient needs the result alone."""
    return F.leaky_relu(x, 0.2, inplace=True)


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, up: bool = False) -> Tensor:
    """Convolution whose input channels are scaled by `style` (StyleGAN2, Sec. 2.2, Eq. 1).

    x [N,I,H,W], weight [O,I,K,K] with K odd, style [N,I] -> [N,O,H,W], or [N,O,2H,2W] with `up`; in x's dtype.
    Scaling each sample's weights equals scaling its input, so one ordinary convolution serves the whole batch.
    """
    x = x * style.to(x.dtype)[:, :, None, None]
    weight = weight.to(x.dtype)
    if not up:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)
    return blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), padding=1, gain=4.0)


def demodulation(weight: Tensor, style: Tensor) -> Tensor:
    """1 / |s * W| for each sample and output channel (StyleGAN2, Eq. 3): [O,I,K,K], [N,I] -> [N,O]."""
    return (style.square() @ weight.square().sum((2, 3)).T + 1e-8).rsqrt()


def _kernel(like: Tensor, gain: float) -> Tensor:
    taps = torch.tensor(_TAPS, dtype=like.dtype, device=like.device) * (math.sqrt(gain) / 8.0)
    return torch.outer(taps, taps).expand(like.shape[1], 1, 4, 4)


def _down(x: Tensor, gain: float, stride: int, padding: int) -> Tensor:
    result: Tensor = _Down.apply(x, gain, stride, padding)
    return result


def _up(x: Tensor, gain: float, stride: int, padding: int, extra: int) -> Tensor:
    result: Tensor = _Up.apply(x, gain, stride, padding, extra)
    return result


class _Down(torch.autograd.Function):
    """Depthwise filter. Its gradient is `_Up`, so that no autograd rule loops over the channels."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float, stride: int, padding: int) -> Tensor:
        ctx.args = gain, stride, padding, (x.shape[-1] + 2 * padding - 4) % stride
        return F.conv2d(x, _kernel(x, gain), stride=stride, padding=padding, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _up(grads[0], *ctx.args), None, None, None


class _Up(torch.autograd.Function):
    """The adjoint of `_Down`: insert stride - 1 zeros between pixels, then filter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: float, stride: int, padding: int, extra: int) -> Tensor:
        ctx.args = gain, stride, padding
        if stride == 1:  # the kernel is symmetric: an ordinary filter, which has the faster kernel
            return F.conv2d(x, _kernel(x, gain), padding=3 - padding, groups=x.shape[1])
        # PyTorch's CPU kernel for this in bf16 is some sixty times slower than the one for fp32.
        wide = x.float() if x.dtype == torch.bfloat16 and x.device.type == "cpu" else x
        kernel, groups = _kernel(wide, gain), x.shape[1]
        y = F.conv_transpose2d(wide, kernel, stride=stride, padding=padding, output_padding=extra, groups=groups)
        return y.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _down(grads[0], *ctx.args), None, None, None, None
