"""`run-grid --retrain`: which runs it takes, and what is left wherever it is killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.code.engine import UNKNOWN, Engine, today
from harness.errors import HarnessError
from harness.exit_codes import FAILED_RUNS
from harness.grid import retrain
from harness.grid import run as grid
from harness.runs.folders import RunFolder
from harness.runs.record import Result, Run, State
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.storage import garbage
from harness.storage.folders import ANEW, stored_runs
from harness.study.plan import Plan
from kept import content, harness, plan

__all__ = ["harness", "plan"]
OLD = Engine("0" * 12, "1" * 12)


def lay(root: Path, run: Run, engine: Engine, state: State = "done", value: float = 1.0) -> Path:
    folder = RunFolder(root / run.id)
    folder.create(run)
    folder.made_by(engine)
    folder.update(state=state, step=5 if state in ("interrupted", "failed") else 10, total_steps=10, attempt=1)
    if state == "done":
        folder.finish(Result({"fd": value}, {}, {}))
    return folder.path


@pytest.fixture
def root(plan: Plan) -> Path:
    """Of six runs: by today's code, by other code, by unknown code, begun by other code, and two that are new."""
    root = plan.study.root
    for run in plan.runs[:3]:
        shutil.rmtree(root / run.id)
    one, two, three, four, *_ = plan.runs
    lay(root, one, today())
    lay(root, two, OLD)
    lay(root, three, UNKNOWN, "diverged")
    lay(root, four, OLD, "interrupted")
    return root


def value(folder: Path) -> float:
    result = RunFolder(folder).result()
    assert result
    return result.metrics["fd"]


def test_exactly_what_other_code_has_made_is_outdated(plan: Plan, root: Path) -> None:
    assert retrain.outdated(plan.snapshot(), plan.runs) == list(plan.runs[1:4])
    assert retrain.outdated(plan.snapshot(), plan.select(["origin"])) == [plan.runs[1]]
    RunFolder(root / plan.runs[1].id).made_by(OLD.then(today()))
    assert plan.runs[1] in retrain.outdated(plan.snapshot(), plan.runs)


def test_a_new_run_takes_the_place_of_the_old_one_when_it_has_a_result(plan: Plan, root: Path) -> None:
    old = retrain.outdated(plan.snapshot(), plan.runs)
    with retrain.retraining(root) as place:
        lay(place, old[0], today(), value=2.0)
        lay(place, old[1], today(), "failed")
        before = content(root / old[1].id)
        assert value(root / old[0].id) == 1.0
        assert retrain.replace_finished(root, old) == [old[0]]
    assert value(root / old[0].id) == 2.0 and RunFolder(root / old[0].id).run().engine == today()
    assert content(root / old[1].id) == before
    assert retrain.outdated(plan.snapshot(), plan.runs) == old[1:]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_process_that_is_killed_amid_leaves_one_of_the_two_in_its_place(
    plan: Plan, root: Path, renames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = plan.runs[1]
    lay(root / ANEW, run, today(), value=2.0)
    done = 0
    rename = Path.rename

    def renamed(self: Path, to: Path) -> Path:
        nonlocal done
        if done == renames:
            raise KeyboardInterrupt
        done += 1
        return rename(self, to)

    def removed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), retrain.retraining(root):
        patched.setattr(Path, "rename", renamed)
        patched.setattr(shutil, "rmtree", removed)
        retrain.replace_finished(root, [run])
    retrain.finish_replacing(root)
    assert value(root / run.id) == (1.0 if renames == 0 else 2.0)
    assert not list((root / ANEW).glob("*.old")) if renames else True
    with retrain.retraining(root):
        retrain.replace_finished(root, [run])
    retrain.finish_replacing(root)
    assert value(root / run.id) == 2.0
    assert RunFolder(root / run.id).run().engine == today()


def test_an_old_run_whose_new_one_was_lost_comes_back(plan: Plan, root: Path) -> None:
    run = plan.runs[1]
    (root / ANEW).mkdir()
    (root / run.id).rename(root / ANEW / f"{run.id}.old")
    retrain.finish_replacing(root)
    assert value(root / run.id) == 1.0 and not (root / ANEW / f"{run.id}.old").exists()


def test_what_was_begun_anew_by_yet_other_code_is_begun_again(plan: Plan, root: Path) -> None:
    _, two, three, four, *_ = plan.runs
    with retrain.retraining(root) as place:
        lay(place, two, today(), "interrupted")
        lay(place, three, OLD, "interrupted")
        lay(place, four, OLD)
        retrain.clear_outdated(place, [two, three, four])
        assert [path.name for path in place.iterdir() if path.is_dir()] == [two.id]


def test_one_call_at_a_time(root: Path) -> None:
    refused = pytest.raises(HarnessError, match="another call trains runs of this study anew")
    with retrain.retraining(root), refused, retrain.retraining(root):
        raise AssertionError("both had it")
    retrain.finish_replacing(root)


def test_nothing_in_there_is_garbage_or_strange(plan: Plan, root: Path) -> None:
    before = content(lay(root / ANEW, plan.runs[1], today(), "interrupted"))
    found = stored_runs(plan)
    assert ANEW not in found.not_ours and found.rest > 0
    pieces = garbage.find(plan, found, 2e9).pieces
    assert not [piece for piece in pieces if ANEW in piece.names]
    garbage.delete(pieces)
    assert content(root / ANEW / plan.runs[1].id) == before


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, list[str]]]]:
    """In the place of training: each run ends in its folder as `ends` says; who was asked for where is noted."""
    asked: list[tuple[str, list[str]]] = []

    def train(plan: Plan, runs: Sequence[Run], scheduler: Scheduler, mirror: Any, show: Any = None) -> int:
        root = scheduler.root
        asked.append((root.name, [run.id for run in runs]))
        for run in runs:
            if not retrain._has_ended(root, run.id):
                lay(root, run, today(), "done", 2.0)
        return 0

    monkeypatch.setattr(grid, "_schedule", train)
    monkeypatch.setattr(grid, "make_ready", lambda *_: None)
    monkeypatch.setattr(grid, "compare", lambda plan, snapshot: None)
    monkeypatch.setattr(grid, "_result", lambda outcome, runs, code: grid.GridResult(code))
    monkeypatch.setattr(grid, "slots_of", lambda *_: [Slot(0, "cpu", 1)])
    monkeypatch.setattr(grid, "in_words", lambda *_: "nothing")
    monkeypatch.setattr(grid.tracking, "missing", lambda *_: False)
    yield asked


def test_without_it_nothing_is_taken_anew(plan: Plan, root: Path, harness: Any, trained: Any) -> None:
    assert harness("run-grid")[0] == 0
    (where, runs) = trained[0]
    assert where == root.name and len(runs) == len(plan.runs) and not anew_ids(trained)
    assert value(root / plan.runs[1].id) == 1.0


def anew_ids(trained: list[tuple[str, list[str]]]) -> set[str]:
    return {name for where, runs in trained if where == ANEW for name in runs}


@pytest.mark.parametrize(
    ("words", "taken"), [((), (1, 2, 3)), (("--only", "origin"), (1,)), (("--only", "mix_logits"), (2, 3))]
)
def test_retrain_takes_exactly_those_that_were_asked_for(
    plan: Plan, root: Path, harness: Any, trained: Any, words: tuple[str, ...], taken: tuple[int, ...]
) -> None:
    code, _, err = harness("run-grid", "--retrain", *words)
    assert code == 0 and anew_ids(trained) == {plan.runs[place].id for place in taken}
    assert f"{len(taken)} of {len(taken)} runs were replaced" in " ".join(err.split()) and "nothing to do" not in err
    assert [value(root / plan.runs[place].id) for place in taken] == [2.0] * len(taken)
    assert value(root / plan.runs[0].id) == 1.0
    trained.clear()
    err = harness("run-grid", "--retrain", *words)[2]
    assert not anew_ids(trained) and "nothing to train anew" in err and not (root / ANEW / "x").exists()


def test_a_run_that_fails_anew_leaves_the_old_one_and_is_told(
    plan: Plan, root: Path, harness: Any, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    train: Callable[..., int] = grid._schedule

    def failing(plan: Plan, runs: Sequence[Run], scheduler: Scheduler, mirror: Any, show: Any = None) -> int:
        root = scheduler.root
        if root.name != ANEW:
            return train(plan, runs, scheduler, mirror)
        for run in runs:
            lay(root, run, today(), "failed")
        return 0

    monkeypatch.setattr(grid, "_schedule", failing)
    code, _, err = harness("run-grid", "--retrain", "--only", "origin")
    assert code == FAILED_RUNS and "origin seed 1: not trained anew" in " ".join(err.split())
    assert value(root / plan.runs[1].id) == 1.0 and RunFolder(root / plan.runs[1].id).run().engine == OLD
