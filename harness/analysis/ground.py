"""What the metrics of a table have in common, and which cells one of them can be compared in. No torch here."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from harness.analysis.fit import Bools
from harness.analysis.statistics import Floats
from harness.analysis.table import Column, Table
from harness.design.contrasts import Estimable, Weights, estimable
from harness.design.kinds import some

Places = frozenset[int]


class Ground:
    """What all metrics of a table share, worked out once."""

    def __init__(self, table: Table, baseline: str) -> None:
        self.table, self.baseline = table, baseline
        self.planned = [cell.toggles for cell in table.cells]
        self.tells = estimable(self.planned, table.toggles)
        """What the whole design says."""
        self.own = table.place(baseline)
        self.seeds, self.control_seeds = table.blocks(baseline)
        self.counts = table.counts()
        self.twins = table.twins()
        self.places = {cell.toggles: place for place, cell in enumerate(table.cells)}
        self._told: dict[Places, Estimable] = {frozenset(range(len(self.planned))): self.tells}

    def tells_of(self, places: Places) -> Estimable:
        """What these cells say, where others have no result."""
        if places not in self._told:
            cells = [cell for place, cell in enumerate(self.planned) if place in places]
            self._told[places] = estimable(cells, self.table.toggles, self.planned)
        return self._told[places]

    def name(self, place: int) -> str:
        return self.table.cells[place].name

    def names(self, places: Collection[int]) -> str:
        """The first of them, and how many follow."""
        return some([self.name(place) for place in sorted(places)], 4)

    def used(self, weights: Weights) -> Places:
        return frozenset(self.places[toggles] for toggles in weights)


class Standing:
    """One metric of a table: its numbers by seed and cell, which of them can be compared, and why others cannot."""

    def __init__(self, ground: Ground, column: Column) -> None:
        self.ground, self.column = ground, column
        self.values: Floats = ground.table.matrix(column, ground.seeds)
        """[seeds, cells], in the metric's own unit."""
        comparable = np.array([self._is_comparable(place) for place in range(len(ground.planned))])
        self.there: Bools = np.isfinite(self.values) & comparable
        """[seeds, cells]: runs that can be compared."""
        self.present: Places = frozenset(np.flatnonzero(self.there.any(axis=0)).tolist())
        self.joined: Places = self._joined()
        """The most cells whose runs share seeds, directly or through others; none if no seed has runs of two."""

    def _is_comparable(self, place: int) -> bool:
        """Whether it was measured as the baseline was."""
        cards = self.column.cards
        wanted = cards[self.ground.own] or next(filter(None, cards), "")
        return cards[place] != "" and cards[place] == wanted

    def _joined(self) -> Places:
        parts: list[set[int]] = []
        for row in self.there:
            cells = {self.ground.twins[place] for place in np.flatnonzero(row).tolist()}
            touched = [part for part in parts if part & cells]
            parts = [part for part in parts if not part & cells] + [cells.union(*touched)]
        own = self.ground.twins[self.ground.own]
        largest = max(parts, key=lambda part: (len(part), own in part), default=set())
        whole = frozenset(place for place in self.present if self.ground.twins[place] in largest)
        return whole if len(largest) > 1 else frozenset()

    def readable(self) -> tuple[Places, ...]:
        """The sets of cells that contrasts are chosen from, the best first: within seeds, then between them."""
        return (self.joined, self.present) if self.joined else (self.present,)

    def lacking(self, places: Collection[int]) -> str:
        """Which of these cells have no result and why, `a has no result: 3 of 3 runs failed`; empty if all have one."""
        by_reason: dict[str, list[int]] = {}
        for place in sorted(places):
            if place not in self.present:
                by_reason.setdefault(self.why(place), []).append(place)
        told = [
            f"{self.ground.names(lost)} {'has' if len(lost) == 1 else 'have'} no result: {why}"
            for why, lost in by_reason.items()
        ]
        return "; ".join(told)

    def why(self, place: int) -> str:
        """Why a cell has no number that can be compared."""
        counts = self.ground.counts[place]
        total = sum(counts.values())
        if np.isfinite(self.values[:, place]).any():
            return f"measured otherwise than {self.ground.baseline}"
        if counts.get("done"):
            other = [f"{number} {state}" for state, number in counts.items() if state != "done"]
            rest = f" ({', '.join(other)})" if other else ""
            where = "under seeds of its own" if place == self.ground.own and self.ground.control_seeds else ""
            return f"{counts['done']} of {total} runs finished {where or 'without this metric'}{rest}"
        return ", ".join(f"{number} of {total} runs {state}" for state, number in counts.items()) or "no run is planned"

    def alone(self) -> list[int]:
        """By cell: runs that share their seed with no other cell's run, so that nothing can be paired with them."""
        lonely = self.there & (self.there.sum(axis=1, keepdims=True) == 1)
        counts: list[int] = lonely.sum(axis=0).tolist()
        return counts

    def is_diagnostic(self, places: Sequence[int]) -> bool:
        seen = self.column.seen
        return self.column.metric.role == "diagnostic" or seen[self.ground.own] or any(seen[place] for place in places)
