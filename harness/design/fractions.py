"""Regular fractions of the full factorial: generators, defining relation, resolution, aliases.

Toggles have letters in the study's order, A B C D E F G H J K ...: I is left out, it stands for the identity. A
generator such as F=ABCDE makes the column of F the product of those of A to E, in the coding -1 off, +1 on. Its sign
is chosen so that the origin (all off) is a cell, because everything is compared with it: a product of an even number of
letters gets a minus. So a word W of the defining relation I = sW always has s = -1 where W has an odd number of
letters, and every alias follows from that: an effect times a word is its alias (Montgomery, Design and Analysis of
Experiments, sec. 8.2 to 8.4). Resolution and aliases are computed from the relation, never read off the table.
A word is held as bits, bit i for the i-th toggle; the product of two words is then their exclusive or.

Source of the table: NIST/SEMATECH e-Handbook of Statistical Methods, 5.3.3.4.7; Montgomery, table 8.14. Rows that
neither has (marked) were found by search, least aberration first: fewest words of the shortest length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Literal, get_args

from harness.errors import SpecError

LETTERS = "ABCDEFGHJKLMNOPQRSTUVWXYZ"
Resolution = Literal["III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]
RESOLUTIONS: tuple[Resolution, ...] = get_args(Resolution)
MOST = 16
"""Generators at most: their defining relation has 2^16 words."""
DEFAULT: Resolution = "IV"
"""Main effects clear of two-toggle interactions."""

# Toggles -> resolution -> generators of the smallest fraction that has it. The half is not written out: see `smallest`.
TABLE: dict[int, dict[Resolution, str]] = {
    3: {},
    4: {},
    5: {"III": "D=AB E=AC"},
    6: {"III": "D=AB E=AC F=BC", "IV": "E=ABC F=BCD"},
    7: {"III": "D=AB E=AC F=BC G=ABC", "IV": "E=ABC F=BCD G=ACD"},
    8: {"IV": "E=BCD F=ACD G=ABC H=ABD", "V": "G=ABCD H=ABEF"},
    9: {
        "III": "E=ABC F=BCD G=ACD H=ABD J=ABCD",
        "IV": "F=BCDE G=ACDE H=ABDE J=ABCE",
        "VI": "H=ACDFG J=BCEFG",
    },
    10: {
        "III": "E=ABC F=BCD G=ACD H=ABD J=ABCD K=AB",
        "IV": "F=ABCD G=ABCE H=ABDE J=ACDE K=BCDE",
        "V": "H=ABCG J=BCDE K=ACDF",
        "VI": "J=ABCDE K=ABCFGH",  # by search
    },
    11: {
        "III": "E=ABC F=BCD G=ACD H=ABD J=ABCD K=AB L=AC",
        "IV": "F=ABC G=BCD H=CDE J=ACD K=ADE L=BDE",
        "V": "H=ABCG J=BCDE K=ACDF L=ABCDEFG",
        "VI": "J=ABCDE K=ABCFG L=ABDFH",  # by search
        "VII": "K=ABCDEF L=ABCGHJ",  # by search
    },
    12: {
        "III": "E=ABC F=ABD G=ACD H=BCD J=ABCD K=AB L=AC M=AD",
        "IV": "F=ABC G=ABD H=ACD J=BCD K=ABE L=ACE M=ADE",  # by search
        "VI": "J=ABCDE K=ABCFG L=ABDFH M=ACEGH",  # by search
        "VIII": "L=ABCDEFG M=ABCDHJK",  # by search
    },
}


@dataclass(frozen=True)
class Fraction:
    """A regular fraction of the toggles' full factorial."""

    toggles: tuple[str, ...]
    generators: tuple[str, ...]
    """As written, such as `E=ABC`; a sign in front of the product may be left out."""

    @cached_property
    def _products(self) -> dict[int, int]:
        """Place of each generated toggle -> the toggles whose product it is, as bits."""
        return dict(_parse(generator, self.toggles) for generator in self.generators)

    @cached_property
    def defining(self) -> tuple[int, ...]:
        """All words of the defining relation but the identity, as bits, short ones first."""
        words = [0]
        for place, product in self._products.items():
            words += [word ^ (product | 1 << place) for word in words]
        return tuple(sorted(words[1:], key=lambda word: (word.bit_count(), _letters(word))))

    @property
    def resolution(self) -> int:
        """Letters of the shortest word: what has r letters is aliased with nothing below resolution - r letters."""
        return self.defining[0].bit_count()

    @property
    def words(self) -> tuple[str, ...]:
        """The defining relation with its signs, such as ABCE or -ABC."""
        return tuple(f"{'-' if word.bit_count() % 2 else ''}{_letters(word)}" for word in self.defining)

    @property
    def signed(self) -> tuple[str, ...]:
        """The generators with the signs that make the origin a cell."""
        return tuple(f"{LETTERS[place]}={_sign(word)}{_letters(word)}" for place, word in self._products.items())

    def subsets(self) -> list[tuple[str, ...]]:
        """The 2^(k-p) cells, those with few toggles first."""
        cells = [0]
        for place in range(len(self.toggles)):
            if place not in self._products:
                cells += [cell | 1 << place for cell in cells]
        for place, word in self._products.items():
            # By its sign, a generated toggle is on where an odd number of its letters are.
            cells = [cell | (cell & word).bit_count() % 2 << place for cell in cells]
        rows = sorted(map(_places, cells), key=lambda row: (len(row), row))
        return [tuple(self.toggles[place] for place in row) for row in rows]

    def aliases(self) -> dict[str, tuple[str, ...]]:
        """Toggle or pair `a:b` -> the toggles and pairs that share its column; `-a:b` with the other sign.

        Every group once, under its first member: toggles before pairs, each in the study's order.
        """
        effects = [1 << place for place in range(len(self.toggles))]
        effects += [one | other for one, other in combinations(effects, 2)]
        # Two effects of two letters at most differ by a word of four letters at most.
        short = {word for word in self.defining if word.bit_count() <= 4}
        groups: dict[str, tuple[str, ...]] = {}
        placed: set[int] = set()
        for place, effect in enumerate(effects):
            others = [other for other in effects[place + 1 :] if effect ^ other in short]
            if effect not in placed:
                groups[self._named(effect)] = tuple(
                    ("-" if (effect ^ other).bit_count() % 2 else "") + self._named(other) for other in others
                )
            placed.update(others)
        return groups

    def as_dict(self) -> dict[str, Any]:
        """JSON: the letters, signed generators, words of the defining relation, resolution and aliases."""
        return {
            "letters": dict(zip(LETTERS, self.toggles, strict=False)),
            "generators": self.signed,
            "defining": self.words,
            "resolution": roman(self.resolution),
            "aliases": self.aliases(),
        }

    def _named(self, effect: int) -> str:
        return ":".join(self.toggles[place] for place in _places(effect))


def smallest(toggles: Sequence[str], resolution: Resolution = DEFAULT) -> Fraction:
    """The smallest fraction of at least that resolution. Raises SpecError, saying what there is instead."""
    count = len(toggles)
    wanted = RESOLUTIONS.index(resolution)
    if count in TABLE:
        for name, generators in tabulated(count).items():
            if RESOLUTIONS.index(name) >= wanted:
                return Fraction(tuple(toggles), generators)
    if count < min(TABLE):
        instead = f"a fraction needs {min(TABLE)}; use kind: full, which has {2**count} cells"
    elif count > max(TABLE):
        instead = f"the table ends at {max(TABLE)}; write the fraction's own design.generators"
    else:
        sizes = (f"{name} ({2 ** (count - len(text))} cells)" for name, text in tabulated(count).items())
        instead = f"there are {', '.join(sizes)}; kind: full has {2**count} cells"
    raise SpecError(f"{count} toggles have no fraction of resolution {resolution}: {instead}")


def tabulated(count: int) -> dict[Resolution, tuple[str, ...]]:
    """Resolution -> generators of the smallest fraction that has it, for 3 to 12 toggles; the half last."""
    half = f"{LETTERS[count - 1]}={LETTERS[: count - 1]}"
    rows = {resolution: tuple(text.split()) for resolution, text in TABLE[count].items()}
    return {**rows, RESOLUTIONS[count - 3]: (half,)}


def unusable(generators: Sequence[str], toggles: Sequence[str]) -> dict[int, str]:
    """Place of a generator -> why it cannot be used; empty if all of them can."""
    problems: dict[int, str] = {}
    parsed: dict[int, tuple[int, int]] = {}
    for place, text in enumerate(generators):
        try:
            parsed[place] = _parse(text, toggles)
        except SpecError as error:
            problems[place] = str(error)
    generated = [factor for factor, _ in parsed.values()]
    for earlier, (place, (factor, word)) in enumerate(parsed.items()):
        inside = [LETTERS[other] for other in _places(word) if other in generated]
        if factor in generated[:earlier]:
            problems[place] = f"{LETTERS[factor]} is generated twice; leave one of the two out"
        elif inside:
            problems[place] = f"{', '.join(inside)} is itself generated; write the product in the other letters"
    if problems:
        return problems
    # A word of two letters: both toggles have the same column. It is blamed on the last generator.
    short = [word for word in Fraction(tuple(toggles), tuple(generators)).defining if word.bit_count() < 3]
    if not short:
        return {}
    pair = " and ".join(toggles[place] for place in _places(short[0]))
    return {len(generators) - 1: f"{pair} would be on in the same cells, so nothing could tell them apart"}


def roman(resolution: int) -> str:
    return RESOLUTIONS[resolution - 3]


def _parse(text: str, toggles: Sequence[str]) -> tuple[int, int]:
    """`E=ABC` as (place of E, bits of A, B and C). Raises SpecError."""
    letters = LETTERS[: len(toggles)]
    left, equals, right = "".join(text.split()).partition("=")
    product = right.lstrip("+-")
    legend = ", ".join(f"{letter} {toggle}" for letter, toggle in zip(letters, toggles, strict=False))
    if not equals or len(left) != 1 or len(product) < 2 or len(right) - len(product) > 1:
        example = f"{letters[-1]}={letters[: min(3, len(letters) - 1)]}"
        raise SpecError(f"{text!r}: must be a letter and the product of others, such as {example}; {legend}")
    unknown = [letter for letter in left + product if letter not in letters]
    if unknown:
        raise SpecError(f"{text!r}: unknown letter {unknown[0]!r}; allowed: {legend}")
    if len(set(product)) < len(product) or left in product:
        raise SpecError(f"{text!r}: every letter may stand in it once")
    word = sum(1 << letters.index(letter) for letter in product)
    if right[0] in "+-" and right[0].strip("+") != _sign(word):
        fix = f"write {left}={product}, whose sign is chosen so that the origin is a cell"
        raise SpecError(f"{text!r}: with this sign the origin, all toggles off, is no cell; {fix}")
    return letters.index(left), word


def _sign(word: int) -> str:
    return "-" if word.bit_count() % 2 == 0 else ""


def _places(word: int) -> list[int]:
    return [place for place in range(word.bit_length()) if word >> place & 1]


def _letters(word: int) -> str:
    return "".join(LETTERS[place] for place in _places(word))
