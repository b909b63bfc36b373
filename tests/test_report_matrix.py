"""The answer at a glance: its sentence, its table of ideas and metrics, and their small drawings."""

from __future__ import annotations

import re
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.text import Text
from typer.testing import CliRunner

from figured import texts, watched
from harness.analysis.analyse import analyse
from harness.analysis.csv_columns import CsvColumns
from harness.analysis.from_csv import read_table
from harness.cli.main import app
from harness.errors import HarnessError
from harness.report.answer import answer
from harness.report.document.html import html
from harness.report.document.model import Document, Mark, plain, simple
from harness.report.figures import glance, labels, style
from harness.report.matrix import Subject, matrix, subjects, verdict_sentence
from reported import HOSTILE, material_of, records_of, study_of, unfinished

IDEAS = ("harms", "nothing", "helps", "helps_more")


def moved(cell):
    return sum({"harms": 0.2, "helps": -0.15, "helps_more": -0.4}.get(name, 0.0) for name in cell)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    study = study_of(tmp_path_factory.mktemp("study"), IDEAS)
    return material_of(study, records_of(study, moved))


def test_ideas_stand_from_the_best_to_the_worst(material):
    assert [subject.name for subject in subjects(material.analysis)] == ["helps_more", "helps", "nothing", "harms"]


def test_the_sentence_says_what_helps_then_what_harms_then_the_rest(material):
    sentence = verdict_sentence(material.analysis)
    assert plain(sentence) == (
        "helps_more and helps improve Fréchet distance (emoji) and CLIP score; harms makes Fréchet distance (emoji) "
        "and CLIP score worse; nothing changes nothing beyond the margins."
    )
    kinds = [span.kind for span in simple(sentence) if isinstance(span, Mark)]
    assert kinds == ["better", "worse", "equivalent"]


def said(material, **verdicts):
    """The sentence when the first metrics have these verdicts on each idea, a letter a metric."""
    words = {
        "b": "better",
        "w": "worse",
        "e": "equivalent",
        "i": "inconclusive",
        "s": "insufficient seeds",
        "d": "diverged",
    }
    results = []
    for place, result in enumerate(material.analysis.metrics):
        effects = [
            replace(effect, estimate=replace(effect.estimate, verdict=words[verdicts[effect.toggle][place]]))
            if result.metric.headline
            else effect
            for effect in result.effects
            if effect.toggle in verdicts
        ]
        results.append(replace(result, effects=tuple(effects)))
    return plain(verdict_sentence(replace(material.analysis, metrics=tuple(results))))


def test_an_idea_that_helps_one_metric_and_harms_the_other(material):
    one = said(material, helps="bw", harms="iw")
    assert one == "helps improves Fréchet distance (emoji) but makes CLIP score worse; harms makes CLIP score worse."


def test_what_has_no_verdict_claims_nothing(material):
    assert said(material, helps="ie", harms="ii") == "helps and harms have no sure effect."
    assert said(material, helps="ss") == "helps has no verdict yet: too few seeds."
    assert said(material, helps="bb", harms="ds").endswith("; harms diverged.")


def test_without_a_result_to_compare_with_nothing_is_said_of_seeds(tmp_path):
    study = study_of(tmp_path, IDEAS[:2], "one-at-a-time")
    records = [unfinished(it, "failed") if it.run.cell == "origin" else it for it in records_of(study)]
    sentence = plain(verdict_sentence(material_of(study, records).analysis))
    assert sentence == "harms and nothing have no verdict yet: one side of the comparison has no result."


def test_effects_that_may_be_interactions_are_said_to_be(material):
    [first, *rest] = material.analysis.metrics
    effects = tuple(replace(effect, aliases=("one:other",) * (effect.toggle == "helps")) for effect in first.effects)
    mixed = replace(material.analysis, metrics=(replace(first, effects=effects), *rest))
    assert "cannot tell some of these effects from interactions" in plain(verdict_sentence(mixed))


def test_each_bar_is_its_estimate_on_an_axis_that_all_ideas_share(material):
    table = matrix(material.analysis, subjects(material.analysis), material.equal_time)
    for place, result in enumerate(material.analysis.headlines, 1):
        estimates = {effect.toggle: effect.estimate for effect in result.effects}
        scales = set()
        for row in table.rows:
            name, estimate, bar = plain(row.cells[0].text), estimates[plain(row.cells[0].text)], row.cells[place].bar
            assert -1 <= bar.low <= bar.value <= bar.high <= 1, name
            scales.add(round(estimate.value / bar.value, 9))
            assert row.cells[place].key == estimate.value
        assert len(scales) == 1
        assert bar.margin == pytest.approx(result.margin / scales.pop())


def test_an_interval_wider_than_the_axis_ends_with_it(material):
    [first, *_] = material.analysis.headlines
    wide = replace(first.effects[0].estimate, low=-1e6, high=1e6)
    every = [Subject("one", {first.metric.name: wide})]
    bar = matrix(material.analysis, every, material.equal_time).rows[0].cells[1].bar
    assert (bar.low, bar.high) == (-1, 1) and abs(bar.value) == pytest.approx(0.4)


def test_names_in_the_page_are_text_and_the_drawings_are_numbers(material, tmp_path):
    first = material.analysis.headlines[0]
    every = [Subject(HOSTILE, {first.metric.name: first.effects[0].estimate})]
    page = html(Document("x", (matrix(material.analysis, every, material.equal_time),), ()), tmp_path)
    assert HOSTILE not in page and "&lt;script&gt;" in page
    [bar] = re.findall(r'<svg class="bar".*?</svg>', page)
    [left, width] = (float(end) for end in re.findall(r'viewBox="(\S+) \S+ (\S+)', bar)[0])
    [radius] = map(float, re.findall(r' r="([\d.]+)"', bar))
    line = 2  # of the circle's edge, half of which lies outside
    assert left <= -50 - radius - line / 2 and left + width >= 50 + radius + line / 2, "cut at the end of the axis"
    assert re.findall(r'cx="(-?[\d.]+)"', bar) and "style=" not in bar


def test_the_picture_is_low_and_shows_each_row_of_the_table(material, tmp_path):
    assert glance.draw(material.analysis, material.equal_time, tmp_path / "matrix")
    svg = (tmp_path / "matrix.svg").read_text(encoding="utf-8")
    wide, high = (float(size) * 96 / 72 for size in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    assert high <= 500 and wide > 1.5 * high
    told = texts(tmp_path / "matrix.svg")
    table = matrix(material.analysis, subjects(material.analysis), material.equal_time)
    for row in table.rows:
        assert plain(row.cells[0].text) in told
        for cell in row.cells[1:]:
            assert {plain(span).strip() for span in simple(cell.text)} - {""} <= set(told)
    assert "prefers-color-scheme: dark" in svg


def test_what_is_no_difference_from_the_baseline_is_not_called_one(tmp_path):
    """Effects are means of cells; where there are none, cells stand in their place, and say nothing of ideas."""
    study = study_of(tmp_path, IDEAS[:2], "full")
    made = material_of(study, records_of(study))
    assert glance.draw(made.analysis, None, tmp_path / "effects")
    assert any(text.startswith("Effect of each idea and 95 % interval;") for text in texts(tmp_path / "effects.svg"))
    _, counts, *_ = answer(made)
    assert "Every cell is compared with the baseline, origin. An effect is the mean of the 2" in plain(counts.text)
    alone = material_of(study, [it for it in records_of(study) if len(it.run.toggles) < 2])
    for baseline, is_said in (("origin", True), (IDEAS[0], False)):  # one at a time every effect is one cell's change
        turned = replace(alone.analysis, baseline=baseline)
        assert glance.draw(turned, None, tmp_path / "alone")
        told = " ".join(texts(tmp_path / "alone.svg"))
        assert (f"Change against {baseline} and 95 %" in told) == is_said
        _, counts, *_ = answer(replace(alone, analysis=turned))
        assert ("Everything is compared with" in plain(counts.text)) == is_said
    without = tuple(replace(result, effects=()) for result in made.analysis.metrics)
    cells = replace(made.analysis, metrics=without)
    assert plain(verdict_sentence(cells)).startswith("Cells compared with origin: ")
    assert glance.draw(cells, None, tmp_path / "cells")
    assert any(text.startswith("Change against origin and 95 %") for text in texts(tmp_path / "cells.svg"))
    assert "compared" not in plain(verdict_sentence(made.analysis))


def test_a_picture_of_many_rows_says_how_many_it_shows(tmp_path):
    names = [f"idea_{number}" for number in range(20)]
    study = study_of(tmp_path, names, "one-at-a-time", seeds=2)
    made = material_of(study, records_of(study))
    assert glance.draw(made.analysis, None, tmp_path / "matrix")
    told = texts(tmp_path / "matrix.svg")
    shown = sum(name in told for name in names)
    assert 8 < shown < 20 and any(f"{shown} of 20 rows" in text for text in told)


LONG = ("generator_attention_at_16_with_4_heads", "generator_attention_at_32_with_4_heads", "日本語", "中国語")
ENDS = [f"{'a' * 31}{middle}{'b' * 31}" for middle in ("1", "2")]
SHORT = ("a", "b", "c", "d", "e", "f")


@pytest.mark.parametrize(("names", "metrics"), [((*LONG, *ENDS), 2), (SHORT, 3)])
def test_names_in_the_picture_differ_and_no_text_lies_over_another_or_beyond_it(tmp_path, monkeypatch, names, metrics):
    rows = [
        [
            *(int(place == on) for place in range(6)),
            seed,
            *(30 + 0.7 * ((seed * 5 + on * 3 + place) % 7) for place in range(3)),
        ]
        for on in range(-1, 6)
        for seed in range(3)
    ]
    table = pd.DataFrame(rows, columns=[*names, "seed", "fid", "clip_score", "lpips"])
    found, _ = read_table(table, CsvColumns(lower=("lpips",)), "origin")
    with watched(monkeypatch) as figures:
        assert glance.draw(analyse(found, "origin"), None, tmp_path / "m")
    [axis] = figures[0].axes
    written = {text: Text.get_window_extent(text) for text in axis.texts if text.get_text()}
    shown = [text.get_text() for text in written if text.get_position()[0] == glance._MARGIN][:-1]
    assert len(set(shown)) == 6 and any(f"{metrics} of 3 metrics" in it.get_text() for it in written) == (metrics < 3)
    assert len([text for text in written if text.get_text().endswith("is better")]) == metrics
    marks = [line.get_window_extent() for line in axis.lines if line.get_linewidth() > 1 and len(line.get_xdata()) == 2]
    frame = axis.get_window_extent()
    for text, box in written.items():
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()
        others = [*(other for it, other in written.items() if it is not text), *marks]
        assert not any(labels.meet(box.extents, other.extents) for other in others), text.get_text()


def test_labels_that_look_alike_have_a_number_which_is_the_same_in_every_figure():
    names = ("\u00e9", "x", "e\u0301")
    assert style.distinct(names, names) == ["2: \u00e9", "x", "1: e\u0301"]
    assert style.distinct(names[::-1], names[::-1]) == ["1: e\u0301", "x", "2: \u00e9"]
    assert len({*style.NamedRows.of(LONG[2:], 1.3, 0.2).names}) == 2


def test_a_picture_that_cannot_be_drawn_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("a,seed,fid\n0,0,5\n1,0,4\n0,1,6\n1,1,5\n")
    (tmp_path / "two.csv").write_text("a,b,seed,fid\n0,0,0,5\n1,0,0,4\n0,1,0,5\n0,0,1,6\n1,0,1,5\n0,1,1,7\n")
    (tmp_path / "taken.svg").mkdir()
    for runs, name, why in (
        ("r", "m.png", "must end in .svg"),
        ("r", "none/m.svg", "there is no folder"),
        ("r", "m.svg", "takes two"),
        ("two", "taken.svg", "cannot be written (Is a directory)"),
    ):
        done = CliRunner().invoke(app, ["analyze", str(tmp_path / f"{runs}.csv"), "--picture", str(tmp_path / name)])
        assert isinstance(done.exception, HarnessError) and why in str(done.exception)
