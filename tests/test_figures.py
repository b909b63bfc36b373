"""What the figures show: rows, numbers and words, read from the artists or the drawing, and that nothing acts."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from figured import analysis, both, estimate, factorial, of_records, result, texts, watched
from harness.analysis.results import Effect, Lenth
from harness.metrics.definitions import find
from harness.records import Point, Status
from harness.report.figures import (
    curves,
    forest,
    half_normal,
    interactions,
    names,
    numbers,
    pairs,
    sheet,
    style,
    tradeoff,
)
from synthetic import draw_samples, record, study_like

FD, SCORE = find("fd_emoji"), find("clip_score")
assert FD and SCORE
HOSTILE = ["<script>alert(1)</script>", "$x^2$", "--><b>&amp;", "a\nb\x07\ud800", "=cmd()", "…" * 300, "名前"]
FORMATS = (".svg", ".pdf", ".png")


EFFECTS = {"a": -0.2, "b": 0.1, "c": 0.05, "d": 0.03}


def runs(cells, effects, seeds=3):
    """log value = 1 + the sum of what the cell's toggles do + 0.3 a seed; no noise."""
    return {on: {seed: math.exp(1 + sum(effects[t] for t in on) + 0.3 * seed) for seed in range(seeds)} for on in cells}


@pytest.fixture
def plain_study():
    toggles = ("a", "b", "c", "d")
    down = runs(both(toggles), EFFECTS)
    score = {on: {seed: 60 - 4 * math.log(value) for seed, value in each.items()} for on, each in down.items()}
    return analysis(toggles, result(FD, toggles, down), result(SCORE, toggles, score))


@pytest.fixture(scope="module")
def records():
    made = study_like({"origin": 1.0, "a": 0.5, "b": 1.2, "full": 0.6})
    return [replace(made[4], status=Status(state="diverged"), result=None), *made[:4], *made[5:]]


class TestNumbers:
    def test_percent_and_points(self):
        assert numbers.signed(FD, -18.24) == "−18.2 %" and numbers.signed(SCORE, 1.304) == "+1.30"
        assert numbers.signed(FD, -0.01) == "0.0 %"
        assert numbers.interval(FD, -42.66, 3.0) == "[−42.7, +3.0]"
        assert numbers.tick(FD)(-20.0, 0) == "−20 %" and numbers.tick(SCORE)(0.0, 0) == "0"

    def test_there_and_back(self):
        assert numbers.measured(FD, numbers.analysed(FD, [2.0, 5.0])) == pytest.approx([2, 5])
        assert numbers.shown(FD, [math.log(1.25)]) == pytest.approx([25]) and numbers.shown(SCORE, [1.5]) == [1.5]


class TestStyle:
    def test_no_two_verdicts_share_colour_or_word_or_shape(self):
        for of in (lambda look: look.colour, lambda look: look.word, lambda look: (look.marker, look.hollow)):
            assert len({of(look) for look in style.LOOKS.values()}) == 7

    @pytest.mark.parametrize("text", [*HOSTILE, "W" * 90, "i" * 90])
    def test_fitted_is_one_line_that_fits(self, text):
        short = style.fitted(text, 0.8)
        assert short.isprintable() and style.width_of(short) <= 0.8

    def test_the_ends_of_a_long_name_stay(self):
        short = style.fitted("full-minus-" + "x" * 60 + "_features", 1.5)
        assert short.startswith("full") and short.endswith("features") and "…" in short
        assert style.fitted("short", 1.5) == "short"

    def test_folding_keeps_every_word_in_order(self):
        text = "some words that are too long for one line of one inch"
        assert " ".join(lines := style.folded(text, 1)) == text and max(map(style.width_of, lines)) <= 1


class TestNames:
    def test_what_would_be_cut_becomes_letters_with_a_key(self):
        toggles = ("a_long_name_of_a_toggle", "another_long_name", "c", "d")
        cells = result(FD, toggles, runs(factorial(toggles), dict.fromkeys(toggles, 0.1))).cells
        found = names.short_names(cells, toggles, 1.5)
        assert found["a_long_name_of_a_toggle+another_long_name"] == "A+B" and found["another_long_name"][:4] == "anot"
        assert found["another_long_name+c"] == "another_long_name+c" and len(set(found.values())) == 16
        assert names.key(found, cells, toggles).startswith(" A: a_long_name_of_a_toggle; B: another_long_name")
        assert names.key(names.short_names(cells, toggles, 9), cells, toggles) == ""


class TestForest:
    def test_rows_are_toggles_then_combinations(self, plain_study):
        rows = forest.rows(plain_study, plain_study.metrics[0])
        wanted = ["a", "b", "c", "d", "full", *(f"full-minus-{toggle}" for toggle in "abcd")]
        assert [row.label for row in rows] == wanted
        assert [row.label for row in rows if row.ruled] == ["full"]

    def test_of_many_combinations_only_that_of_all_toggles(self):
        toggles = ("a", "b", "c", "d")
        made = result(FD, toggles, runs(factorial(toggles), dict.fromkeys(toggles, 0.1)))
        assert [row.label for row in forest.rows(analysis(toggles, made), made)] == [*toggles, "full"]

    def test_marks_stand_at_the_numbers(self, plain_study, tmp_path, monkeypatch):
        toggles = ("a", "b", "c", "d")
        made = plain_study.metrics[0]
        one = estimate(-10.0, [-12.0, -8.0], improved=2, verdict="better", low=-14.0, high=-6.0)
        effects = (replace(made.effects[0], estimate=one), *made.effects[1:])
        with watched(monkeypatch) as figures:
            assert forest.draw(analysis(toggles, replace(made, effects=effects, margin=5.0)), tmp_path / "f")
        axis = figures[0].axes[0]
        assert [label.get_text() for label in axis.get_yticklabels()][:4] == list(toggles)
        first = [line for line in axis.lines if list(np.unique(np.round(line.get_ydata()))) == [0.0]]
        lines = {tuple(line.get_xdata()) for line in first}
        assert {(-14.0, -6.0), (-12.0, -8.0), (-10.0,)} <= lines
        assert {to_hex(line.get_color()) for line in first if len(line.get_xdata()) == 1} == {style.GOOD}
        assert "2/2 better" in texts(tmp_path / "f.svg")
        band = axis.patches[0].get_x(), axis.patches[0].get_x() + axis.patches[0].get_width()
        assert band == (-5.0, 5.0)

    def test_every_verdict_is_a_word(self, tmp_path):
        made = result(FD, ("a",), runs([(), ("a",)], EFFECTS))
        found = [(verdict, estimate(3.0, [2.0, 4.0], improved=1, verdict=verdict)) for verdict in style.LOOKS]
        effects = tuple(Effect(verdict, one, 1, (), (0, 0)) for verdict, one in found)
        forest.draw(analysis(("a",), replace(made, effects=effects)), tmp_path / "f")
        said = texts(tmp_path / "f.svg")
        assert [text for text in said if text.startswith("1/2")] == [
            f"1/2 {look.word}" for look in style.LOOKS.values()
        ]

    def test_a_hopeless_interval_leaves_the_axis(self):
        wide = estimate(1.0, [0.5, 1.5], low=-500.0, high=500.0)
        low, high = forest.limits([wide, estimate(2.0, [1.0, 3.0], low=0.0, high=4.0)])
        assert -9 < low < -7 and 7 < high < 9

    def test_nothing_compared_is_said(self):
        assert forest.said(estimate(verdict="diverged")) == "no pair, diverged"

    def test_nothing_to_draw(self, tmp_path):
        assert not forest.draw(analysis((), result(FD, (), {(): {0: 1.0}})), tmp_path / "f")
        assert not list(tmp_path.iterdir())


class TestPairs:
    def test_means_of_a_full_factorial_by_hand(self):
        toggles = ("a", "b", "c")
        values = {
            on: {0: 2.0 + 3 * ("a" in on) + 5 * ({"a", "b"} <= set(on)) + ("c" in on)} for on in factorial(toggles)
        }
        found = pairs.foursomes(result(SCORE, toggles, values), 9)
        first = found[0]
        assert first.pair == ("a", "b") and first.found.estimate.value == pytest.approx(2.5)
        assert first.means == pytest.approx([2.5, 2.5, 5.5, 10.5])

    def test_the_means_cross_by_the_interaction(self):
        rng = np.random.default_rng(1)
        toggles = ("a", "b", "c", "d")
        values = {on: {seed: float(rng.normal()) for seed in range(3)} for on in factorial(toggles)}
        made = result(SCORE, toggles, values)
        for one in pairs.foursomes(made, 9):
            neither, other, first, both_on = one.means
            assert (both_on - first - other + neither) / 2 == pytest.approx(one.found.estimate.value)

    def test_the_largest_come_first_and_no_more_than_asked(self):
        toggles = ("a", "b", "c", "d")
        values = {on: {0: float(np.prod([1 + "abcd".index(t) for t in on]))} for on in factorial(toggles)}
        found = pairs.foursomes(result(SCORE, toggles, values), 4)
        sizes = [abs(one.found.estimate.value) for one in found]
        assert len(found) == 4 and sizes == sorted(sizes, reverse=True) and found[0].pair == ("c", "d")

    def test_a_fraction_averages_over_all_cells(self):
        half = [on for on in factorial("abcd") if len(on) % 2 == 0]
        assert [len(group) for group in pairs.grouped(half, "a", "b")] == [2, 2, 2, 2]

    def test_only_foursomes_count_where_there_are_some(self):
        cells = [(), ("a",), ("b",), ("a", "b"), ("c",)]
        assert pairs.grouped(cells, "a", "b") == [[frozenset(on)] for on in ((), ("b",), ("a",), ("a", "b"))]

    def test_what_seeds_share_is_no_spread(self):
        toggles = ("a", "b")
        values = {on: {seed: 10.0 * seed + len(on) for seed in range(3)} for on in factorial(toggles)}
        one = pairs.foursomes(result(SCORE, toggles, values), 1)[0]
        assert one.spreads == pytest.approx(np.zeros(4), abs=1e-9) and one.means == pytest.approx([10, 11, 11, 12])

    def test_a_missing_run_favours_nobody(self):
        toggles = ("a", "b", "c")
        values = {
            on: {seed: 10.0 * seed + 2 * ({"a", "b"} <= set(on)) for seed in range(3)} for on in factorial(toggles)
        }
        del values[()][0], values[("a", "b")][2], values[("c",)][1]
        one = pairs.foursomes(result(SCORE, toggles, values), 1)[0]
        assert one.pair == ("a", "b") and one.means - one.means[0] == pytest.approx([0, 0, 0, 2])
        assert one.spreads == pytest.approx(np.zeros(4), abs=1e-9)

    def test_alone_and_beside_all_others_by_hand(self, plain_study):
        toggles = ("a", "b", "c", "d")
        values = runs(both(toggles), EFFECTS)
        values[toggles] = {seed: value * math.exp(0.4) for seed, value in values[toggles].items()}
        found = pairs.besides(result(FD, toggles, values))
        assert [one.toggle for one in found] == list(toggles)
        assert found[0].alone == pytest.approx([-0.2] * 3) and found[0].beside == pytest.approx([0.2] * 3)
        index = (found[0].beside.mean() - found[0].alone.mean()) / 2
        assert found[0].found.estimate.value == pytest.approx(100 * math.expm1(index))


class TestInteractions:
    def test_panels_name_the_pair_and_its_number(self, tmp_path, monkeypatch):
        toggles = ("first", "second")
        values = {on: {0: 10.0 + 6 * (len(on) == 2), 1: 11.0 + 6 * (len(on) == 2)} for on in factorial(toggles)}
        with watched(monkeypatch) as figures:
            assert interactions.draw(analysis(toggles, result(SCORE, toggles, values)), tmp_path / "i")
        axis = figures[0].axes[0]
        assert axis.get_xlabel() == "second" and axis.get_title(loc="left").startswith("first\n+3.00")
        assert [label.get_text() for label in axis.get_xticklabels()] == ["off", "on"]
        off, on = axis.lines
        assert off.get_linestyle() == "--" and off.get_ydata() == pytest.approx([10.5, 10.5])
        assert on.get_linestyle() == "-" and on.get_ydata() == pytest.approx([10.5, 16.5])

    def test_aliases_are_counted(self, tmp_path):
        half = [on for on in factorial("abcd") if len(on) % 2 == 0]
        rng = np.random.default_rng(2)
        made = result(SCORE, "abcd", {on: {s: float(rng.normal()) for s in (0, 1)} for on in half})
        assert interactions.draw(analysis("abcd", made), tmp_path / "i")
        assert any(text.endswith(" (+1)") for text in texts(tmp_path / "i.svg"))

    def test_both_ends_of_a_toggle_are_joined(self, plain_study, tmp_path, monkeypatch):
        with watched(monkeypatch) as figures:
            assert interactions.draw(plain_study, tmp_path / "i")
        axis = figures[0].axes[0]
        assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c", "d"]
        joined = [line for line in axis.lines if list(line.get_ydata()) == [0, 0]]
        assert joined[0].get_xdata() == pytest.approx([100 * math.expm1(-0.2)] * 2)

    def test_one_at_a_time_says_nothing(self, tmp_path):
        made = result(FD, ("a", "b"), runs([(), ("a",), ("b",)], {"a": 1, "b": 1}))
        assert not interactions.draw(analysis(("a", "b"), made), tmp_path / "i")
        assert not list(tmp_path.iterdir())


class TestCurves:
    def test_mean_and_spread_are_those_of_logs(self):
        lines = [(np.array([0.0, 1.0]), np.array([8.0, 2.0])), (np.array([0.0, 1.0, 2.0]), np.array([2.0, 8.0, 1.0]))]
        kimg, mean, spread = curves.band(FD, lines)
        assert kimg.tolist() == [0, 1] and np.exp(mean) == pytest.approx([4, 4])
        assert spread == pytest.approx([math.log(4) / math.sqrt(2)] * 2)

    def test_numbers_that_cannot_be_drawn_are_left_out(self):
        points = [Point(i, float(i), 0.0, {"metrics/fd_emoji": v}) for i, v in enumerate([5.0, math.nan, -1.0, 3.0])]
        kimg, values = curves.curve(record("a", 0, None, points=(*points, Point(9, 9.0, 0.0, {"loss": 1.0}))), FD)
        assert kimg.tolist() == [0, 3] and values.tolist() == [5, 3]

    def test_panels_lines_and_the_diverged_run(self, records, tmp_path, monkeypatch):
        found = of_records(records, ("a", "b"))
        with watched(monkeypatch) as figures:
            assert curves.draw(found, records, found.metrics[0], tmp_path / "c")
        titles = [axis.get_title(loc="left").split("\n") for axis in figures[0].axes]
        assert titles[0] == ["a", f"{numbers.signed(FD, found.metrics[0].cell('a').estimate.value)} diverged"]
        assert [title[0] for title in titles] == ["a", "b", "full"] and titles[2][1].endswith("% better")
        crosses = [[line for line in axis.lines if line.get_marker() == "x"] for axis in figures[0].axes]
        assert [len(each) for each in crosses] == [1, 0, 0]
        assert [len(axis.collections[2].get_segments()) for axis in figures[0].axes] == [3, 3, 3]
        assert figures[0].axes[0].get_yscale() == "log"
        ours = [r for r in records if r.run.cell == "a" and r.result]
        ends = [r.result.metrics["fd_emoji"] for r in ours]
        assert figures[0].axes[0].lines[-1].get_ydata()[-1] == pytest.approx(float(np.exp(np.mean(np.log(ends)))))

    def test_of_many_cells_the_diverged_and_the_largest(self, tmp_path):
        factors = {"origin": 1.0} | {f"t{i:02}": 1.0 + 0.01 * i for i in range(30)}
        made = study_like(factors, seeds=2, spread=1e-6)
        made = [replace(r, status=Status(state="diverged"), result=None) if r.run.cell == "t00" else r for r in made]
        found = of_records(made, sorted(set(factors) - {"origin"}))
        cells = curves.shown(found, found.metrics[0], curves.curves(made, FD))
        assert [cell.cell for cell in cells] == ["t00", *(f"t{i:02}" for i in range(7, 30))]
        curves.draw(found, made, found.metrics[0], tmp_path / "c")
        assert "24 of 30 cells" in " ".join(texts(tmp_path / "c.svg"))

    def test_the_baseline_alone_has_its_panel_and_no_points_no_figure(self, tmp_path):
        made = study_like({"origin": 1.0})
        found = of_records(made, ())
        assert curves.draw(found, made, found.metrics[0], tmp_path / "c")
        bare = [replace(r, points=()) for r in made]
        assert not curves.draw(found, bare, found.metrics[0], tmp_path / "d")
        assert not list(tmp_path.glob("d*"))


class TestTradeoff:
    def test_marks_stand_at_the_means_and_areas_follow_costs(self, plain_study, tmp_path, monkeypatch):
        costs = {"a": 10.0, "b": 5.0}
        with watched(monkeypatch) as figures:
            assert tradeoff.draw(plain_study, costs, tmp_path / "t")
        marks = {mark.cell: mark for mark in tradeoff.cells(*plain_study.metrics, costs)}
        assert len(marks) == 10 and list(marks)[-1] == "origin"
        assert marks["a"].x == pytest.approx(plain_study.metrics[0].cell("a").mean)
        assert marks["a"].y == pytest.approx(plain_study.metrics[1].cell("a").mean)
        assert tradeoff.area(marks["a"], costs) == 2 * tradeoff.area(marks["b"], costs)
        dots = [each.get_offsets()[0].tolist() for each in figures[0].axes[0].collections]
        assert [marks["a"].x, marks["a"].y] in dots and len(dots) == 10
        said = texts(tmp_path / "t.svg")
        assert {"origin", "a", "b", "full", "5", "10", "baseline"} <= set(said)

    def test_what_cells_share_within_a_seed_is_no_spread(self, plain_study):
        assert max(tradeoff.spreads(plain_study.metrics[0]).values()) < 1e-9
        values = {(): {0: 1.0, 1: 1.0}, ("a",): {0: 1.0, 1: 3.0}}
        assert tradeoff.spreads(result(SCORE, ("a",), values))["a"] == pytest.approx(math.sqrt(0.5))

    def test_labels_meet_nothing(self):
        frame, taken = (0.0, 0.0, 100.0, 100.0), [(45.0, 45.0, 55.0, 55.0)]
        for _ in range(6):
            spot = tradeoff.free_spot((50, 50), 8, (30, 9), taken, frame)
            box = (*spot, spot[0] + 30, spot[1] + 9)
            assert not any(tradeoff._meet(box, other) for other in taken)
            assert min(box) >= 0 and max(box) <= 100
            taken.append(box)
        assert tradeoff.free_spot((50, 50), 8, (300, 9), [], frame) is None

    def test_without_score_or_distance_there_is_none(self, plain_study, tmp_path):
        for metric in plain_study.metrics:
            assert not tradeoff.draw(replace(plain_study, metrics=(metric,)), {}, tmp_path / "t")
        assert not list(tmp_path.iterdir())


class TestHalfNormal:
    def test_quantiles_are_those_of_half_a_normal_distribution(self):
        from scipy import stats

        assert half_normal.quantiles(4) == pytest.approx(stats.halfnorm.ppf([0.125, 0.375, 0.625, 0.875]))

    def test_points_lines_and_names(self, plain_study, tmp_path, monkeypatch):
        lenth = Lenth(("a", "b", "a:b or c:d"), (0.1, -0.5, 0.02), pse=0.03, margin=0.09, simultaneous=0.2)
        with watched(monkeypatch) as figures:
            assert half_normal.draw(replace(plain_study.metrics[0], lenth=lenth), tmp_path / "h")
        axis = figures[0].axes[0]
        points = [(line.get_ydata()[0], line.get_marker()) for line in axis.lines if len(line.get_xdata()) == 1]
        assert points == [(0.02, "^"), (0.1, "^"), (0.5, "v")]
        levels = {line.get_ydata()[0] for line in axis.lines if line.get_linestyle() in ("-", "-.")}
        assert {0.09, 0.2} <= levels
        assert [note.get_text() for note in axis.texts] == ["ME", "SME", "b", "a"]

    def test_none_without_the_test(self, plain_study, tmp_path):
        assert not half_normal.draw(plain_study.metrics[0], tmp_path / "h") and not list(tmp_path.iterdir())


class TestSheet:
    def test_pixels_stay_sharp(self, tmp_path):
        folder = draw_samples(tmp_path / "run", ["one", "two"], seed=1, side=4)
        strip = sheet.strip(folder / "samples" / "real.png", 2)
        with Image.open(folder / "samples" / "real.png") as image:
            wanted = image.convert("RGB")
        left = strip.width - strip.height
        for place, tile in enumerate(
            (strip.crop((0, 0, strip.height, strip.height)), strip.crop((left, 0, strip.width, strip.height)))
        ):
            assert (
                tile.resize((4, 4), Image.Resampling.NEAREST).tobytes()
                == wanted.crop((4 * place, 0, 4 * place + 4, 4)).tobytes()
            )
            assert len(tile.getcolors(tile.width * tile.height)) <= 16
        assert strip.getpixel((strip.height, 0)) == (255, 255, 255)

    def test_large_images_are_made_smaller(self, tmp_path):
        folder = draw_samples(tmp_path / "run", ["one"], seed=1, side=300)
        assert sheet.strip(folder / "samples" / "real.png", 1).size == (256, 256)

    def test_the_newest_samples_of_the_first_seed_and_a_gap_for_none(self, tmp_path):
        made = [record("origin", seed, {"fd_emoji": 1.0}) for seed in (1, 0)] + [record("late", 0, None)]
        folder = draw_samples(tmp_path / "run", ["one", "two"], seed=1, step=500)
        (folder / "samples" / "000001000.png").write_bytes((folder / "samples" / "000000500.png").read_bytes())
        made[1] = replace(made[1], folder=folder)
        origin, late = sheet.cell_rows(made)
        assert (origin.label, origin.note, origin.grid.name) == ("origin", "seed 0", "000001000.png")
        assert (late.label, late.note, late.grid) == ("late", "seed 0, pending", None)
        assert sheet.sample_captions(made) == ("one", "two")
        assert sheet.draw(made, tmp_path / "s")
        said = texts(tmp_path / "s.svg")
        rows = ["real images", "held out", "origin", "seed 0", "late", "seed 0, pending", "no samples"]
        assert [text for text in said if text in rows] == rows
        assert said[-4:] == ["1", "one", "2", "two"]

    def test_rows_beyond_the_cap_are_counted(self, tmp_path):
        folder = draw_samples(tmp_path / "run", ["one"], seed=1)
        made = [record(f"cell{i:02}", 0, {"fd_emoji": 1.0}, folder=folder) for i in range(26)]
        assert sheet.draw(made, tmp_path / "s")
        said = texts(tmp_path / "s.svg")
        assert "cell23" in said and "cell24" not in said and "The first 24 of 26 cells." in said

    def test_without_samples_there_is_no_sheet(self, tmp_path):
        assert not sheet.draw([record("origin", 0, None)], tmp_path / "s") and not list(tmp_path.iterdir())


def every(folder: Path, toggles: tuple[str, str], samples: Path) -> list[str]:
    """All figures of a small study whose toggles and captions have these names."""
    rng = np.random.default_rng(0)
    cells = {on: {seed: float(rng.uniform(3, 4)) for seed in range(2)} for on in factorial(toggles)}
    made = result(FD, toggles, cells)
    score = result(SCORE, toggles, {on: {s: 50 - v for s, v in each.items()} for on, each in cells.items()})
    found = analysis(toggles, made, score)
    drawn = study_like({cell.cell: 1.0 for cell in made.cells}, seeds=2)
    drawn[0] = replace(drawn[0], folder=samples)
    lenth = Lenth(toggles, (0.5, -0.2), 0.01, 0.02, 0.03)
    draw: dict[str, Callable[[Path], Any]] = {
        "forest": lambda stem: forest.draw(found, stem),
        "interactions": lambda stem: interactions.draw(found, stem),
        "curves": lambda stem: curves.draw(found, drawn, made, stem),
        "tradeoff": lambda stem: tradeoff.draw(found, {cell.cell: 5.0 for cell in made.cells}, stem),
        "half_normal": lambda stem: half_normal.draw(replace(made, lenth=lenth), stem),
        "sheet": lambda stem: sheet.draw(drawn, stem),
    }
    assert all(one(folder / name) for name, one in draw.items())
    return list(draw)


@pytest.mark.parametrize("toggles", [(HOSTILE[0], HOSTILE[2]), (HOSTILE[1], HOSTILE[3])])
def test_hostile_names_and_captions_stay_text(toggles, tmp_path):
    samples = draw_samples(tmp_path / "run", HOSTILE, seed=0)
    for name in every(tmp_path, toggles, samples):
        svg = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "metadata", "RDF", "Work", "type", "format", "creator", "Agent", "title",
                        "defs", "style", "g", "path", "use", "clipPath", "rect", "image"}  # fmt: skip
        assert "<script" not in svg and "http" not in svg.split("</metadata>")[1].replace("http://www.w3.org/", "")
    said = texts(tmp_path / "sheet.svg")
    assert "$x^2$" in said and "=cmd()" in said and "a b��" in said


def test_same_input_same_bytes_in_another_process(tmp_path):
    samples = draw_samples(tmp_path / "run", ["one", "two"], seed=0)
    program = "import sys; from pathlib import Path; from test_figures import every; "
    program += "every(Path(sys.argv[1]), ('a', 'b'), Path(sys.argv[2]))"
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    every(here, ("a", "b"), samples)
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(there), str(samples)], check=True, env=environment, timeout=240)
    files = sorted(path.name for path in here.iterdir())
    assert len(files) == 6 * len(FORMATS) and {Path(name).suffix for name in files} == set(FORMATS)
    for name in files:
        content = (here / name).read_bytes()
        assert content == (there / name).read_bytes(), name
        assert b"CreationDate" not in content and b"<dc:date>" not in content


def test_every_figure_is_as_wide_as_a_column(plain_study, tmp_path):
    forest.draw(plain_study, tmp_path / "f")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width == round(style.WIDTH * 300)
