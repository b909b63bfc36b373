"""Factors: the cells of every design, and their names."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.design.factors import Factor, level_name, written
from harness.design.kinds import DesignConfig, canonical_name, conflict, expand, name_of, toggles_of
from levels import (
    AB,
    ABC,
    DESIGNS,
    LAYERS,
    SWITCH,
    TAU,
    cells_of,
)


class TestCells:
    def test_the_cells_of_every_kind(self) -> None:
        def names(kind: str, **more: Any) -> list[str]:
            return [cell.name for cell in expand(DesignConfig(kind=kind, **more), AB, (TAU,)).cells]

        assert names("one-at-a-time") == ["origin", "a", "b", "tau=0.1", "tau=1"]
        assert names("leave-one-out") == ["full", "b", "a", "full+tau=0.1", "full+tau=1"]
        assert names("both") == ["origin", "a", "b", "tau=0.1", "tau=1", "full", "full+tau=0.1", "full+tau=1"]
        crossed = ["origin", "tau=0.1", "tau=1", "a", "b", "a+tau=0.1", "a+tau=1", "b+tau=0.1", "b+tau=1", "full"]
        assert names("full") == [*crossed, "full+tau=0.1", "full+tau=1"]
        assert names("list", cells=(("tau=1", "a"), {"mine": ("tau=0.1",)})) == ["a+tau=1", "mine"]

    @pytest.mark.parametrize("factors", [(TAU,), (TAU, LAYERS), (SWITCH,), (TAU, SWITCH)])
    def test_full_and_fraction_are_crossed_with_all_levels(self, factors: tuple[Factor, ...]) -> None:
        combinations = int(np.prod([len(factor.levels) for factor in factors]))
        full, fraction = (cells_of(DESIGNS[kind], ABC, *factors) for kind in ("full", "fractional"))
        assert len(set(full)) == len(full) == 8 * combinations
        assert len(set(fraction)) == len(fraction) == 4 * combinations
        assert not any(conflict(cell, DesignConfig(), factors) for cell in (*full, *fraction))

    @pytest.mark.parametrize("kind", [kind for kind in DESIGNS if kind != "list"])
    def test_every_name_finds_its_cell(self, kind: str) -> None:
        for cell in expand(DESIGNS[kind], ABC, (TAU, LAYERS)).cells:
            assert toggles_of(cell.name, ABC, {}, (TAU, LAYERS)) == cell.toggles

    def test_nothing_is_dropped_for_levels_of_one_factor(self) -> None:
        assert expand(DesignConfig(kind="full"), AB, (TAU,)).dropped == {}

    def test_without_toggles_there_are_still_levels(self) -> None:
        assert cells_of(DesignConfig(kind="full"), (), TAU) == [(), ("tau=0.1",), ("tau=1",)]
        assert cells_of(DesignConfig(kind="both"), (), TAU) == [(), ("tau=0.1",), ("tau=1",)]

    def test_rules_may_name_levels(self) -> None:
        design = DesignConfig(kind="full", exclude=(("a", "tau=1"),), require={"tau=0.1": ("b",)})
        names = [cell.name for cell in expand(design, AB, (TAU,)).cells]
        assert names == ["origin", "tau=1", "a", "b", "b+tau=0.1", "b+tau=1", "full", "full+tau=0.1"]


class TestNames:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(1.0, "1"), (0.1, "0.1"), (1e-05, "1e-05"), (1e20, "1e20"), (-2.5, "-2.5"), (3, "3"), (True, "true")],
    )
    def test_values_are_written_in_their_shortest_form(self, value: Any, text: str) -> None:
        assert written(value) == text and level_name("tau", value) == f"tau={text}"

    def test_words_and_nothing(self) -> None:
        assert (written(None), written("a b")) == ("null", "a b")
        assert level_name("clip", "open_clip:ViT-B-32/openai") == "clip=open_clip-ViT-B-32-openai"
        # Nothing in a name is a minus that is none in the value, and nothing has still a name.
        assert [level_name("f", text) for text in ("#1", "/a/b", "10%", "-1", "+", "")] == [
            *("f=1", "f=a-b", "f=10", "f=-1", "f=-", "f=empty"),
        ]
        assert written("") == "''"

    def test_a_level_may_be_called_by_its_value(self) -> None:
        clip = Factor("clip", ("clip=quick", "clip=open_clip-ViT-B-32-openai"), "clip=quick", ("quick", "x"))
        assert clip.level("clip=open_clip:ViT-B-32/openai") == "clip=open_clip-ViT-B-32-openai"

    def test_a_level_has_many_spellings_and_one_name(self) -> None:
        for name in ("tau=1", "tau=1.0", "tau=1.00", "loss.tau=1", "tau=1e0"):
            assert TAU.level(name) == "tau=1" and canonical_name(name, AB, DesignConfig(), (TAU,)) == "tau=1"
        assert [TAU.level(name) for name in ("tau", "tau=2", "tau=", "other=1", "tau=x")] == [None] * 5
        assert SWITCH.level("noise=true") == "noise=true" and SWITCH.level("noise=1") is None

    def test_the_reference_level_is_nothing_on(self) -> None:
        assert toggles_of("tau=0.5", AB, {}, (TAU,)) == ()
        assert toggles_of("a+tau=0.50", AB, {}, (TAU,)) == ("a",)

    def test_levels_follow_the_name_of_the_toggles(self) -> None:
        for name in ("full+tau=0.1", "full-minus-c+tau=1", "a+tau=1+layers=4", "tau=0.1+layers=9"):
            cell = toggles_of(name, ABC, {}, (TAU, LAYERS))
            assert cell is not None
            shown = name.replace("full-minus-c", "a+b") if len(cell) == 2 else name
            assert canonical_name(name, ABC, DesignConfig(), (TAU, LAYERS)) in (name, shown)
        assert toggles_of("layers=4+tau=1.0+b+a", ABC, {}, (TAU, LAYERS)) == ("a", "b", "tau=1", "layers=4")
        assert toggles_of("origin+tau=1", ABC, {}, (TAU,)) == ("tau=1",)
        assert name_of(("a", "b", "tau=1"), ABC, {}, (TAU,)) == "full-minus-c+tau=1"

    @pytest.mark.parametrize("name", ["tau=0.1+tau=1", "tau=0.1+tau=0.5", "tau=1+tau=1", "a+a+tau=1", "x+tau=1", "a+"])
    def test_what_is_no_cell(self, name: str) -> None:
        assert toggles_of(name, AB, {}, (TAU,)) is None
