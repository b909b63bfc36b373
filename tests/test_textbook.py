"""The networks and their gradients equal the same mathematics written out term by term."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from harness.models.build import Networks
from harness.models.generator import Generator
from tiny import N, Z, drawn, exact, networks, noise, units
from tools.textbook import textbook

TOGGLES = [[], ["transform_w", "separate_features"]]


def random_networks(toggles: list[str]) -> Networks:
    """In float64, every parameter drawn: biases and noise strengths start at zero and would hide."""
    both = networks(*toggles, resolution=16)
    drawn(both.generator)
    drawn(both.discriminator, seed=1000)
    return both


def outcome(both: Networks) -> dict[str, Tensor]:
    """What comes out, and the gradient of a squared gradient for every parameter."""
    z, h = exact(N, Z), units().double()
    image = both.generator(z, h, noise(5))
    small = (image / image.detach().abs().max()).detach().requires_grad_(True)
    judged = torch.cat([part.flatten() for part in both.discriminator(small)])
    (slope,) = torch.autograd.grad(judged.square().mean(), small, create_graph=True)
    (path,) = torch.autograd.grad(image.square().mean(), both.generator.constant, create_graph=True)
    (slope.square().mean() + path.square().mean()).backward()
    gradients = {
        f"{kind} {name}": parameter.grad
        for kind, network in (("G", both.generator), ("D", both.discriminator))
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    return {"image": image.detach(), "judged": judged.detach(), **gradients}


@pytest.mark.parametrize("toggles", TOGGLES, ids=["origin", "toggled"])
def test_networks_equal_their_textbook_form(toggles: list[str]) -> None:
    ours = outcome(random_networks(toggles))
    with textbook():
        theirs = outcome(random_networks(toggles))
    assert ours.keys() == theirs.keys() and len(ours) > 50
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], rtol=1e-9, atol=1e-9 * float(value.abs().max()), msg=name)


def test_textbook_ends_with_its_block() -> None:
    product = Generator.synthesis
    with textbook():
        assert Generator.synthesis is not product
    assert Generator.synthesis is product
