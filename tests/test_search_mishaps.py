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
from harness.runs.record import Point, Result, Run, Status
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from harness.study import search_space
from harness.tuning import trials as module
from harness.tuning.findings import read_findings, with_importances
from harness.tuning.loop import Loop
from harness.tuning.search import Search
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
    (place,) = (tmp_path / "one").glob("runs/*/place")
    written = place.read_text()
    for lose in (place.unlink, lambda: place.write_text("")):
        lose()
        with pytest.raises(HarnessError, match=f"was lost, write {written} into {place}"):
            Trials(search_in(tmp_path / "one", TWO, url))
        assert not place.exists() or not place.read_text()
        place.write_text(f"{written}\n")
        Trials(search_in(tmp_path / "one", TWO, url))


def test_a_journal_is_of_the_folder_that_it_lies_in(tmp_path: Path) -> None:
    first = Trials(search_in(tmp_path, TWO))
    first.study.set_user_attr("place", "as earlier versions have noted")
    assert len(Trials(first.search).all()) == 1 and not (first.root / "place").exists()


def test_the_last_snapshot_is_the_result_and_is_never_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def should_prune(trial: optuna.Trial) -> bool:
        asked.append(max(trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values))
        return False

    monkeypatch.setattr(optuna.Trial, "should_prune", should_prune)
    Inline(search_in(tmp_path, TWO, "tune.trials=3")).go()
    assert sorted(set(asked)) == [1, 2, 3]


SCRIPT = """
study: own
data: {resolution: 8}
command: {run: [train, "{args}"], args: {noise: 1.0}, code: [study.yaml], snapshots: 4}
metrics: {clip: "open_clip:judge", resnet: "timm:judge"}
design: {seeds: 1}
tune: {parameters: [command.args.noise], trials: 2, pruner: halving}
"""


def begin_script(search: Search, loop: Loop, total: int) -> RunFolder:
    """The run of the next trial, begun, by a script that has announced so many steps."""
    (run,) = loop.more()
    own = RunFolder(search.study.root / run.id)
    own.create(run)
    own.put(Status("running", attempt=1, started=1.0, total_steps=total))
    return own


def measured(own: RunFolder, loop: Loop, step: int, value: float) -> None:
    own.append(Point(step, step / 1000, 1.7e9, {f"metrics/{FD}": value, "script/loss": 7.0}))
    loop.settle()


def finished(own: RunFolder, loop: Loop, value: float) -> None:
    own.finish(Result({FD: value, SCORE: 1.0}, {FD: {"role": "headline", "n": 9}}, {"seconds": 1.0}))
    own.update(state="done")
    loop.settle()


@pytest.mark.parametrize(
    ("total", "steps", "intermediate"),
    [
        (100, (25, 50, 75, 100), {1: 25.0, 2: 50.0, 3: 75.0}),
        (100, (25, 100), {1: 25.0}),
        (100, (50, 100), {2: 50.0}),
        (100, (100,), {}),
        (100, (24, 26, 51, 100), {1: 24.0, 2: 51.0}),
        (60, (25, 60), {2: 25.0}),
        (7, (2, 4, 5, 7), {1: 2.0, 2: 4.0, 3: 5.0}),
        (0, (25, 50), {}),
    ],
)
def test_what_a_script_measures_on_the_way_is_compared_at_equal_progress_and_its_end_never(
    tmp_path: Path, total: int, steps: tuple[int, ...], intermediate: dict[int, float]
) -> None:
    search = search_in(tmp_path, text=SCRIPT)
    trials = Trials(search)
    loop = Loop(search, trials, [])
    own = begin_script(search, loop, total)
    for step in steps:
        measured(own, loop, step, float(step))
    assert trials.all()[0].intermediate_values == pytest.approx(intermediate)
    finished(own, loop, float(steps[-1]))
    assert trials.all()[0].intermediate_values == pytest.approx(intermediate)
    assert trials.all()[0].value == pytest.approx(steps[-1])


def test_halving_stops_the_scripts_that_are_behind_at_the_first_snapshot_that_they_leave(tmp_path: Path) -> None:
    """Each trial is ten times worse than the one before; two of them leave one snapshot alone, at the half."""
    search = search_in(tmp_path, "tune.trials=8", text=SCRIPT)
    trials = Trials(search)
    loop = Loop(search, trials, [])
    left: list[list[int]] = []
    for number in range(8):
        own = begin_script(search, loop, 100)
        left.append([])
        for step in (50, 100) if number in (2, 6) else (25, 50, 75, 100):
            if own.path.name not in loop.unwanted():
                left[-1].append(step)
                measured(own, loop, step, 10.0**number * (2 - step / 100))
        if own.path.name not in loop.unwanted():
            finished(own, loop, 10.0**number)
    states = [trial.state.name for trial in trials.all()]
    assert states == ["COMPLETE"] * 5 + ["PRUNED"] * 3, "the first five are never pruned"
    assert left[5:] == [[25], [50], [25]]
    values = [trial.intermediate_values for trial in trials.all()[5:]]
    assert values == [pytest.approx(each) for each in ({1: 1.75e5}, {2: 1.5e6}, {1: 1.75e7})]


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


def test_a_trial_that_ends_elsewhere_between_a_look_and_the_report_is_left_to_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=2", "tune.pruner=none")
    work = Inline(search)
    (run,) = work.loop.more()
    other = Trials(search)
    other.study.tell(0, 5.0)
    monkeypatch.setattr(work.loop.trials, "is_over", lambda number: False)
    work.execute(run)
    assert [trial.state.name for trial in other.all()] == ["COMPLETE"] and other.all()[0].value == 5.0


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


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2"])
def test_a_process_that_died_between_two_values_of_a_trial_changes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    whole, half = (tmp_path / name for name in ("whole", "half"))
    for folder in (whole, half):
        folder.mkdir()
        assert Trials(search_in(folder, TWO, f"tune.sampler={sampler}")).ask()  # with the weights as written
    undisturbed = Trials(search_in(whole, TWO, f"tune.sampler={sampler}")).ask()
    assert undisturbed

    dying = Trials(search_in(half, TWO, f"tune.sampler={sampler}"))
    store = dying.study._storage.set_trial_param

    def die_after_the_first(trial_id: int, name: str, *rest: object) -> None:
        if dying.all()[trial_id].params:
            raise KeyboardInterrupt
        store(trial_id, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(dying.study._storage, "set_trial_param", die_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        dying.ask()
    after = Trials(search_in(half, TWO, f"tune.sampler={sampler}"))
    left = after.all()[1]
    assert len(left.params) == 1 < len(undisturbed.params)
    assert after.resume(left).params == undisturbed.params


def damaged(before: bytes, line: int, by: bytes) -> bytes:
    lines = before.splitlines(keepends=True)
    return b"".join([*lines[:line], by + b"\n", *lines[line + 1 :]])


@pytest.mark.parametrize("by", [b"garbage", b"\xff\xfe", b"[1]", b'{"worker_id": "x"}'])
@pytest.mark.parametrize("line", [2, 10_000], ids=["a line", "one more line"])
def test_a_damaged_line_of_the_journal_is_named(tmp_path: Path, line: int, by: bytes) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=2")
    Inline(search).go(1)
    journal = search.study.root / "optuna.log"
    whole = journal.read_bytes()
    journal.write_bytes(damaged(whole, line, by))
    number = min(line, whole.count(b"\n")) + 1
    with pytest.raises(HarnessError, match=rf"optuna\.log: line {number} is not Optuna's; delete it if it was added"):
        Trials(search).ask()
    journal.write_bytes(b"")
    with pytest.raises(HarnessError, match=r"optuna\.log: is empty, but its folder holds runs; put a whole copy back"):
        Trials(search)
    journal.unlink()
    again = Inline(search)
    assert [run.id for run in again.loop.more()] == [run.id for run in search.runs(search.written, 0)]


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
