"""A design as one thing: its name, what it costs, and what a reader would expect of it and cannot have."""

from __future__ import annotations

import json

import pytest

from harness.design.design import Design
from harness.design.kinds import DesignConfig

ABC = ("a", "b", "c")
SIX = tuple("abcdef")


def test_name_and_cost() -> None:
    design = Design(DesignConfig(kind="fractional", seeds=(0, 1, 2), control=4), SIX)
    assert (design.name, design.runs) == ("fractional, resolution IV", 16 * 3 + 4)
    assert Design(DesignConfig(kind="fractional", generators=("F=ABCDE",)), SIX).name == "fractional, resolution VI"
    assert Design(DesignConfig(include=("origin", "full")), ABC).name == "one-at-a-time + full"
    assert Design(DesignConfig(include=("a+b", "a+c", "full")), SIX).name == "one-at-a-time + 3 cells"
    assert Design(DesignConfig(), ABC).runs == 4


@pytest.mark.parametrize("kind", ["one-at-a-time", "leave-one-out", "both", "full", "fractional"])
def test_nothing_is_warned_of_in_a_design_as_it_is(kind: str) -> None:
    assert Design(DesignConfig(kind=kind), SIX).warnings() == []
    assert Design(DesignConfig(kind=kind, include=("origin",)), SIX).warnings() == []


def test_what_rules_make_inestimable_is_said() -> None:
    told = Design(DesignConfig(kind="full", exclude=(("a", "b"),)), ABC).warnings()
    assert len(told) == 2
    assert told[0] == "the rules drop cells: no interaction can be estimated of a:b"
    # Six cells: a and b correlate by -1/2, so that the squared singular values are 6, 6 and 6 +- 3 ... of the model.
    assert told[1].startswith("no longer orthogonal (condition number 2; 1 is orthogonal): effects are read from pairs")


def test_a_toggle_that_only_goes_with_another_cannot_be_told_alone() -> None:
    design = Design(DesignConfig(require={"a": ("b",), "b": ("a",)}, kind="full"), ABC)
    assert design.cells == ((), ("c",), ("a", "b"), ABC)
    told = design.warnings()
    assert told[0] == "no effect can be estimated of a and b: no cells show what turning it on does by itself"
    assert "condition number without limit" in told[-1] and json.dumps(design.as_dict()["condition"]) == "null"


def test_a_cell_that_breaks_a_fraction_is_said() -> None:
    """The half of five toggles holds an even number of them, so that `full` is none of its cells."""
    told = Design(DesignConfig(kind="fractional", resolution="V", include=("full",)), tuple("abcde")).warnings()
    assert told[0].startswith("the cells added break the pattern: no interaction can be estimated of a:b, a:c, ")
    assert told[0].endswith(" and 4 more") and "no longer orthogonal" in told[1]
    assert Design(DesignConfig(kind="fractional", include=("full",)), SIX).warnings() == []


def test_the_json_holds_the_alias_table() -> None:
    told = json.loads(json.dumps(Design(DesignConfig(kind="fractional"), SIX).as_dict()))
    assert told["fraction"]["generators"] == ["E=ABC", "F=BCD"] and told["fraction"]["resolution"] == "IV"
    assert told["fraction"]["letters"] == dict(zip("ABCDEF", SIX, strict=True))
    assert told["fraction"]["aliases"]["a:b"] == ["c:e"]
    assert {"aliases": ["a:b", "c:e"], "toggle": ""} in told["interactions"] and len(told["interactions"]) == 7
