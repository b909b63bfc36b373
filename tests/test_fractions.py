"""Fractional designs: the published ones as sets of rows, their resolution, and what is aliased with what."""

from __future__ import annotations

from itertools import combinations, product
from math import prod

import numpy as np
import pytest

from harness.design.contrasts import estimable
from harness.design.fractions import LETTERS, RESOLUTIONS, TABLE, Fraction, Resolution, smallest, tabulated, unusable
from harness.design.kinds import DesignConfig, expand
from harness.errors import SpecError

VALUES = dict(zip(RESOLUTIONS, range(3, 13), strict=True))
EVERY = [(count, resolution) for count in TABLE for resolution in tabulated(count)]

# NIST/SEMATECH e-Handbook 5.3.3.4.7 and Montgomery's table 8.14, written out here as products, with the sign that
# leaves the row of all minuses in: (toggles, resolution) -> generated letter -> sign and letters.
PUBLISHED = {
    (3, "III"): {"C": "-AB"},
    (4, "IV"): {"D": "+ABC"},
    (5, "III"): {"D": "-AB", "E": "-AC"},
    (5, "V"): {"E": "-ABCD"},
    (6, "III"): {"D": "-AB", "E": "-AC", "F": "-BC"},
    (6, "IV"): {"E": "+ABC", "F": "+BCD"},
    (6, "VI"): {"F": "+ABCDE"},
    (7, "III"): {"D": "-AB", "E": "-AC", "F": "-BC", "G": "+ABC"},
    (7, "IV"): {"E": "+ABC", "F": "+BCD", "G": "+ACD"},
    (7, "VII"): {"G": "-ABCDEF"},
    (8, "IV"): {"E": "+BCD", "F": "+ACD", "G": "+ABC", "H": "+ABD"},
    (8, "V"): {"G": "-ABCD", "H": "-ABEF"},
    (8, "VIII"): {"H": "+ABCDEFG"},
    (9, "III"): {"E": "+ABC", "F": "+BCD", "G": "+ACD", "H": "+ABD", "J": "-ABCD"},
    (9, "IV"): {"F": "-BCDE", "G": "-ACDE", "H": "-ABDE", "J": "-ABCE"},
    (9, "VI"): {"H": "+ACDFG", "J": "+BCEFG"},
    (10, "IV"): {"F": "-ABCD", "G": "-ABCE", "H": "-ABDE", "J": "-ACDE", "K": "-BCDE"},
    (10, "V"): {"H": "-ABCG", "J": "-BCDE", "K": "-ACDF"},
    (11, "IV"): {"F": "+ABC", "G": "+BCD", "H": "+CDE", "J": "+ACD", "K": "+ADE", "L": "+BDE"},
    (11, "V"): {"H": "-ABCG", "J": "-BCDE", "K": "-ACDF", "L": "+ABCDEFG"},
    (12, "III"): {"E": "+ABC", "F": "+ABD", "G": "+ACD", "H": "+BCD", "J": "-ABCD", "K": "-AB", "L": "-AC", "M": "-AD"},
}  # fmt: skip


def toggles(count: int) -> tuple[str, ...]:
    """Names that are not their letters."""
    return tuple(f"t{place}" for place in range(count))


def rows(count: int, generators: dict[str, str]) -> set[tuple[int, ...]]:
    """The design by multiplying: every combination of the base letters, then the products."""
    base = [letter for letter in LETTERS[:count] if letter not in generators]
    found = set()
    for levels in product((-1, 1), repeat=len(base)):
        level = dict(zip(base, levels, strict=True))
        for letter, text in generators.items():
            level[letter] = int(f"{text[0]}1") * prod(level[one] for one in text[1:])
        found.add(tuple(level[letter] for letter in LETTERS[:count]))
    return found


def coded(fraction: Fraction) -> list[tuple[int, ...]]:
    return [tuple(1 if name in cell else -1 for name in fraction.toggles) for cell in fraction.subsets()]


@pytest.mark.parametrize(("count", "resolution"), PUBLISHED)
def test_published_designs_match_as_sets_of_rows(count: int, resolution: Resolution) -> None:
    found = coded(smallest(toggles(count), resolution))
    assert set(found) == rows(count, PUBLISHED[count, resolution]) and len(found) == len(set(found))


def test_the_two_fractions_of_six_toggles_written_out() -> None:
    names = tuple("ABCDEF")
    sixteen = ". AE BEF CEF DF ABF ACF ADEF BC BDE CDE ABCE ABD ACD BCDF ABCDEF"
    found = {"".join(cell) or "." for cell in smallest(names, "IV").subsets()}
    assert found == set(sixteen.split())
    even = {"".join(subset) for size in (0, 2, 4, 6) for subset in combinations(names, size)}
    assert {"".join(cell) for cell in smallest(names, "VI").subsets()} == even


@pytest.mark.parametrize(("count", "resolution"), EVERY)
def test_every_row_of_the_table_has_the_resolution_it_claims(count: int, resolution: Resolution) -> None:
    """By multiplying columns: the fewest whose product is constant."""
    fraction = smallest(toggles(count), resolution)
    matrix = np.array(coded(fraction))
    assert len(matrix) == 2 ** (count - len(fraction.generators)) < 2**count
    assert (matrix[0] == -1).all(), "the origin is a cell"
    for size in range(1, VALUES[resolution] + 1):
        constant = any(
            abs(matrix[:, chosen].prod(axis=1).sum()) == len(matrix)
            for chosen in map(list, combinations(range(count), size))
        )
        assert constant == (size == VALUES[resolution])
    assert fraction.resolution == VALUES[resolution]


@pytest.mark.parametrize(("count", "resolution"), EVERY)
def test_no_smaller_fraction_could_have_that_resolution(count: int, resolution: Resolution) -> None:
    """Griesmer's bound on the words of one generator more; for IV, 2^(k-p) cells carry at most 2^(k-p-1) toggles."""
    more = len(smallest(toggles(count), resolution).generators) + 1
    value = VALUES[resolution]
    half = 2 ** (count - more)
    room = {3: half - 1, 4: half // 2}.get(value, count)
    assert count > room or sum(-(-value // 2**i) for i in range(more)) > count


def test_what_is_asked_for_is_met_by_the_smallest_that_has_more() -> None:
    found = {r: len(smallest(toggles(6), r).subsets()) for r in ("III", "IV", "V", "VI")}
    assert found == {"III": 8, "IV": 16, "V": 32, "VI": 32}
    assert smallest(toggles(6)).generators == ("E=ABC", "F=BCD")
    assert smallest(toggles(6), "V").generators == ("F=ABCDE",)
    found = [len(smallest(toggles(count), "IV").subsets()) for count in range(4, 13)]
    assert found == [8, 16, 16, 16, 16, 32, 32, 32, 32]


@pytest.mark.parametrize(("count", "resolution"), [row for row in EVERY if row[0] < 11])
def test_aliases_are_those_that_the_cells_show(count: int, resolution: Resolution) -> None:
    fraction = smallest(toggles(count), resolution)
    shown = estimable(fraction.subsets(), fraction.toggles)
    assert shown.basis == "orthogonal" and shown.condition == pytest.approx(1)
    groups = {effect.toggle: effect.aliases for effect in shown.effects}
    groups |= {group.aliases[0]: group.aliases[1:] for group in shown.interactions}
    assert fraction.aliases() == groups
    said = {name.removeprefix("-") for members in groups.items() for name in (members[0], *members[1])}
    assert len(said) == count + count * (count - 1) // 2 and not shown.inestimable


def test_alias_groups_of_the_sixteen_are_the_seven_of_the_books() -> None:
    names = tuple("ABCDEF")
    assert smallest(names, "IV").words == ("ABCE", "ADEF", "BCDF")
    assert smallest(names, "IV").aliases() == {
        **dict.fromkeys(names, ()),
        "A:B": ("C:E",), "A:C": ("B:E",), "A:D": ("E:F",), "A:E": ("B:C", "D:F"), "A:F": ("D:E",),
        "B:D": ("C:F",), "B:F": ("C:D",),
    }  # fmt: skip
    assert not any(smallest(names, "VI").aliases().values())


def test_signs_of_aliases() -> None:
    """C = -AB, so that an effect of C is one of -AB."""
    half = smallest(("a", "b", "c"), "III")
    assert (half.signed, half.words) == (("C=-AB",), ("-ABC",))
    assert half.aliases() == {"a": ("-b:c",), "b": ("-a:c",), "c": ("-a:b",)}
    assert set(half.subsets()) == {(), ("a", "b"), ("a", "c"), ("b", "c")}


def test_a_planted_interaction_comes_back_in_its_group() -> None:
    fraction = smallest(tuple("ABCDEF"), "IV")
    planted = {"A": 2.0, "D": -1.0}
    values = {
        cell: sum(e * ((t in cell) - 0.5) for t, e in planted.items())
        + 3.0 * (0.5 if ("C" in cell) == ("E" in cell) else -0.5)
        for cell in fraction.subsets()
    }
    shown = estimable(fraction.subsets(), fraction.toggles)

    def of(weights: dict[tuple[str, ...], float]) -> float:
        return sum(weight * values[cell] for cell, weight in weights.items())

    assert {e.toggle: of(e.weights) for e in shown.effects} == pytest.approx(
        {"A": 2, "B": 0, "C": 0, "D": -1, "E": 0, "F": 0}
    )
    found = {group.aliases: of(group.weights) for group in shown.interactions}
    assert {aliases: value for aliases, value in found.items() if abs(value) > 1e-9} == {("A:B", "C:E"): 3.0}


def test_generators_may_be_written_in_any_order_and_for_any_letter() -> None:
    """The base letters need not be the first ones."""
    design = DesignConfig(kind="fractional", generators=("B=-ACDE", "F = + A C D"))
    found = {cell.toggles for cell in expand(design, tuple("ABCDEF")).cells}
    levels = rows(6, {"B": "-ACDE", "F": "+ACD"})
    assert found == {tuple(letter for letter, level in zip("ABCDEF", row, strict=True) if level > 0) for row in levels}


@pytest.mark.parametrize(
    ("generators", "place", "said"),
    [
        (["D"], 0, "'D': must be a letter and the product of others, such as D=ABC; A a, B b, C c, D d"),
        (["DC=AB"], 0, "must be a letter and the product"),
        (["D=A"], 0, "must be a letter and the product"),
        (["D=+-AB"], 0, "must be a letter and the product"),
        (["D=ABE"], 0, "'D=ABE': unknown letter 'E'; allowed: A a, B b, C c, D d"),
        (["D=ABB"], 0, "every letter may stand in it once"),
        (["D=ABD"], 0, "every letter may stand in it once"),
        (["D=AB", "D=AC"], 1, "D is generated twice"),
        (["C=AB", "D=AC"], 1, "C is itself generated"),
        (["C=AB", "D=AB"], 1, "c and d would be on in the same cells"),
        (["D=-ABC"], 0, "the origin, all toggles off, is no cell; write D=ABC"),
        (["D=+AB"], 0, "the origin, all toggles off, is no cell; write D=AB"),
    ],
)
def test_generators_that_cannot_be_used(generators: list[str], place: int, said: str) -> None:
    found = unusable(generators, tuple("abcd"))
    assert list(found) == [place] and said in found[place]
    assert unusable(["D=ABC"], tuple("abcd")) == unusable(["D=-AB"], tuple("abcd")) == {}


@pytest.mark.parametrize(
    ("count", "resolution", "said"),
    [
        (3, "V", "3 toggles have no fraction of resolution V: there are III (4 cells); kind: full has 8 cells"),
        (6, "VII", "there are III (8 cells), IV (16 cells), VI (32 cells); kind: full has 64 cells"),
        (2, "III", "a fraction needs 3; use kind: full, which has 4 cells"),
        (13, "IV", "the table ends at 12; write the fraction's own design.generators"),
    ],
)
def test_a_fraction_that_does_not_exist(count: int, resolution: Resolution, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        smallest(toggles(count), resolution)
    assert said in str(refused.value)
