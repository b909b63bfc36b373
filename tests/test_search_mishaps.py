"""What may go wrong around a search: other folders, other processes, disks, storages and deadlines."""

from __future__ import annotations

import ast
import sys
import time
from pathlib import Path

import optuna
import pytest

import fakes
from harness.errors import HarnessError
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.study import search_space
from harness.tuning import trials as module
from harness.tuning.findings import read_findings, with_importances
from harness.tuning.loop import Loop
from harness.tuning.trials import Trials
from searched import FD, GAMMA, SCORE, TWO, Inline, search_in, without_weights

__all__ = ["without_weights"]


def test_a_search_in_a_shared_storage_has_one_folder(tmp_path: Path) -> None:
    url = f"tune.storage=sqlite:///{tmp_path}/shared.db"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    Trials(search_in(tmp_path / "one", TWO, url))
    Trials(search_in(tmp_path / "one", TWO, url))
    with pytest.raises(HarnessError, match="belongs to another folder of runs; work in that folder"):
        Trials(search_in(tmp_path / "two", TWO, url))


def test_the_last_snapshot_is_the_result_and_is_never_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def should_prune(trial: optuna.Trial) -> bool:
        asked.append(max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values))
        return False

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    Inline(search_in(tmp_path, TWO, "tune.trials=3")).go()
    assert sorted(set(asked)) == [1, 2, 3]


def test_with_constraints_nothing_is_pruned_unasked(tmp_path: Path) -> None:
    plain, bound = (search_in(tmp_path, TWO, *more) for more in ((), ("tune.constraints={clip_score: 1}",)))
    told = [search_space.pruner(search.cell.settings, search.tune) for search in (plain, bound)]
    assert told == ["halving", "none"]
    asked = search_in(tmp_path, TWO, "tune.constraints={clip_score: 1}", "tune.pruner=hyperband")
    assert search_space.pruner(asked.cell.settings, asked.tune) == "hyperband"


def test_a_run_that_cannot_be_started_ends_the_call(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=2", "tune.pruner=none")
    trials = Trials(search)
    loop = Loop(search, trials, [])
    slots = (Slot(0, "cpu", 1),)
    scheduler = Scheduler(search.study.root, slots, fakes.act, 0, ("colorsys",), feed=loop)
    scheduler._ownership.take = refuse  # type: ignore[method-assign]
    scheduler.run((), lambda _: loop.settle())
    assert loop.failed == {0, 1} and not loop.open


def refuse(name: str) -> bool:
    raise OSError(28, "No space left on device", name)


def test_a_trial_that_another_process_ended_is_left_to_it(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=2", "tune.pruner=none")
    work = Inline(search)
    (run,) = work.loop.more()
    other = Trials(search)
    other.study.tell(0, 5.0)
    work.execute(run)
    assert [trial.state.name for trial in other.all()] == ["COMPLETE"] and other.all()[0].value == 5.0
    assert work.loop.open


def test_half_a_line_of_a_process_that_died_spoils_nothing_of_those_that_go_on(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO)
    trials = Trials(search)
    journal = search.study.root / "optuna.log"
    for number in range(3):
        before = journal.read_bytes()
        journal.write_bytes(before + b'{"op_code":4,"worker_id":"a')
        assert trials.ask() is not None and len(trials.all()) == number + 1
        assert journal.read_bytes().startswith(before + b'{"op_code"')
    assert [trial.params for trial in Trials(search).all()] == [trial.params for trial in trials.all()]
    journal.write_bytes(journal.read_bytes() + b"x" * 5000)
    assert Trials(search).ask() is not None and len(trials.all()) == 4


def test_a_lock_that_a_process_of_another_version_left_holds_nobody_up(tmp_path: Path) -> None:
    """Optuna's own lock outlives a process that is killed, and others wait for it for half a minute."""
    search = search_in(tmp_path, TWO)
    journal = search.study.root / "optuna.log"
    Trials(search)
    journal.with_name("optuna.log.lock").symlink_to(journal)
    began = time.monotonic()
    assert Trials(search).ask() is not None and time.monotonic() - began < 20


def test_a_trial_half_told_is_not_a_candidate(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=2", "tune.constraints={clip_score: 0}", "tune.pruner=none")
    work = Inline(search).go(1)
    trial = work.trials.ask()
    assert trial
    trial.set_user_attr(module.MEASURED, {FD: 0.1, SCORE: 0.0})
    trial.set_user_attr(module.OUTCOME, "done")
    found = read_findings(work.trials)
    assert [row.outcome for row in found.trials] == ["done", "unfinished"] and not found.is_over
    assert found.best and found.best.number == 0


def test_no_trial_begins_or_is_taken_over_after_the_deadline(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=4", "tune.pruner=none")
    first = Inline(search).go(1)
    first.loop.more()
    first.loop.drop_all()
    late = Loop(search, Trials(search), [], deadline=time.monotonic() - 1)
    assert late.more() == () and not late.open
    assert len(late.trials.all()) == 2


def test_a_first_trial_that_diverged_leaves_constraints_without_a_measure(tmp_path: Path) -> None:
    def ending(run: Run) -> str:
        return "diverged" if run.cell == "trial-000" else "done"

    search = search_in(tmp_path, TWO, "tune.trials=3", "tune.constraints={clip_score: 1}", "tune.pruner=none")
    work = Inline(search, ending)
    work.execute(work.loop.more()[0])
    assert work.loop.stuck and not work.loop.open
    assert read_findings(work.trials).best is None


def test_siblings_of_a_failed_run_are_interrupted_and_those_of_a_diverged_one_pruned(tmp_path: Path) -> None:
    for state, left in (("failed", "interrupted"), ("diverged", "pruned")):
        folder = tmp_path / state
        folder.mkdir()
        search = search_in(folder, TWO, "tune.trials=1", "tune.seeds=2", "tune.pruner=none")
        work = Inline(search, lambda run, state=state: state)  # type: ignore[misc]
        first, second = work.loop.more()
        work.execute(first)
        work.loop.settle()
        assert dict(work.loop.unwanted())[second.id] == left


def test_importance_of_what_is_to_be_high_is_told_of_its_high_end(tmp_path: Path) -> None:
    alone = search_in(tmp_path, TWO, "tune.trials=30", "tune.objective=clip_score", "tune.pruner=none")
    work = Inline(alone).go()
    (single,) = with_importances(read_findings(work.trials), work.trials).importances.values()
    both = search_in(tmp_path, TWO, "tune.trials=30", "tune.objective=[kid, clip_score]")
    assert GAMMA in single["PED-ANOVA"] and both.objectives[1].name == SCORE
    pair = search_in(tmp_path, TWO, "tune.trials=30", "tune.objective=[fd, clip_score]")
    several = Inline(pair).go()
    shares = with_importances(read_findings(several.trials), several.trials).importances[SCORE]["PED-ANOVA"]
    assert max(shares, key=lambda name: shares[name]) == max(single["PED-ANOVA"], key=lambda n: single["PED-ANOVA"][n])


def test_the_folder_of_a_trial_that_is_over_goes(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=2", "tune.pruner=none")
    work = Inline(search).go()
    assert len(list(search.study.root.glob("trials/*"))) == 2
    work.loop.sweep()
    assert list(search.study.root.glob("trials/*")) == []
    assert all(RunFolder(search.study.root / run.id).result() for run in work.loop.runs)


ROOMS = Path(__file__).parent.parent / "harness"


BESIDE_IT = sorted(path for room in ("grid", "scheduler", "tuning") for path in (ROOMS / room).glob("*.py"))


@pytest.mark.parametrize("path", BESIDE_IT, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_package_is_first_imported_beside_the_mirrors_thread(path: Path) -> None:
    """MLflow's import there takes seconds, and of SQLAlchemy, begun in two threads, one of them gets a half of it."""
    functions = (it for it in ast.walk(ast.parse(path.read_text())) if isinstance(it, ast.FunctionDef))
    nodes = (node for function in functions for node in ast.walk(function))
    late = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [getattr(each, "module", None) or each.names[0].name for each in late]
    assert not [name for name in names if name.split(".")[0] not in ("harness", *sys.stdlib_module_names)]
