"""Metrics against closed forms, against torch-fidelity on the same features, and in cases whose answer is plain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ortho_group
from torch_fidelity import metric_fid, metric_kid, metric_prc

from harness.errors import Diverged
from harness.metrics import formulas as metrics
from harness.metrics import pairs
from harness.metrics.definitions import METRICS, find_metric, metrics_of
from harness.metrics.measure import against_real, derangement
from harness.metrics.names import MEASURES, recorded
from harness.metrics.real_side import RealSide, real_side
from paired import kernel_distance, precision_recall


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def with_moments(rng: np.random.Generator, mean: np.ndarray, covariance: np.ndarray, count: int = 200) -> np.ndarray:
    """Features whose sample mean and covariance are exactly these."""
    raw = rng.normal(size=(count, len(mean)))
    raw -= raw.mean(axis=0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(raw, rowvar=False)))).T
    return white @ np.linalg.cholesky(covariance).T + mean


def fidelity_fid(a: np.ndarray, b: np.ndarray) -> float:
    one, two = (metric_fid.fid_features_to_statistics(torch.from_numpy(x)) for x in (a, b))
    return metric_fid.fid_statistics_to_metric(one, two, False)["frechet_inception_distance"]


class TestFrechet:
    def test_one_dimension(self, rng):
        a = with_moments(rng, np.array([1.0]), np.array([[4.0]]))
        b = with_moments(rng, np.array([-2.0]), np.array([[0.25]]))
        assert metrics.frechet_distance(a, b) == pytest.approx(3.0**2 + (2.0 - 0.5) ** 2)

    def test_commuting_covariances(self, rng):
        a = with_moments(rng, np.zeros(3), np.diag([1.0, 4.0, 9.0]))
        b = with_moments(rng, np.array([1.0, 2.0, 0.0]), np.diag([4.0, 4.0, 0.25]))
        assert metrics.frechet_distance(a, b) == pytest.approx(5.0 + 1.0 + 0.0 + 2.5**2)

    def test_covariances_that_do_not_commute(self, rng):
        s1, s2 = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 2.0]])
        # For 2x2 matrices tr M^1/2 = sqrt(tr M + 2 sqrt(det M)).
        cross = np.sqrt(np.trace(s1 @ s2) + 2 * np.sqrt(np.linalg.det(s1 @ s2)))
        a, b = with_moments(rng, np.zeros(2), s1), with_moments(rng, np.zeros(2), s2)
        assert metrics.frechet_distance(a, b) == pytest.approx(np.trace(s1) + np.trace(s2) - 2 * cross)

    @pytest.mark.parametrize("shape", [(300, 24), (10, 24)])
    def test_identical_sets_are_at_zero(self, rng, shape):
        a = rng.normal(size=shape) * np.logspace(0, -6, 24) + 50
        assert metrics.frechet_distance(a, a[::-1]) == pytest.approx(0.0, abs=1e-12)

    @pytest.mark.parametrize(("n", "m"), [(300, 200), (12, 200), (300, 9), (12, 9)])
    def test_symmetric_and_blind_to_rotation(self, rng, n, m):
        a, b = rng.normal(size=(n, 24)), rng.normal(1.0, 0.5, size=(m, 24))
        turn = ortho_group.rvs(24, random_state=3)
        value = metrics.frechet_distance(a, b)
        assert metrics.frechet_distance(b, a) == pytest.approx(value, rel=1e-12)
        assert metrics.frechet_distance(a @ turn, b @ turn) == pytest.approx(value, rel=1e-12)

    @pytest.mark.parametrize(("n", "m"), [(500, 400), (12, 400), (10, 9)])
    def test_agrees_with_torch_fidelity(self, rng, n, m):
        mix = rng.normal(size=(20, 20))
        a, b = rng.normal(size=(n, 20)) @ mix, rng.normal(0.3, 1.5, size=(m, 20))
        assert metrics.frechet_distance(a, b) == pytest.approx(fidelity_fid(a, b), rel=1e-6)

    def test_few_samples_equal_the_full_form(self, rng):
        a, b = rng.normal(size=(8, 30)), rng.normal(0.5, 2.0, size=(200, 30))
        s1, s2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        root = with_root(s2)
        cross = np.sqrt(np.linalg.eigvalsh(root @ s1 @ root).clip(0)).sum()
        full = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s1) + np.trace(s2) - 2 * cross
        assert metrics.frechet_distance(a, b) == pytest.approx(full, rel=1e-6)


def with_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


class TestKernelDistance:
    def test_agrees_with_torch_fidelity_on_the_full_sample(self, rng):
        a, b = rng.normal(size=(150, 16)), rng.normal(0.2, 1.2, size=(150, 16))
        options = {"kid_subsets": 1, "kid_subset_size": 150, "kid_kernel": "poly", "kid_kernel_poly_degree": 3}
        options |= {"kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1, "verbose": False, "rng_seed": 0}
        theirs = metric_kid.kid_features_to_metric(torch.from_numpy(a), torch.from_numpy(b), **options)
        assert kernel_distance(a, b) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)

    def test_blocks_do_not_matter(self, rng, monkeypatch):
        a, b = rng.normal(size=(70, 8)), rng.normal(size=(41, 8))
        whole = kernel_distance(a, b), precision_recall(a, b)
        monkeypatch.setattr(pairs, "TILE", 16)
        assert kernel_distance(a, b) == pytest.approx(whole[0])
        assert precision_recall(a, b) == whole[1]

    def test_unbiased_around_zero(self, rng):
        draws = [kernel_distance(*rng.normal(size=(2, 30, 4))) for _ in range(200)]
        assert min(draws) < 0 < max(draws)
        assert abs(np.mean(draws)) < 3 * np.std(draws) / np.sqrt(200)


class TestPrecisionRecall:
    def test_agrees_with_torch_fidelity(self, rng):
        real, fake = rng.normal(size=(300, 6)), rng.normal(0.4, 0.7, size=(200, 6))
        options = {"prc_neighborhood": 3, "prc_batch_size": 64, "save_cpu_ram": False, "verbose": False}
        theirs = metric_prc.prc_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), **options)
        precision, recall = precision_recall(real, fake)
        assert precision == pytest.approx(theirs["precision"], abs=1e-6)
        assert recall == pytest.approx(theirs["recall"], abs=1e-6)
        assert 0.2 < recall < precision

    def test_mode_collapse_keeps_precision_and_loses_recall(self, rng):
        real = np.concatenate([rng.normal(centre, 1.0, size=(200, 4)) for centre in (-20, 0, 20)])
        precision, recall = precision_recall(real, rng.normal(0.0, 1.0, size=(300, 4)))
        assert precision > 0.8
        assert recall < 0.4

    def test_noise_around_the_data_loses_precision(self, rng):
        precision, recall = precision_recall(rng.normal(size=(300, 4)), rng.normal(0, 8.0, size=(300, 4)))
        assert precision < 0.2
        assert recall > 0.8


class TestCaptions:
    def test_clip_score_by_hand(self):
        images = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
        texts = np.array([[1.0, 0.0], [3.0, 4.0], [1.0, 0.0]])
        assert metrics.clip_score(images, texts) == pytest.approx((100 + 80 + 0) / 3)

    def test_r_precision_of_perfect_and_of_collapsed_images(self, rng):
        texts = rng.normal(size=(60, 16))
        assert metrics.r_precision(texts, texts) == 1.0
        assert metrics.r_precision(np.zeros_like(texts), texts) == 0.0

    def test_r_precision_of_noise_is_at_chance(self, rng):
        images, texts = rng.normal(size=(4000, 16)), rng.normal(size=(4000, 16))
        assert metrics.r_precision(images, texts, pool=10) == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / 4000))

    def test_repeated_captions_are_not_wrong(self, rng):
        texts = np.repeat(rng.normal(size=(5, 16)), 20, axis=0)
        assert metrics.r_precision(texts, texts, pool=100) == 1.0

    def test_the_seed_decides_the_pool(self, rng):
        texts = rng.normal(size=(400, 4))
        images = texts + rng.normal(size=texts.shape)
        values = {metrics.r_precision(images, texts, pool=20, seed=seed) for seed in range(6)}
        assert len(values) > 1
        assert metrics.r_precision(images, texts, pool=20) == metrics.r_precision(images, texts, pool=20)

    def test_shuffling_leaves_nothing_in_its_place(self) -> None:
        for count in (2, 3, 50):
            order = derangement(count, 1)
            assert sorted(order) == list(range(count))
            assert not np.any(order == np.arange(count))


@pytest.mark.parametrize(
    "function",
    [
        metrics.frechet_distance,
        kernel_distance,
        precision_recall,
        metrics.clip_score,
        metrics.r_precision,
    ],
)
class TestEveryFunction:
    def test_says_diverged_when_a_feature_is_not_finite(self, function, rng):
        good = rng.normal(size=(12, 4))
        for value in (np.nan, np.inf):
            bad = good.copy()
            bad[3, 1] = value
            with pytest.raises(Diverged):
                function(bad, good)
            with pytest.raises(Diverged):
                function(good, bad)

    def test_float32_features_are_measured_in_float64(self, function, rng):
        a, b = rng.normal(1000.0, 1.0, size=(2, 40, 4)).astype(np.float32)
        assert function(a, b) == function(a.astype(np.float64), b.astype(np.float64))

    def test_refuses_features_of_different_width(self, function, rng):
        with pytest.raises(ValueError, match="features must be"):
            function(rng.normal(size=(12, 4)), rng.normal(size=(12, 5)))


class TestNames:
    @pytest.mark.parametrize(
        ("extractor", "distance", "kernel"),
        [
            ("torch_fidelity:inception-v3-compat", "fid", "kid"),
            ("embedded:resnet-measure", "fd_emoji", "kid_emoji"),
            ("timm:resnet101.a1_in1k", "fd_resnet101_a1_in1k", "kid_resnet101_a1_in1k"),
            ("timm:resnet50.a1_in1k@/data/Weights.safetensors", "fd_resnet50_a1_in1k", "kid_resnet50_a1_in1k"),
            ("timm:vit_small_patch14_dinov2.lvd142m", "fd_dinov2", "kid_dinov2"),
        ],
    )
    def test_the_extractor_is_in_the_name_and_only_the_published_inception_has_fid(self, extractor, distance, kernel):
        assert recorded("fd", extractor) == distance
        assert recorded("kid", extractor) == kernel
        assert recorded("fd", extractor, seen=True) == f"{distance}_seen"
        assert recorded("precision", extractor) == "precision"

    @pytest.mark.parametrize(
        ("name", "scale", "role", "titled"),
        [
            ("fd_emoji", "log", "headline", "Fréchet distance (emoji)"),
            ("fid", "log", "headline", "FID"),
            ("kid", "raw", "further", "KID"),
            ("kid_dinov2", "raw", "further", "Kernel distance (dinov2)"),
            ("fd_emoji_seen", "log", "diagnostic", "Fréchet distance (emoji), seen in training"),
            ("fid_seen", "log", "diagnostic", "FID, seen in training"),
            ("r_precision_seen", "raw", "diagnostic", "R-precision, seen in training"),
            ("clip_score_seen", "raw", "diagnostic", "Guide's CLIP score"),
        ],
    )
    def test_a_recorded_name_finds_its_row(self, name, scale, role, titled):
        found = find_metric(name)
        assert found is not None
        assert (found.name, found.scale, found.role, found.title) == (name, scale, role, titled)
        assert found.headline == (role == "headline")

    @pytest.mark.parametrize("name", ["loss/itd", "fd_", "kid_", "nonsense_seen", "system/cpu"])
    def test_other_numbers_have_no_row(self, name):
        assert find_metric(name) is None

    def test_the_card_tells_the_headline_extractor_from_the_further_ones(self):
        roles = {"fd_dinov2": "further", "kid": "further", "fid": "headline", "loss": "further"}
        found = metrics_of({name: {"role": role} for name, role in roles.items()})
        assert [(row.name, row.headline) for row in found] == [
            ("fid", True),
            ("fd_dinov2", False),
            ("kid", False),
        ]

    def test_only_the_guide_s_score_is_a_diagnostic(self):
        assert [m.name for m in METRICS.values() if m.role == "diagnostic"] == ["clip_score_seen"]


def test_margins_can_be_written_for_every_metric_that_takes_part_in_verdicts():
    assert set(MEASURES) == {metric.name for metric in METRICS.values() if metric.role != "diagnostic"}


class TestRealSide:
    """What is computed of the real images once, and read from then on."""

    @pytest.mark.parametrize(("count", "width"), [(30, 6), (6, 30), (400, 300), (700, 300)])
    def test_gives_the_numbers_that_are_had_without_it(self, count, width, rng):
        mix = rng.normal(size=(width, width)) / np.sqrt(width)
        real = np.abs(rng.normal(size=(count, width)) @ mix).astype(np.float32)
        real = np.concatenate([real, real[:2]])  # two images twice
        fake = np.abs(rng.normal(0.1, 1.1, size=(count, width)) @ mix).astype(np.float32)
        side = real_side(real)
        read = RealSide.of_array(side.to_array(), len(real))
        alone = pytest.approx(
            against_real(real, fake), rel=1e-12
        )  # products may round otherwise in another place of memory
        assert against_real(real, fake, read) == alone and against_real(real, fake, side) == alone
        assert read.pairs.first.tolist()[-2:] == [0, 1] and (read.pairs.radii[-2:] == -1).all()

    def test_pairs_are_those_of_plain_loops(self, rng, monkeypatch):
        real, fake = rng.normal(size=(23, 5)) + 3, rng.normal(0.3, 1.2, size=(17, 5)) + 3

        def kernel(x, y):
            return (x @ y / 5 + 1) ** 3

        def within(rows):
            return np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])

        def covered(rows, by):
            radii = [sorted(np.sum((x - y) ** 2) for y in by)[3] for x in by]
            return np.mean([any(np.sum((x - y) ** 2) <= r for y, r in zip(by, radii, strict=True)) for x in rows])

        kid = within(real) + within(fake) - 2 * np.mean([kernel(x, y) for x in real for y in fake])
        precision, recall = covered(fake, real), covered(real, fake)
        assert 0 < precision < 1 and 0 < recall < 1
        for tile in (4, 7, 2048):
            monkeypatch.setattr(pairs, "TILE", tile)
            assert pairs.kid_precision_recall(real, fake) == pytest.approx((kid, precision, recall), rel=1e-10)

    def test_stays_finite_where_hardly_any_real_images_differ(self, rng):
        for different in (1, 3):
            side = real_side(np.repeat(rng.normal(size=(different, 5)), 8, axis=0))
            assert np.isfinite(side.to_array()).all(), "what is kept in the cache has to be finite"
