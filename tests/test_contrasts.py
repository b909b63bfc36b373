"""What designs can say, against effects planted by hand."""

from __future__ import annotations

from itertools import combinations, product

import pytest

from harness.design.contrasts import estimable
from harness.design.design import Design
from harness.design.kinds import DesignConfig

ABC = ("a", "b", "c")
SIX = tuple("abcdef")


def subsets(toggles):
    return [tuple(t for t, on in zip(toggles, row, strict=True) if on) for row in product((0, 1), repeat=len(toggles))]


def alone(toggles):
    return [(), *((t,) for t in toggles)]


def without(toggles):
    return [toggles, *(tuple(o for o in toggles if o != t) for t in toggles)]


def surface(main, pairs):
    """cell -> 10 + sum of effect/2 * x + sum of interaction/2 * x * x, in the coding -1, +1."""

    def value(cell):
        x = {t: 1 if t in cell else -1 for t in main}
        return (
            10 + sum(e / 2 * x[t] for t, e in main.items()) + sum(e / 2 * x[p[0]] * x[p[1]] for p, e in pairs.items())
        )

    return value


def of(weights, value):
    assert sum(weights.values()) == pytest.approx(0, abs=1e-12)
    return sum(weight * value(cell) for cell, weight in weights.items())


def found(cells, toggles, value):
    tells = estimable(cells, toggles)
    mains = {effect.toggle: of(effect.weights, value) for effect in tells.effects}
    return tells, mains, {each.aliases: of(each.weights, value) for each in tells.interactions}


MAIN = {t: 0.3 * (place + 1) - 1 for place, t in enumerate(SIX)}
PAIRS = {pair: 0.07 * (place + 1) for place, pair in enumerate(combinations(SIX, 2))}


class TestFullFactorial:
    def test_effects_and_interactions_come_back(self):
        tells, mains, pairs = found(subsets(SIX), SIX, surface(MAIN, PAIRS))
        assert tells.basis == "orthogonal"
        assert mains == pytest.approx(MAIN)
        assert pairs == pytest.approx({(f"{a}:{b}",): e for (a, b), e in PAIRS.items()})
        assert tells.inestimable == () and tells.condition == pytest.approx(1)
        assert {effect.pairs for effect in tells.effects} == {32}

    def test_shapley_values_share_out_full_minus_origin_and_nothing_else(self):
        value = surface(MAIN, PAIRS)
        tells = estimable(subsets(SIX), SIX)
        shares = {t: of(weights, value) for t, weights in tells.attribution.items()}
        assert sum(shares.values()) == pytest.approx(value(SIX) - value(()))
        # By hand for two players: half of the gain alone and half of the gain on top.
        two = estimable(subsets(("a", "b")), ("a", "b")).attribution["a"]
        game = {(): 1.0, ("a",): 4.0, ("b",): 2.0, ("a", "b"): 9.0}
        assert sum(weight * game[cell] for cell, weight in two.items()) == pytest.approx(((4 - 1) + (9 - 2)) / 2)

    def test_only_a_full_factorial_has_them(self):
        assert estimable(subsets(ABC)[:-1], ABC).attribution == {}


class TestEnds:
    def test_one_at_a_time_is_the_difference_from_the_origin(self):
        value = surface(MAIN, PAIRS)
        tells, mains, pairs = found([*alone(SIX), SIX], SIX, value)
        assert tells.basis == "pairs"
        assert mains == pytest.approx({t: value((t,)) - value(()) for t in SIX})
        assert pairs == {}
        assert set(tells.inestimable) == {f"{a}:{b}" for a, b in combinations(SIX, 2)}

    def test_leave_one_out_is_what_is_lost(self):
        value = surface(MAIN, PAIRS)
        _, mains, _ = found(without(SIX), SIX, value)
        assert mains == pytest.approx({t: value(SIX) - value(tuple(o for o in SIX if o != t)) for t in SIX})

    def test_both_ends_give_main_effects_and_sums_of_interactions(self):
        tells, mains, pairs = found([*alone(SIX), *without(SIX)], SIX, surface(MAIN, PAIRS))
        assert mains == pytest.approx(MAIN)
        sums = {t: sum(e for pair, e in PAIRS.items() if t in pair) for t in SIX}
        by_toggle = {each.toggle: pairs[each.aliases] for each in tells.interactions}
        assert by_toggle == pytest.approx(sums)
        assert all(
            len(aliases) == 5 and all(t in alias for alias in aliases)
            for t, aliases in zip(by_toggle, pairs, strict=True)
        )

    def test_a_pair_told_by_itself_takes_no_sum_from_the_others(self):
        tells, _, pairs = found([*alone(SIX), *without(SIX), ("a", "b")], SIX, surface(MAIN, PAIRS))
        sums = {each.toggle: pairs[each.aliases] for each in tells.interactions if each.toggle}
        assert sums == pytest.approx({t: sum(e for pair, e in PAIRS.items() if t in pair) for t in "cdef"})
        assert ("a:b",) in pairs and tells.inestimable == ()
        assert Design(DesignConfig(kind="both", include=("a+b",)), SIX).warnings() == []

    def test_three_ideas_at_both_ends_are_a_full_factorial(self):
        assert estimable([*alone(ABC), *without(ABC)], ABC).basis == "orthogonal"


class TestFractions:
    def quarter(self):
        """2^(6-2) with e = abc, f = bcd, by products of signs."""
        cells = []
        for a, b, c, d in product((-1, 1), repeat=4):
            signs = dict(zip(SIX, (a, b, c, d, a * b * c, b * c * d), strict=True))
            cells.append(tuple(t for t in SIX if signs[t] > 0))
        return cells

    def test_main_effects_are_clear_and_interactions_come_in_named_groups(self):
        tells, mains, pairs = found(self.quarter(), SIX, surface(MAIN, PAIRS))
        assert mains == pytest.approx(MAIN)
        assert all(effect.aliases == () for effect in tells.effects)
        groups = {("a:b", "c:e"), ("a:c", "b:e"), ("a:d", "e:f"), ("a:e", "b:c", "d:f"), ("a:f", "d:e")}
        groups |= {("b:d", "c:f"), ("b:f", "c:d")}
        assert set(pairs) == groups
        for aliases, value in pairs.items():
            assert value == pytest.approx(sum(PAIRS[tuple(alias.split(":"))] for alias in aliases))
        assert tells.inestimable == ()

    def test_three_toggles_in_four_cells_say_what_their_effects_are_confused_with(self):
        cells = [
            tuple(t for t, s in zip(ABC, (a, b, a * b), strict=True) if s > 0) for a, b in product((-1, 1), repeat=2)
        ]
        tells = estimable(cells, ABC)
        assert {e.toggle: e.aliases for e in tells.effects} == {"a": ("b:c",), "b": ("a:c",), "c": ("a:b",)}
        assert tells.interactions == ()

    def test_a_minus_sign_is_part_of_the_name(self):
        cells = [
            tuple(t for t, s in zip("abcd", (a, b, c, -a * b * c), strict=True) if s > 0)
            for a, b, c in product((-1, 1), repeat=3)
        ]
        tells = estimable(cells, tuple("abcd"))
        assert {each.aliases for each in tells.interactions} == {("a:b", "-c:d"), ("a:c", "-b:d"), ("a:d", "-b:c")}


class TestBrokenDesigns:
    def test_an_excluded_pair_is_named_and_the_rest_is_still_told(self):
        cells = [cell for cell in subsets(ABC) if not {"a", "b"} <= set(cell)]
        value = surface({"a": 1.0, "b": -2.0, "c": 0.5}, {("a", "c"): 0.4})
        tells, mains, pairs = found(cells, ABC, value)
        assert tells.basis == "pairs"
        assert tells.inestimable == ("a:b",)
        assert tells.condition > 1
        assert mains == pytest.approx({"a": 1.0, "b": -2.0, "c": 0.5 - 0.4 / 3})
        assert pairs[("a:c",)] == pytest.approx(0.4)

    def test_cells_without_pairs_are_read_by_least_squares(self):
        cells = [(), ("a", "b"), ("b", "c"), ("a", "c"), ("a", "b", "c")]
        main = {"a": 1.0, "b": -2.0, "c": 0.5}
        tells, mains, _ = found([cell for cell in cells if cell != ("a", "b", "c")], ABC, surface(main, {}))
        assert tells.basis == "orthogonal"  # half of the cube
        tells, mains, _ = found([(), ("a", "b"), ("b", "c"), ("a", "b", "c"), ("a", "c")][:4], ABC, surface(main, {}))
        assert tells.basis == "regression"
        assert mains == pytest.approx(main)

    @pytest.mark.parametrize(
        ("kind", "rules", "held"),
        [
            ({"kind": "fractional", "resolution": "III"}, {"include": ("a",)}, {"f": {"-b:c", "-d:e"}}),
            ({"kind": "fractional", "resolution": "IV"}, {"include": ("a",)}, {"f": set()}),
            ({"kind": "fractional"}, {"exclude": (("a", "b"),)}, {"a": {"-c:e"}, "d": {"-c:f", "-e:f"}}),
            (
                {"kind": "leave-one-out"},
                {"include": ("origin",), "require": {"a": ("b",)}},
                {"a": set(), "b": {f"-{one}:{other}" for one, other in combinations("acdef", 2)}},
            ),
        ],
    )
    def test_an_effect_by_least_squares_names_the_interactions_of_others_that_are_in_it(self, kind, rules, held):
        design = Design(DesignConfig(**kind, **rules), SIX)
        effects = {effect.toggle: effect for effect in design.estimable.effects}
        assert design.estimable.basis == "regression"
        assert {toggle: set(effects[toggle].aliases) for toggle in held} == held
        for effect in effects.values():
            # What is read where one pair alone changes anything, and that only together.
            for one, other in combinations([toggle for toggle in SIX if toggle != effect.toggle], 2):
                part = of(effect.weights, lambda cell, pair={one, other}: float(pair <= set(cell)))
                named = {f"{one}:{other}", f"-{one}:{other}"} & set(effect.aliases)
                assert named == ({f"{'-' * (part < 0)}{one}:{other}"} if abs(part) > 0.1 else set())

    def test_interactions_read_beside_a_regression_are_not_said_to_be_fitted_with_it(self):
        names = ("a", "b", "c", "d")
        cells = [(), ("a",), ("b",), ("c",), names, ("b", "c", "d"), ("a", "c", "d"), ("a", "b", "d")]
        can = estimable(cells, names)
        assert can.basis == "regression" and can.interactions
        assert can.reading.endswith("with all interactions assumed to be 0.")

    def test_a_toggle_that_never_changes_has_no_effect(self):
        tells = estimable([("a",), ("a", "b")], ("a", "b"))
        assert [effect.toggle for effect in tells.effects] == ["b"]
        assert "a" in tells.inestimable
        assert tells.condition is None

    def test_no_cells_and_no_toggles_say_nothing(self):
        assert estimable([], ()).effects == ()
        assert estimable([()], ("a",)).effects == ()
