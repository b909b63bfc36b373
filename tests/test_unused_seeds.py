"""A cell whose training makes no use of the seed has one run, however many seeds it is trained under."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import harness
from designs import DISTANCE, SCORE, table_of
from harness.analysis.analyse import analyse
from harness.analysis.looks import Looks
from harness.analysis.results import Analysis
from harness.analysis.table import Column, RunTable

CELLS = [(), ("a",), ("b",)]


def studies(seed: int, seeds: int = 4) -> np.ndarray:
    return 100 + np.random.default_rng(seed).normal(size=(seeds, 3)) * 2


def table(values: np.ndarray, weights: dict[tuple[int, int], str]) -> RunTable:
    """Each run with weights of its own, but for those of (seed, cell) that are named."""
    one = table_of(CELLS, values, toggles=("a", "b"))
    marks = [
        ("", weights.get((seed, cell), f"{seed}.{cell}")) for seed, row in enumerate(values) for cell in range(len(row))
    ]
    return replace(one, trained=tuple(marks))


def numbers(analysis: Analysis) -> list[tuple[object, ...]]:
    (result,) = analysis.metrics
    of_effects = [(each.estimate.verdict, each.estimate.low, each.estimate.p_holm) for each in result.effects]
    return [*of_effects, result.df, result.residual_sd, *((cell.mean, cell.sd) for cell in result.cells)]


@pytest.mark.parametrize("looks", [None, Looks(3, 4)])
@pytest.mark.parametrize("cell", [0, 1, 2])
def test_runs_that_repeat_an_earlier_one_count_as_if_they_were_not_there(cell: int, looks: Looks | None) -> None:
    values = studies(cell)
    values[1:3, cell] = values[0, cell]
    found = analyse(table(values, {(seed, cell): "same" for seed in range(3)}), "origin", looks=looks)
    lost = values.copy()
    lost[1:3, cell] = np.nan
    assert numbers(found) == numbers(analyse(table(lost, {}), "origin", looks=looks))
    (note,) = found.notes
    assert (
        note.startswith(f"{['origin', 'a', 'b'][cell]} came to the same") and "under seeds 1 and 2 as under an" in note
    )
    assert not any("without a number" in note for note in found.metrics[0].notes)


def test_a_cell_of_one_run_gets_no_verdict_and_makes_none_easier() -> None:
    claims = 0
    for seed in range(200):
        values = studies(seed, 3)
        values[:, 1] = values[0, 1]
        found = analyse(table(values, {(it, 1): "same" for it in range(3)}), "origin").metrics[0].effects
        assert found[0].estimate.verdict == "insufficient seeds"
        claims += found[1].estimate.verdict in ("better", "worse")
    assert claims <= 20  # 5 % are 10, and three standard errors more are 19


def test_equal_weights_with_other_numbers_prove_nothing() -> None:
    values = studies(1)
    marked = analyse(table(values, {(seed, 1): "first weights" for seed in range(4)}), "origin")
    assert numbers(marked) == numbers(analyse(table(values, {}), "origin")) and not marked.notes


def test_a_failed_run_repeats_nothing() -> None:
    values = studies(2)
    values[0, 1] = np.nan
    found = analyse(table(values, {(0, 1): "same", (1, 1): "same"}), "origin")
    assert numbers(found) == numbers(analyse(table(values, {}), "origin")) and not found.notes


@pytest.mark.parametrize("metrics", [1, 2])
@pytest.mark.parametrize("same", [2, 4])
def test_equal_numbers_alone_are_told_and_compared(metrics: int, same: int) -> None:
    values = studies(3)
    values[:same, 1] = values[0, 1]
    one = table_of(CELLS, values, toggles=("a", "b"))
    columns = [
        Column(it, values.ravel(), *(getattr(one.columns[0], name) for name in ("cards", "seen")))
        for it in (SCORE, DISTANCE)
    ]
    found = analyse(replace(one, columns=tuple(columns[:metrics])), "origin")
    assert found.metrics[0].effects[0].estimate.p is not None
    # One rounded metric has the same number twice by chance.
    assert [note.split(" under seeds ")[0] for note in found.notes] == ["a has the same numbers in every metric"] * (
        metrics == 2 or same == 4
    )


@pytest.mark.parametrize("known", [False, True])
def test_rows_of_a_table_that_are_one_run_are_told(known: bool) -> None:
    rows = [
        (idea, seed, 30 + idea + (0 if idea else seed), f"{idea}{seed * (1 - idea)}")
        for idea in (0, 1)
        for seed in range(3)
    ]
    frame = pd.DataFrame(rows, columns=["idea", "seed", "fid", "weights_sha256"])
    found = harness.analyse(frame if known else frame.drop(columns="weights_sha256"))
    (note,) = found.notes
    told = "under seeds 1 and 2 as under an earlier one" if known else "under seeds 0, 1 and 2: by chance"
    assert told in note and ("leave all but one out" in note) == (not known)
    assert (found.metrics[0].effects[0].estimate.n == 1) == known
