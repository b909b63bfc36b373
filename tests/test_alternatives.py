"""A number that nothing could have lowered is not reported: captions that coincide, are cut off, or are few."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.data.dataset import Dataset
from harness.errors import DataError, SpecError
from harness.metrics import formulas, measure
from harness.metrics.cards import about_captions as about_texts
from harness.metrics.cards import caveats
from harness.metrics.definitions import METRICS, find_metric
from harness.metrics.manifest import make_manifest
from harness.models import encoders
from harness.models.encoders import load
from harness.report.caveats import against_real_images
from harness.report.context import scale
from harness.report.document.model import plain, tables
from harness.report.search import sections
from harness.report.search.answer import as_written
from harness.runs.record import Result
from harness.study.plan import PlannedCell
from harness.study.schema import TuneConfig
from harness.tuning.search import Search
from reported import material_of, records_of, study_of
from search_findings import better, four
from things import SIDE, FakeEncoder, measured_settings, things, with_metrics

LONG = "one thing of many that are all told of at the same great length before it is said what it is " * 4


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


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
        monkeypatch.setattr(load, "load_clip", lambda name, device: FakeEncoder(name))
        monkeypatch.setattr(load, "load_resnet", lambda name, device: FakeEncoder(name))
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
        told = caveats(METRICS["clip_score"], cards["clip_score"])
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
        (told,) = caveats(METRICS["r_precision"], card)
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
        others = measure.derangement(10, make_manifest(dataset, measured_settings()).seed)
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
        (told,) = caveats(find_metric("fd_emoji") or METRICS["fd"], cards["fd_emoji"])
        assert "the 50 real images are all one; precision and recall are left out, which need 4." in told
        assert caveats(find_metric("kid_emoji") or METRICS["kid"], cards["kid_emoji"]) == []

    def test_features_that_are_no_numbers_are_the_network_s_fault(self, monkeypatch):
        class Broken(FakeEncoder):
            def text(self, texts: list[str]) -> torch.Tensor:
                return super().text(texts) * float("nan")

        monkeypatch.setattr(load, "load_clip", lambda name, device: Broken(name))
        with pytest.raises(DataError, match="clip-text features by embedded:clip-guide are not finite"):
            self.of(things())

    def test_cut_captions_are_on_the_card_of_either_clip(self):
        _, cards, _ = self.of(_captioned([LONG + "bird", LONG + "cat", "pear"]))
        for name in ("clip_score", "clip_score_seen"):
            assert (cards[name]["cut"], cards[name]["context"]) == (7, 48)
        (told, *_) = caveats(find_metric("clip_score_seen") or METRICS["clip_score"], cards["clip_score_seen"])
        assert told == "7 of 10 held-out captions are cut off at 48 tokens by embedded:clip-guide."


def _rows(material: Any) -> dict[str, str]:
    """Row of the table of real images -> its R-precision."""
    (table,) = tables(list(scale(material)))
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
        assert any("no floor" in plain(block.text) for block in list(scale(told))[1:])

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
        told = plain(next(iter(against_real_images(beaten))))
        assert f"origin {mean:.1f}" in told and f"({mean - 5:.1f})" in told
        same = self.material(tmp_path, ceiling=high, floor=high, gap={"clip_score": 1.0}, gap_error={"clip_score": 0.5})
        told = plain(next(iter(against_real_images(same))))
        assert "by 1.00 ± 1.15 points" in told and "cannot tell right from wrong" in told
        assert not list(against_real_images(self.material(tmp_path, ceiling=high, gap={"clip_score": 3.0})))


def test_a_search_for_what_has_no_number_is_refused(tmp_path: Path) -> None:
    study = replace(study_of(tmp_path), tune=TuneConfig(objective="r_precision"))
    search = Search(
        study=study,
        cell=PlannedCell("origin", (), study.settings),
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
    assert as_written(found) and as_written(found).measured == {"fd_emoji": 5.0}
    *_, note = sections.comparison(found)
    told = plain(note.text)
    assert "Trials are measured on other images and captions than these" in told
    assert "with the weights as written Fréchet distance (emoji) is 5.00 there and 5.12 here" in told
    unmeasured = replace(found, trials=found.trials[1:])
    *_, note = sections.comparison(unmeasured)
    assert "Trials are measured" not in plain(note.text)
