"""MLflow's real server, on loopback, that is there, away and back."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

import fake_mlflow
from fake_mlflow import Client, served
from fakes import point
from harness.errors import HarnessError
from harness.study.schema import Study, Tracking
from harness.tracking import mirror as tracking
from harness.tracking.mirror import Mirror, sync
from mirrored import (
    artefacts,
    children,
    client,
    empty_store,
    expected,
    held,
    history,
    make_folder,
    make_study,
)
from mlflow_process import Server
from waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(tracking, "POLL_S", 0.05)
    monkeypatch.setattr(tracking, "SHARE", 1.0)
    return make_study(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    shutil.copy(empty_store(), tmp_path / "server.db")
    made = Server(tmp_path)
    yield made
    made.stop()


def test_a_server_that_comes_and_goes(study: Study, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    study = replace(study, tracking=Tracking(uri=server.uri))
    run, folder = make_folder(study, steps=3)
    (folder.path / "log.txt").write_text("hello")
    with held(folder), Mirror(study, study.root, [run]):
        until(lambda: "sends what is missing" in caplog.text)
        assert len(caplog.records) == 1
        server.start()
        until(lambda: "is back" in caplog.text)
        assert history(study, "origin/seed0") == expected(3)
        server.stop()
        folder.append(point(4))
        until(lambda: caplog.text.count("sends what is missing") == 2)
    folder.update(state="done")
    with pytest.raises(HarnessError, match=rf"MLflow at {server.uri}: cannot be reached \(Connection refused\)"):
        sync(study, study.root, [run])
    server.start()
    assert sync(study, study.root, [run]) == {"points": 2, "files": 1}
    assert history(study, "origin/seed0") == expected(4)
    assert children(study)["origin/seed0"].info.status == "FINISHED"
    assert "log.txt" in artefacts(study, children(study)["origin/seed0"].info.run_id)


def test_what_is_noted_as_sent_is_there_whatever_the_user_says(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into a queue of MLflow's a batch goes without an error, and is lost if the store is not well."""
    run, folder = make_folder(study, steps=3)
    folder.update(state="done", step=3)

    def refuse(_: object, metrics: Sequence[object], **__: object) -> None:
        if metrics:
            raise MlflowException("disk full")

    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    with monkeypatch.context() as ill:
        ill.setattr(SqlAlchemyStore, "log_batch", refuse)
        with pytest.raises(HarnessError, match="disk full"):
            sync(study, study.root, [run])
    sync(study, study.root, [run])
    assert history(study, "origin/seed0") == expected(3)


def test_ctrl_c_while_the_rest_is_sent_is_told(
    study: Study, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror(study, study.root, [])
    with monkeypatch.context() as pressed:

        def press(*_: float) -> None:
            raise KeyboardInterrupt

        pressed.setattr(mirror._thread, "join", press)
        with pytest.raises(KeyboardInterrupt), mirror:
            pass
    mirror._thread.join()
    assert "`harness sync` sends what is missing" in caplog.text


def test_an_answer_that_never_comes_holds_no_grid_up(
    study: Study, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that comes a byte at a time, of which no timeout of requests knows."""
    for name in ("END_S", "STILL_AWAY_S"):
        monkeypatch.setattr(tracking, name, 0.01)
    run, folder = make_folder(study, steps=2)
    asked, answer = threading.Event(), threading.Event()

    def wait(*_: object, **__: object) -> None:
        asked.set()
        answer.wait()

    monkeypatch.setattr(Client, "log_batch", wait)
    with served(fake_mlflow.Server()):
        with held(folder), Mirror(study, study.root, [run]) as mirror:
            asked.wait()
        told = (
            f"MLflow at {mirror.uri}: the grid is over before everything is sent; `harness sync` sends what is missing"
        )
        mirror.catch_up()  # the lock is held by what is still sending
        assert [record.getMessage() for record in caplog.records] == [told]
        answer.set()
        mirror._thread.join()
        answer.clear()
        later = Mirror(study, study.root, [run])
        later.catch_up()
        assert [record.getMessage() for record in caplog.records] == [told, told]
        answer.set()
        later._thread.join()
    assert len(caplog.records) == 2, "it is not back: nobody waited for it"


@pytest.mark.slow
def test_a_server_killed_amid_requests(study: Study, server: Server) -> None:
    """Whatever it had done of them by then, everything is there once in the end."""
    study = replace(study, tracking=Tracking(uri=server.uri))
    runs = []
    for seed in range(20):
        run, folder = make_folder(study, "origin", seed, steps=40)
        folder.update(state="done", step=40)
        runs.append(run)
    server.start()
    interrupted = 0
    for delay in (0.3, 0.8, 1.7):
        killer = threading.Timer(delay, server.stop)
        killer.start()
        try:
            sync(study, study.root, runs)
        except HarnessError:
            interrupted += 1
        killer.join()
        server.start()
    assert interrupted, "the server was never killed in time"
    sync(study, study.root, runs)
    experiment = client(study).get_experiment_by_name("emoji").experiment_id
    assert len(client(study).search_runs([experiment])) == len(runs) + 1
    for run in runs:
        assert history(study, f"{run.cell}/seed{run.seed}") == expected(40)
