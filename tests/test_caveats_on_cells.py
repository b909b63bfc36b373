"""What weakens a verdict is told of every comparison: of the effects, and of the cells beside them, such as `full`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from designs import FOUR, cells_of, table_of
from harness.analysis.analyse import analyse
from harness.analysis.looks import Looks
from harness.analysis.results import Estimate, MetricResult
from harness.report import caveats
from harness.report.document.model import plain

CELLS = [*cells_of("one-at-a-time"), FOUR]


@pytest.fixture(scope="module", params=[None, Looks(3, 8)], ids=["seeds fixed", "seeds added"])
def result(request: pytest.FixtureRequest) -> MetricResult:
    values = 60 + np.random.default_rng(2).normal(size=(5, len(CELLS)))
    return analyse(table_of(CELLS, values), "origin", looks=request.param).of("clip_score")


def with_cell(result: MetricResult, name: str, **changes: object) -> MetricResult:
    def changed(estimate: Estimate | None) -> Estimate | None:
        return replace(estimate, **changes) if estimate else None  # type: ignore[arg-type]

    cells = [replace(it, estimate=changed(it.estimate)) if it.cell == name else it for it in result.cells]
    return replace(result, cells=tuple(cells))


def told(result: MetricResult, seeds: int = 5) -> str:
    lines = [*caveats._on_looks(result, seeds), *caveats._on_metric(result, None)]
    return "\n".join(plain(line) for line in lines)


FULL = "+".join(FOUR)
DIFFERENCE = {"p": 0.03, "verdict": "inconclusive"}


def test_a_cell_that_is_no_effect_has_the_caveats_of_one(result: MetricResult) -> None:
    below = "p of {} is below 0.05" if result.rule else "the interval of {} excludes zero"
    assert FULL not in told(result)
    said = told(with_cell(result, FULL, **DIFFERENCE))
    assert f"{below.format(FULL)}, but Holm's correction for 5 comparisons leaves the verdict inconclusive" in said
    own = {"verdict": "better", "own_low": -0.1, "own_high": 1.0}
    assert f"the interval of {FULL} includes zero" in told(with_cell(result, FULL, **own))
    assert f"the spread of {FULL} over seeds is unlike" in told(with_cell(result, FULL, uneven=True))


def test_a_verdict_of_an_earlier_look_is_told_of_such_a_cell_too(result: MetricResult) -> None:
    earlier = {"verdict": "better", "low": -0.1, "high": 1.0, "decided_after": 3}
    assert f"the verdict on {FULL} was reached at an earlier look" in told(with_cell(result, FULL, **earlier))
    assert f"the verdict on {FULL} rests on p of an earlier look" in told(with_cell(result, FULL, **earlier), 3)
    wide = {"verdict": "equivalent", "low": -9.0, "high": 9.0, "decided_after": 3}
    assert f"within the margin, of {FULL}, was" in told(replace(with_cell(result, FULL, **wide), margin=1.0))


def test_a_cell_that_is_an_effect_itself_is_told_once(result: MetricResult) -> None:
    one = FOUR[0]
    effects = [replace(it, estimate=replace(it.estimate, **DIFFERENCE)) for it in result.effects[:1]]  # type: ignore[arg-type]
    both = replace(with_cell(result, one, **DIFFERENCE), effects=(*effects, *result.effects[1:]))
    assert told(both).count("Holm's correction") == 1 and "for 4 comparisons" in told(both)


def test_a_cell_whose_verdict_is_not_that_of_the_effect_is_told(result: MetricResult) -> None:
    """The same difference, in a family of five cells and of four effects."""
    one = FOUR[0]
    effects = [replace(it, estimate=replace(it.estimate, p=0.03, verdict="better")) for it in result.effects[:1]]
    said = told(replace(with_cell(result, one, **DIFFERENCE), effects=(*effects, *result.effects[1:])))
    assert f"{one} alone " in said and "for 5 comparisons leaves the verdict inconclusive" in said


def test_the_cell_beside_an_effect_of_more_cells_is_told_as_the_cell_alone() -> None:
    cells = cells_of("both")
    values = 60 + np.random.default_rng(2).normal(size=(5, len(cells)))
    result = analyse(table_of(cells, values), "origin").of("clip_score")
    chance = next(cell.cell for cell in result.cells if cell.estimate and (cell.estimate.p or 1.0) < 0.05)
    said = told(with_cell(with_cell(result, chance, p=0.5), FOUR[0], **DIFFERENCE))
    assert f"the interval of {FOUR[0]} alone excludes zero, but Holm's correction for {len(cells) - 1} " in said


def test_a_long_list_of_cells_says_how_many_it_leaves_out() -> None:
    cells = cells_of("full")
    values = 60 + np.random.default_rng(2).normal(size=(3, len(cells)))
    result = analyse(table_of(cells, values), "origin").of("clip_score")
    for cell in result.cells:
        result = with_cell(result, cell.cell, **DIFFERENCE)
    assert " and 9 more excludes zero" in told(result)
