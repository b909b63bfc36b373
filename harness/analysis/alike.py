"""What is told of runs that came to the same, where it is no proof or no comparison says it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from harness.analysis.table import RunTable
from harness.text import listed, shortened


def told(table: RunTable, seeds: tuple[int, ...]) -> Iterator[str]:
    """Sentences on cells whose runs under several seeds are one run, or have the numbers of one, and on cells that
    have each other's numbers. `seeds`: those that are compared.
    """
    yield from _counted_once(table)
    numbers = np.array([table.matrix(column, seeds) for column in table.columns])
    if numbers.size:
        yield from _equal_over_seeds(table, seeds, numbers)
        yield from _equal_over_cells(table, numbers)


def _counted_once(table: RunTable) -> Iterator[str]:
    for place, cell in enumerate(table.cells):
        mine = table.cell == place
        repeated = sorted(table.seed[mine & table.repeats].tolist())
        if repeated:
            under = f"seed{'s' * (len(repeated) > 1)} {shortened([*map(str, repeated)], 4)}"
            yield (
                f"{cell.name} came to the same weights or images, and numbers, under {under} as under an earlier one: "
                "its training makes no use of the seed. However many seeds do, they are one run and count as one."
            )


def _equal_over_seeds(table: RunTable, seeds: tuple[int, ...], numbers: NDArray[np.float64]) -> Iterator[str]:
    """`numbers`: [metrics, seeds, cells]."""
    for place, cell in enumerate(table.cells):
        groups: dict[bytes, list[int]] = {}
        for seed, own in zip(seeds, numbers[:, :, place].T, strict=True):
            if np.isfinite(own).any():
                groups.setdefault(own.tobytes(), []).append(seed)
        largest = max(groups.values(), key=len, default=[])
        # One rounded metric has equal numbers by chance in some seeds, and hardly in all.
        if len(largest) > 1 and (len(groups) == 1 or len(numbers) > 1) and not _differ(table, place, largest):
            yield (
                f"{cell.name} has the same numbers in every metric under seeds {listed([*map(str, largest)])}: by "
                "chance, as rounded numbers may, or because the seed is not used there. Then these are one run that is "
                "counted several times, and what is compared with it looks surer than it is: leave all but one out."
            )


def _differ(table: RunTable, place: int, seeds: list[int]) -> bool:
    """Whether the weights prove that runs of a cell are not one."""
    mine = np.flatnonzero((table.cell == place) & np.isin(table.seed, seeds)) if table.trained else ()
    weights = [table.trained[run][1] for run in mine]
    return bool(weights) and all(weights)


def _equal_over_cells(table: RunTable, numbers: NDArray[np.float64]) -> Iterator[str]:
    """Of cells that are not proven to have been trained alike, with two runs at least."""
    groups: dict[bytes, list[int]] = {}
    for place, own in enumerate(np.moveaxis(numbers, 2, 0)):
        if np.isfinite(own).any(axis=0).sum() > 1:
            groups.setdefault(own.tobytes(), []).append(place)
    for group in groups.values():
        if len({table.twins[place] for place in group}) > 1:
            yield (
                f"{table.names(group)} have the same numbers in every metric and seed: by chance, as rounded numbers "
                "may, or because what differs between them has no effect. They are compared like any other cells."
            )
