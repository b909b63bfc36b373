"""What the figures of effects show: rows, numbers and words, read from artists and drawings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from matplotlib.colors import to_hex

from figured import (
    EFFECTS,
    FD,
    HOSTILE,
    SCORE,
    analysis,
    both,
    estimate,
    factorial,
    plain,
    result,
    runs,
    texts,
    watched,
)
from harness.analysis.results import Effect, Verdict
from harness.report import verdicts, wording
from harness.report.figures import forest, interactions, pairs, style, tradeoff


@pytest.fixture
def plain_study():
    return plain()


class TestNumbers:
    def test_percent_and_points(self):
        assert wording.signed(FD, -18.24) == "−18.2 %" and wording.signed(SCORE, 1.304) == "+1.30"
        assert wording.signed(FD, -0.01) == "−0.01 %" and wording.signed(FD, 1e-9) == "0.0 %"
        assert wording.brackets(FD, -42.66, 3.0) == "[−42.7, +3.0]"
        assert style.tick(FD, (-30, 5))(-20.0, 0) == "−20 %" and style.tick(SCORE, (-1, 1))(1e-17, 0) == "0"
        assert style.tick(SCORE, (-4e-13, 1e-13))(-2e-13, 0) == "−2e−13"

    def test_there_and_back(self):
        assert FD.unscaled(FD.scaled([2.0, 5.0])) == pytest.approx([2, 5])
        assert FD.change([math.log(1.25)]) == pytest.approx([25]) and SCORE.change([1.5]) == [1.5]
        assert FD.difference(FD.change([-0.3, 0.2])) == pytest.approx([-0.3, 0.2])
        assert math.isfinite(FD.change(1e4)) and (FD.change_unit, SCORE.change_unit) == ("%", "points")


class TestStyle:
    def test_no_two_verdicts_share_colour_or_word_or_shape(self):
        assert set(verdicts.FORMS) == set(get_args(Verdict))
        for of in (lambda look: look.colour, lambda look: (look.marker, look.hollow)):
            assert len({of(look) for look in verdicts.FORMS.values()}) == 7

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
        found = style.short_names(cells, toggles, 1.5)
        assert found["a_long_name_of_a_toggle+another_long_name"] == "A+B" and found["another_long_name"][:4] == "anot"
        assert found["another_long_name+c"] == "another_long_name+c" and len(set(found.values())) == 16
        assert style.key(found, cells, toggles).startswith(" A: a_long_name_of_a_toggle; B: another_long_name")
        assert style.key(style.short_names(cells, toggles, 9), cells, toggles) == ""


class TestForest:
    def test_rows_are_toggles_then_combinations(self, plain_study):
        rows = forest.rows(plain_study, plain_study.metrics[0])
        wanted = ["a", "d", "c", "b", "full", *(f"full-minus-{toggle}" for toggle in "abcd")]
        assert [row.label for row in rows] == wanted
        assert [row.label for row in rows if row.ruled] == ["full"]

    def test_of_many_combinations_only_that_of_all_toggles(self):
        toggles = ("a", "b", "c", "d")
        made = result(FD, toggles, runs(factorial(toggles), dict.fromkeys(toggles, 0.1)))
        *ideas, last = (row.label for row in forest.rows(analysis(toggles, made), made))
        assert (sorted(ideas), last) == ([*toggles], "full")

    def test_marks_stand_at_the_numbers(self, plain_study, tmp_path, monkeypatch):
        toggles = ("a", "b", "c", "d")
        made = plain_study.metrics[0]
        one = estimate(-10.0, [-12.0, -8.0], improved=2, verdict="better", low=-14.0, high=-6.0)
        effects = (replace(made.effects[0], estimate=one), *made.effects[1:])
        with watched(monkeypatch) as figures:
            assert forest.draw(analysis(toggles, replace(made, effects=effects, margin=5.0)), tmp_path / "f")
        axis = figures[0].axes[0]
        assert [label.get_text() for label in axis.get_yticklabels()][:4] == ["a", "d", "c", "b"]
        first = [line for line in axis.lines if list(np.unique(np.round(line.get_ydata()))) == [0.0]]
        lines = {tuple(line.get_xdata()) for line in first}
        assert {(-14.0, -6.0), (-12.0,), (-8.0,), (-10.0,)} <= lines
        assert {to_hex(line.get_color()) for line in first if len(line.get_xdata()) == 1} == {verdicts.GOOD}
        assert "2/2 better" in texts(tmp_path / "f.svg")
        band = axis.patches[0].get_x(), axis.patches[0].get_x() + axis.patches[0].get_width()
        assert band == (-5.0, 5.0)

    def test_every_verdict_is_a_word(self, tmp_path):
        made = result(FD, ("a",), runs([(), ("a",)], EFFECTS))
        found = [(verdict, estimate(3.0, [2.0, 4.0], improved=1, verdict=verdict)) for verdict in verdicts.FORMS]
        effects = tuple(Effect(verdict, one, 1, (), (0, 0)) for verdict, one in found)
        forest.draw(analysis(("a",), replace(made, effects=effects)), tmp_path / "f")
        said = texts(tmp_path / "f.svg")
        assert [text for text in said if text.startswith("1/2")] == [f"1/2 {verdict}" for verdict in verdicts.FORMS]

    def test_long_names_stand_whole_in_several_lines(self, tmp_path, monkeypatch):
        toggles = ("img_img_loss_with_a_rather_long_name", "transform_w_by_a_second_mapping_network", "c", "d")
        made = result(FD, toggles, runs(both(toggles), dict.fromkeys(toggles, 0.1)))
        score = result(SCORE, toggles, runs(both(toggles), dict.fromkeys(toggles, 0.1)))
        found = analysis(toggles, made, score)
        with watched(monkeypatch) as figures:
            assert forest.draw(found, tmp_path / "f") and interactions.draw(found, tmp_path / "i")
            assert tradeoff.draw(found, {}, tmp_path / "t")
        for axis in (figures[0].axes[0], figures[1].axes[0]):
            names = [label.get_text() for label in axis.get_yticklabels()]
            assert [name.replace("\n", "") for name in names][:4] == list(toggles)
            assert max(style.width_of(line) for name in names for line in name.split("\n")) <= 1.6
            places = axis.get_yticks()
            lines = [name.count("\n") + 1 for name in names]
            inch = axis.get_position().height * axis.figure.get_size_inches()[1] / abs(np.diff(axis.get_ylim())[0])
            gaps = (places[1:] - places[:-1]) * inch
            assert all(
                gap >= style.LINE * (one + other) / 2
                for gap, one, other in zip(gaps, lines[:-1], lines[1:], strict=True)
            )
        drawn = {text.get_text().replace("\n", "") for text in figures[2].axes[0].texts}
        assert {*toggles, *(f"full-minus-{toggle}" for toggle in toggles)} <= drawn

    def test_a_hopeless_interval_leaves_the_axis(self):
        wide = estimate(1.0, [0.5, 1.5], low=-500.0, high=500.0)
        low, high = forest.limits([wide, estimate(2.0, [1.0, 3.0], low=0.0, high=4.0)])
        assert -9 < low < -7 and 7 < high < 9

    def test_nothing_compared_is_said(self):
        assert forest.seeds_and_verdict(estimate(verdict="diverged")) == "no pair, diverged"

    def test_nothing_to_draw(self, tmp_path):
        assert not forest.draw(analysis((), result(FD, (), {(): {0: 1.0}})), tmp_path / "f")
        assert not list(tmp_path.iterdir())


class TestPairs:
    def test_means_of_a_full_factorial_by_hand(self):
        toggles = ("a", "b", "c")
        values = {
            on: {0: 2.0 + 3 * ("a" in on) + 5 * ({"a", "b"} <= set(on)) + ("c" in on)} for on in factorial(toggles)
        }
        found = pairs.pair_means(result(SCORE, toggles, values), 9)
        first = found[0]
        assert first.pair == ("a", "b") and first.interaction.estimate.value == pytest.approx(2.5)
        assert first.means == pytest.approx([2.5, 2.5, 5.5, 10.5])

    def test_the_means_cross_by_the_interaction(self):
        rng = np.random.default_rng(1)
        toggles = ("a", "b", "c", "d")
        values = {on: {seed: float(rng.normal()) for seed in range(3)} for on in factorial(toggles)}
        made = result(SCORE, toggles, values)
        for one in pairs.pair_means(made, 9):
            neither, other, first, both_on = one.means
            assert (both_on - first - other + neither) / 2 == pytest.approx(one.interaction.estimate.value)

    def test_the_largest_come_first_and_no_more_than_asked(self):
        toggles = ("a", "b", "c", "d")
        values = {on: {0: float(np.prod([1 + "abcd".index(t) for t in on]))} for on in factorial(toggles)}
        found = pairs.pair_means(result(SCORE, toggles, values), 4)
        sizes = [abs(one.interaction.estimate.value) for one in found]
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
        one = pairs.pair_means(result(SCORE, toggles, values), 1)[0]
        assert one.spreads == pytest.approx(np.zeros(4), abs=1e-9) and one.means == pytest.approx([10, 11, 11, 12])

    def test_a_missing_run_favours_nobody(self):
        toggles = ("a", "b", "c")
        values = {
            on: {seed: 10.0 * seed + 2 * ({"a", "b"} <= set(on)) for seed in range(3)} for on in factorial(toggles)
        }
        del values[()][0], values[("a", "b")][2], values[("c",)][1]
        one = pairs.pair_means(result(SCORE, toggles, values), 1)[0]
        assert one.pair == ("a", "b") and one.means - one.means[0] == pytest.approx([0, 0, 0, 2])
        assert one.spreads == pytest.approx(np.zeros(4), abs=1e-9)

    def test_alone_and_beside_all_others_by_hand(self, plain_study):
        toggles = ("a", "b", "c", "d")
        values = runs(both(toggles), EFFECTS)
        values[toggles] = {seed: value * math.exp(0.4) for seed, value in values[toggles].items()}
        found = pairs.two_ends(result(FD, toggles, values), toggles)
        assert [one.toggle for one in found] == list(toggles)
        assert found[0].alone == pytest.approx([-0.2] * 3) and found[0].with_others == pytest.approx([0.2] * 3)
        index = (found[0].with_others.mean() - found[0].alone.mean()) / 2
        assert found[0].interaction.estimate.value == pytest.approx(100 * math.expm1(index))


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
