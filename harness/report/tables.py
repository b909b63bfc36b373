"""Tables of a document, made of typed rows: a column knows how to show a row, and what to sort it by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeVar

from harness.analysis.results import Estimate
from harness.metrics.definitions import Metric
from harness.report import wording
from harness.report.document.model import Block, Cell, Column, Details, Row, Table, Text, slug

FOLDED_ABOVE = 24
"""Rows of a table beyond which it is folded away."""
Item = TypeVar("Item")
Field = tuple[Column, Callable[[Item], Cell]]
"""A column, and the entry of an item in it."""
NO_ESTIMATE = Estimate(
    value=None, low=None, high=None, p=None, p_holm=None, p_equivalent=None, seeds=(), by_seed=(), improved=0,
    own_low=None, own_high=None, sign_flip=None, sign_flip_least=None, d_z=None, verdict="inconclusive",
)  # fmt: skip
"""For the baseline, which is not compared with itself."""


def text(title: str, show: Callable[[Item], Text]) -> Field[Item]:
    """A column of text, sorted as it reads."""
    return Column(title, "text"), lambda item: Cell(show(item))


def named(title: str, show: Callable[[Item], str], kind: Literal["cell", "seed"] = "cell") -> Field[Item]:
    """A column that says of which idea or cell, or of which seed, a row is."""
    return Column(title, kind), lambda item: Cell(show(item), float(show(item)) if kind == "seed" else None)


def numeric(title: str, show: Callable[[Item], str], key: Callable[[Item], float | None]) -> Field[Item]:
    """A column of numbers, sorted by their unrounded values."""
    return Column(title), lambda item: Cell(show(item), key(item))


def measured(metrics: Iterable[Metric], values: Callable[[Item], Mapping[str, float | None]]) -> list[Field[Item]]:
    """A column for each metric under its title; a dash where an item has no value of it."""

    def column(metric: Metric) -> Field[Item]:
        def value(item: Item) -> float | None:
            return values(item).get(metric.name)

        return numeric(metric.title, lambda item: wording.number(metric, value(item)), value)

    return list(map(column, metrics))


def p_column(title: str, p: Callable[[Item], float | None]) -> Field[Item]:
    return numeric(title, lambda item: wording.p_value(p(item)), p)


def plain_column(title: str, value: Callable[[Item], float | None], decimals: int = 2) -> Field[Item]:
    """A column of numbers without a unit, all with the same decimals."""
    return numeric(title, lambda item: wording.plain_number(value(item), decimals), value)


def table(
    name: Sequence[str],
    caption: str,
    fields: Sequence[Field[Item]],
    items: Sequence[Item],
    anchor: Callable[[int], str] = lambda place: "",
) -> Table:
    """One row for each item. `name`: the parts of the name of the table's own file; `anchor`: of a row, from 1."""
    rows = tuple(Row(tuple(show(item) for _, show in fields), anchor(place)) for place, item in enumerate(items, 1))
    return Table(tuple(column for column, _ in fields), rows, caption, "-".join(map(slug, name)))


def folded(long: Table, what: str) -> Block:
    """The table, behind its summary when it is long."""
    count = len(long.rows)
    return Details(f"{count} {what}", (long,)) if count > FOLDED_ABOVE else long


def change(metric: Metric, of: Callable[[Item], Estimate], title: str = "change") -> list[Field[Item]]:
    """Two columns: a difference and its 95 % interval."""
    return [
        numeric(title, lambda item: wording.signed(metric, of(item).value), lambda item: of(item).value),
        numeric("95 % interval", lambda it: wording.interval(metric, of(it).low, of(it).high), lambda it: of(it).low),
    ]


def p_values(of: Callable[[Item], Estimate]) -> list[Field[Item]]:
    """Two columns: p as it is, and after Holm's correction."""
    return [p_column("p", lambda item: of(item).p), p_column("p (Holm)", lambda item: of(item).p_holm)]


def seeds_improved(of: Callable[[Item], Estimate]) -> Field[Item]:
    def share(item: Item) -> float | None:
        return of(item).improved / of(item).n if of(item).n else None

    return numeric("seeds improved", lambda item: wording.improved(of(item)), share)
