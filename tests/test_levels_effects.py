"""Effects, interactions and trends of factors in every design, held to least squares on dummy columns."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from harness.analysis.analyse import analyse
from harness.analysis.export import as_json
from harness.design.contrasts import estimable
from harness.design.design import Design
from harness.design.factors import Factor, levels_of
from harness.design.kinds import DesignConfig
from levels import (
    AB,
    ABC,
    DESIGNS,
    EFFECTS,
    LAYERS,
    SWITCH,
    TAU,
    cells_of,
    effects_of,
    oracle,
    planted,
    table,
    value_of,
)


class TestEffects:
    @pytest.mark.parametrize("kind", DESIGNS)
    @pytest.mark.parametrize("lost", [0, 4])
    def test_planted_effects_come_back_exactly(self, kind: str, lost: int) -> None:
        """With paired seeds, and with runs that are lost."""
        ideas, cells = (*ABC, *TAU.ideas), cells_of(DESIGNS[kind], ABC, TAU)
        values = planted(cells, EFFECTS)
        for place in np.random.default_rng(lost).permutation(len(cells))[:lost]:
            values[place % 3, place] = np.nan
        found = analyse(table(cells, ideas, values, TAU), "origin").of("clip_score")
        assert effects_of(found) == pytest.approx(EFFECTS, abs=1e-9)
        assert oracle(cells, values, ideas) == pytest.approx(EFFECTS, abs=1e-9)
        (trend,) = found.trends
        assert trend.estimate.value == pytest.approx(EFFECTS["tau=1"] - EFFECTS["tau=0.1"], abs=1e-9)

    @pytest.mark.parametrize("kind", ["full", "fractional"])
    @pytest.mark.parametrize("factors", [(TAU,), (TAU, LAYERS), (SWITCH,), (LAYERS, SWITCH)])
    def test_a_crossed_design_is_least_squares(self, kind: str, factors: tuple[Factor, ...]) -> None:
        ideas, cells = (*ABC, *levels_of(factors)), cells_of(DESIGNS[kind], ABC, *factors)
        values = np.random.default_rng(5).normal(60, 5, (3, len(cells)))
        tells = estimable(cells, ideas, factors=factors)
        assert tells.basis == "orthogonal" and tells.condition == pytest.approx(1)
        found = analyse(table(cells, ideas, values, *factors), "origin").of("clip_score")
        assert effects_of(found) == pytest.approx(oracle(cells, values, ideas), abs=1e-9)

    def test_what_an_effect_is_is_said_by_how_many_cells_there_are(self) -> None:
        def reading(toggles: tuple[str, ...], *factors: Factor) -> str:
            return Design(DesignConfig(kind="full"), toggles, factors).estimable.reading

        assert reading(("a",)) == "An effect is the mean of the cell with the idea less the mean of that without it."
        assert reading(AB).startswith(
            "An effect is the mean of the 2 cells with the idea less the mean of the 2 without"
        )
        against = "A level is compared with the reference level of its factor."
        assert reading((), SWITCH).endswith(f"the cell with the idea less the mean of that without it. {against}")
        assert reading(AB, TAU).startswith("An effect is the mean of the cells with the idea less the mean of those")

    def test_no_warning_of_a_crossed_design_is_false(self) -> None:
        for kind in ("full", "fractional", "both", "one-at-a-time"):
            assert Design(DESIGNS[kind], ABC, (TAU, LAYERS)).warnings() == []

    def test_a_latin_square_is_orthogonal_and_has_no_interactions(self) -> None:
        size = Factor("size", ("size=1", "size=2", "size=3"), "size=1", (1, 2, 3))
        depth = Factor("depth", ("depth=1", "depth=2", "depth=3"), "depth=1", (1, 2, 3))
        rows = [(t, s, (t + s) % 3) for t, s in product(range(3), repeat=2)]
        picks = [(TAU.levels[t], size.levels[s], depth.levels[d]) for t, s, d in rows]
        ideas = levels_of((TAU, size, depth))
        cells = [tuple(level for level in ideas if level in pick) for pick in picks]
        tells = estimable(cells, ideas, factors=(TAU, size, depth))
        assert (tells.basis, tells.interactions, tells.condition) == ("orthogonal", (), 1.0)
        values = np.random.default_rng(0).normal(size=9)
        by_cell = dict(zip(cells, values.tolist(), strict=True))
        expected = oracle(cells, values[None], ideas)
        assert {it.toggle: value_of(it.weights, by_cell) for it in tells.effects} == pytest.approx(expected)

    def test_levels_alone_are_a_one_way_layout(self) -> None:
        cells = cells_of(DesignConfig(kind="full"), (), TAU)
        found = analyse(table(cells, TAU.ideas, planted(cells, EFFECTS), TAU), "origin").of("clip_score")
        assert effects_of(found) == pytest.approx({"tau=0.1": 1.25, "tau=1": -4.0})

    def test_a_lost_cell_leaves_the_other_pairs(self) -> None:
        ideas, cells = (*AB, *TAU.ideas), cells_of(DesignConfig(kind="full"), AB, TAU)
        values = planted(cells, EFFECTS)
        values[:, cells.index(("a", "tau=1"))] = np.nan
        found = analyse(table(cells, ideas, values, TAU), "origin").of("clip_score")
        assert effects_of(found) == pytest.approx({name: EFFECTS[name] for name in ideas}, abs=1e-9)

    def test_a_lost_cell_of_a_fraction_is_made_up_for_by_least_squares(self) -> None:
        four = tuple("abcd")
        ideas, cells = (*four, *TAU.ideas), cells_of(DesignConfig(kind="fractional", generators=("D=ABC",)), four, TAU)
        effects = {**EFFECTS, "d": 1.0}
        values = planted(cells, effects)
        values[:, cells.index(("a", "b", "tau=1"))] = np.nan
        found = analyse(table(cells, ideas, values, TAU), "origin").of("clip_score")
        assert effects_of(found) == pytest.approx(effects, abs=1e-9)

    def test_a_level_without_results_has_no_effect_and_no_trend(self) -> None:
        ideas, cells = (*AB, *TAU.ideas), cells_of(DesignConfig(kind="full"), AB, TAU)
        values = planted(cells, EFFECTS)
        values[:, [place for place, cell in enumerate(cells) if "tau=1" in cell]] = np.nan
        result = analyse(table(cells, ideas, values, TAU), "origin").of("clip_score")
        found = effects_of(result)
        assert found["tau=1"] is None and found["tau=0.1"] == pytest.approx(1.25) and found["a"] == pytest.approx(3)
        assert result.trends[0].estimate.value is None and "no result" in result.trends[0].estimate.reason

    def test_a_toggle_is_averaged_over_the_levels(self) -> None:
        """Though its effect differs between them."""
        ideas, cells = (*AB, *TAU.ideas), cells_of(DesignConfig(kind="full"), AB, TAU)
        gains = {"tau=0.1": 6.0, "tau=1": -1.0}
        values = {cell: sum(gains.get(each, 1.0) for each in cell) if "a" in cell else 0.0 for cell in cells}
        tells = estimable(cells, ideas, factors=(TAU,))
        a = next(effect for effect in tells.effects if effect.toggle == "a")
        by_level = [values[("a", *on)] - values[on] for on in ((), ("tau=0.1",), ("tau=1",))]
        assert value_of(a.weights, values) == pytest.approx(np.mean([*by_level, *(gain + 1 for gain in by_level)]))

    def test_diverged_runs_of_other_levels_do_not_count(self) -> None:
        ideas, cells = TAU.ideas, cells_of(DesignConfig(kind="full"), (), TAU)
        made = table(cells, ideas, planted(cells, EFFECTS), TAU)
        states = tuple("diverged" if made.cells[c].name == "tau=1" else "done" for c in made.cell.tolist())
        column = replace(made.columns[0], values=np.where(np.equal(states, "diverged"), np.nan, made.columns[0].values))
        found = analyse(replace(made, states=states, columns=(column,)), "origin").of("clip_score")
        assert {it.toggle: it.diverged for it in found.effects} == {"tau=0.1": (0, 0), "tau=1": (3, 0)}


class TestInteractions:
    @pytest.mark.parametrize("factors", [(TAU,), (TAU, LAYERS), (SWITCH, TAU)])
    def test_of_a_full_crossing_are_those_of_the_full_model(self, factors: tuple[Factor, ...]) -> None:
        """Least squares with columns that sum to 0 over the levels of a factor."""
        ideas, cells = (*AB, *levels_of(factors)), cells_of(DesignConfig(kind="full"), AB, *factors)
        values = np.random.default_rng(2).normal(size=len(cells))
        tells = estimable(cells, ideas, factors=factors)
        sizes = {"a": 2, "b": 2, **{idea: len(factor.levels) for factor in factors for idea in factor.ideas}}
        siblings = [{*factor.ideas} for factor in factors]
        column = {idea: np.array([float(idea in cell) - 1 / sizes[idea] for cell in cells]) for idea in ideas}
        pairs = [(i, j) for k, i in enumerate(ideas) for j in ideas[k + 1 :] if not any({i, j} <= s for s in siblings)]
        model = [np.ones(len(cells)), *column.values(), *(column[i] * column[j] for i, j in pairs)]
        solution = np.linalg.lstsq(np.column_stack(model), values, rcond=None)[0][1 + len(ideas) :]
        by_cell = dict(zip(cells, values.tolist(), strict=True))
        found = {it.aliases[0]: value_of(it.weights, by_cell) for it in tells.interactions}
        assert found == pytest.approx({f"{i}:{j}": each / 2 for (i, j), each in zip(pairs, solution, strict=True)})
        assert tells.inestimable == ()

    def test_of_a_fraction_the_toggles_have_their_aliases_and_levels_are_clear(self) -> None:
        four = tuple("abcd")
        cells = cells_of(DesignConfig(kind="fractional", generators=("D=ABC",)), four, TAU)
        tells = estimable(cells, (*four, *TAU.ideas), factors=(TAU,))
        groups = {it.aliases for it in tells.interactions}
        assert {("a:b", "c:d"), ("a:c", "b:d"), ("a:d", "b:c")} <= groups
        assert {(f"{toggle}:{level}",) for toggle in four for level in TAU.ideas} <= groups
        assert len(groups) == 3 + 8 and tells.inestimable == () and not any(it.aliases for it in tells.effects)

    def test_both_ends_tell_a_level_with_the_rest(self) -> None:
        cells = cells_of(DesignConfig(kind="both"), ABC, TAU)
        tells = estimable(cells, (*ABC, *TAU.ideas), factors=(TAU,))
        # Of three toggles the pairs are told one by one.
        assert [it.aliases for it in tells.interactions[:3]] == [("a:b",), ("a:c",), ("b:c",)]
        one = next(it for it in tells.interactions if it.toggle == "tau=1")
        assert one.aliases == ("a:tau=1", "b:tau=1", "c:tau=1")
        assert one.weights == {(*ABC, "tau=1"): 0.5, ABC: -0.5, ("tau=1",): -0.5, (): 0.5}

    def test_two_levels_of_a_factor_have_none(self) -> None:
        for kind in ("full", "both", "one-at-a-time"):
            tells = estimable(
                cells_of(DESIGNS[kind], AB if kind == "full" else ABC, TAU), (*ABC, *TAU.ideas), factors=(TAU,)
            )
            named = [*tells.inestimable, *(name for it in tells.interactions for name in it.aliases)]
            assert not any("tau=0.1:tau=1" in name for name in named)

    def test_attribution_is_that_of_the_toggles_at_the_references(self) -> None:
        tells = estimable(cells_of(DESIGNS["full"], ABC, TAU), (*ABC, *TAU.ideas), factors=(TAU,))
        alone = estimable(cells_of(DESIGNS["full"]), ABC)
        assert tells.attribution == alone.attribution


class TestTrend:
    def test_it_is_the_line_over_the_ranks_from_lowest_to_highest(self) -> None:
        means = {"layers=2": 1.0, "layers=4": 2.0, "layers=8": 7.0, "layers=9": 6.0}
        slope = np.polyfit(range(4), [*means.values()], 1)[0]
        found = sum(weight * means[level] for level, weight in LAYERS.trend().items())
        assert found == pytest.approx(3 * slope)
        assert TAU.trend() == pytest.approx({"tau=0.1": -1, "tau=0.5": 0, "tau=1": 1})

    def test_the_order_is_that_of_the_values(self) -> None:
        mixed = replace(TAU, levels=("tau=1", "tau=0.1", "tau=0.5"), values=(1.0, 0.1, 0.5))
        assert mixed.trend() == TAU.trend()

    @pytest.mark.parametrize("values", [(0.1, 0.5), ("x", "y", "z"), (1, None, 3), (True, False, True)])
    def test_two_levels_or_words_have_none(self, values: tuple[Any, ...]) -> None:
        levels = tuple(f"f={place}" for place in range(len(values)))
        assert Factor("f", levels, levels[0], values).trend() == {}

    def test_it_is_outside_of_holms_family(self) -> None:
        """And the family is all toggles and all levels."""
        ideas, cells = (*AB, *TAU.ideas), cells_of(DesignConfig(kind="full"), AB, TAU)
        values = planted(cells, EFFECTS) + np.random.default_rng(3).normal(0, 3, (3, len(cells)))
        analysis = analyse(table(cells, ideas, values, TAU), "origin")
        result = analysis.of("clip_score")
        p = [effect.estimate.p for effect in result.effects]
        assert len(p) == 4
        ranked = sorted(p)
        steps = np.maximum.accumulate([min(1.0, (4 - rank) * value) for rank, value in enumerate(ranked)])
        expected = {value: step for value, step in zip(ranked, steps, strict=True)}
        assert [it.estimate.p_holm for it in result.effects] == pytest.approx([expected[value] for value in p])
        (trend,) = result.trends
        assert trend.estimate.p_holm == trend.estimate.p
        said = as_json(analysis)
        metric = said["metrics"]["clip_score"]
        assert metric["holm"] == {"effects": 4, "cells": 11, "interactions": 5}
        assert {"p_holm", "verdict"}.isdisjoint(metric["trends"][0])
        assert metric["trends"][0]["levels"] == ("tau=0.1", "tau=0.5", "tau=1")
        assert said["toggles"] == ideas
        assert said["levels"] == [TAU.as_dict()] and said["levels"][0]["reference"] == "tau=0.5"

    def test_its_interval_is_that_of_the_contrast(self) -> None:
        """Of three levels: highest less lowest, as the comparison with the lowest as reference has it."""
        ideas, cells = (*AB, *TAU.ideas), cells_of(DesignConfig(kind="full"), AB, TAU)
        values = planted(cells, EFFECTS) + np.random.default_rng(3).normal(0, 3, (3, len(cells)))
        (trend,) = analyse(table(cells, ideas, values, TAU), "origin").of("clip_score").trends
        other = replace(TAU, reference="tau=0.1")
        moved = [
            tuple({"tau=0.1": "", "": "tau=0.5"}.get(each, each) for each in cell if each != "tau=0.1")
            for cell in cells
        ]
        moved = [
            cell if any("tau" in each for each in cell) or "tau=0.1" in old else (*cell, "tau=0.5")
            for cell, old in zip(moved, cells, strict=True)
        ]
        order = (*AB, *other.ideas)
        moved = [tuple(idea for idea in order if idea in cell) for cell in moved]
        first = sorted(range(len(moved)), key=lambda place: bool(moved[place]))
        again = table([moved[place] for place in first], order, values[:, first], other)
        effect = next(it for it in analyse(again, "origin").of("clip_score").effects if it.toggle == "tau=1")
        for name in ("value", "low", "high", "p", "own_low", "own_high"):
            assert getattr(trend.estimate, name) == pytest.approx(getattr(effect.estimate, name)), name


def test_lenths_test_is_left_out_where_levels_share_a_reference() -> None:
    ideas, cells = (*AB, *TAU.ideas), cells_of(DesignConfig(kind="full"), AB, TAU)
    one = np.random.default_rng(0).normal(size=(1, len(cells)))
    assert analyse(table(cells, ideas, one, TAU), "origin").of("clip_score").lenth is None
    ideas, cells = (*AB, *SWITCH.ideas), cells_of(DesignConfig(kind="full"), AB, SWITCH)
    one = np.random.default_rng(0).normal(size=(1, len(cells)))
    assert analyse(table(cells, ideas, one, SWITCH), "origin").of("clip_score").lenth is not None


@pytest.mark.parametrize("trial", range(120))
def test_contrasts_of_any_cells_hold_what_they_are_called_after_and_nothing_else(trial: int) -> None:
    """Random designs with random cells lost: effects, interactions and trends of a planted surface."""
    rng = random.Random(trial)
    factors = rng.choice([(TAU,), (TAU, LAYERS), (SWITCH, TAU), (LAYERS, SWITCH)])
    toggles = rng.choice([(), AB, ABC, tuple("abcd")])
    kind = rng.choice(["one-at-a-time", "leave-one-out", "both", "full", "list", "fractional"])
    ideas = (*toggles, *levels_of(factors))
    design = DesignConfig(kind=kind, include=("origin",))
    if kind == "fractional" and len(toggles) == 4:
        design = DesignConfig(kind=kind, generators=("D=ABC",))
    elif kind in ("fractional", "list"):
        every = cells_of(DesignConfig(kind="full"), toggles, *factors)
        design = DesignConfig(kind="list", cells=tuple(rng.sample(every, rng.randint(1, min(len(every), 20)))))
    planned = cells_of(design, toggles, *factors)
    lost = set(rng.sample(planned, min(len(planned) - 1, rng.choice([0, 0, 1, 2, 5]))))
    cells = [cell for cell in planned if cell not in lost]
    tells = estimable(cells, ideas, planned, factors)
    effects = {idea: rng.gauss(0, 3) for idea in ideas}
    values = {cell: 60 + sum(effects[idea] for idea in cell) for cell in cells}
    for one in tells.effects:
        assert value_of(one.weights, values) == pytest.approx(effects[one.toggle], abs=1e-8)
        assert sum(one.weights.values()) == pytest.approx(0, abs=1e-9)
    for one in tells.interactions:
        assert value_of(one.weights, values) == pytest.approx(0, abs=1e-8)
        if len(one.aliases) == 1:
            pair = set(one.aliases[0].split(":"))
            more = {cell: value + 5 * (pair <= set(cell)) for cell, value in values.items()}
            assert value_of(one.weights, more) == pytest.approx(2.5, abs=1e-8)
    for one in tells.trends:
        trend = next(factor for factor in factors if factor.name == one.toggle).trend()
        rise = sum(weight * effects.get(level, 0.0) for level, weight in trend.items())
        assert value_of(one.weights, values) == pytest.approx(rise, abs=1e-8)
