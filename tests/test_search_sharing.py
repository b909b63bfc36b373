"""Searches in processes of their own: killed, stopped, and several at once."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from forked import Forked
from harness.runs.folders import RunFolder
from harness.tuning.findings import Findings, read_findings
from harness.tuning.loop import trial_folder
from harness.tuning.search import Search
from harness.tuning.trials import Trials
from searched import TWO, search_in, without_weights
from waiting import until

__all__ = ["without_weights"]

TRIALS = 12
ASKED = (TWO, f"tune.trials={TRIALS}", "tune.pruner=none", "tune.seeds=2")


def start(folder: Path, *overrides: str) -> Forked:
    tests = Path(__file__).parent
    words, path = [str(folder), *(overrides or ASKED)], {"PYTHONPATH": f"{tests}:{tests.parent}"}
    script = str(tests / "search_process.py")
    return Forked(words, folder, {**os.environ, **path}, script=script, output=folder / "out.txt")


def ended(process: Forked, folder: Path) -> int:
    """Its exit code. A search that cannot end, or that breaks, tells what it printed."""
    try:
        code = process.wait(200)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError((folder / "out.txt").read_text()[-2000:]) from None
    assert code != 1, (folder / "out.txt").read_text()[-4000:]
    return code


def results(search: Search) -> int:
    return len(list(search.study.root.glob("*/result.json")))


def kill_all(process: Forked) -> None:
    """Parent, fork server and workers, none of which hears of it."""
    every = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for stop in (psutil.Process.suspend, psutil.Process.kill):
        for each in every:
            with contextlib.suppress(psutil.NoSuchProcess):
                stop(each)
    process.wait()


def is_whole(search: Search) -> Findings:
    """As many trials as asked for, each done once with all of its runs."""
    found = read_findings(Trials(search))
    assert [row.number for row in found.trials] == list(range(TRIALS))
    assert [row.outcome for row in found.trials] == ["done"] * TRIALS
    ids = [run.id for row in found.trials for run in search.runs(row.values, row.number)]
    assert len(set(ids)) == 2 * TRIALS == results(search)
    assert all(RunFolder(search.study.root / name).status().state == "done" for name in ids)
    assert not list(search.study.root.glob("trials/*"))
    return found


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return search_in(tmp_path, *ASKED)


def test_a_search_that_is_killed_whole_goes_on_to_the_total(tmp_path: Path, search: Search) -> None:
    values: dict[int, object] = {}
    for least in (2, 7, 13):
        process = start(tmp_path)
        until(lambda least=least: results(search) >= least, (tmp_path / "out.txt").read_text)  # type: ignore[misc]
        kill_all(process)
        rows = read_findings(Trials(search)).trials
        assert {row.number: row.values for row in rows if row.number in values and row.values} == values
        values = {row.number: row.values for row in rows if row.values}
    assert ended(start(tmp_path), tmp_path) == 0
    found = is_whole(search)
    assert {row.number: row.values for row in found.trials if row.number in values} == values
    calls = [len(path.read_text().splitlines()) for path in search.study.root.glob("*/calls")]
    assert sum(calls) - len(calls) <= 3, "at most the one run of each kill is executed again"


def test_ctrl_c_leaves_the_trial_to_the_next_call(tmp_path: Path, search: Search) -> None:
    process = start(tmp_path)
    until(lambda: results(search) >= 3, (tmp_path / "out.txt").read_text)
    process.send_signal(signal.SIGINT)
    assert ended(process, tmp_path) == 130
    assert not list(search.study.root.glob("trials/*/claim"))
    assert ended(start(tmp_path), tmp_path) == 0
    is_whole(search)


def test_two_processes_share_a_search(tmp_path: Path, search: Search) -> None:
    both = [start(tmp_path), start(tmp_path)]
    assert [ended(process, tmp_path) for process in both] == [0, 0]
    is_whole(search)
    calls = [len(path.read_text().splitlines()) for path in search.study.root.glob("*/calls")]
    assert calls == [1] * 2 * TRIALS


def test_a_trial_whose_claim_was_never_written_is_taken_over(tmp_path: Path, search: Search) -> None:
    folder = trial_folder(search.study.root, search.identity, 0)
    folder.mkdir(parents=True)
    (folder / "claim").touch()
    assert ended(start(tmp_path), tmp_path) == 0
    is_whole(search)


def test_one_of_two_goes_on_with_what_the_other_had(tmp_path: Path, search: Search) -> None:
    first, second = start(tmp_path), start(tmp_path)
    until(lambda: results(search) >= 6, (tmp_path / "out.txt").read_text)
    kill_all(first)
    assert ended(second, tmp_path) == 0
    is_whole(search)


def test_runs_of_pruned_trials_are_stopped_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_PAUSE_S", "0.2")
    asked = (TWO, "tune.trials=10", "tune.pruner=halving")
    search = search_in(tmp_path, *asked)
    assert ended(start(tmp_path, *asked), tmp_path) == 0
    found = read_findings(Trials(search))
    for row in found.trials:
        (run,) = search.runs(row.values, row.number)
        folder = RunFolder(search.study.root / run.id)
        assert folder.status().state == row.outcome and (folder.result() is None) == (row.outcome == "pruned")
    assert [row.outcome for row in found.trials].count("pruned") >= 1 and found.is_over
