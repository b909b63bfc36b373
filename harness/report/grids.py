"""Helpers to build tables of typed entries. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.analysis.results import Estimate, Verdict
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.document import Block, Cell, Column, Details, Mark, Row, SortKey, Table, Text, slug

FOLDED_ABOVE = 24
"""Rows of a table beyond which it is folded away."""
Item = TypeVar("Item")
Field = tuple[Column, Callable[[Item], Cell]]
"""A column, and what an item has to say in it."""


def text(title: str, tell: Callable[[Item], Text], key: Callable[[Item], SortKey] | None = None) -> Field[Item]:
    """A column of text, sorted as it reads."""
    return Column(title, "text"), lambda item: Cell(tell(item), key(item) if key else None)


def numeric(title: str, tell: Callable[[Item], str], key: Callable[[Item], float | None]) -> Field[Item]:
    """A column of numbers, sorted by their unrounded values."""
    return Column(title), lambda item: Cell(tell(item), key(item))


def table(name: Sequence[str], caption: str, fields: Sequence[Field[Item]], items: Sequence[Item]) -> Table:
    """A row an item. `name`: the parts of the name of the table's own file."""
    rows = tuple(Row(tuple(tell(item) for _, tell in fields)) for item in items)
    return Table(tuple(column for column, _ in fields), rows, caption, "-".join(map(slug, name)))


def folded(found: Table, what: str) -> Block:
    """The table, behind its summary when it is long."""
    count = len(found.rows)
    return Details(f"{count} {what}", (found,)) if count > FOLDED_ABOVE else found


NOTHING = Estimate(
    value=None,
    low=None,
    high=None,
    p=None,
    p_holm=None,
    p_equivalent=None,
    seeds=(),
    by_seed=(),
    improved=0,
    own_low=None,
    own_high=None,
    sign_flip=None,
    sign_flip_least=None,
    d_z=None,
    verdict="inconclusive",
)
"""For the baseline, which is not compared with itself."""


def verdict(value: Verdict) -> Mark:
    return Mark(value, value)


def change(metric: Metric, of: Callable[[Item], Estimate], title: str = "change") -> list[Field[Item]]:
    """Two columns: a difference and its 95 % interval."""
    return [
        numeric(title, lambda item: wording.signed(metric, of(item).value), lambda item: of(item).value),
        numeric(
            "95 % interval",
            lambda item: wording.interval(metric, of(item).low, of(item).high),
            lambda item: of(item).low,
        ),
    ]


def judgement(of: Callable[[Item], Estimate]) -> list[Field[Item]]:
    """Two columns: p as it is, and after Holm's correction."""
    return [
        numeric("p", lambda item: wording.p_value(of(item).p), lambda item: of(item).p),
        numeric("p (Holm)", lambda item: wording.p_value(of(item).p_holm), lambda item: of(item).p_holm),
    ]


def seeds_improved(of: Callable[[Item], Estimate]) -> Field[Item]:
    return numeric(
        "seeds improved",
        lambda item: wording.improved(of(item)),
        lambda item: of(item).improved / of(item).n if of(item).n else None,
    )
