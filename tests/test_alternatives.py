"""A number that nothing could have lowered is not reported: captions that coincide, are cut off, or are few."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from found import better, four
from harness.data.dataset import Dataset
from harness.errors import DataError, SpecError
from harness.metrics import formulas, measure
from harness.metrics.alternatives import about_captions as about_texts
from harness.metrics.alternatives import further_right
from harness.metrics.cards import about_captions
from harness.metrics.definitions import METRICS, find
from harness.metrics.manifest import make_manifest
from harness.records import Result
from harness.report.context import scale
from harness.report.document import plain, tables
from harness.report.real import against_real
from harness.rng import numpy_generator
from harness.study.plan import Cell
from harness.study.tuning import TuneConfig
from harness.tuning import sections
from harness.tuning.answer import first
from harness.tuning.search import Search
from models import encoders, tokens
from reported import material_of, records_of, study_of
from things import SIDE, FakeEncoder, measured_settings, things, with_metrics

LONG = "one thing of many that are all told of at the same great length before it is said what it is " * 4


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
        direction = formulas._directions(8)[:, 0]
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
            others = measure._derangement(len(groups), seed, groups)
            assert sorted(others) == list(range(len(groups)))
            same = int(np.sum(groups == groups[others]))
            assert same == max(0, 2 * max(sizes) - sum(sizes))

    def test_without_equal_captions_nothing_stays_in_its_place(self):
        for count in (2, 3, 50):
            assert not np.any(measure._derangement(count, 1) == np.arange(count))


class TestPrecisionAndRecall:
    def test_equal_real_images_span_no_manifold(self, rng):
        fake = rng.normal(size=(30, 6))
        for different in (1, 2, 3):
            real = np.repeat(rng.normal(size=(different, 6)), 10, axis=0)
            assert np.isnan(formulas.precision_recall(real, fake)).all()
            assert set(measure.against_real(real, fake)) == {"fd", "kid"}
            assert set(measure.against_real(real, real)) == {"fd", "kid"}

    def test_copies_of_real_images_change_nothing(self, rng):
        real, fake = rng.normal(size=(60, 4)), rng.normal(size=(50, 4))
        once = formulas.precision_recall(real, fake)
        assert 0.3 < once[0] < 1
        assert formulas.precision_recall(np.repeat(real, 5, axis=0), fake) == pytest.approx(once)

    def test_a_collapsed_generator_has_no_recall(self, rng):
        real = rng.normal(size=(60, 4))
        precision, recall = formulas.precision_recall(real, np.repeat(real[:1], 40, axis=0))
        assert (precision, recall) == (1.0, 1 / 60)


class TestTokens:
    @pytest.mark.parametrize("name", ["embedded:clip-guide", "embedded:clip-measure"])
    def test_what_is_cut_off_is_not_read(self, name):
        reader = tokens.reader(name)
        clip = encoders.load_clip(name)
        texts = [LONG + "a cat", LONG + "a dog", "a cat", "A CAT", "a  cat ", "a cat.", ""]
        read = list(reader.read(texts))
        assert [text.cut for text in read] == [True, True, False, False, False, False, False]
        same = [[a.tokens == b.tokens for b in read] for a in read]
        features = clip.text(texts).numpy()
        assert same == [[bool(np.allclose(a, b, atol=1e-5)) for b in features] for a in features]
        assert same[0][1] and same[2][3] and same[2][4] and not same[2][5]

    def test_a_text_that_just_fits_is_whole(self):
        reader = tokens.reader("embedded:clip-guide")
        words = " ".join(["," for _ in range(reader.context)])
        cuts = []
        for count in (reader.context - 3, reader.context - 2, reader.context):
            (text,) = reader.read([words[: 2 * count]])
            cuts.append(text.cut)
        spelt = len(tokens.Words([], 10**6).row(",")[0]) - 1
        assert spelt == 2 and cuts[-1]
        whole = tokens.Words([","], 5)
        assert [whole.row("," * count)[1] for count in (3, 4, 5)] == [False, False, True]

    def test_no_torch_for_the_shipped_ones(self):
        code = (
            "import sys; from models.tokens import reader; list(reader('embedded:clip-guide').read(['a']));"
            "import harness.data.captions; sys.exit('torch' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

    @pytest.mark.parametrize("model", ["ViT-B-32", "RN50"])
    def test_open_clip_s_own_tokenizer_says_what_is_cut_off(self, model):
        import open_clip

        reader = tokens.reader(f"open_clip:{model}/openai")
        whole = " ".join(["cat"] * 75)
        texts = [whole, whole + " cat", whole + " dog", "cat", "CAT ", "!" * 200]
        read = list(reader.read(texts))
        assert reader.context == 77
        assert [text.cut for text in read] == [len(open_clip.get_tokenizer(model).encode(text)) > 75 for text in texts]
        assert [text.cut for text in read][:5] == [False, True, True, False, False]
        assert read[0].tokens == read[1].tokens == read[2].tokens
        assert read[3].tokens == read[4].tokens != read[0].tokens


def _captioned(held_out: list[str]) -> Dataset:
    """Ten held-out images with these captions, in turns."""
    dataset = things()
    captions = list(dataset.captions)
    for place, image in enumerate(dataset.held_out):
        captions[image] = (held_out[place % len(held_out)],)
    return replace(dataset, captions=tuple(captions), fingerprint="things by other names")


def _noise(z: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return torch.tanh(z.repeat(1, 3 * SIDE * SIDE // z.shape[1]) + h.sum(1, keepdim=True)).view(-1, 3, SIDE, SIDE)


class TestMeasured:
    @pytest.fixture(autouse=True)
    def fakes(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
        monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
        monkeypatch.setattr(encoders, "fingerprint", lambda name: f"print of {name}")
        monkeypatch.setattr(encoders, "load_clip", lambda name, device: FakeEncoder(name))
        monkeypatch.setattr(encoders, "load_resnet", lambda name, device: FakeEncoder(name))
        yield

    def of(self, dataset: Dataset) -> tuple[dict[str, float], dict[str, Any], dict[str, dict[str, float]]]:
        manifest = make_manifest(dataset, with_metrics(measured_settings(), samples=40))
        references = measure.load_references(dataset, manifest)
        values = measure.measure(_noise, 16, manifest, references)
        return values, measure.cards(manifest, references), measure.sanity(dataset, manifest, references)

    def test_one_caption(self):
        values, cards, rows = self.of(_captioned(["a photo of a bird"]))
        assert set(values) == set(cards)
        assert "r_precision" not in values and "clip_score" in values
        assert rows["floor"] == {"n": 0.0} and "gap" not in rows and "r_precision" not in rows["ceiling"]
        assert (cards["clip_score"]["asked"], cards["clip_score"]["distinct"]) == (10, 1)
        told = about_captions(METRICS["clip_score"], cards["clip_score"])
        assert "the 10 held-out captions are all one" in told[0]
        assert "R-precision and the score of shuffled captions are left out" in told[1]

    def test_two_captions(self):
        values, cards, rows = self.of(_captioned(["bird", "cat"]))
        card = cards["r_precision"]
        assert (card["rivals"], card["chance"], card["distinct"], card["cut"]) == (1, 0.5, 2, 0)
        assert set(values) == set(cards)
        assert rows["floor"]["n"] == 10 and rows["floor"]["clip_score"] != rows["ceiling"]["clip_score"]

    def test_a_frequent_caption_leaves_images_out_of_the_floor(self):
        _, cards, rows = self.of(_captioned(["bird"] * 7 + ["cat", "dog", "pear"]))
        card = cards["r_precision"]
        assert (card["rivals"], card["chance"], card["constant"], rows["floor"]["n"]) == (3, 0.25, 0.7, 6.0)
        (told,) = about_captions(METRICS["r_precision"], card)
        assert "chance is 0.25, and one image for all captions can reach 0.7" in told

    def test_one_image_for_all_captions_reaches_what_the_card_says_and_no_more(self, rng):
        """Of a frequent caption its share; where all differ, on average over the draws, chance."""
        groups = np.repeat(np.arange(5), [14, 2, 2, 1, 1])
        texts = rng.normal(size=(5, 16))[groups]
        card = about_texts("r_precision", ["a"] * 20, texts, "embedded:clip-measure")
        assert formulas.r_precision(np.repeat(texts[:1], 20, axis=0), texts) == card["constant"] == 0.7
        many = rng.normal(size=(300, 16))
        card = about_texts("r_precision", ["a"] * 300, many, "embedded:clip-measure")
        same = np.repeat(rng.normal(size=(1, 16)), 300, axis=0)
        scores = [formulas.r_precision(same, many, seed=seed) for seed in range(20)]
        assert np.mean(scores) == pytest.approx(card["constant"], abs=0.004) and card["constant"] == 0.01

    def test_a_caption_that_another_image_has_too(self):
        dataset = _captioned(["bird", "cat", "dog"])
        captions = list(dataset.captions)
        first, second, *_ = dataset.held_out
        captions[first] = ("bird", "cat")
        mixed = replace(dataset, captions=tuple(captions), fingerprint="one with two captions")
        manifest = make_manifest(mixed, with_metrics(measured_settings(), samples=40))
        references = measure.load_references(mixed, manifest)
        (place,) = np.flatnonzero(manifest.images[40:] == first)
        (other, *_) = np.flatnonzero(manifest.images[40:] == second)
        assert references.right == {place: (other,)}
        rows = measure.sanity(mixed, manifest, references)
        assert rows["floor"]["n"] in (9.0, 10.0)

    def test_different_captions(self):
        dataset = things()
        values, cards, rows = self.of(dataset)
        assert set(values) == set(cards)
        assert (cards["r_precision"]["rivals"], cards["r_precision"]["chance"]) == (9, 0.1)
        assert rows["floor"]["n"] == 10
        texts = FakeEncoder("embedded:clip-measure").text([dataset.captions[i][0] for i in dataset.held_out]).numpy()
        images = FakeEncoder("embedded:clip-measure").image(
            torch.from_numpy(dataset.images[dataset.held_out]).float() / 127.5 - 1
        )
        others = measure._derangement(10, make_manifest(dataset, measured_settings()).seed)
        less = formulas.clip_scores(images.numpy(), texts) - formulas.clip_scores(images.numpy(), texts[others])
        assert rows["gap"]["clip_score"] == pytest.approx(less.mean(), abs=1e-4)
        assert rows["gap_error"]["clip_score"] == pytest.approx(less.std(ddof=1) / np.sqrt(10), abs=1e-4)

    def test_equal_real_images(self):
        dataset = things()
        images = np.array(dataset.images)
        images[dataset.train] = images[0]
        values, cards, _ = self.of(replace(dataset, images=images, fingerprint="one picture"))
        assert set(values) == set(cards)
        assert not {"precision", "recall"} & set(values)

    def test_features_that_are_no_numbers_are_the_network_s_fault(self, monkeypatch):
        class Broken(FakeEncoder):
            def text(self, texts: list[str]) -> torch.Tensor:
                return super().text(texts) * float("nan")

        monkeypatch.setattr(encoders, "load_clip", lambda name, device: Broken(name))
        with pytest.raises(DataError, match="clip-text features by embedded:clip-guide are not finite"):
            self.of(things())

    def test_cut_captions_are_on_the_card_of_either_clip(self):
        _, cards, _ = self.of(_captioned([LONG + "bird", LONG + "cat", "pear"]))
        for name in ("clip_score", "clip_score_seen"):
            assert (cards[name]["cut"], cards[name]["context"]) == (7, 48)
        (told, *_) = about_captions(find("clip_score_seen") or METRICS["clip_score"], cards["clip_score_seen"])
        assert told == "7 of 10 held-out captions are cut off at 48 tokens by embedded:clip-guide."


def _rows(material: Any) -> dict[str, str]:
    """Row of the table of real images -> its R-precision."""
    section = scale(material)
    assert section
    (table,) = tables([section])
    place = [column.title for column in table.columns].index("R-precision")
    return {plain(row.cells[0].text): plain(row.cells[place].text) for row in table.rows}


class TestReport:
    def test_chance_stands_beside_r_precision(self, tmp_path):
        material = self.material(tmp_path, ceiling={"r_precision": 0.75, "n": 9.0}, floor={"n": 0.0})
        card = {"asked": 9, "distinct": 4, "rivals": 3, "chance": 0.25, "constant": 0.25}
        records = [
            replace(
                record,
                result=Result(
                    {**record.result.metrics, "r_precision": 0.5}, {**record.result.cards, "r_precision": card}, {}
                ),
            )
            for record in material.records
        ]
        told = replace(material_of(material.study, records), sanity=material.sanity)
        rows = _rows(told)
        assert rows["chance, ranked among 4"] == "0.250"
        assert rows["real held-out images, shuffled captions (floor)"] == "–"
        assert not any("one image" in row for row in rows)
        assert any("no floor" in plain(block.text) for block in scale(told).blocks[1:])

    def material(self, folder: Path, **sanity: dict[str, float]) -> Any:
        study = study_of(folder, ("transform_w",), seeds=2)
        return replace(material_of(study, records_of(study)), sanity=sanity)

    def test_no_gap_and_a_beaten_ceiling_are_told(self, tmp_path):
        mean = (
            next(r for r in self.material(tmp_path).analysis.metrics if r.metric.name == "clip_score")
            .cell("origin")
            .mean
        )
        assert mean
        low, high = {"clip_score": mean - 5, "n": 9.0}, {"clip_score": mean + 50, "n": 9.0}
        beaten = self.material(tmp_path, ceiling=low, floor=low, gap={"clip_score": 3.0}, gap_error={"clip_score": 0.5})
        (told,) = against_real(beaten)
        assert f"origin {mean:.1f}" in told and f"({mean - 5:.1f})" in told
        same = self.material(tmp_path, ceiling=high, floor=high, gap={"clip_score": 1.0}, gap_error={"clip_score": 0.5})
        (told,) = against_real(same)
        assert "by 1.00 ± 1.15 points" in told and "cannot tell right from wrong" in told
        assert against_real(self.material(tmp_path, ceiling=high, gap={"clip_score": 3.0})) == []


def test_a_search_for_what_has_no_number_is_refused(tmp_path: Path) -> None:
    study = replace(study_of(tmp_path), tune=TuneConfig(objective="r_precision"))
    search = Search(
        study=study,
        cell=Cell("origin", (), study.settings),
        parameters=(),
        objectives=(METRICS["r_precision"],),
        constraints=(),
        fingerprints={},
    )
    assert search.values([{"r_precision": 0.25, "clip_score": 3.0}])["r_precision"] == 0.25
    with pytest.raises(SpecError, match=r"tune: r_precision has no number.*name another of clip_score, fd_emoji"):
        search.values([{"clip_score": 3.0, "fd_emoji": 2.0}])


def test_a_search_says_that_trials_are_measured_on_other_captions(tmp_path: Path) -> None:
    found = replace(four(tmp_path), comparison=better())
    assert first(found) and first(found).measured == {"fd_emoji": 5.0}
    section = sections.comparison(found, {})
    assert section
    told = plain(section.blocks[-1].text)
    assert "Trials are measured on other images and captions than these" in told
    assert "with the weights as written Fréchet distance (emoji) is 5.00 there and 5.12 here" in told
    unmeasured = replace(found, trials=found.trials[1:])
    assert "Trials are measured" not in plain(sections.comparison(unmeasured, {}).blocks[-1].text)
