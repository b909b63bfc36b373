"""The objective's gradients: finite differences of the oracle, and which targets carry none."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
from cases import IMAGES, SOME_SUBSETS, Arrays, conditioned, configure, drawn, feature, inputs, of_images, of_symbols
from harness.models.losses import objective
from harness.models.objective import PLAYERS, Player, f_img, f_txt


def differences(player: Player, subset: frozenset[str], features: Arrays, d: Arrays) -> Arrays:
    """d total / d input of the oracle by central differences, for every feature and logit."""
    gradients = {}
    for name, array in [*features.items(), *d.items()]:
        gradient = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            kept, totals = array[index], []
            for step in (1e-5, -1e-5):
                array[index] = kept + step
                totals.append(oracle.objective(player, subset, features, d).total)
            array[index] = kept
            gradient[index] = (totals[0] - totals[1]) / 2e-5
        gradients[name] = gradient
    return gradients


STOPPED = {
    "generator": {"h", "h'", "f_res(r)", "f_c(r)", "f_img(r)", "f_txt(r)", "r"},
    "discriminator": {"h", "h'", "f_res(r)"},
}


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("subset", SOME_SUBSETS, ids=len)
def test_gradient_is_that_of_finite_differences_and_targets_carry_none(subset: frozenset[str], player: Player) -> None:
    raw, raw_b = drawn(n=3, seed=1)
    raw = {name: array.copy() for name, array in raw.items()}
    d = oracle.logits(subset, raw, raw_b)
    expected = differences(player, subset, raw, d)
    features, logits = of_symbols(raw), of_images(d)
    leaves = {str(name): tensor.requires_grad_() for part in (features, logits) for name, tensor in part.items()}
    if "separate_features" not in subset:
        features |= {f_img(y): features[f_txt(y)] for y in IMAGES}
    objective(player, configure(subset).loss, features, logits)["total"].backward()
    for name, leaf in leaves.items():
        got = np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()
        if name in STOPPED[player]:
            assert not got.any(), f"{name} carries a gradient"
        else:
            np.testing.assert_allclose(got, expected[name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_pairs_of_generated_images_carry_gradient_through_both() -> None:
    everything = frozenset(oracle.TOGGLES)
    for name, u, v in [
        ("iid_f", "f_img(x)", "f_img(x')"),
        ("iiv_f", "f_res(x)", "f_res(x')"),
        ("iic", "f_c(x)", "f_c(x')"),
    ]:
        features, b = inputs(everything)
        logits = conditioned(configure(everything).loss, features, b)
        pair = [features[feature(symbol)].requires_grad_() for symbol in (u, v)]
        objective("generator", configure(everything).loss, features, logits)[name].backward()
        assert all(leaf.grad is not None and leaf.grad.any() for leaf in pair), name
