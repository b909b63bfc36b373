"""The card that all numbers of a column share: what was measured differently is not compared. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.errors import HarnessError
from harness.metrics.cards import NOT_HOW, digest
from harness.metrics.definitions import METRICS, Metric
from harness.metrics.names import SEEN
from harness.runs.record import RunRecord


def source(record: RunRecord, metric: str) -> str | None:
    """The name under which the run holds this number, if it does.

    A metric that training has seen in one cell only is the plain metric in another.
    """
    held = record.result.metrics if record.result else {}
    if metric in held:
        return metric
    plain = metric.removesuffix(SEEN)
    return plain if metric not in METRICS and plain != metric and plain in held else None


def card_of(record: RunRecord, metric: str) -> dict[str, Any]:
    """The card of that number; empty if the run has none."""
    name = source(record, metric)
    return record.result.cards.get(name, {}) if record.result and name else {}


def shared(done: Iterable[RunRecord], metric: Metric) -> dict[str, Any] | None:
    """The one card of all runs; None for a diagnostic that has several.

    Raises HarnessError when a metric that takes part in verdicts has several.
    """
    first: RunRecord | None = None
    engines: dict[str, None] = {}
    for record in (record for record in done if source(record, metric.name)):
        engines[str(card_of(record, metric.name).get("engine", "not known"))] = None
        if first is None:
            first = record
        elif digest(card_of(record, metric.name)) != digest(card_of(first, metric.name)):
            if metric.role == "diagnostic":
                return None
            raise HarnessError(_mixed(metric.name, first, record))
    # A cell that training did not show the network to holds the same number in another role.
    return {**card_of(first, metric.name), "role": metric.role, "engine": ", ".join(engines)} if first else {}


def of_cell(runs: Iterable[RunRecord], metric: str) -> str:
    """Digest of the card that these runs share; empty if they share none."""
    digests = {digest(card_of(record, metric)) for record in runs if source(record, metric)}
    return digests.pop() if len(digests) == 1 else ""


def seen(runs: Iterable[RunRecord], metric: str) -> bool:
    """Whether these runs hold the number only under the name that says that training saw its network."""
    held = [record.result.metrics for record in runs if record.result]
    return any(metric not in values and metric + SEEN in values for values in held)


def _mixed(metric: str, one: RunRecord, other: RunRecord) -> str:
    cards: tuple[Mapping[str, Any], ...] = (card_of(one, metric), card_of(other, metric))
    keys = sorted(key for key in {*cards[0], *cards[1]} - NOT_HOW if cards[0].get(key) != cards[1].get(key))
    told = [
        f"{_name(record)} has {', '.join(f'{key} {card.get(key)!r}' for key in keys)}"
        for record, card in zip((one, other), cards, strict=True)
    ]
    return (
        f"{metric} was measured differently and cannot be compared: {'; '.join(told)}. "
        "Give all cells the same data and metrics settings, and run those of one kind again"
    )


def _name(record: RunRecord) -> str:
    return f"run {record.run.id} ({record.run.cell}, seed {record.run.seed})"
