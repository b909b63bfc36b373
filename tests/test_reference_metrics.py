"""Our numbers against those of the reference implementations, from the same features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity import metric_fid, metric_kid, metric_prc

from harness.metrics import formulas
from harness.models.encoders.load import load_clip
from paired import kernel_distance, precision_recall


def features(count: int, width: int, seed: int) -> np.ndarray:
    """Non-negative and correlated, with a spectrum that falls off, as pooled features are."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(1).normal(size=(width, width)) * np.logspace(0, -2, width) / np.sqrt(width)
    return np.abs((1 + 0.1 * seed) * rng.normal(size=(count, width)) @ mix + 0.02 * seed)


def fidelity_fid(a: np.ndarray, b: np.ndarray) -> float:
    one, two = (metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b))
    return float(metric_fid.fid_statistics_to_metric(one, two, False)["frechet_inception_distance"])


@pytest.mark.parametrize(("n", "m", "width"), [(900, 700, 64), (80, 700, 128), (900, 700, 320), (300, 600, 320)])
def test_frechet_distance_is_torch_fidelity_s(n: int, m: int, width: int) -> None:
    a, b = features(n, width, 0), features(m, width, 1)
    assert formulas.frechet_distance(a, b) == pytest.approx(fidelity_fid(a, b), rel=1e-4)


@pytest.mark.parametrize(("n", "m", "width"), [(500, 600, 300), (280, 600, 300), (290, 270, 300)])
def test_the_faster_route_changes_nothing(n: int, m: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = features(n, width, 0), features(m, width, 1)
    fast = formulas.frechet_distance(a, b)
    monkeypatch.setattr(formulas, "_SMALL", 10_000)
    exact = formulas.frechet_distance(a, b)
    assert fast == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("scales", [np.logspace(0, -9, 300), np.append(np.ones(200), np.zeros(100))])
def test_where_the_faster_route_would_lose_digits_singular_values_are_taken(scales: np.ndarray) -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=(700, 300)) * scales + 5
    assert formulas.frechet_distance(a, a[::-1]) == pytest.approx(0.0, abs=1e-12)
    moved = a + np.eye(300)[0] * 1e-3
    assert formulas.frechet_distance(a, moved) == pytest.approx(1e-6, rel=1e-6)


def test_kernel_distance_is_torch_fidelity_s_on_the_full_sample() -> None:
    a, b = features(700, 96, 0), features(700, 96, 1)
    options = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    kernels = [metric_kid.kernel_poly(x, y, **options) for x, y in ((a, a), (a, b), (b, b))]
    assert kernel_distance(a, b) == pytest.approx(metric_kid.mmd2(*kernels, mmd_est="unbiased"), rel=1e-4)


def test_precision_and_recall_are_torch_fidelity_s() -> None:
    real, fake = features(800, 24, 0), features(600, 24, 1)
    options = {"prc_neighborhood": 3, "prc_batch_size": 300, "save_cpu_ram": True, "verbose": False}
    theirs = metric_prc.prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), **options)
    assert precision_recall(real, fake) == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-4)
    assert 0 < theirs["recall"] < 1


def test_clip_score_is_the_plain_loop_over_open_clip_s_own_features() -> None:
    clip = load_clip("embedded:clip-measure")
    images = torch.rand(12, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    texts = [
        f"a red {word}"
        for word in ["heart", "cat", "dog", "car", "tree", "star", "ball", "house", "bird", "fish", "moon", "hand"]
    ]
    ours = formulas.clip_score(clip.image(images).numpy(), clip.text(texts).numpy())
    total = 0.0
    with torch.inference_mode():
        for image, text in zip(images, texts, strict=True):
            pixels = clip._prepared(image[None])
            seen, read = clip.network.encode_image(pixels), clip.network.encode_text(clip._tokenize([text]))
            cosine = (seen / seen.norm(dim=-1, keepdim=True)) @ (read / read.norm(dim=-1, keepdim=True)).T
            total += max(100 * float(cosine), 0.0)
    assert ours == pytest.approx(total / len(texts), rel=1e-4)
