"""Searches through a real PostgreSQL and a real MySQL server (MariaDB): shared, refused, and gone in the middle."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from database_servers import ENCODED, PASSWORD, Server, serving
from harness import databases
from harness.databases import with_driver
from harness.errors import HarnessError
from harness.tuning.findings import read_findings
from harness.tuning.search import Search, mean
from harness.tuning.trials import Trials, storage_errors
from searched import FD, TWO, Inline, metrics, search_in, states, without_weights
from test_search_sharing import ASKED, TRIALS, ended, is_whole, kill_all, results, start
from waiting import until

__all__ = ["without_weights"]
DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}
KINDS = [pytest.param(kind, marks=getattr(pytest.mark, kind)) for kind in DRIVERS]


@pytest.fixture(scope="module", params=KINDS)
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving(request.param) as server:
        yield server


@pytest.fixture
def server(running: Server) -> Server:
    """It answers, whatever the test before has done."""
    if running.process is None:
        running.start()
    return running


def asked(folder: Path, server: Server, *more: str) -> tuple[Search, tuple[str, ...]]:
    """A search of its own in the server's one database, and what its processes are asked for."""
    overrides = (*ASKED, f"study={folder.name[:40]}-{server.kind}", f"tune.storage={server.address()}", *more)
    return search_in(folder, *overrides), overrides


def test_three_processes_share_a_search(tmp_path: Path, server: Server) -> None:
    search, overrides = asked(tmp_path, server)
    processes = [start(tmp_path, *overrides) for _ in range(3)]
    assert [ended(process, tmp_path) for process in processes] == [0, 0, 0]
    is_whole(search)
    calls = [len(path.read_text().splitlines()) for path in search.study.root.glob("*/calls")]
    assert calls == [1] * 2 * TRIALS, "no run was trained twice"
    assert not (search.study.root / "optuna.log").exists()
    for row in read_findings(Trials(search)).trials:
        runs = search.runs(row.values, row.number)
        values = [float(metrics(run)[FD]) for run in runs]
        assert row.measured[FD] == mean(search.objectives[0], values), "no database rounds a number"


def test_a_search_goes_on_after_its_server_was_gone(tmp_path: Path, server: Server) -> None:
    search, overrides = asked(tmp_path, server)
    both = [start(tmp_path, *overrides), start(tmp_path, *overrides)]
    until(lambda: results(search) >= 5, (tmp_path / "out.txt").read_text)
    server.stop()
    assert [ended(process, tmp_path) for process in both] == [2, 2]
    said = (tmp_path / "out.txt").read_text()
    assert said.count("the storage of the search failed (") == 2 and "Traceback" not in said
    assert "nothing is lost, the same command goes on" in said and "during the commit" not in said
    assert PASSWORD not in said and ENCODED not in said
    done = results(search)
    assert ended(start(tmp_path, *overrides), tmp_path) == 2, "it cannot begin without its server"
    assert "cannot be reached" in (tmp_path / "out.txt").read_text().removeprefix(said)
    server.start()
    assert ended(start(tmp_path, *overrides), tmp_path) == 0
    is_whole(search)
    calls = [len(path.read_text().splitlines()) for path in search.study.root.glob("*/calls")]
    assert sum(calls) - len(calls) <= 2 and done >= 5, "at most the run that each of the two had is begun again"


def test_a_killed_process_leaves_its_trial_to_the_next(tmp_path: Path, server: Server) -> None:
    search, overrides = asked(tmp_path, server)
    process = start(tmp_path, *overrides)
    until(lambda: results(search) >= 4, (tmp_path / "out.txt").read_text)
    kill_all(process)
    before = {row.number: row.values for row in read_findings(Trials(search)).trials}
    assert ended(start(tmp_path, *overrides), tmp_path) == 0
    found = is_whole(search)
    assert {row.number: row.values for row in found.trials if row.number in before} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password": "wr0ng%40one"}, "the database does not accept the name and password; check them in the address"),
        ({"database": "absent"}, r"(there is no such database on that server; create it|or it is not there; create)"),
        ({"password": PASSWORD}, "there is no machine of that name; check the address; in a password @ is written %40"),
    ],
    ids=["password", "database", "signs of an address in the password"],
)
def test_what_is_wrong_with_an_address_is_told(
    tmp_path: Path, server: Server, change: dict[str, str], said: str
) -> None:
    with pytest.raises(HarnessError, match=rf"tune\.storage: .*{server.port}.*cannot be opened \(.*{said}") as caught:
        Trials(search_in(tmp_path, f"tune.storage={server.address(**change)}"))
    for secret in (PASSWORD, ENCODED, "wr0ng", "@one"):
        assert secret not in str(caught.value)


def test_a_server_that_closed_the_connection_of_a_long_run_is_asked_anew(tmp_path: Path, server: Server) -> None:
    search, _ = asked(tmp_path, server)
    trials = Trials(search)
    assert len(trials.all()) == 1
    server.stop()
    server.start()
    assert trials.ask() is not None and len(trials.all()) == 1


def test_a_connection_that_is_lost_as_it_is_given_back_prints_nothing(
    tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    search, _ = asked(tmp_path, server)
    trials = Trials(search)
    opened = create_engine(with_driver(server.address()))  # as MLflow and Optuna each have one
    given_back = opened.raw_connection()
    given_back.cursor().execute("select 1")
    server.stop()
    given_back.close()  # the roll-back has no server
    assert not caplog.records
    with pytest.raises(HarnessError, match="the storage of the search failed"), storage_errors(search):
        trials.all()
    assert not caplog.records


def test_the_storage_may_be_a_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    search = search_in(tmp_path, TWO, "tune.trials=3", f"tune.storage={url}", "tune.pruner=none")
    assert states(Inline(search).go().trials) == ["COMPLETE"] * 3
    assert not (search.study.root / "optuna.log").exists()
    monkeypatch.setenv("OPTUNA_STORAGE", url)
    by_environment = search_in(tmp_path, TWO, "tune.trials=3", "tune.pruner=none")
    assert states(Trials(by_environment)) == ["COMPLETE"] * 3


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/tmp/x.db", "is not the address of a database; did you mean 'sqlite:////tmp/x.db'"),
        ("sqlite:////no/such/folder/x.db", "cannot be opened"),
        ("postgres+nothing://host/x", "cannot be opened"),
        ("postgresql://[host/x", "cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(HarnessError, match=rf"tune\.storage: .*{told}.*allowed: sqlite:///FILE\.db") as caught:
        Trials(search_in(tmp_path, TWO, f"tune.storage={url}"))
    assert "MLflow" not in str(caught.value)


@pytest.mark.parametrize("kind", DRIVERS)
def test_a_missing_driver_is_named(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, DRIVERS[kind], None)
    package = {"postgresql": r"'psycopg\[binary\]'", "mysql": r"'pymysql\[rsa\]'"}[kind]
    with pytest.raises(HarnessError, match=rf"needs it; pip install {package}"):
        Trials(search_in(tmp_path, f"tune.storage={kind}://me:s3cret@127.0.0.1:9/x"))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("(1044, \"Access denied for user 'me'@'%' to database 'x'\")", "or it is not there; create the database, and"),
        ("(1045, \"Access denied for user 'me'@'h' (using password: YES)\")", "does not accept the name and password"),
        ("(1142, \"INSERT command denied to user 'me'@'h' for table 'x'\")", "may not do this in the database"),
        ("permission denied for schema public\nLINE 2", "may not do this in the database"),
        ("(2003, \"Can't connect to MySQL server on 'h' (timed out)\")", "cannot be reached (timed out); start it"),
        ("(2003, \"Can't connect to MySQL server on 'h' ([Errno 111])\")", "cannot be reached (Connection refused)"),
        ("connection failed: connection timeout expired", "cannot be reached (timed out); start it or check"),
        ("(2013, 'Lost connection to MySQL server during query')", "the connection was lost"),
        ("terminating connection due to administrator command", "the connection was lost"),
        ("FATAL:  the database system is shutting down", "the server is not ready; run the command again"),
    ],
)
def test_what_servers_say_is_read(said: str, told: str) -> None:
    assert told in databases.explained(RuntimeError(said), "mysql://h")
