"""What a report says, apart from how it looks: plain text in sections, tables and figures.

Nothing in here is escaped. Each renderer (`markdown`, `html`, `latex`) escapes for its own format, so that the user's
names and captions are shown and never act.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.text import listed, one_line


@dataclass(frozen=True)
class Strong:
    text: str


@dataclass(frozen=True)
class Code:
    text: str


@dataclass(frozen=True)
class Mark:
    """A verdict; `kind` is what a renderer may colour it by."""

    text: str
    kind: str


@dataclass(frozen=True)
class Link:
    """A reference to an anchor of this document; plain text where a format has none."""

    text: str
    anchor: str


@dataclass(frozen=True)
class FileLink:
    """A reference to a file that lies at this path relative to the report's folder."""

    text: str
    path: str


Simple = str | Strong | Code | Mark | Link | FileLink


@dataclass(frozen=True)
class Names:
    """Ideas or cells in one list, of which a page can hide some."""

    items: tuple[tuple[str, str], ...]
    """What stands in the list, such as `a (2 of 3 runs)`, and whose it is."""
    more: int = 0
    """How many follow that are not named."""
    last: str = "and"

    @property
    def text(self) -> str:
        more = [f"{self.more} more"] if self.more else []
        return listed([*(text for text, _ in self.items), *more], self.last)


@dataclass(frozen=True)
class Clause:
    """What is said of some names: as of one, as of several."""

    names: Names
    one: tuple[Simple, ...]
    many: tuple[Simple, ...]

    @property
    def says(self) -> tuple[Simple, ...]:
        return self.one if len(self.names.items) + self.names.more == 1 else self.many

    @property
    def text(self) -> str:
        return f"{self.names.text}{plain(self.says)}"


@dataclass(frozen=True)
class Clauses:
    """Several in one sentence."""

    items: tuple[Clause, ...]

    @property
    def text(self) -> str:
        return "; ".join(clause.text for clause in self.items)


@dataclass(frozen=True)
class About:
    """A sentence that is about these ideas or cells, and says nothing where a page hides one of them."""

    spans: tuple[Simple, ...]
    cells: tuple[str, ...]

    @property
    def text(self) -> str:
        return plain(self.spans)


Span = Simple | Names | Clause | Clauses | About
Text = Span | tuple[Span, ...]
SortKey = float | str | None


@dataclass(frozen=True)
class Bar:
    """A change and its interval as a small drawing beside its text, on an axis from -1 to 1 with no change at 0."""

    value: float
    low: float | None
    high: float | None
    margin: float
    """Changes up to here, on either side, do not matter; 0 where no margin is set."""


@dataclass(frozen=True)
class Cell:
    """One entry of a table, and what the table is sorted by; None is sorted last."""

    text: Text
    key: SortKey = None
    bar: Bar | None = None


@dataclass(frozen=True)
class Column:
    title: str
    kind: Literal["text", "number", "effect", "cell", "seed"] = "number"
    """Effects stand behind their bars. cell, seed: of which idea or cell, and of which seed, a row is."""
    metric: str = ""
    """Of one metric, where a table has several."""

    @property
    def is_text(self) -> bool:
        """Whether it is sorted as it reads, and not as a number."""
        return self.kind in ("text", "cell")

    @property
    def is_left(self) -> bool:
        """Whether it is set left."""
        return self.is_text or self.kind == "effect"


@dataclass(frozen=True)
class Row:
    cells: tuple[Cell, ...]
    anchor: str = ""
    about: tuple[str, ...] = ()
    """Ideas or cells that the row is about, where it is about several."""


@dataclass(frozen=True)
class Table:
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    caption: str
    """What the table is, for those who cannot see it and for LaTeX."""
    name: str
    """Stem of the file of its own."""


@dataclass(frozen=True)
class Paragraph:
    text: Text
    note: bool = False
    """A note explains what stands beside it."""
    lead: bool = False
    """The sentence that says it all."""


@dataclass(frozen=True)
class Bullets:
    """Items at their depth below the first level, 0."""

    items: tuple[tuple[int, Text], ...]


@dataclass(frozen=True)
class Figure:
    stem: str
    """Name of the files in figures/, without their endings."""
    title: str
    alt: str
    caption: str = ""
    photographs: bool = False
    """Made of pixels, and wider on a page than drawings."""
    metric: str = ""
    """Of this metric alone."""


@dataclass(frozen=True)
class Sample:
    """Images of one run at one step side by side, one for each caption; of real images without a seed or step."""

    cell: str
    seed: int | None
    step: int | None
    picture: bytes
    """WebP of side x (captions * side) pixels."""


@dataclass(frozen=True)
class Viewer:
    """Samples of two cells side by side, to choose from. Pages alone show it."""

    captions: tuple[str, ...]
    samples: tuple[Sample, ...]
    note: str = ""


@dataclass(frozen=True)
class Curves:
    """Learning curves of single seeds, to choose from. Pages alone show them."""

    packed: Mapping[str, Any]
    """What the script of the page reads: plain data."""
    note: str = ""


@dataclass(frozen=True)
class CodeBlock:
    text: str
    language: Literal["json", "yaml"] = "json"


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away under their summary."""

    summary: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    title: str
    blocks: tuple[Block, ...]
    anchor: str = ""
    """Set for sections that the contents list."""
    metric: str = ""
    """Of this metric alone."""


Block = Paragraph | Bullets | Table | Figure | Viewer | Curves | CodeBlock | Details | Section


@dataclass(frozen=True)
class Document:
    title: str
    answer: tuple[Block, ...]
    """The first screen."""
    sections: tuple[Section, ...]
    kind: str = "Ablation report"
    """What it is, above its title."""


def spans(text: Text) -> tuple[Span, ...]:
    return text if isinstance(text, tuple) else (text,)


def simple(text: Text) -> tuple[Simple, ...]:
    """The text for a format that hides nothing."""
    return tuple(part for span in spans(text) for part in _parts(span))


def _parts(span: Span) -> Iterator[Simple]:
    match span:
        case Names():
            yield span.text
        case Clause():
            yield span.names.text
            yield from span.says
        case Clauses():
            for place, clause in enumerate(span.items):
                yield from ("; ",) if place else ()
                yield from _parts(clause)
        case About():
            yield from span.spans
        case _:
            yield span


def listing(cells: Sequence[str], most: int | None = None, last: str = "and") -> Names:
    """A list of ideas or cells under their own names, the first so many of them."""
    return Names(tuple((cell, cell) for cell in cells[:most]), len(cells[most:]) if most else 0, last)


def plain(text: Text) -> str:
    """What a reader sees, without its looks."""
    return "".join(span if isinstance(span, str) else span.text for span in spans(text))


def flow(text: str, escape: Callable[[str], str] = one_line) -> str:
    """A part of a sentence on one line, escaped; a space at either end stays."""
    if not text.strip():
        return " " if text else ""
    return (" " if text[0].isspace() else "") + escape(text) + (" " if text[-1].isspace() else "")


_UNITS = r"%|points?|px|s|ms|h|MiB|GiB|MB|GB|kB|kimg"
_TOGETHER = re.compile(
    rf"(?<=[\d∞]) (?=(?:{_UNITS})(?![\w-]))|(?<=[<≥]) (?=\d)|(?<=[\d∞]) to (?=[+−]?[\d∞])"
    r"|(?<=\d) ± (?=\d)|(?<=\d) of (?=\d+ seed)|\[[+−]?[\d.∞]+, (?=[+−]?[\d.∞]+\])"
)


def unbroken(text: str) -> str:
    """`text` in which no line ends between a number and its unit, or within an interval or `2 of 3 seeds`."""
    return _TOGETHER.sub(lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), text)


def slug(text: str) -> str:
    """A name that is safe in file names, anchors and LaTeX alike."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


def bullets(items: Sequence[Text]) -> Bullets:
    """A list of one level."""
    return Bullets(tuple((0, item) for item in items))


def tables(blocks: Sequence[Block]) -> list[Table]:
    """Every table in the order of the document, those in sections and details too."""
    every: list[Table] = []
    for block in blocks:
        if isinstance(block, Table):
            every.append(block)
        elif isinstance(block, Details | Section):
            every += tables(block.blocks)
    return every
