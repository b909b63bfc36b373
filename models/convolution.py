"""Convolutions whose derivatives of any order are ordinary convolutions.

PyTorch's own second derivative of a convolution, which R1 and path length need, takes the gradient of the weights as a
convolution whose kernel is a whole image. GPUs have no fast kernel for that. Here it is the weight gradient that every
training step takes: W(x, g) with <W(x, g), v> = <conv(x, v), g>, linear in x and in g, whose own gradients are
convolutions again. On a processor PyTorch's rule stays: another order of sums would change the last bits of every run.

Shapes: x [N,I,H,W], weight [O,I,K,K], or [I,O,K,K] of a transposed one, bias [O].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """As torch's."""
    if not is_for(x.device):
        return F.conv2d(x, weight, bias, stride, padding)
    return _convolve(x, weight, bias, _Geometry(stride, padding))


def conv_transpose2d(x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    """As torch's."""
    if not is_for(x.device):
        return F.conv_transpose2d(x, weight, None, stride, padding)
    return _convolve(x, weight, None, _Geometry(stride, padding, transposed=True))


def is_for(device: torch.device) -> bool:
    """Whether the derivatives of this module are taken there, and not PyTorch's."""
    return device.type == "cuda"


@dataclass(frozen=True)
class _Geometry:
    stride: int
    padding: int
    transposed: bool = False
    extra: int = 0
    """Rows and columns at the far edge of a transposed one's output."""

    @property
    def arguments(self) -> tuple[list[int], list[int], list[int], bool, list[int], int]:
        """As ATen has them, from the stride to the groups."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], self.transposed, [self.extra] * 2, 1

    def adjoint(self, x: Tensor, weight: Tensor) -> _Geometry:
        """Of the way back, from the output to something of the shape of x."""
        if self.transposed:
            return _Geometry(self.stride, self.padding)
        passed_over = (x.shape[-1] + 2 * self.padding - weight.shape[-1]) % self.stride
        return _Geometry(self.stride, self.padding, True, passed_over)


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
    result: Tensor = _Convolution.apply(x, weight, bias, geometry)
    return result


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry = geometry
        result: Tensor = torch.ops.aten.convolution(x, weight, bias, *geometry.arguments)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (grad,), (x, weight), geometry = grads, ctx.saved_tensors, ctx.geometry
        of_x = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(grad, weight, None, geometry.adjoint(x, weight))
        if ctx.needs_input_grad[1]:
            of_weight = _WeightGradient.apply(x, grad, weight, geometry)
        if ctx.needs_input_grad[2]:
            of_bias = grad.sum((0, 2, 3))
        return of_x, of_weight, of_bias, None


class _WeightGradient(torch.autograd.Function):
    """W(x, g), linear in both; of `weight` it takes the shape and the layout."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, grad: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, grad)
        ctx.geometry = geometry
        # Of input, weight and bias, the gradient of the weight alone.
        wanted = [False, True, False]
        result: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry.arguments, wanted)[1]
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (direction,), (x, grad), geometry = grads, ctx.saved_tensors, ctx.geometry
        of_x = of_grad = None
        if ctx.needs_input_grad[0]:
            of_x = _convolve(grad, direction, None, geometry.adjoint(x, direction))
        if ctx.needs_input_grad[1]:
            of_grad = _convolve(x, direction, None, geometry)
        return of_x, of_grad, None, None
