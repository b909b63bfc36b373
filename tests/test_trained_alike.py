"""A finished run records what proves that another one trained alike: a digest of the weights that it came to.

And what is made of such a proof: the two are one cell.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from designs import FOUR, cells_of, table_of
from executed import RUN, execute, install
from harness.analysis.analyse import analyse
from harness.analysis.export import as_json
from harness.analysis.looks import Looks
from harness.analysis.table import RunTable
from harness.report import caveats
from harness.runs.folders import RunFolder
from harness.training import checkpoint


def test_the_digest_is_of_the_weights_and_of_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)
    assert execute(tmp_path / "one" / RUN.id) == 0 == execute(tmp_path / "other" / RUN.id)
    folders = [RunFolder(tmp_path / name / RUN.id) for name in ("one", "other")]
    one, other = (folder.result() for folder in folders)
    assert one is not None and other is not None
    assert len(one.weights) == 64 and one.weights == other.weights
    stored, meta = checkpoint.read_tensors(folders[0].path / "generator.safetensors")
    assert meta["run"] == RUN.id and checkpoint.digest(stored, {}) == one.weights
    name = next(name for name, tensor in stored.items() if tensor.is_floating_point())
    nudged = {**stored, name: torch.nextafter(stored[name], stored[name] + 1)}
    assert checkpoint.digest(nudged, {}) != one.weights


def test_a_result_of_an_earlier_version_has_none_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"metrics": {"fd": 1.0}, "cards": {"fd": {}}, "cost": {}}')
    found = RunFolder(tmp_path).result()
    assert found is not None and found.weights == ""


@pytest.mark.parametrize("looks", [None, Looks(3, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_a_cell_that_trained_as_the_baseline_makes_no_other_verdict_harder(looks: Looks | None, seed: int) -> None:
    cells = cells_of("one-at-a-time")
    rng = np.random.default_rng(seed)
    values = 60 + rng.normal(size=(5, len(cells))) * (1, 1, 1, 1, 4) + np.array([0.0, 9.0, -7.0, 0.1, 0.0])
    plain = table_of(cells, values)
    one_more = table_of([*cells, ("e",)], np.column_stack([values, values[:, 0]]), toggles=(*FOUR, "e"))
    one_more = replace(one_more, trained=tuple((str(cell % 5), "") for _ in range(5) for cell in range(6)))
    margins = {"clip_score": 1.0}
    before, after = (analyse(each, "origin", margins, looks=looks) for each in (plain, one_more))
    told = before.of("clip_score"), after.of("clip_score")
    was, now = ({effect.toggle: effect.estimate for effect in result.effects} for result in told)
    assert now.pop("e").alike and not any(each.alike for each in now.values())
    assert [each.estimate.alike for each in told[1].cells if each.estimate] == [False] * 4 + [True]
    for toggle, estimate in now.items():
        for name in ("low", "high", "p", "p_holm", "p_equivalent"):
            assert getattr(estimate, name) == pytest.approx(getattr(was[toggle], name), rel=1e-9), (toggle, name)
        for name in ("verdict", "decided_after", "uneven"):
            assert getattr(estimate, name) == getattr(was[toggle], name), (toggle, name)
    said = as_json(after)["metrics"]["clip_score"]
    assert said["holm"] == {"effects": 4, "cells": 4, "interactions": 0}
    assert {"better", "worse"} & {each["verdict"] for each in said["effects"]}
    near = [replace(it, estimate=replace(it.estimate, p=0.04, verdict="inconclusive")) for it in told[1].effects[:1]]
    caveat, *_ = caveats._on_metric(replace(told[1], effects=(*near, *told[1].effects[1:])), None)
    assert "Holm's correction for 4 comparisons leaves" in caveat[-1]


def alike(cells: list[tuple[str, ...]], values: np.ndarray, marks: list[list[str]], toggles: str) -> RunTable:
    """With a digest of weights by seed and cell; NaN: a failed run."""
    table = table_of(cells, values, toggles=tuple(toggles))
    return replace(table, trained=tuple(("", mark) for row in marks for mark in row))


@pytest.mark.parametrize("looks", [None, Looks(3, 8)])
def test_what_a_lost_cell_leaves_of_an_effect_is_not_taken_for_all_of_it(looks: Looks | None) -> None:
    cells = [(), ("a",), ("b",), ("a", "b"), ("c",)]
    values = 60 + np.random.default_rng(3).normal(0, 0.3, (3, 5)) + np.array([0, 0, 0, 5, 0])
    values[:, 1] = values[:, 0]
    marks = [[f"{seed} {max(1, cell)}" for cell in range(5)] for seed in range(3)]
    for lost in (False, True):
        values[:, 2] = np.nan if lost else values[:, 2]
        analysis = analyse(alike(cells, values, marks, "abc"), "origin", looks=looks)
        result = analysis.of("clip_score")
        effect = next(each.estimate for each in result.effects if each.toggle == "a")
        assert as_json(analysis)["metrics"]["clip_score"]["holm"]["effects"] == 3, "also without a result"
        if not lost:
            assert effect.verdict == "better" and effect.value == pytest.approx(2.5, abs=0.5)
    assert (effect.value, effect.verdict, effect.alike) == (None, "insufficient seeds", False)
    assert effect.reason == "b has no result: 3 of 3 runs failed; the cells that are left were trained alike"
    assert "a" in result.undecided()


def test_cells_that_differ_from_each_other_are_not_alike_through_a_third() -> None:
    """a and b are as the origin in the two seeds that it finished, and differ in two more."""
    marks = [["x", "x", "x"], ["y", "y", "y"], ["", "s", "t"], ["", "u", "v"]]
    values = 60 + np.random.default_rng(1).normal(size=(4, 3))
    values[:2, 1:], values[2:, 0] = values[:2, :1], np.nan
    table = alike([(), ("a",), ("b",)], values, marks, "ab")
    assert table.twins == (0, 0, 2)
    b = analyse(table, "a").of("clip_score").cell("b")
    assert b.estimate and b.estimate.verdict != "equivalent" and not b.estimate.alike
    assert b.estimate.by_seed == pytest.approx(values[:, 2] - values[:, 1])
    marks[2][2], marks[3][2] = "s", "u"
    assert alike([(), ("a",), ("b",)], values, marks, "ab").twins == (0, 0, 0)


@pytest.mark.parametrize("state", ["diverged", "seen"])
def test_one_that_diverged_or_is_of_a_network_that_guided_is_in_no_family_either(state: str) -> None:
    cells = cells_of("one-at-a-time")
    values = 60 + np.random.default_rng(5).normal(size=(4, 5))
    values[:, 4] = values[:, 0]
    marks = [[f"{seed} {cell % 4}" for cell in range(5)] for seed in range(4)]
    table = alike(cells, values, marks, "abcd")
    if state == "diverged":
        states = [*table.states]
        states[-1], values[-1, -1] = "diverged", np.nan
        (column,) = table.columns
        table = replace(table, states=tuple(states), columns=(replace(column, values=values.ravel()),))
    else:
        table = replace(table, columns=(replace(table.columns[0], seen=(True,) * 5),))
    analysis = analyse(table, "origin")
    assert analysis.of("clip_score").cell("d").estimate.alike
    assert analysis.of("clip_score").cell("d").estimate.verdict == {"seen": "diagnostic"}.get(state, state)
    assert as_json(analysis)["metrics"]["clip_score"]["holm"] == {"effects": 3, "cells": 3, "interactions": 0}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("later", [False, True])
def test_a_look_knows_what_was_proven_by_then(seed: int, later: bool) -> None:
    """Whether d trains as the origin is proven by the look after 3 seeds and not by that after 4, or the other way."""
    cells, rng = cells_of("one-at-a-time"), np.random.default_rng(seed)
    values = 60 + rng.normal(size=(5, 5)) + np.array([0, 3, -2.6, 2.2, 0])
    values[:3, 4] = values[:3, 0]
    marks = [[f"{row} {cell % 4 if row < 3 or later else cell}" for cell in range(5)] for row in range(5)]
    if later:
        values[3:, 4], values[1:3, 4] = values[3:, 0], np.nan
    found = [
        analyse(alike(cells, values[:n], marks[:n], "abcd"), "origin", looks=Looks(3, 8)).of("clip_score")
        for n in (3, 4, 5)
    ]
    told = [{each.toggle: each.estimate for each in result.effects} for result in found]
    assert [each["d"].alike for each in told] == ([False, True, True] if later else [True, False, False])
    for toggle in "abc":
        after = told[2][toggle].decided_after
        for n, each in zip((3, 4), told, strict=False):
            decided = each[toggle].verdict in ("better", "worse")
            if told[2][toggle].verdict in ("better", "worse"):
                assert decided == (after is not None and after <= n), "what a look said is what it is said to have said"
            assert (
                not decided
                or np.sign(told[2][toggle].value) != np.sign(each[toggle].value)
                or after == each[toggle].decided_after
            )


def test_cells_that_cancel_out_do_not_make_an_effect_uneven() -> None:
    """In an effect of both ends, origin and a alone are twins; they spread unlike the rest, and are not in it."""
    cells = cells_of("both")
    rng = np.random.default_rng(2)
    values = 60 + 0.1 * rng.normal(size=(8, len(cells)))
    values[:, cells.index(())] += 4 * rng.normal(size=8)
    values[:, cells.index(("a",))] = values[:, cells.index(())]
    marks = [[f"{row} {'' if cell in ((), ('a',)) else cell}" for cell in cells] for row in range(8)]
    result = analyse(alike(cells, values, marks, "abcd"), "origin").of("clip_score")
    uneven = {each.toggle: each.estimate.uneven for each in result.effects}
    assert uneven == {"a": False, "b": True, "c": True, "d": True}


def with_idle_idea(values: np.ndarray) -> tuple[RunTable, RunTable]:
    """A full factorial of three ideas, values [seeds, 8], and that of four of which the last changes nothing."""
    cells = [tuple(idea for idea, on in zip("abc", bits, strict=True) if on) for bits in np.ndindex(2, 2, 2)]
    plain = table_of(cells, values, toggles=tuple("abc"))
    more = table_of([*cells, *((*cell, "d") for cell in cells)], np.tile(values, 2), toggles=FOUR)
    ids = tuple((f"{seed}.{cell % 8}", "") for seed in range(len(values)) for cell in range(16))
    return plain, replace(more, trained=ids)


def test_an_idea_that_changes_nothing_makes_lenths_error_no_smaller() -> None:
    plain, more = with_idle_idea(np.random.default_rng(5).normal(size=(1, 8)) + 60)
    one, other = (analyse(table, "origin").metrics[0].lenth for table in (plain, more))
    assert one is not None and other is not None and set(other.names) == set(one.names)
    assert (other.pse, other.margin) == pytest.approx((one.pse, one.margin))


def test_cells_that_trained_alike_are_one_for_the_correlation_of_a_seeds_runs() -> None:
    plain, more = with_idle_idea(np.random.default_rng(6).normal(size=(5, 8)) + 60)
    one, other = (analyse(table, "origin").metrics[0].seed_correlation for table in (plain, more))
    assert one is not None and other == pytest.approx(one)
