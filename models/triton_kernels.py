"""What a training step does to each pixel, as Triton kernels: a GPU reads each value once and writes each once.

PyTorch's convolutions of one channel each, which the filter would be, take 25 to 85 times the time of a copy there (on
an H200), and its sums and products with one number for each channel four times. The module is imported where a GPU
computes. It needs Triton, which comes with PyTorch for CUDA.

Shapes: images [N,C,H,W], whose channels lie side by side in memory (channels_last) unless said otherwise; s [N,C].
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

SIZE = 1024
"""Values that one program of a kernel writes."""
MOST = 2**31
"""Values of a tensor, which the kernels count with 32 bits."""
_ROWS, _CHANNELS, _PROGRAMS = 32, 64, 1024
"""Pixels and channels that a program of `dots` reads at a time, and programs that fill a GPU."""

# Triton reads annotations, and knows those of its own alone: other parameters of a kernel have none.


@triton.jit  # type: ignore[untyped-decorator]
def _filter(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    x,
    y,
    count,     # values of y
    channels,  # of both if IS_LAST; otherwise a plane is all that has rows and columns
    height,    # of x
    width,
    rows,      # of y
    columns,
    padding,
    gain,      # of each tap, for both directions
    STRIDE: tl.constexpr,   # of y's pixels in x, or with IS_UP of x's in y
    IS_UP: tl.constexpr,
    IS_LAST: tl.constexpr,  # channels lie side by side in memory
    SUM: tl.constexpr,      # the type that sums are kept in
    SIZE: tl.constexpr,     # values of a program
):  # fmt: skip
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = place < count
    step = channels if IS_LAST else 1
    pixel = place // step
    column, row, plane = pixel % columns, pixel // columns % rows, pixel // columns // rows
    start = plane * height * width * step + place % step
    total = tl.zeros([SIZE], SUM)
    TAPS: tl.constexpr = 2 if IS_UP and STRIDE == 2 else 4  # of four taps that meet a zero between pixels two are left
    for j in tl.static_range(TAPS):
        if IS_UP:
            across = (column + padding) % STRIDE + STRIDE * j
            at_column = (column + padding - across) // STRIDE
        else:
            across = j
            at_column = column * STRIDE - padding + j
        has_column = inside & (at_column >= 0) & (at_column < width)
        line = tl.zeros([SIZE], SUM)
        for i in tl.static_range(TAPS):
            if IS_UP:
                down = (row + padding) % STRIDE + STRIDE * i
                at_row = (row + padding - down) // STRIDE
            else:
                down = i
                at_row = row * STRIDE - padding + i
            has = has_column & (at_row >= 0) & (at_row < height)
            value = tl.load(x + start + (at_row * width + at_column) * step, mask=has, other=0.0)
            line += value.to(SUM) * tl.where(down % 3 == 0, 1.0, 3.0).to(SUM)
        total += line * tl.where(across % 3 == 0, 1.0, 3.0).to(SUM)
    tl.store(y + place, (total * gain).to(y.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _each(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    x,
    y,
    scale,     # [N,C]
    bias,      # [C]
    noise,     # [N,1,H,W]
    count,     # values of x
    channels,
    pixels,    # of a sample
    limit,     # to either side
    HAS_SCALE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_NOISE: tl.constexpr,
    IS_LEAKY: tl.constexpr,
    HAS_LIMIT: tl.constexpr,
    SUM: tl.constexpr,
    SIZE: tl.constexpr,
):  # fmt: skip
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = place < count
    pixel, channel = place // channels, place % channels
    value = tl.load(x + place, mask=inside, other=0.0).to(SUM)
    if HAS_SCALE:
        value *= tl.load(scale + pixel // pixels * channels + channel, mask=inside, other=0.0).to(SUM)
    if HAS_BIAS:
        value += tl.load(bias + channel, mask=inside, other=0.0).to(SUM)
    if HAS_NOISE:
        value += tl.load(noise + pixel, mask=inside, other=0.0).to(SUM)
    if IS_LEAKY:
        value = tl.where(value > 0, value, 0.2 * value)
    if HAS_LIMIT:  # what is no number stays so
        value = tl.where(value > limit, limit, tl.where(value < -limit, -limit, value))
    tl.store(y + place, value.to(y.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _slope(x, y, z, count, limit, HAS_LIMIT: tl.constexpr, SUM: tl.constexpr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: PLR0913
    place = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    inside = place < count
    value = tl.load(x + place, mask=inside, other=0.0).to(SUM)
    at = tl.load(y + place, mask=inside, other=0.0).to(SUM)
    value = tl.where(at > 0, value, 0.2 * value)
    if HAS_LIMIT:
        value = tl.where((at >= limit) | (at <= -limit), 0.0, value)
    tl.store(z + place, value.to(z.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _dots(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    x,
    y,
    z,         # [parts,N,C]
    channels,
    pixels,    # of a sample
    part,      # pixels of a part
    SUM: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
):  # fmt: skip
    sample, first = tl.program_id(0), tl.program_id(2) * part
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros([ROWS, CHANNELS], SUM)
    for start in range(0, part, ROWS):
        pixel = first + start + tl.arange(0, ROWS)
        inside = ((pixel < pixels) & (pixel < first + part))[:, None] & (channel < channels)[None, :]
        place = (sample * pixels + pixel)[:, None] * channels + channel[None, :]
        one = tl.load(x + place, mask=inside, other=0.0).to(SUM)
        total += one * tl.load(y + place, mask=inside, other=0.0).to(SUM)
    place = (tl.program_id(2) * tl.num_programs(0) + sample) * channels + channel
    tl.store(z + place, tl.sum(total, axis=0), mask=channel < channels)


def filtered(x: Tensor, shape: tuple[int, int], gain: float, stride: int, padding: int, is_up: bool) -> Tensor:
    """x [N,C,H,W] -> [N,C,*shape]: every `stride`-th pixel of the padded image, or with `is_up` zeros between pixels.

    The filter sums to `gain`. x may lie in memory either way, and the result lies as it does.
    """
    is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if is_last else torch.contiguous_format
    x = x.contiguous(memory_format=layout)
    y = torch.empty((*x.shape[:2], *shape), dtype=x.dtype, device=x.device, memory_format=layout)
    if y.numel():
        sizes = (y.numel(), x.shape[1], *x.shape[2:], *shape, padding, gain / 64)
        _filter[_programs(y)](x, y, *sizes, stride, is_up, is_last, _sum_type(x), SIZE)
    return y


def each(
    x: Tensor,
    scale: Tensor | None,  # s
    bias: Tensor | None = None,   # [C]
    noise: Tensor | None = None,  # [N,1,H,W]
    is_leaky: bool = False,
    limit: float = 0.0,
) -> Tensor:  # fmt: skip
    """x * s + bias + noise, if asked through leaky ReLU of slope 0.2, and cut off at a `limit` that is not 0."""
    x = _last(x)
    y = torch.empty_like(x, memory_format=torch.channels_last)
    given = [None if part is None else part.contiguous() for part in (scale, bias, noise)]
    pointers = [x if part is None else part for part in given]
    has = [part is not None for part in given]
    sizes = (x.numel(), x.shape[1], x.shape[2] * x.shape[3], limit)
    if x.numel():
        _each[_programs(x)](x, y, *pointers, *sizes, *has, is_leaky, limit > 0, _sum_type(x), SIZE)
    return y


def sloped(x: Tensor, y: Tensor, limit: float) -> Tensor:
    """x times the slope that leaky ReLU and the limit have where they give y."""
    x, y = _last(x), _last(y)
    z = torch.empty_like(x, memory_format=torch.channels_last)
    if x.numel():
        _slope[_programs(x)](x, y, z, x.numel(), limit, limit > 0, _sum_type(x), SIZE)
    return z


def dots(x: Tensor, y: Tensor) -> Tensor:
    """[N,C]: the sum of x * y over the pixels, in fp32, or fp64 of such. Summed in the same order each time."""
    x, y = _last(x), _last(y)
    (n, channels), pixels = x.shape[:2], x.shape[2] * x.shape[3]
    blocks = triton.cdiv(channels, _CHANNELS)
    parts = max(1, min(_PROGRAMS // max(1, n * blocks), triton.cdiv(pixels, 8 * _ROWS)))
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    z = torch.zeros((parts, n, channels), dtype=dtype, device=x.device)
    if x.numel():
        part = triton.cdiv(pixels, parts)
        _dots[(n, blocks, parts)](x, y, z, channels, pixels, part, _sum_type(x), _ROWS, _CHANNELS)
    return z.sum(0)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _programs(y: Tensor) -> tuple[int]:
    return (triton.cdiv(y.numel(), SIZE),)


def _sum_type(x: Tensor) -> tl.dtype:
    return tl.float64 if x.dtype == torch.float64 else tl.float32
