"""Which cells of a table can be compared on a metric, through which seeds, and why the others cannot."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from harness.analysis.fit import Bools
from harness.analysis.statistics import Floats
from harness.analysis.table import Column, RunTable
from harness.text import shortened

Places = frozenset[int]
"""Cells of a table, each by its place in `RunTable.cells`."""


class Coverage:
    """The results of one metric by seed and cell, and which of them can be compared with the baseline's."""

    def __init__(self, table: RunTable, baseline: str, column: Column) -> None:
        self.table, self.column = table, column
        self.base = table.place(baseline)
        self.seeds, self.control_seeds = table.blocks(baseline)
        self.values: Floats = table.matrix(column, self.seeds)
        """[seeds, cells], in the metric's own unit; NaN where no run is finished."""
        cards = column.cards
        # Only cells measured as the baseline was can be compared; as the first one that is left, if it has no card.
        wanted = cards[self.base] or next(filter(None, cards), "")
        self.there: Bools = np.isfinite(self.values) & np.array([card != "" and card == wanted for card in cards])
        """[seeds, cells]: runs that can be compared."""
        self.present: Places = frozenset(np.flatnonzero(self.there.any(axis=0)).tolist())
        self.joined: Places = self._joined()
        """The most cells whose runs share seeds, directly or through others; none if no seed has runs of two."""

    def _joined(self) -> Places:
        # Connected parts of the graph in which two cells are neighbours if a seed has runs of both; twins are one cell.
        twins, base = self.table.twins, self.table.twins[self.base]
        parts: list[set[int]] = []
        for row in self.there:
            cells = {twins[place] for place in np.flatnonzero(row).tolist()}
            touched = [part for part in parts if part & cells]
            parts = [part for part in parts if not part & cells] + [cells.union(*touched)]
        largest = max(parts, key=lambda part: (len(part), base in part), default=set())
        return frozenset(place for place in self.present if len(largest) > 1 and twins[place] in largest)

    def readable(self) -> tuple[Places, ...]:
        """The sets of cells that contrasts are chosen from, the best first: within seeds, then between them."""
        return (self.joined, self.present) if self.joined else (self.present,)

    def missing(self, places: Collection[int]) -> str:
        """Which of these cells have no result and why: `a has no result: 3 of 3 runs failed`; empty if all have one."""
        by_reason: dict[str, list[int]] = {}
        for place in sorted(places):
            if place not in self.present:
                by_reason.setdefault(self.why(place), []).append(place)
        return "; ".join(
            f"{self.table.names(lost)} {'has' if len(lost) == 1 else 'have'} no result: {why}"
            for why, lost in by_reason.items()
        )

    def without(self, wanted: Places, read: Places | None) -> str:
        """Which cells of a contrast it is read without, and why; of one that cannot be read, which it lacks."""
        missing = self.missing(wanted)
        if read is None:
            return missing or self._apart(wanted - self.joined)
        reasons = "; ".join(filter(None, [missing, self._apart((wanted & self.present) - read)]))
        return f"estimated from the other cells, as {reasons}" if reasons else ""

    def _apart(self, places: Collection[int]) -> str:
        if not places:
            return ""
        return f"{self.table.names(places)} share{'s' * (len(places) == 1)} no seed with the other cells"

    def why(self, place: int) -> str:
        """Why a cell has no number that can be compared."""
        counts = self.table.counts[place]
        total = sum(counts.values())
        if np.isfinite(self.values[:, place]).any():
            return f"measured differently from {self.table.cells[self.base].name}"
        if counts.get("done"):
            other = [f"{number} {state}" for state, number in counts.items() if state != "done"]
            rest = f" ({', '.join(other)})" if other else ""
            control = place == self.base and self.control_seeds
            where = "under seeds that no other cell has" if control else "without this metric"
            return f"{counts['done']} of {total} runs finished {where}{rest}"
        return ", ".join(f"{number} of {total} runs {state}" for state, number in counts.items()) or (
            "no run is planned" if self.seeds else "no seed is whole yet"
        )

    def lacking(self) -> Iterator[str]:
        """A sentence on the finished runs that lack this metric, which other runs of their cells have."""
        table = self.table
        runs = zip(table.cell.tolist(), table.seed.tolist(), table.states, np.isnan(self.column.values), strict=True)
        found = [
            f"{table.cells[place].name} seed {seed}"
            for place, seed, state, is_missing in runs
            if state == "done" and is_missing and place in self.present
        ]
        if found:
            yield f"Finished runs without a number: {shortened(found, 4)}."

    def is_diagnostic(self, places: Collection[int]) -> bool:
        """Whether the metric, of the baseline or of one of these cells, is of a network that also guided training."""
        seen = self.column.seen
        return self.column.metric.role == "diagnostic" or seen[self.base] or any(seen[p] for p in places)
