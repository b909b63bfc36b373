"""The formulas of metrics where captions or images coincide, against plain loops and plain answers."""

from __future__ import annotations

import numpy as np
import pytest

from harness.metrics import formulas, measure
from harness.metrics.formulas import further_right
from harness.rng import numpy_generator
from paired import precision_recall


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def by_hand(images: np.ndarray, texts: np.ndarray, groups: np.ndarray, pool: int, seed: int) -> float:
    """R-precision with captions told apart by their group, one after the other in float64."""
    units = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    firsts = [int(np.flatnonzero(groups == group)[0]) for group in np.unique(groups)]
    firsts.sort(key=lambda row: tuple(units[row]))
    generator = numpy_generator(seed, "r-precision")
    won = 0
    for image, group in zip(images, groups, strict=True):
        wrong = [row for row in firsts if groups[row] != group]
        drawn = generator.choice(len(wrong), min(pool - 1, len(wrong)), replace=False)
        own = next(row for row in firsts if groups[row] == group)
        won += all(units[wrong[place]] @ image < units[own] @ image for place in drawn)
    return won / len(images)


class TestAlike:
    def test_rows_are_grouped_as_they_were_made(self, rng):
        for _ in range(60):
            groups = rng.integers(0, rng.integers(1, 7), rng.integers(1, 40))
            features = rng.normal(size=(7, 5))[groups] + rng.normal(size=(len(groups), 5)) * 1e-7
            firsts = [int(np.flatnonzero(groups == group)[0]) for group in groups]
            assert formulas.alike(features).tolist() == firsts

    def test_neighbours_on_a_line_that_are_far_apart_stay_apart(self, rng):
        direction = numpy_generator(0, "directions").normal(size=(8, 4))[:, 0]  # of the first line of `alike`
        direction /= np.linalg.norm(direction)
        across = rng.normal(size=(50, 8))
        across -= np.outer(across @ direction, direction)
        rows = np.concatenate([across, across[:5]])
        assert formulas.alike(rows).tolist() == [*range(50), *range(5)]

    @pytest.mark.parametrize("rows", [np.zeros((3, 4)), np.full((3, 4), 2.5)])
    def test_constant_rows_are_one(self, rows):
        assert formulas.alike(rows).tolist() == [0, 0, 0]
        assert len(formulas.alike(rows[:0])) == 0

    def test_it_depends_on_no_scale_and_on_no_order(self, rng):
        features = np.repeat(rng.normal(size=(20, 6)), 3, axis=0) + rng.normal(size=(60, 6)) * 1e-7
        for factor in (1e-6, 1.0, 1e6):
            assert len(set(formulas.alike(features[rng.permutation(60)] * factor))) == 20


class TestRPrecision:
    @pytest.mark.parametrize("noise", [0.0, 1e-7])
    def test_equal_captions_are_neither_rivals_nor_twice_drawn(self, rng, noise):
        groups = rng.integers(0, 30, 200)
        texts = rng.normal(size=(30, 8))[groups]
        images = texts + rng.normal(size=texts.shape)
        shaken = texts + rng.normal(size=texts.shape) * noise
        for pool in (2, 10, 100):
            wanted = by_hand(images / np.linalg.norm(images, axis=1, keepdims=True), texts, groups, pool, 5)
            assert 0 < wanted < 1
            assert formulas.r_precision(images, shaken, pool, seed=5) == pytest.approx(wanted, abs=1 / 200)

    @pytest.mark.parametrize("noise", [0.0, 1e-7])
    def test_one_caption_for_all_is_won_by_nobody(self, rng, noise):
        texts = np.repeat(rng.normal(size=(1, 8)), 50, axis=0) + rng.normal(size=(50, 8)) * noise
        assert np.isnan(formulas.r_precision(texts, texts))
        assert formulas.rivals(texts) == 0
        assert set(measure.against_captions(texts, texts, 0)) == {"clip_score"}

    def test_blind_images_are_at_chance(self, rng):
        """Images that have nothing to do with their captions, of five classes of which one is frequent."""
        groups = rng.choice(5, 4000, p=[0.6, 0.1, 0.1, 0.1, 0.1])
        classes = rng.normal(size=(5, 64))
        classes /= np.linalg.norm(classes, axis=1, keepdims=True)
        images = rng.normal(size=(4000, 64))
        score = formulas.r_precision(images, classes[groups])
        assert score == np.mean(np.argmax(images @ classes.T, axis=1) == groups)
        assert score == pytest.approx(1 / (1 + formulas.rivals(classes[groups])), abs=0.05)

    def test_a_further_caption_of_an_image_is_no_rival_of_its_own(self, rng):
        """Image 0 looks like caption 1, which is its second caption; image 2 does too, and has but one."""
        texts = np.eye(4)
        images = np.array([[0.5, 0.9, 0, 0], [0, 1, 0, 0], [0, 0.9, 0.5, 0], [0, 0, 0, 1.0]])
        right = further_right(texts, np.array([0, 3]), np.array([[1e-8, 1, 0, 0], [0.6, 0.8, 0, 0]]))
        assert right == {0: (1,)}
        assert formulas.r_precision(images, texts) == 0.5
        assert formulas.r_precision(images, texts, right=right) == 0.75
        both = {0: (1,), 1: (0,)}
        assert np.isnan(formulas.r_precision(images[:2], texts[:2], right=both))

    def test_a_full_pool_is_of_a_hundred(self, rng):
        assert formulas.rivals(rng.normal(size=(100, 8))) == 99
        assert formulas.rivals(rng.normal(size=(5000, 8))) == 99
        assert formulas.rivals(rng.normal(size=(7, 8))) == 6


class TestShuffle:
    @pytest.mark.parametrize("sizes", [[1] * 9, [2, 2], [3, 3, 1], [5, 1, 1], [8, 1], [4, 4, 4], [1, 1], [6]])
    def test_as_many_as_can_be_get_another_caption(self, sizes, rng):
        groups = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
        for seed in range(5):
            others = measure.derangement(len(groups), seed, groups)
            assert sorted(others) == list(range(len(groups)))
            same = int(np.sum(groups == groups[others]))
            assert same == max(0, 2 * max(sizes) - sum(sizes))

    def test_without_equal_captions_nothing_stays_in_its_place(self):
        for count in (2, 3, 50):
            assert not np.any(measure.derangement(count, 1) == np.arange(count))


class TestPrecisionAndRecall:
    def test_equal_real_images_span_no_manifold(self, rng):
        fake = rng.normal(size=(30, 6))
        for different in (1, 2, 3):
            real = np.repeat(rng.normal(size=(different, 6)), 10, axis=0)
            assert np.isnan(precision_recall(real, fake)).all()
            assert set(measure.against_real(real, fake)) == {"fd", "kid"}
            assert set(measure.against_real(real, real)) == {"fd", "kid"}

    def test_copies_of_real_images_change_nothing(self, rng):
        real, fake = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
        once = precision_recall(real, fake)
        assert 0.3 < once[0] < 1
        assert precision_recall(np.repeat(real, 5, axis=0), fake) == pytest.approx(once)

    def test_a_collapsed_generator_has_no_recall(self, rng):
        real = rng.normal(size=(60, 4))
        precision, recall = precision_recall(real, np.repeat(real[:1], 40, axis=0))
        assert (precision, recall) == (1.0, 1 / 60)
