"""Whole grids and MLflow: several schedulers, what is missing, damaged runs, long outages. The server is a fake."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from fake_mlflow import Client, Crash, Server, served
from fakes import make_run, point
from harness.errors import HarnessError, RecordError
from harness.runs.folders import RunFolder
from harness.runs.record import Result
from harness.study.schema import Study, Tracking
from harness.tracking import ledger as ledgers
from harness.tracking import mirror as tracking
from harness.tracking import mlflow_store
from harness.tracking.ledger import Ledger, Report
from harness.tracking.mirror import Mirror, missing, sync
from harness.tracking.parent_run import Parent, ask_for_report, state_of_grid
from harness.tracking.points import read_points
from mirrored import bare_study, finish, held, make_folder, sending
from waiting import until


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in {"POLL_S": 0.02, "SHARE": 1.0, "LOCK_S": 0.1}.items():
        monkeypatch.setattr(tracking, name, value)
    return bare_study(tmp_path)


@pytest.fixture
def server() -> Iterator[Server]:
    with served(made := Server()):
        yield made


def once(server: Server, steps: int) -> bool:
    """Whether every point up to `steps` of the only run is there; never is one there twice."""
    counts = Counter(found for child in server.children() for found in child.points())
    assert not counts or max(counts.values()) == 1
    return len(counts) == steps * len(point(1).values)


def test_one_of_two_grids_sends_and_the_other_goes_on(study: Study, server: Server) -> None:
    run, folder = make_folder(study, steps=2)
    first, second = (Mirror(study, study.root, [run]) for _ in range(2))
    with held(folder), ExitStack() as stack:
        with first:
            until(lambda: once(server, 2))
            stack.enter_context(second)
            for step in range(3, 30):
                folder.append(point(step))
                until(lambda step=step: once(server, step))
            with pytest.raises(HarnessError, match=r"\w+:\d+ sends to MLflow already"):
                sync(study, study.root, [run])
        assert [row.status for row in server.parents()] == ["RUNNING"]
        for step in range(30, 40):
            folder.append(point(step))
        until(lambda: once(server, 39))
    finish(first, {"kid_mean": 0.5}, {}, None)
    assert once(server, 39) and len(server.children()) == 1
    assert sync(study, study.root, [run]) == {}


def test_who_takes_over_reads_what_the_other_sent(study: Study, server: Server) -> None:
    run, folder = make_folder(study, steps=2)
    with held(folder):
        for step in range(3, 8):
            with Mirror(study, study.root, [run]):
                folder.append(point(step))
            assert once(server, step)
    assert [row.status for row in server.parents()] == ["RUNNING"]


def test_rows_that_stayed_running_are_repaired(study: Study, server: Server) -> None:
    run, folder = make_folder(study, steps=2)
    with held(folder):
        sending(study, run).send(running=True)
    assert [row.status for row in server.runs.values()] == ["RUNNING", "RUNNING"]
    assert missing(study, study.root, [run])
    sync(study, study.root, [run])
    assert [row.status for row in server.runs.values()] == ["KILLED", "KILLED"]
    assert server.children()[0].tags["outcome"] == "interrupted"


def test_a_grid_that_stayed_running_is_missing_though_its_runs_are_there(study: Study, server: Server) -> None:
    run, folder = make_folder(study, steps=2)
    folder.update(state="done")
    sending(study, run).send(running=True)
    assert missing(study, study.root, [run])
    Mirror(study, study.root, [run]).catch_up()
    assert not missing(study, study.root, [run])
    assert [row.status for row in server.parents()] == ["FINISHED"]


def test_a_crash_before_the_last_word_is_noticed(study: Study, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent showed an end of an earlier call already, and the notes about the runs are complete."""
    run, folder = make_folder(study, steps=2)
    folder.update(state="interrupted")
    sync(study, study.root, [run])
    folder.update(state="done")
    monkeypatch.setattr("harness.tracking.study_sync.SAVE_EVERY", 1)
    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(Parent, "show_status", lambda *_: Server.die())
        sync(study, study.root, [run])
    assert missing(study, study.root, [run])
    Mirror(study, study.root, [run]).catch_up()
    assert [row.status for row in server.runs.values()] == ["FINISHED", "FINISHED"]


def test_sync_looks_at_everything(study: Study, server: Server) -> None:
    run, folder = make_folder(study)
    folder.update(state="failed")
    sync(study, study.root, [run])
    (folder.path / "log.txt").write_text("found later")
    assert sync(study, study.root, [run]) == {"files": 1}


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ("done done", "FINISHED"),
        ("done new", "FINISHED"),
        ("done failed", "FAILED"),
        ("diverged done", "FAILED"),
        ("failed interrupted", "KILLED"),
        ("done pending", "KILLED"),
        ("done running", "KILLED"),
        ("failed held", "RUNNING"),
    ],
)
def test_the_state_of_a_grid(study: Study, states: str, expected: str) -> None:
    folders = [make_folder(study, "origin", seed) for seed in range(2)]
    for (_, folder), state in zip(folders, states.split(), strict=True):
        if state == "new":
            (folder.path / "status.json").unlink()
        elif state != "held":
            folder.update(state=state)
    with held(folders[1][1]) if expected == "RUNNING" else held(RunFolder(study.root)):
        assert state_of_grid(study.root, [run for run, _ in folders]) == expected


def test_class_and_place_of_a_failure_are_tags(study: Study, server: Server) -> None:
    run, folder = make_folder(study)
    folder.update(state="failed", failure="out_of_memory", host="gpu7 pidns-1", error="CUDA out of memory")
    sync(study, study.root, [run])
    (child,) = server.children()
    wanted = {"failure": "out_of_memory", "host": "gpu7", "error": "CUDA out of memory", "outcome": "failed"}
    assert wanted.items() <= child.tags.items()


def test_what_is_missing_is_known_from_files(study: Study, server: Server) -> None:
    run, folder = make_folder(study, steps=1)
    new = make_run("new")
    RunFolder(study.root / new.id).create(new)
    assert not missing(study, study.root, [new])
    assert missing(study, study.root, [run, new])
    folder.update(state="failed")
    sync(study, study.root, [run, new])
    assert not missing(study, study.root, [run, new])
    assert missing(replace(study, tracking=Tracking(uri="http://127.0.0.1:9")), study.root, [run])
    folder.update(state="done")
    assert missing(study, study.root, [run, new])
    sync(study, study.root, [run, new])
    ask_for_report(study, study.root, Report(summary={"a": 1.0}, tables={}), None)
    assert missing(study, study.root, [run, new])
    Mirror(study, study.root, [run, new]).catch_up()
    assert not missing(study, study.root, [run, new])
    (study.root / "mlflow.json").write_text('{"delivered": 3}')
    with pytest.raises(HarnessError, match=r"mlflow\.json: cannot be used \(delivered: .*delete the file"):
        missing(study, study.root, [run])


def test_to_ask_what_is_missing_loads_no_mlflow(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from harness.tracking.mirror import missing
from mirrored import bare_study, make_folder
study = bare_study(Path(sys.argv[1]))
run, _ = make_folder(study)
assert missing(study, study.root, [run])
assert not {"mlflow", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parent, check=True)


def test_a_damaged_run_holds_up_no_other(study: Study, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    bad, folder = make_folder(study, "origin", 0, steps=2)
    good, _ = make_folder(study, "origin", 1, steps=2)
    path = folder.path / "metrics.jsonl"
    _, offset, tail = read_points(path, Ledger())
    with path.open("a") as file:
        file.write('{"step": 3}\n')
    with pytest.raises(RecordError, match="line 3: cannot be used"):
        read_points(path, Ledger(offset=offset, tail=tail))
    with pytest.raises(HarnessError, match=r"all else was sent; .*metrics\.jsonl: line 3: .*kimg: Field required"):
        sync(study, study.root, [bad, good])
    assert [child.tags["seed"] for child in server.children() if child.metrics] == ["1"]
    assert "origin seed 0 cannot be sent" in caplog.text
    assert missing(study, study.root, [bad, good])
    with (folder.path / "metrics.jsonl").open("r+") as file:
        file.truncate(file.read().index('{"step": 3}'))
    sync(study, study.root, [bad, good])
    assert [len(child.metrics) for child in server.children()] == [4, 4]


def test_a_file_rewritten_in_place_is_read_anew(study: Study, server: Server) -> None:
    """A file system gives the number of a removed file to the next one: only the bytes tell that it is another."""
    run, folder = make_folder(study, steps=6)
    sending(study, run).send()
    lines = (folder.path / "metrics.jsonl").read_text().splitlines()
    changed = [line.replace('"time": ', '"time": 1') for line in lines[3:]]  # longer: no line begins where one did
    folder.append(point(7))
    more = (folder.path / "metrics.jsonl").read_text().splitlines()[6:]
    (folder.path / "metrics.jsonl").write_text("\n".join([*lines[:3], *changed, *more]) + "\n")
    sending(study, run).send()
    assert once(server, 7)


def test_lost_notes_and_a_rewind(study: Study, server: Server) -> None:
    run, folder = make_folder(study, steps=6)
    sync(study, study.root, [run])
    (folder.path / "mlflow.json").unlink()
    sync(study, study.root, [run])
    folder.rewind(2)
    for step in range(3, 8):
        folder.append(replace(point(step), time=9.0))
    sync(study, study.root, [run])
    assert once(server, 7)


def test_what_is_there_costs_no_call(study: Study, server: Server) -> None:
    run, folder = make_folder(study, steps=3)
    folder.finish(Result({"kid": 0.25}, {}, {}))
    folder.update(state="done", step=10)
    ask_for_report(study, study.root, Report(summary={"a": 1.0}, tables={}), study.path.parent)
    sync(study, study.root, [run])
    before = len(server.calls)
    for _ in range(2):
        assert sync(study, study.root, [run]) == {}
        Mirror(study, study.root, [run]).catch_up()
    calls = Counter(server.calls[before:])
    assert calls.pop("search_runs") == 2, "`sync` asks once which runs there are, a grid does not"
    assert set(calls) == {"get_experiment_by_name", "get_run"}


def test_a_long_outage(study: Study, server: Server) -> None:
    """The calls grow with the runs, a crash in the middle costs nothing, and there is progress to show."""
    runs = []
    for seed in range(300):
        run, folder = make_folder(study, "origin", seed, steps=2)
        folder.update(state="done", step=2)
        runs.append(run)
    sync(study, study.root, runs[:100])
    per_hundred = len(server.calls)
    assert "search_runs" not in server.calls[per_hundred // 2 :]
    server.fail(per_hundred, "after")
    with pytest.raises(Crash):
        sync(study, study.root, runs)
    ledger = ledgers.read(study.root / ledgers.NAME, ledgers.GridLedger)
    assert not ledgers.undelivered(study.root, [run.id for run in runs[:180]], ledger)
    advances: list[int] = []
    sync(study, study.root, runs, advances.append)
    assert sum(advances) == len(runs)
    assert len(server.calls) < 3.5 * per_hundred
    assert Counter(child.tags["fingerprint"] for child in server.children()) == {run.id: 1 for run in runs}
    assert all(len(child.points()) == 4 and child.status == "FINISHED" for child in server.children())


def test_a_dead_server_is_one_warning_and_holds_nothing_up(
    study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run, folder = make_folder(study, steps=2)
    asked = []

    def refuse(uri: str) -> Client:
        asked.append(uri)
        raise ConnectionError("[Errno 111] Connection refused")

    monkeypatch.setattr(mlflow_store, "_connect", refuse)
    with held(folder), Mirror(study, study.root, [run]) as mirror:
        until(lambda: len(asked) >= 3)
    folder.update(state="done")
    before = len(asked)
    finish(mirror, {"a": 1.0}, {}, None)
    assert len(asked) == before  # it did not answer a moment ago
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot be reached (Connection refused); `harness sync` sends what is missing" in caplog.text
    assert missing(study, study.root, [run])


def test_the_end_of_a_grid_does_not_wait_for_a_long_delivery(
    study: Study, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracking, "END_S", -1.0)
    run, folder = make_folder(study, steps=2)
    folder.update(state="done", step=2)
    ask = Mirror(study, study.root, [run])
    ask.catch_up()
    ask._thread.join()
    assert "the grid is over before everything is sent; `harness sync` sends what is missing" in caplog.text
    assert missing(study, study.root, [run])
    sync(study, study.root, [run])
    assert once(server, 2)


@pytest.mark.parametrize("purged", [False, True])
def test_sync_sends_what_a_backup_or_a_purge_took_away(study: Study, server: Server, purged: bool) -> None:
    run, folder = make_folder(study, steps=3)
    ask_for_report(study, study.root, Report(summary={"x": 1.0}), None)
    folder.update(state="done")
    sync(study, study.root, [run])
    backup = deepcopy(server.runs)
    other, ended = make_folder(study, seed=1, steps=2)
    folder.append(point(4))
    folder.update(state="done")
    ended.update(state="done")
    ask_for_report(study, study.root, Report(summary={"x": 2.0}), None)
    sync(study, study.root, [run, other])
    whole = [row.points() for row in server.runs.values()]
    if purged:
        del server.runs[list(server.runs)[-1]]
    else:
        server.runs = backup
    assert sync(study, study.root, [run, other])["runs"] == 1
    assert [row.points() for row in server.runs.values()] == whole
    assert not any(sync(study, study.root, [run, other]).values())
