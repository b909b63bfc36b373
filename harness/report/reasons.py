"""Why estimates lack what they lack, each reason once. No torch here."""

from __future__ import annotations

from collections.abc import Iterable

from harness.analysis.results import Estimate, MetricResult
from harness.design.kinds import shortened
from harness.report import wording

Named = tuple[str, Estimate]
_NAMED = 6


def reasons(result: MetricResult) -> list[str]:
    """`a, b: no seed is shared, ...`: of all comparisons on a metric, those that training has seen aside."""
    effects = {effect.toggle: effect.estimate for effect in result.effects}
    cells = [(cell.cell, cell.estimate) for cell in result.cells if cell.estimate]
    cells = [(name, found) for name, found in cells if not _same(found, effects.get(name))]
    pairs = [(wording.interaction_name(found), found.estimate) for found in result.interactions]
    parts = [(f"{name}'s part in all", share) for name, share in result.attribution.items()]
    found = by_reason([*effects.items(), *cells, *pairs, *parts])
    return [f"{'' if reason.startswith(f'{names} ') else f'{names}: '}{reason}." for reason, names in found]


def _same(cell: Estimate, effect: Estimate | None) -> bool:
    """Whether a cell's difference is the effect of the toggle of its name, told already."""
    return effect is not None and (cell.value, cell.by_seed) == (effect.value, effect.by_seed)


def by_reason(estimates: Iterable[Named]) -> list[tuple[str, str]]:
    """(reason, the first of those that have it and how many follow)."""
    groups: dict[str, dict[str, None]] = {}
    for name, estimate in estimates:
        if estimate.reason and estimate.verdict != "diagnostic":
            groups.setdefault(estimate.reason, {})[name] = None
    return [(reason, shortened(list(names), _NAMED)) for reason, names in groups.items()]
