"""Whether tuning explains a gain: searches of two cells compared under the same fresh seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.code.engine import today
from harness.errors import HarnessError
from harness.executors.job import AskedSearch, AskedStudy, Job, JobFolder
from harness.files import read_json, write_json
from harness.grid import prepare as preparing
from harness.grid import tune
from harness.grid.search_work import work_on_search
from harness.report.search.answer import on_gains
from harness.report.search.write import print_search, search_json, write_search
from harness.runs.record import Run
from harness.runs.scale import scale_name
from harness.scheduler.forkserver import EndedEarly
from harness.scheduler.slots import Slot
from harness.study.load import load_study
from harness.study.resources import Resources
from harness.terminal.console import terminal
from harness.tuning.findings import Findings, fresh_runs, gains, read_findings
from harness.tuning.search import Search
from mirrored import client
from searched import BEST, FD, STUDY, TAU, TWO, Inline, metrics, search_in, without_weights

__all__ = ["without_weights"]

ONE = (f"tune.parameters=[{TAU}]", "tune.pruner=none", "tune.confirm=3")


def searched(search: Search) -> Findings:
    """To the end, with the runs under fresh seeds."""
    work = Inline(search).go()
    for run in fresh_runs(read_findings(work.trials)):
        work.execute(run)
    return read_findings(work.trials)


def log_ratio(mine: Search, theirs: Search, values: tuple[dict[str, float], dict[str, float]]) -> float:
    pairs = zip(mine.fresh_runs(values[0], "x"), theirs.fresh_runs(values[1], "y"), strict=True)
    return sum(math.log(metrics(one)[FD] / metrics(other)[FD]) for one, other in pairs) / 3


def test_a_gain_is_told_as_written_and_with_both_tuned(tmp_path: Path) -> None:
    own = search_in(tmp_path, *ONE, "tune.trials=9", "tune.cell=paired_contrast")
    base = search_in(tmp_path, *ONE, "tune.trials=6", "tune.cell=origin")
    found, other = searched(own), searched(base)
    assert found.best and other.best and found.best.number and other.best.number
    (gain,) = gains(found, [other])
    written, tuned = (
        next(result for result in each.metrics if result.metric.name == FD).cells[1].estimate
        for each in (gain.written, gain.tuned)
    )
    assert written and tuned and (written.n, tuned.n) == (3, 3) and written.seeds == (20000, 20001, 20002)
    assert written.value == pytest.approx(100 * math.expm1(log_ratio(own, base, (own.written, base.written))), abs=1e-9)
    best = (dict(found.best.values), dict(other.best.values))
    assert tuned.value == pytest.approx(100 * math.expm1(log_ratio(own, base, best)))
    ((verdict, told),) = on_gains(replace(found, gains=(gain,)))
    assert verdict == tuned.verdict and "paired_contrast over origin: " in told and "(9 and 6 trials), 3 seeds." in told
    assert "over seeds alone; another search may find other weights." in told


def test_a_cell_that_found_nothing_better_is_compared_as_written(tmp_path: Path) -> None:
    at_best = f"loss.tau={BEST[TAU]}"
    base = search_in(tmp_path, *ONE, "tune.trials=5", "tune.cell=origin", at_best)
    alone = read_findings(Inline(base).go().trials)
    assert alone.best and alone.best.number == 0 and fresh_runs(alone) == []
    own = searched(search_in(tmp_path, *ONE, "tune.trials=5", "tune.cell=paired_contrast", at_best))
    other = searched(base)
    assert [run.cell for run in fresh_runs(other)] == ["written"] * 3
    (gain,) = gains(own, [other])
    assert gain.written == gain.tuned and gain.trials == (5, 5)
    assert "another search" not in "".join(text for _, text in on_gains(replace(own, gains=(gain,))))


def test_without_runs_there_is_no_gain_to_tell(tmp_path: Path) -> None:
    own = read_findings(Inline(search_in(tmp_path, *ONE, "tune.trials=4", "tune.cell=paired_contrast")).go().trials)
    other = read_findings(Inline(search_in(tmp_path, *ONE, "tune.trials=4", "tune.cell=origin")).go().trials)
    assert gains(own, [other]) == () and not list(on_gains(own))


def test_a_gain_is_in_the_report_on_the_terminal_and_in_mlflow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [[*ONE, "tune.trials=6", f"tune.cell={cell}"] for cell in ("paired_contrast", "origin")]
    own, base = (searched(search_in(tmp_path, *each)) for each in options)
    for found in (own, base):
        write_search(found, found.search.study.reports)
    studies = [load_study(tmp_path / "study.yaml", None, each) for each in options]

    result = tune.tune_cells(studies, slots=1)
    assert (result.exit_code, result.applied) == (0, ())
    for found in result.searches:
        print_search(found, terminal())

    (gain,) = gains(own, [base])
    ((_, told),) = on_gains(replace(own, gains=(gain,)))
    assert told[:40] in " ".join(capsys.readouterr().out.split())
    assert told[:40] in (own.search.study.reports / "report.md").read_text()
    kept = read_json(own.search.study.reports / "search.json")["gains"]
    assert [(each["over"], each["trials"]) for each in kept] == [("origin", [6, 6])]
    tracked = client(own.search.study)
    (experiment,) = [each for each in tracked.search_experiments() if each.name == "tiny"]
    shown = tracked.search_runs([experiment.experiment_id], "tags.variant LIKE 'tune%'")
    (grid,) = [each for each in shown if each.info.run_name.startswith(own.search.study.label)]
    change = next(each for each in gain.tuned.metrics if each.metric.name == FD).cells[1].estimate
    assert change and grid.data.metrics[f"over origin/tuned/paired_contrast/{FD}/difference"] == change.value
    shown = tracked.download_artifacts(grid.info.run_id, "report/report.md", str(tmp_path))
    assert told[:40] in Path(shown).read_text()


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[Findings]:
    """Of which reports were written, without figures and without MLflow."""
    told: list[Findings] = []

    def publish(found: Findings) -> None:
        told.append(found)
        folder = found.search.study.reports
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.md").touch()
        write_json(folder / "search.json", search_json(found))

    monkeypatch.setattr(tune, "publish", publish)
    monkeypatch.setattr(tune, "Mirror", lambda *_: SimpleNamespace(catch_up=lambda: None))
    return told


def test_a_report_is_written_anew_where_what_it_depends_on_was_edited(
    tmp_path: Path, published: list[Findings]
) -> None:
    asked = "tune: {cell: paired_contrast, parameters: [loss.tau], pruner: none, trials: 6, confirm: 3}\n"
    own = searched(search_in(tmp_path, text=STUDY + asked))
    report = own.search.study.reports / "report.md"
    for text, is_new in (
        (asked, True),
        (asked, False),
        (f"{asked}margins: {{fd: 90}}\n", True),
        (asked.replace("3", "2"), True),
        (asked.replace("6", "5"), True),
        (asked, True),
    ):
        (tmp_path / "study.yaml").write_text(STUDY + text)
        for is_deleted in (False, True):
            if is_deleted:
                report.unlink()
            result = tune.tune_cells([load_study(tmp_path / "study.yaml")])
            assert result.exit_code == 0 and len(published) == (is_deleted or is_new), text
            published.clear()
    document = read_json(report.with_name("search.json"))
    write_json(report.with_name("search.json"), document | {"gains": [{"over": "origin"}]})
    assert tune.tune_cells([load_study(tmp_path / "study.yaml")]).exit_code == 0
    assert not published, "what a call with --also has found stays"


def test_a_search_of_which_every_trial_diverged_has_failed(
    tmp_path: Path, published: list[Findings], capsys: pytest.CaptureFixture[str]
) -> None:
    search = search_in(tmp_path, text=STUDY + f"tune: {{parameters: [{TAU}], trials: 2}}\n")
    Inline(search, lambda run: "diverged").go()
    assert tune.tune_cells([load_study(tmp_path / "study.yaml")]).exit_code == 3 and len(published) == 1
    told = " ".join(capsys.readouterr().err.split())
    assert "error: 2 trials without a result: all have diverged or were pruned; write other weights, or" in told
    asked = AskedSearch(search.name, 2, "", None, False, {})
    folder = JobFolder(search.study.root / ".jobs" / "1")
    folder.write_study(search.study.path, {})
    folder.write(Job(AskedStudy(str(search.study.path), None, (), ()), Resources(), 1, today(), search=asked))
    folder.end()
    assert work_on_search(folder, asked, (Slot(0, "cpu", 1),), 0) == 3


def test_what_trials_and_the_comparison_need_is_prepared_under_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = search_in(tmp_path, TWO)
    runs = (search.runs(search.written, 0)[0], search.fresh_runs(search.written, "written")[0])
    notes: list[str] = []
    measured: list[str] = []

    def measure(function: object, run: Run, slot: Slot, path: Path) -> None:
        measured.append(run.id)
        path.write_text("{}")

    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(preparing, "warm_up", lambda *_: None)
    monkeypatch.setattr(preparing, "run_apart", measure)
    monkeypatch.setattr(preparing, "note", notes.append)
    for _ in range(2):
        preparing.prepare(search.study.root, runs, (Slot(0, "cpu", 1),))
    assert notes == ["preparing data and features of the real images, once"]
    assert measured == [run.id for run in runs]
    assert all((search.study.root / scale_name(run)).exists() for run in runs)


def test_a_process_that_is_killed_while_it_prepares_is_the_users_to_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise EndedEarly("measure_scale: the process was killed by SIGBUS")

    search = search_in(tmp_path, TWO)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(preparing, "warm_up", lambda *_: None)
    monkeypatch.setattr(preparing, "run_apart", killed)
    with pytest.raises(HarnessError, match=r"was killed by SIGBUS: .*a disk is full.*; make room and run the command"):
        preparing.prepare(search.study.root, search.runs(search.written, 0)[:1], (Slot(0, "cpu", 1),))
