"""Batches and conditions: what a step reads, and how h and h' are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from harness.data.dataset import mirror
from harness.models.config import ConditionConfig
from harness.settings import EncoderConfig
from harness.training.ranks import Draws
from harness.training.views import view
from runs import R, corpus

PLAIN = ConditionConfig(text_noise=0.0, pseudo_noise=0.0)


def test_without_noise_conditions_are_the_stored_features_of_the_drawn_images() -> None:
    subject = corpus()
    batch = subject.batch(PLAIN, seed=3, step=2, size=8)
    real = ((batch.real + 1) * 127.5).round().to(torch.uint8).numpy()
    ids = [int(np.flatnonzero((subject.dataset.images == image).all((1, 2, 3)))[0]) for image in real]
    assert set(ids) <= set(subject.dataset.train.tolist())
    for row, index in enumerate(ids):
        captions = [torch.from_numpy(subject.text.features[2 * index + c]) for c in (0, 1)]
        assert any(torch.allclose(batch.h[row], caption, atol=1e-6) for caption in captions)
        torch.testing.assert_close(batch.pseudo[row], torch.from_numpy(subject.frozen["f_c"][index]))
        assert set(batch.frozen) == {"f_c", "f_res"}
        assert all(np.array_equal(rows[row], subject.frozen[kind][index]) for kind, rows in batch.frozen.items())


def test_mirrored_images_come_half_of_the_time_with_features_of_their_own() -> None:
    plain = corpus()
    turned = replace(
        plain, dataset=mirror(plain.dataset), frozen={"f_c": -plain.frozen["f_c"], "f_res": plain.frozen["f_res"] + 100}
    )
    subject = replace(plain, mirror=turned)
    flipped = []
    for step in range(20):
        before, after = (each.batch(PLAIN, 0, step, 8) for each in (plain, subject))
        for row in range(8):
            same = torch.equal(before.real[row], after.real[row])
            assert same or torch.equal(before.real[row].flip(-1), after.real[row])
            torch.testing.assert_close(after.pseudo[row], before.pseudo[row] * (1 if same else -1))
            torch.testing.assert_close(after.frozen["f_c"][row], before.frozen["f_c"][row] * (1 if same else -1))
            torch.testing.assert_close(after.frozen["f_res"][row], before.frozen["f_res"][row] + (0 if same else 100))
            assert torch.equal(before.h[row], after.h[row])
            flipped.append(not same)
    assert 55 < sum(flipped) < 105
    assert mirror(plain.dataset).fingerprint != plain.dataset.fingerprint


def test_noise_keeps_unit_length_and_takes_its_share() -> None:
    subject = corpus()
    clean = subject.batch(PLAIN, 0, 0, 32)
    noisy = subject.batch(ConditionConfig(text_noise=0.1, pseudo_noise=0.75), 0, 0, 32)
    for feature in (noisy.h, noisy.pseudo):
        torch.testing.assert_close(feature.norm(dim=1), torch.ones(32))
    # unit(a v + b e) with e orthogonal on average: cos about a / sqrt(a^2 + b^2)
    assert abs(cosine_similarity(noisy.h, clean.h).mean() - 0.9 / np.hypot(0.9, 0.1)) < 0.02
    assert abs(cosine_similarity(noisy.pseudo, clean.pseudo).mean() - 0.25 / np.hypot(0.25, 0.75)) < 0.15


def test_language_free_training_never_reads_a_caption() -> None:
    subject = corpus()
    blind = replace(subject, text=replace(subject.text, features=np.full_like(subject.text.features, np.nan)))
    batch = blind.batch(ConditionConfig(pseudo_probability=1.0), 0, 0, 16)
    assert torch.isfinite(batch.h).all()
    assert not torch.allclose(batch.h, batch.pseudo), "the two pseudo features have noise of their own"


@pytest.mark.parametrize("size", [R, 32])  # of small images by indices, of larger ones by copies
def test_the_view_is_the_image_shifted_on_white(size: int) -> None:
    images = (torch.rand(50, 3, size, size) * 2 - 1).requires_grad_(True)
    shifted = view(images, EncoderConfig(crop=1 / size), Draws(torch.Generator().manual_seed(0)), size)
    assert shifted.shape == images.shape
    seen = torch.autograd.grad(shifted.sum(), images)[0]
    found = set()
    for before, after, by in zip(images, shifted, seen, strict=True):
        padded = torch.nn.functional.pad(before, (1, 1, 1, 1), value=1.0)
        places = [(y, x) for y in range(3) for x in range(3) if padded[:, y : y + size, x : x + size].equal(after)]
        assert len(places) == 1
        ((y, x),) = places
        inside = torch.zeros_like(padded)
        inside[:, y : y + size, x : x + size] = 1.0
        assert by.equal(inside[:, 1:-1, 1:-1]), "a pixel that is seen has its gradient, others have none"
        found.add((y, x))
    assert len(found) == 9


def test_the_view_adds_noise_of_the_given_strength_and_passes_gradients() -> None:
    images = torch.zeros(20, 3, R, R, requires_grad=True)
    noisy = view(images, EncoderConfig(pixel_noise=0.05), Draws(torch.Generator().manual_seed(0)), R)
    assert abs(noisy.std().item() - 0.05) < 0.003
    noisy.sum().backward()
    assert images.grad is not None and (images.grad == 1).all()
    assert view(images, EncoderConfig(), Draws(torch.Generator()), R) is images
