"""Searches whose trials are carried out by workers: real processes on this machine, on the embedded data."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import trained_once
from database_servers import ENCODED, PASSWORD, serving
from elsewhere import folder_with
from harness.errors import HarnessError
from harness.executors.job import AskedSearch, JobFolder, job_folders
from harness.files import read_json
from harness.grid.search_submit import submission
from harness.grid.search_work import go_over_to_storage
from harness.grid.work import Place, work
from harness.runs.folders import RunFolder
from harness.runs.lease import holder
from harness.tuning.search import Search
from searched import TWO, Inline, search_in, without_weights
from test_elsewhere import ask
from test_grid import environment, harness
from test_tune import ROOT, STUDY, search
from waiting import until

__all__ = ["without_weights"]
TRIALS = 4


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The search by calls on this machine alone."""
    return trained_once("tune", search, tmp_path_factory.mktemp("tune"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with the study; what was started in it is ended."""
    with folder_with(STUDY, tmp_path):
        yield tmp_path


def job(place: Path) -> JobFolder:
    return JobFolder(place / ROOT / ".jobs" / "1")


def submit(place: Path, *words: str) -> None:
    """A job without an engine."""
    done = harness(place, "tune", "study.yaml", "--executor", "folder", "--workers", "2", "--detach", *words)
    assert (done.returncode, done.stdout) == (0, f"harness work {job(place).path}\n"), done.stderr
    assert "`harness tune study.yaml --set resources.executor=folder" in " ".join(done.stderr.split())


def start_worker(place: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", "work", str(job(place).path), *words]
    with (place / "workers.txt").open("ab") as out:
        return subprocess.Popen(command, cwd=place, env=environment(), stdout=out, stderr=out)


def printed(place: Path) -> str:
    """By workers that a test has started."""
    return (place / "workers.txt").read_text()


def runs_of(place: Path) -> dict[str, RunFolder]:
    """Trial, or `written` and `tuned` -> its run."""
    folders = [path.parent for path in (place / ROOT).glob("*/run.json")]
    return {read_json(folder / "run.json")["cell"]: RunFolder(folder) for folder in folders}


def values(place: Path) -> list[dict[str, object]]:
    """Of each trial the outcome, its weights and all that was measured."""
    told = read_json(place / "reports" / "tiny.tune-full" / "search.json")["trials"]
    return [{key: trial[key] for key in ("number", "outcome", "values", "measured")} for trial in told]


def is_the_same_search(place: Path, undisturbed: Path) -> None:
    """As many trials as asked for, each with the weights and the metrics to the last digit."""
    assert values(place) == values(undisturbed) and len(values(place)) == TRIALS
    ours, theirs = ({name: run.result() for name, run in runs_of(each).items()} for each in (place, undisturbed))
    assert ours.keys() == theirs.keys()
    assert all(it and (other := theirs[name]) and it.metrics == other.metrics for name, it in ours.items())
    assert not list((place / ROOT).glob("trials/*"))


def test_workers_share_a_search_of_which_one_was_killed_in_the_middle_of_a_trial(
    place: Path, undisturbed: Path
) -> None:
    submit(place)
    killed = start_worker(place)
    until(lambda: any(run.status().state == "running" for run in runs_of(place).values()), limit_s=80)
    killed.kill()
    killed.wait()
    both = [start_worker(place), start_worker(place)]
    assert [process.wait(240) for process in both] == [0, 0], printed(place)
    is_the_same_search(place, undisturbed)
    attempts = sum(run.status().attempt for run in runs_of(place).values())
    assert attempts - len(runs_of(place)) <= 2, "at most what the killed one had is begun again"
    assert printed(place).count("report: ") == 1 and job(place).has_ended
    before = printed(place)
    assert work(job(place).path, Place()) == 0 and printed(place) == before, (
        "a worker that comes late has nothing to do"
    )
    assert "nothing to do: 4 trials" in harness(place, "tune", "study.yaml").stderr


@pytest.mark.slow
def test_ctrl_c_leaves_the_worker_and_the_second_call_joins_it(place: Path, undisturbed: Path) -> None:
    words = ("tune", "study.yaml", "--executor", "slurm", "--workers", "1")
    process = ask(place, *words)
    until(lambda: any(run.status().step > 0 for run in runs_of(place).values()), limit_s=80)
    training = [psutil.Process(run.status().pid) for run in runs_of(place).values() if run.status().pid]
    for each in training:
        each.suspend()  # so that it is still there when it is asked for again, however slow this machine is
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=180)
    assert process.returncode == 130 and "the workers go on; `harness tune study.yaml --set" in text
    (row,) = json.loads(harness(place, "status", "study.yaml", "--json").stdout)["jobs"]
    assert (row["number"], row["of"], row["executor"]) == (1, "tiny.tune-full", "slurm")
    again = ask(place, *words, "--apply")
    assert again.stderr is not None
    first = again.stderr.readline()
    for each in training:
        each.resume()
    out, text = again.communicate(timeout=600)
    assert again.returncode == 0 and "has workers on slurm: 1 running (here)" in first, first + text
    is_the_same_search(place, undisturbed)
    assert {run.status().attempt for run in runs_of(place).values()} == {1}
    assert "4 of 4 trials have an outcome (4 done)" in " ".join(out.split())
    assert len(job_folders(place / ROOT)) == 1
    assert (text + job(place).log(0).read_text()).count("report: ") == 1
    assert (place / "study.yaml").read_text() == (undisturbed / "study.yaml").read_text(), "the same profile"
    with sqlite3.connect(place / "mlflow.db") as store:
        names = {name for (name,) in store.execute("select name from runs where status = 'FINISHED'")}
    assert len(names) == len(runs_of(place)) + 1 and "tiny.tune-full" in names


@pytest.mark.slow
def test_a_worker_heeds_what_it_is_asked_and_its_trial_goes_on(place: Path) -> None:
    (place / "study.yaml").write_text(STUDY.replace("kimg: 0.04", "kimg: 24"))
    submit(place)
    first = start_worker(place, "--cores", "1")
    until(lambda: any(run.status().step > 0 for run in runs_of(place).values()))
    (trial,) = runs_of(place).values()
    assert "its workers on folder write checkpoints" in harness(place, "checkpoint", "study.yaml").stdout
    until(lambda: [*trial.path.glob("checkpoint/*.safetensors")])
    assert first.poll() is None
    first.send_signal(signal.SIGUSR2)
    assert first.wait(60) == 75
    assert trial.status().state == "interrupted" and not list((place / ROOT).glob("trials/*/claim"))
    reached = trial.status().step
    second = start_worker(place, "--cores", "1")
    until(lambda: trial.status().attempt == 2 and trial.status().step > reached)
    assert "end after checkpoints" in harness(place, "cancel", "study.yaml").stdout
    assert second.wait(60) == 143
    assert trial.status().state == "interrupted" and holder(trial.path) is None
    assert list(runs_of(place)) == ["trial-000"]


@pytest.mark.postgresql
@pytest.mark.slow
def test_a_search_through_a_server_goes_on_after_that_was_gone_and_its_password_lies_nowhere(
    place: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving("postgresql") as server:
        monkeypatch.setenv("OPTUNA_STORAGE", server.address())
        submit(place)
        first = start_worker(place)
        until(lambda: any(run.status().state == "running" for run in runs_of(place).values()), limit_s=80)
        server.stop()
        assert first.wait(120) == 2, printed(place)
        assert "the storage of the search failed (" in printed(place) and "Traceback" not in printed(place)
        server.start()
        second = start_worker(place)
        assert second.wait(240) == 0, printed(place)
    is_the_same_search(place, undisturbed)
    assert not (place / ROOT / "optuna.log").exists()
    texts = [path.read_bytes().decode("utf-8", "replace") for path in place.rglob("*") if path.is_file()]
    assert not any(secret in text for secret in (PASSWORD, ENCODED) for text in texts)


def test_a_run_that_failed_in_one_worker_is_not_tried_by_the_next(tmp_path: Path) -> None:
    search = search_in(tmp_path, TWO, "tune.trials=2", "tune.pruner=none")
    before = Inline(search, lambda run: "failed").go()  # an earlier call
    (failed,) = (run.id for run in search.runs(search.written, 0))
    assert before.loop.failed == {0, 1}
    one, other = (Inline(search, lambda run: "failed" if run.id == failed else "done") for _ in range(2))
    for each in (one, other):
        each.loop.attempts = {run.id: 1 for run in before.loop.runs}
    one.go()
    assert one.loop.failed == {0} and RunFolder(search.study.root / failed).status().attempt == 2
    other.go()
    assert other.loop.failed == {0} and RunFolder(search.study.root / failed).status().attempt == 2
    assert not other.loop.open


def submitted(search: Search, **options: bool) -> object:
    return submission(search, float("inf"), options.get("apply", False), options.get("detach", False))


SERVER = "postgresql://me:s3cret@db.invalid/trials"


@pytest.mark.parametrize(
    ("overrides", "variable", "said"),
    [
        (("tune.storage=sqlite:///x.db",), "", "tune.storage: SQLite's file can be used on one machine only"),
        ((), "sqlite:////tmp/x.db", "^OPTUNA_STORAGE: SQLite's file can be used on one machine only, not by workers; "),
        ((f"tune.storage={SERVER}",), "", "tune.storage: holds a password, which would lie in the job's folder too; "),
    ],
)
def test_storages_that_workers_cannot_share_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], variable: str, said: str
) -> None:
    monkeypatch.setenv("OPTUNA_STORAGE", variable)
    with pytest.raises(HarnessError, match=said) as caught:
        submitted(search_in(tmp_path, "resources.executor=folder", *overrides))
    assert "s3cret" not in str(caught.value)
    assert submitted(search_in(tmp_path, *overrides)) is None, "on this machine they can"


def test_a_worker_looks_for_trials_where_the_job_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = search_in(tmp_path)
    hidden = AskedSearch(search.name, 4, "postgresql://me:***@db.invalid/trials", None, False, {})
    monkeypatch.setenv("OPTUNA_STORAGE", SERVER)
    go_over_to_storage(search, hidden)
    for here, said in (
        ("", "is not set here"),
        (SERVER.replace("trials", "x"), r"is postgresql://me:\*\*\*@db.invalid/x here"),
    ):
        monkeypatch.setenv("OPTUNA_STORAGE", here)
        with pytest.raises(HarnessError, match=f"OPTUNA_STORAGE: {said}, and the trials of this job are in .*; start"):
            go_over_to_storage(search, hidden)
    monkeypatch.setenv("OPTUNA_STORAGE", SERVER)
    go_over_to_storage(search, AskedSearch(search.name, 4, "", None, False, {}))
    assert "OPTUNA_STORAGE" not in os.environ, "the file in the folder of runs, whatever is set where the worker starts"
