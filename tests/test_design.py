"""Designs: which cells each kind has, what they are called and what rules drop."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from harness.design.kinds import KINDS, DesignConfig, canonical_name, conflict, expand, name_of, toggles_of

ABC = ("a", "b", "c")
ABCD = ("a", "b", "c", "d")


def names(design: DesignConfig, toggles: tuple[str, ...] = ABC) -> list[str]:
    return [cell.name for cell in expand(design, toggles).cells]


def test_the_kinds_and_their_cells_in_order() -> None:
    minus = ["full-minus-a", "full-minus-b", "full-minus-c", "full-minus-d"]
    assert names(DesignConfig(kind="one-at-a-time"), ABCD) == ["origin", *ABCD]
    assert names(DesignConfig(kind="leave-one-out"), ABCD) == ["full", *minus]
    assert names(DesignConfig(kind="both"), ABCD) == ["origin", *ABCD, "full", *minus]
    listed = DesignConfig(kind="list", cells=(("d", "a"), {"mine": ("b", "c")}, ()))
    assert names(listed, ABCD) == ["origin", "a+d", "mine"]


@pytest.mark.parametrize("count", range(7))
def test_a_full_design_has_every_subset_once(count: int) -> None:
    toggles = tuple("abcdef"[:count])
    cells = expand(DesignConfig(kind="full"), toggles).cells
    powerset = set(chain.from_iterable(combinations(toggles, size) for size in range(count + 1)))
    assert len(cells) == 2**count == len({cell.name for cell in cells})
    assert {cell.toggles for cell in cells} == powerset


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"list"}))
@pytest.mark.parametrize("count", range(7))
def test_no_kind_has_a_cell_twice_and_every_name_finds_its_cell(kind: str, count: int) -> None:
    toggles = tuple("abcdef"[:count])
    if kind == "fractional" and count < 4:
        pytest.skip("no fraction of resolution IV")
    cells = expand(DesignConfig(kind=kind, include=("origin", "full")), toggles).cells
    assert len({cell.toggles for cell in cells}) == len({cell.name for cell in cells}) == len(cells)
    assert all(toggles_of(cell.name, toggles, {}) == cell.toggles for cell in cells)
    assert cells[0].name == "origin"


def test_names_say_what_is_on() -> None:
    assert [name_of(subset, ABCD, {}) for subset in ((), ("b",), ABCD, ("a", "c", "d"), ("a", "c"))] == [
        "origin",
        "b",
        "full",
        "full-minus-b",
        "a+c",
    ]
    assert name_of(("a",), ("a",), {}) == "a"
    assert name_of(("b",), ("a", "b"), {}) == "b"


def test_a_name_may_be_written_in_any_way_that_means_the_cell() -> None:
    design = DesignConfig(kind="list", cells=({"mine": ("a", "b")},))
    assert canonical_name("c+a", ABCD, DesignConfig()) == "a+c"
    assert canonical_name("full", ("a",), DesignConfig()) == "a"
    assert canonical_name("full-minus-a", ("a", "b"), DesignConfig()) == "b"
    assert canonical_name("b+a", ABCD, design) == canonical_name("mine", ABCD, design) == "mine"
    assert [toggles_of(name, ABC, {}) for name in ("", "a+a", "a+", "full-minus-x", "A", "a + b")] == [None] * 6


def test_included_cells_come_after_the_kind_and_the_origin_first() -> None:
    assert names(DesignConfig(include=("a+b", "full", "a"))) == ["origin", *ABC, "full-minus-c", "full"]
    assert names(DesignConfig(kind="leave-one-out", include=("origin",)))[:2] == ["origin", "full"]


def test_excluded_pairs_drop_cells_and_say_why() -> None:
    layout = expand(DesignConfig(kind="full", exclude=(("c", "a"),)), ABC)
    assert [cell.name for cell in layout.cells] == ["origin", "a", "b", "c", "full-minus-c", "full-minus-a"]
    assert layout.dropped == dict.fromkeys(("full-minus-b", "full"), "c and a exclude each other")


def test_required_toggles_drop_cells_and_say_why() -> None:
    layout = expand(DesignConfig(require={"a": ("b", "c")}, include=("full", "a+b")), ABC)
    assert [cell.name for cell in layout.cells] == ["origin", "b", "c", "full"]
    assert [*layout.dropped.items()] == [
        ("a", "a requires b and c"),
        ("full-minus-c", "a requires c"),
    ]
    assert conflict(("a", "b", "c"), DesignConfig(require={"a": ("b", "c")})) == ""


def test_the_order_of_the_cells_does_not_depend_on_how_they_are_written() -> None:
    first = DesignConfig(kind="list", cells=(("c", "a"),))
    second = DesignConfig(kind="list", cells=(("a", "c"),))
    assert expand(first, ABC) == expand(second, ABC)
