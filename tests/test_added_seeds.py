"""Seeds that are added until every effect is decided: the study, and the loop of a grid."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adding import (
    ALIKE,
    CLEAR,
    MIDDLING,
    STUDY,
    looks_at,
    one_line,
    planned,
    stops_at,
    trained,
)
from harness.design.kinds import CONTROL_AFTER_AUTO
from harness.errors import SpecError
from harness.exit_codes import FAILED_RUNS, REFUSED
from harness.grid import run as grid
from harness.grid.outcome import gather
from harness.report.caveats import of_looks
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.scheduler.scheduler import Scheduler
from harness.study import looks
from harness.study.plan import Plan
from kept import harness, plan

__all__ = ["harness", "plan", "trained"]


@pytest.fixture
def study(harness: Any, trained: Any) -> tuple[Any, Any]:
    return harness, trained


# The study.


def test_auto_is_the_runs_of_seeds_from_0_on_with_the_ids_that_they_always_have(tmp_path: Path) -> None:
    added = planned(tmp_path)
    fixed = planned(tmp_path, "design.seeds=6", "design.max_seeds=null")
    assert added.study.design.seeds == (0, 1, 2) and added.study.design.max_seeds == 6
    both = {run.id: (run.cell, run.seed) for run in (*added.runs, *added.later)}
    assert both == {run.id: (run.cell, run.seed) for run in fixed.runs}
    assert {run.seed for run in added.later} == {3, 4, 5}
    assert added.of_seeds(6).runs == fixed.runs and added.of_seeds(4).of_seeds(3) == added
    eight = STUDY.replace(", max_seeds: 6", "")
    assert planned(tmp_path, text=eight).study.design.max_seeds == 8


def test_the_control_never_has_a_seed_that_may_be_added(tmp_path: Path) -> None:
    six, eight = (planned(tmp_path, "design.control=2", f"design.max_seeds={most}") for most in (6, 8))
    control = [{run.id for run in each.runs if run.seed >= CONTROL_AFTER_AUTO} for each in (six, eight)]
    assert control[0] == control[1] and len(control[0]) == 2, "more seeds make no other control"
    assert not control[0] & {run.id for run in six.later} and {run.seed for run in eight.later} == set(range(3, 8))
    assert {run.cell for run in six.runs if run.seed >= CONTROL_AFTER_AUTO} == {"origin"}


@pytest.mark.parametrize(
    ("design", "said"),
    [
        (
            "{seeds: auto, max_seeds: 2}",
            "3:34: design.max_seeds: must be a whole number from 3, the seeds of the first",
        ),
        ("{seeds: auto, max_seeds: 65}", "to 64, not 65"),
        ("{seeds: auto, max_seeds: 4.0}", "not 4.0"),
        ("{seeds: auto, max_seeds: true}", "not true"),
        ("{seeds: auto, max_seeds: [8]}", "not [8]"),
        ("{seeds: auto, max_seeds: many}", "not 'many'"),
        (
            "{seeds: 3, max_seeds: 8}",
            "3:31: design.max_seeds: has a meaning only with seeds: auto, not 3; leave it out",
        ),
        ("{max_seeds: 8}", "has a meaning only with seeds: auto"),
        ("{seeds: Auto}", "or auto, not 'Auto'"),
        ("{seeds: [auto]}", 'or auto, not ["auto"]'),
    ],
)
def test_what_has_no_meaning_is_refused_with_its_place(tmp_path: Path, design: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        planned(tmp_path, text=f"study: tiny\ntoggles: [mix_logits]\ndesign: {design}\n")
    assert said in str(refused.value) and len(str(refused.value).splitlines()) == 1


# The loop.


def test_a_grid_ends_once_everything_is_decided(tmp_path: Path, harness: Any, trained: Any) -> None:
    planned(tmp_path)
    train = trained(CLEAR)
    code, out, err = harness("run-grid", "added.yaml")
    assert code == 0 and train.seeds == [0, 1, 2]
    assert "3 of at most 6 seeds: decided" in one_line(err) and "better" in out and "worse" in out
    code, out, err = harness("run-grid", "added.yaml")
    assert code == 0 and train.seeds == [0, 1, 2] and len(train.asked) == 1
    assert "nothing to do" in err and "3 of at most 6 seeds: decided" in one_line(err)


def test_a_grid_ends_at_the_most_seeds(tmp_path: Path, harness: Any, trained: Any) -> None:
    planned(tmp_path)
    train = trained(ALIKE)
    for wanted in ("runs to do", "nothing to do"):
        code, _, err = harness("run-grid", "added.yaml")
        assert code == 0 and train.seeds == [0, 1, 2, 3, 4, 5] and wanted in err
        assert "6 of at most 6 seeds: 2 effects undecided" in one_line(err)
        assert "no more are added" in " ".join(err.split())
    assert [sorted({seed for _, seed in call}) for call in train.asked] == [[0, 1, 2], [3], [4], [5]]
    # A larger most goes on from there, with the same runs.
    code, _, err = harness("run-grid", "added.yaml", "--max-seeds", "7")
    assert code == 0 and train.seeds == [*range(7)] and "7 of at most 7 seeds" in one_line(err)
    taken = looks_at(planned(tmp_path))
    assert looks.changed_rules(taken) == ["the most seeds from 6 to 7, after 6 seeds"]
    longer = planned(tmp_path, "design.max_seeds=7")
    (caveat,) = of_looks(longer.study, longer.runs, taken)
    assert "not fixed beforehand: the most seeds from 6 to 7" in caveat


ALONE = STUDY.replace("include: [full], ", "")
EVERY = ("origin", "mix_logits", "transform_w", "full")


@pytest.mark.parametrize(
    ("text", "number", "same", "undecided"),
    [
        (ALONE, CLEAR, ["transform_w"], "1 effect undecided (fd: transform_w)"),
        (ALONE, CLEAR, ["origin"], "2 effects undecided (fd: mix_logits and transform_w)"),
        (STUDY, ALIKE, EVERY, "2 effects undecided (fd: mix_logits and transform_w)"),
        (STUDY, CLEAR, ["transform_w"], ""),  # `full` tells of it too
    ],
)
def test_no_seed_is_added_for_what_makes_no_use_of_it(
    tmp_path: Path, study: Any, text: str, number: Any, same: Sequence[str], undecided: str
) -> None:
    """More of them would be the same runs again."""
    harness, trained = study
    planned(tmp_path, text=text)
    train = trained(number)
    train.same |= {*same}
    told = f"3 of at most 6 seeds: {undecided or 'decided'}"
    for wanted in ("runs to do", "nothing to do"):
        code, out, err = harness("run-grid", "added.yaml")
        assert code == 0 and train.seeds == [0, 1, 2] and wanted in err
        assert told in one_line(err) and ("No seed decides" in one_line(out)) == bool(undecided)
        assert ("no more are added, as cells compared there make no use of" in one_line(err)) == bool(undecided)
    for command in ("status", "plan"):
        assert told in one_line(harness(command, "added.yaml")[1])
    assert planned(tmp_path, text=text).study.design.seeds == (0, 1, 2)
    assert json.loads(harness("status", "added.yaml", "--json")[1])["seeds"]["decided"] == (not undecided)


def test_what_seeds_decide_gets_them_beside_what_makes_no_use_of_them(tmp_path: Path, study: Any) -> None:
    harness, trained = study
    planned(tmp_path, text=ALONE)
    train = trained(ALIKE)
    train.same.add("transform_w")
    _, out, err = harness("run-grid", "added.yaml")
    assert train.seeds == [*range(6)] and "6 of at most 6 seeds: 2 effects undecided" in one_line(err)
    assert "No verdict yet: mix_logits (" in one_line(out) and "No seed decides transform_w (" in one_line(out)
    assert [(look.wants_more, look.no_seed_decides) for look in looks_at(planned(tmp_path, text=ALONE))] == [
        (True, (("fd", "transform_w"),))
    ] * 4


def test_a_lost_run_is_no_run_that_makes_no_use_of_its_seed(tmp_path: Path, study: Any) -> None:
    """Of one finished run and failed ones the next seed may tell more."""
    harness, trained = study
    made = planned(tmp_path, text=ALONE)
    trained(lambda run: None if run.cell == "transform_w" and run.seed else CLEAR(run))
    harness("run-grid", "added.yaml")
    assert not any(look.no_seed_decides for look in looks_at(made))


def test_a_grid_that_is_stopped_again_and_again_is_as_one_that_is_not(
    tmp_path: Path, harness: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for name, stops in (("whole", None), ("stopped", 3)):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        made = planned(tmp_path / name)
        train, code, calls = trained(MIDDLING), 130, 0
        while code == 130:
            train.stop_after, calls = stops, calls + 1
            code = harness("run-grid", "added.yaml")[0]
        assert code == 0 and calls > (4 if stops else 0)
        assert len(train.seeds) == stops_at(made, MIDDLING) in (4, 5), "a case of which an earlier look says nothing"
        results = {run.id: RunFolder(made.study.root / run.id).result() for run in (*made.runs, *made.later)}
        found[name] = (results, (made.study.root / looks.NAME).read_bytes())
    assert found["whole"] == found["stopped"]


def test_a_run_that_fails_is_tried_once_a_call_and_the_grid_goes_on(tmp_path: Path, harness: Any, trained: Any) -> None:
    made = planned(tmp_path)
    bad = next(run for run in made.runs if (run.cell, run.seed) == ("transform_w", 1))
    train = trained(lambda run: None if run.id == bad.id else MIDDLING(run))
    code, _, err = harness("run-grid", "added.yaml")
    assert code == FAILED_RUNS and "transform_w seed 1: failed" in one_line(err)
    assert train.seeds[:4] == [0, 1, 2, 3] and len(train.asked) == len(train.seeds) - 2
    assert RunFolder(made.study.root / bad.id).status().attempt == 1, "not again for each seed that is added"
    train.numbers = MIDDLING
    code, _, err = harness("run-grid", "added.yaml")
    assert code == 0 and RunFolder(made.study.root / bad.id).status().state == "done"
    train.numbers = lambda run: None
    assert harness("run-grid", "added.yaml", "--set", "train.kimg=9", "--fail-fast")[0] == FAILED_RUNS
    assert {seed for _, seed in train.asked[-1]} == {0, 1, 2}, "--fail-fast adds no seed after a failure"


def test_no_seed_is_added_where_the_last_is_not_whole(
    tmp_path: Path, harness: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when every GPU is closed: a run is left that nobody trains."""
    planned(tmp_path)
    train = trained(ALIKE)
    schedule = grid._schedule

    def without_last(plan: Plan, runs: Sequence[Run], *rest: Any) -> int:
        return schedule(plan, [run for run in runs if (run.cell, run.seed) != ("full", 3)], *rest)

    monkeypatch.setattr(grid, "_schedule", without_last)
    code, _, err = harness("run-grid", "added.yaml")
    assert code == FAILED_RUNS and train.seeds == [0, 1, 2, 3] and "full seed 3: pending" in one_line(err)
    # The comparison is of whole seeds.
    assert len(gather(planned(tmp_path)).analysis.seeds) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "full"), "--only: with design.seeds auto, the comparison of all cells decides"),
        (("--executor", "folder", "--detach"), "--detach: with design.seeds auto, this call has to compare"),
        (("--max-seeds", "2"), "--set design.max_seeds=2: design.max_seeds: must be a whole number from 3"),
    ],
)
def test_what_a_grid_cannot_do_is_refused(
    tmp_path: Path, harness: Any, trained: Any, words: tuple[str, ...], said: str
) -> None:
    planned(tmp_path)
    train = trained(CLEAR)
    code, _, err = harness("run-grid", "added.yaml", *words)
    assert code == REFUSED and said in one_line(err) and not train.asked


def test_workers_elsewhere_get_the_runs_of_each_look(
    tmp_path: Path, harness: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(tmp_path)
    train, submitted = trained(MIDDLING), []

    def by_workers(self: Any, runs: Sequence[Run], missing: Sequence[Run], mirror: Any) -> int:
        submitted.append(sorted({run.seed for run in missing}))
        return train(self.plan, missing, Scheduler(made.study.root, (), print, 0), mirror)

    monkeypatch.setattr("harness.grid.submit.Submission.train", by_workers)
    assert harness("run-grid", "added.yaml", "--executor", "folder")[0] == 0
    assert submitted == [[0, 1, 2], *([seed] for seed in range(3, stops_at(made, MIDDLING)))]
