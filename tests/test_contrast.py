"""The contrast and the conditional logit by themselves: naive loops, values by hand, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import oracle
from cases import feature
from harness.models.config import ModelConfig
from harness.models.losses import condition_logit, contrast, objective, projection
from harness.models.objective import LossConfig
from harness.models.toggles import apply

F = 6


def pair(n: int = 7, seed: int = 3) -> tuple[oracle.Array, oracle.Array]:
    draw = np.random.default_rng(seed)
    return draw.standard_normal((n, F)), draw.standard_normal((n, F))


@pytest.mark.parametrize("similarity", ["exp", "cosine"])
@pytest.mark.parametrize("tau", [0.25, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_contrast_equals_the_double_loop(n: int, tau: float, similarity: str) -> None:
    u, v = pair(n)
    got = contrast(torch.tensor(u), torch.tensor(v), tau, similarity).item()
    assert got == pytest.approx(oracle.contrast(u, v, tau, similarity), rel=1e-10, abs=1e-10)


def test_contrast_has_the_sources_defaults() -> None:
    u, v = (torch.tensor(array) for array in pair())
    assert contrast(u, v).item() == contrast(u, v, tau=0.5, similarity="exp").item()


def test_contrast_of_two_by_hand() -> None:
    """u = (e1, e2), v = (e1, e1), tau 1: the denominator runs over u, so both samples share it."""
    u, v = torch.eye(2, dtype=torch.float64), torch.tensor([[1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    near, far = math.exp(1), math.exp(0)
    both = math.log(math.exp(near) + math.exp(far))
    assert contrast(u, v, 1.0).item() == pytest.approx(both - (near + far) / 2, rel=1e-12)
    assert contrast(v, u, 1.0).item() != pytest.approx(both - (near + far) / 2, rel=1e-3)


def test_contrast_sums_over_the_first_argument() -> None:
    u, v = (torch.tensor(array) for array in pair())
    sim = torch.exp(torch.nn.functional.cosine_similarity(u[:, None], v[None], dim=2) / 0.5)
    assert contrast(u, v).item() == pytest.approx(-0.5 * sim.log_softmax(0).diagonal().mean().item(), rel=1e-10)
    assert contrast(u, v).item() != pytest.approx(contrast(v, u).item(), rel=1e-6)


@pytest.mark.parametrize("similarity", ["exp", "cosine"])
def test_contrast_is_lower_for_aligned_pairs(similarity: str) -> None:
    u, noise = (torch.tensor(array) for array in pair())
    v = u + 0.1 * noise
    aligned = contrast(u, v, similarity=similarity)
    assert all(aligned < contrast(u, v.roll(shift, 0), similarity=similarity) for shift in range(1, len(u)))
    assert 0 <= aligned < 0.5 * math.log(len(u))


@pytest.mark.parametrize("similarity", ["exp", "cosine"])
def test_contrast_knows_directions_only(similarity: str) -> None:
    u, v = (torch.tensor(array) for array in pair())
    scale = torch.linspace(0.01, 100, len(u), dtype=torch.float64)[:, None]
    assert contrast(u * scale, v / scale, similarity=similarity).item() == pytest.approx(
        contrast(u, v, similarity=similarity).item(), rel=1e-10
    )


def test_contrast_is_a_mean_over_samples() -> None:
    """Identical samples leave no evidence: tau * log n for every sample, whatever the batch."""
    for n in (2, 16, 200):
        same = torch.ones(n, F, dtype=torch.float64)
        assert contrast(same, same).item() == pytest.approx(0.5 * math.log(n), rel=1e-12)


def test_contrast_survives_small_temperatures() -> None:
    u = torch.eye(4, requires_grad=True)
    loss = contrast(u, u.detach().roll(1, 0), tau=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(0.1 * (math.exp(10) - 1), rel=1e-5)
    assert torch.isfinite(u.grad).all()


def test_a_logit_depends_on_its_own_sample_alone() -> None:
    f, h = (torch.tensor(array) for array in pair())
    b = torch.zeros(len(f), dtype=f.dtype)
    before = condition_logit(LossConfig(), (b, f), "x", h, h.flip(0))
    assert before.shape == (len(f),)
    f[2] += 1
    after = condition_logit(LossConfig(), (b, f), "x", h, h.flip(0))
    assert (after != before).tolist() == [index == 2 for index in range(len(f))]


@pytest.mark.parametrize(("image", "pseudo_counts"), [("r", False), ("x", False), ("x'", True)])
def test_unmixed_images_meet_their_own_condition(image: str, pseudo_counts: bool) -> None:
    f, h = (torch.tensor(array) for array in pair())
    pseudo, b = h.flip(0), torch.arange(7, dtype=f.dtype)
    got = condition_logit(LossConfig(), (b, f), image, h, pseudo)
    torch.testing.assert_close(got, b + (f * (pseudo if pseudo_counts else h)).sum(1))


@pytest.mark.parametrize(("loss", "image"), [(LossConfig(), "x'"), (LossConfig(mix_logits=True), "x")])
def test_missing_pseudo_feature_is_refused(loss: LossConfig, image: str) -> None:
    f, h = (torch.tensor(array) for array in pair())
    with pytest.raises(TypeError):
        condition_logit(loss, (h[:, 0], f), image, h, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", ["x", "x'", "r"])
@pytest.mark.parametrize("lam", [0.0, 0.5, 0.8, 1.0])
def test_mixing_weighs_real_and_pseudo_condition(image: str, lam: float) -> None:
    f, h = (torch.tensor(array) for array in pair())
    pseudo, b = h.flip(0), torch.arange(7, dtype=f.dtype)
    got = condition_logit(LossConfig(mix_logits=True, mix_lambda=lam), (b, f), image, h, pseudo)
    torch.testing.assert_close(got, b + lam * (f * h).sum(1) + (1 - lam) * (f * pseudo).sum(1))


# features of unequal width -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wide", "narrow"), [(12, 6), (9, 8), (2048, 64)])
def test_projection_is_orthonormal_and_fixed(wide: int, narrow: int) -> None:
    matrix = projection(wide, narrow)
    assert matrix.shape == (wide, narrow)
    torch.testing.assert_close(matrix.T @ matrix, torch.eye(narrow, dtype=torch.float64), atol=1e-12, rtol=0)
    inside = torch.tensor(np.random.default_rng(0).standard_normal((5, narrow))) @ matrix.T
    torch.testing.assert_close((inside @ matrix).norm(dim=1), inside.norm(dim=1))
    projection.cache_clear()
    torch.testing.assert_close(projection(wide, narrow), matrix, atol=1e-12, rtol=0)


def test_projection_is_the_same_on_every_machine() -> None:
    expected = [[-0.265870472970, -0.734692263743], [-0.422857767139, 0.670703580620], [0.866316455097, 0.101901837770]]
    torch.testing.assert_close(projection(3, 2), torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


@pytest.mark.parametrize(("image_width", "resnet_width"), [(6, 10), (10, 6)])
def test_only_pairs_of_unequal_width_are_projected(image_width: int, resnet_width: int) -> None:
    """iiv_d and iivd meet in the narrower width; iid_r and iiv_r stay as they are."""
    loss = apply(ModelConfig(), ["img_img_loss", "resnet_guided"]).loss
    draw = np.random.default_rng(4)
    widths = {"f_img": image_width, "f_res": resnet_width, "f_txt": 6, "f_c": 6}
    raw = {f"{name}({y})": draw.standard_normal((5, width)) for name, width in widths.items() for y in ("x", "r")}
    raw["h"] = draw.standard_normal((5, 6))
    logits = {y: torch.zeros(5, dtype=torch.float64) for y in ("x", "r")}
    features = {feature(name): torch.tensor(array) for name, array in raw.items()}
    matrix = projection(10, 6).numpy()
    narrow = {name: array @ matrix if array.shape[1] == 10 else array for name, array in raw.items()}
    got = objective("generator", loss, features, logits) | objective("discriminator", loss, features, logits)
    for name, u, v, of in [
        ("iiv_d", "f_img(x)", "f_res(r)", narrow),
        ("iivd", "f_img(r)", "f_res(r)", narrow),
        ("iid_r", "f_img(x)", "f_img(r)", raw),
        ("iiv_r", "f_res(x)", "f_res(r)", raw),
    ]:
        assert got[name].item() == pytest.approx(oracle.contrast(of[u], of[v]), rel=1e-10), name
