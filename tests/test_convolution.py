"""Convolutions with derivatives of their own, as a GPU takes them: PyTorch's numbers by kernels that are ordinary."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as torch_f
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.models import convolution
from harness.models.convolution import conv2d, conv_transpose2d
from harness.models.losses import path_lengths, r1_penalties
from runs import F, R, settings, trainer

SIZES = {"plain": conv2d, "transposed": conv_transpose2d}
CASES = [
    # way, size of x, of the kernel, stride, padding: those of the networks first
    ("plain", 4, 3, 1, 1),
    ("plain", 4, 1, 1, 0),
    ("plain", 5, 3, 2, 0),
    ("transposed", 3, 3, 2, 0),
    ("plain", 6, 3, 2, 0),  # the stride passes over the last column
    ("plain", 5, 3, 3, 1),
    ("transposed", 4, 3, 1, 1),
    ("transposed", 3, 3, 3, 1),
]


@pytest.fixture
def everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "is_for", lambda device: True)


def case(way: str, size: int, kernel: int, stride: int, padding: int) -> tuple[Any, Any, list[Tensor]]:
    """Ours, torch's, and what both are given: x, weight and, of a plain one, bias."""
    rng = torch.Generator().manual_seed(0)
    shapes = [(2, 2, size, size), (3, 2, kernel, kernel), (3,)]
    if way == "transposed":
        shapes = [shapes[0], (2, 3, kernel, kernel)]
    given = [torch.randn(shape, generator=rng, dtype=torch.float64, requires_grad=True) for shape in shapes]
    theirs = torch_f.conv2d if way == "plain" else torch_f.conv_transpose2d
    return (
        lambda *inputs: SIZES[way](*inputs, stride=stride, padding=padding),
        lambda *inputs: theirs(*inputs, stride=stride, padding=padding),
        given,
    )


@pytest.mark.parametrize("values", CASES, ids=lambda values: "-".join(map(str, values)))
def test_values_and_both_derivatives_are_those_of_finite_differences(
    values: tuple[str, int, int, int, int], everywhere: None
) -> None:
    ours, theirs, given = case(*values)
    assert "_Convolution" in type(ours(*given).grad_fn).__name__
    torch.testing.assert_close(ours(*given), theirs(*given), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(ours, given) and torch.autograd.gradgradcheck(ours, given)


def test_a_third_derivative_is_pytorchs(everywhere: None) -> None:
    found = []
    for function in case(*CASES[2])[:2]:
        given = case(*CASES[2])[2]
        value = function(*given).square().sum()
        for _ in range(3):
            value = sum((g.square().sum() for g in torch.autograd.grad(value, given[:2], create_graph=True)), value)
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(value, given)]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=0)


class Kernels(TorchDispatchMode):
    """Notes the largest kernel of any convolution that is not one of the 4x4 filters."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.convolution.default and args[-1] == 1:
            self.largest = max(self.largest, args[1].shape[-1])
        return func(*args, **(kwargs or {}))


def regularisers() -> tuple[dict[str, Tensor], int]:
    """R1 and path length, and their gradients in all weights, in float64; the largest kernel on the way."""
    networks, rng = trainer(settings()).networks, torch.Generator().manual_seed(0)
    g, d = networks.generator.double(), networks.discriminator.double()
    shapes = (4, g.z_dim), (4, F), (4, 3, R, R), (4, 3, R, R)
    z, h, y, x = (torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes)
    with Kernels() as kernels:
        r1 = r1_penalties(d(x.requires_grad_(True)).b, x).mean()
        ws = g.mapping(z)[:, None].repeat(1, g.layers, 1)
        lengths = path_lengths(g.synthesis(ws, h, partial(torch.randn, generator=rng)), ws, y)
        (r1 + lengths.square().mean()).backward()
    found = {"R1": r1[None], "path length": lengths}
    for name, network in (("D", d), ("G", g)):
        grads = [weights.grad.flatten() for weights in network.parameters() if weights.grad is not None]
        found[name] = torch.cat(grads)
    return found, kernels.largest


def test_r1_and_path_length_are_those_of_pytorch_by_kernels_of_three_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, usual = regularisers()
    monkeypatch.setattr(convolution, "is_for", lambda device: True)
    ours, own = regularisers()
    for part, value in theirs.items():
        assert (ours[part] - value).norm() <= 1e-12 * value.norm() and value.norm() > 0, part
    assert (usual, own) == (R, 3), "PyTorch's rule has kernels as large as an image"


def test_the_processor_keeps_pytorchs_rule() -> None:
    x, weight = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 3, 3, requires_grad=True)
    assert "Convolution" in type(conv2d(x, weight).grad_fn).__name__
    assert not hasattr(conv2d(x, weight).grad_fn, "geometry")
    assert convolution.is_for(torch.device("cuda")) and not convolution.is_for(torch.device("meta"))
