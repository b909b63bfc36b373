"""MLflow's side of a study: addresses, moved folders, and what databases and servers answer."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest
from mlflow.tracking._tracking_service import utils

from harness import databases
from harness.databases import absolute_address, sqlite_file
from harness.errors import HarnessError
from harness.study.schema import Study, Tracking
from harness.tracking.address import artifacts, follow, recorded_uri, tracking_uri
from harness.tracking.mirror import sync
from harness.tracking.mlflow_store import set_environment
from mirrored import empty_store

ODD = [
    "a b",
    "a#b",
    "a?b",
    "a%b",
    "a%20b",
    "é日本",
    "a;b",
    "a&b+c",
    'it\'s "so"',
    "-a",
    "a\\b",
    "file:",
    "a\nb",
    "a=b@c:d",
]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MLFLOW_TRACKING_URI", "DATABRICKS_HOST", "DATABRICKS_TOKEN", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("harness.tracking.mirror.LOCK_S", 1.0)
    set_environment()


def study_in(folder: Path, uri: str | None = None, experiment: str | None = None) -> Study:
    from harness.study.load import load_study

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text("study: tiny\ntoggles: [mix_logits]\n")
    if uri is None and not (folder / "mlflow.db").exists():
        shutil.copy(empty_store(), folder / "mlflow.db")  # making the tables takes long
    return replace(load_study(folder / "study.yaml"), tracking=Tracking(uri=uri, experiment=experiment))


def send(study: Study) -> str:
    """What is told when the study is sent by a new process; empty if all went well."""
    utils._artifact_repos_cache.clear()
    try:
        sync(study, study.root, ())
    except HarnessError as error:
        return str(error)
    return ""


def rows(file: Path, query: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(file)) as database:
        return [str(row[0]) for row in database.execute(query)]


def written(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ODD)
def test_an_address_leads_to_the_file_whatever_its_folder_is_called(tmp_path: Path, name: str) -> None:
    from sqlalchemy import create_engine, text

    (tmp_path / name).mkdir()
    file = tmp_path / name / "x.db"
    address = absolute_address("sqlite:///x.db", tmp_path / name, "here")
    with create_engine(address).connect() as connection:
        connection.execute(text("create table t (a int)"))
    assert file.is_file() and [path.name for path in tmp_path.iterdir()] == [name]
    assert sqlite_file(address) == file


@pytest.mark.parametrize("name", ["a b#c", "a?b%20c", "é日本;&+"])
def test_a_study_in_an_odd_folder_is_sent_and_stays_in_it(tmp_path: Path, name: str) -> None:
    study = study_in(tmp_path / name)
    assert send(study) == ""
    assert (tmp_path / name / "mlflow.db").is_file() and written(artifacts(study))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [name]


def test_addresses_are_relative_to_the_study_and_those_of_the_environment_to_the_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "s"
    assert tracking_uri(study_in(home)) == f"sqlite:///{home}/mlflow.db"
    assert tracking_uri(study_in(home, "sqlite:///sub/x.db")) == f"sqlite:///{home}/sub/x.db"
    assert tracking_uri(study_in(home, "sqlite:////abs/x.db")) == "sqlite:////abs/x.db"
    assert tracking_uri(study_in(home, "sqlite:///~/x.db")) == f"sqlite+pysqlite:///{tmp_path}/x.db"
    assert sqlite_file(tracking_uri(study_in(home, "sqlite+pysqlite:///x.db?timeout=3"))) == home / "x.db"
    assert "timeout=3" in tracking_uri(study_in(home, "sqlite:///x.db?timeout=3"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///x.db")
    assert tracking_uri(study_in(home)) == f"sqlite:///{tmp_path}/x.db"


@pytest.mark.parametrize("uri", ["databricks", "databricks://me", "databricks-uc", "http://h:1", "HTTPS://h/x"])
def test_servers_are_servers(tmp_path: Path, uri: str) -> None:
    assert tracking_uri(study_in(tmp_path, uri)) == uri


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("./mlruns", "is a folder"),
        ("file:./mlruns", "is a folder"),
        ("/abs/mlruns", "is a folder"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("postgres://h/x", "MLflow keeps nothing in postgres; allowed: sqlite:///"),
        ("oracle://h/x", "MLflow keeps nothing in oracle"),
    ],
)
def test_what_is_no_store_is_refused_with_what_is_allowed(tmp_path: Path, uri: str, told: str) -> None:
    with pytest.raises(HarnessError, match=r"study\.yaml: tracking\.uri: ") as refused:
        tracking_uri(study_in(tmp_path, uri))
    assert told in str(refused.value)


def test_an_experiment_with_slashes_keeps_its_files_beside_the_study(tmp_path: Path) -> None:
    for experiment in ("/Users/me/tiny", "../tiny", "..", "a/b"):
        found = artifacts(study_in(tmp_path / "s", experiment=experiment))
        assert found.parent == tmp_path / "s" / "mlartifacts" and found.name not in ("..", ".")
    assert artifacts(study_in(tmp_path / "s", experiment="a b")).name == "a b"


@pytest.mark.parametrize(("before", "now"), [("old", "new"), ("a b", "c%20d"), ("x", "x/deeper"), ("old#", "é?")])
def test_a_moved_study_writes_nothing_to_its_old_place(tmp_path: Path, before: str, now: str) -> None:
    study_of_before = study_in(tmp_path / before)
    assert send(study_of_before) == ""
    kept = written(artifacts(study_of_before))
    shutil.move(tmp_path / before, tmp_path / "on the way")
    (tmp_path / now).parent.mkdir(exist_ok=True)
    shutil.move(tmp_path / "on the way", tmp_path / now)
    study = study_in(tmp_path / now)
    (study.root / "mlflow.json").unlink()  # so that all is sent again
    assert send(study) == ""
    if not now.startswith(before):
        assert not (tmp_path / before).exists()
    places = rows(tmp_path / now / "mlflow.db", "select artifact_uri from runs union select artifact_location from "
                  "experiments where name = 'tiny'")  # fmt: skip
    found = [Path(url2pathname(urlsplit(place).path)) for place in places]
    assert found and all(path.is_relative_to(artifacts(study)) for path in found)
    assert written(artifacts(study)) == kept


def test_a_copy_of_a_study_leaves_the_first_one_alone(tmp_path: Path) -> None:
    first = study_in(tmp_path / "first")
    send(first)
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    shutil.rmtree(artifacts(first))
    second = study_in(tmp_path / "second")
    (second.root / "mlflow.json").unlink()
    assert send(second) == "" and not artifacts(first).exists() and written(artifacts(second))


def test_a_link_to_the_folder_is_no_move(tmp_path: Path) -> None:
    study = study_in(tmp_path / "real")
    send(study)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    through = study_in(tmp_path / "link")
    assert follow(through, tracking_uri(through)) == ""


def test_a_database_of_several_studies_is_not_changed_for_one_that_was_moved(tmp_path: Path) -> None:
    shared = f"sqlite:///{tmp_path}/shared.db"
    send(study_in(tmp_path / "one", shared))
    assert send(study_in(tmp_path / "two", shared)) == ""  # the experiment is that of the first
    shutil.move(tmp_path / "one", tmp_path / "three")
    told = send(study_in(tmp_path / "three", shared))
    assert "is not there any more; move the study back, or give it another tracking.experiment" in told
    assert not (tmp_path / "one").exists()


def test_what_is_remembered_moves_with_the_study_and_holds_no_password(tmp_path: Path) -> None:
    study = study_in(tmp_path / "s")
    assert recorded_uri(study, tracking_uri(study)) == "sqlite:///mlflow.db"
    assert recorded_uri(study, "sqlite:////elsewhere/x.db") == "sqlite:////elsewhere/x.db"
    assert recorded_uri(study, "http://me:hunter22@h/x") == "http://me:***@h/x"


def damage(kind: str, file: Path) -> None:
    match kind:
        case "old":
            with contextlib.closing(sqlite3.connect(file)) as database, database:
                database.execute("update alembic_version set version_num = 'cc1f77228345'")
        case "new":
            with contextlib.closing(sqlite3.connect(file)) as database, database:
                database.execute("update alembic_version set version_num = 'ffffffffffff'")
        case "deleted":
            with contextlib.closing(sqlite3.connect(file)) as database, database:
                database.execute("update experiments set lifecycle_stage = 'deleted' where name = 'tiny'")
        case "none":
            file.write_text("this is no database, but it is long enough to be taken for one\n" * 100)
        case "folder":
            file.unlink()
            file.mkdir()


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (
            "old",
            "of an older MLflow (schema cc1f77228345); copy the file first, then bring it to the latest schema: mlflow",
        ),
        ("new", "of a newer MLflow (schema ffffffffffff) than the one here; pip install --upgrade mlflow"),
        ("deleted", "the experiment 'tiny' was deleted in MLflow; bring it back: MLFLOW_TRACKING_URI=sqlite:"),
        ("none", "the file is not an SQLite database; use another name, or move the file away"),
        ("folder", "mlflow.db' is a folder; allowed: sqlite:///FILE.db"),
    ],
)
def test_a_database_that_cannot_be_used_has_its_own_remedy(tmp_path: Path, kind: str, told: str) -> None:
    assert send(study_in(tmp_path / "a")) == ""
    damage(kind, tmp_path / "a" / "mlflow.db")
    (tmp_path / "a").rename(tmp_path / "b")  # MLflow knows the database in "a" as a good one
    said = send(study_in(tmp_path / "b"))
    assert told in said and "start it" not in said and "..." not in said


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("mssql+nodriver://u@localhost/x", "no driver for mssql+nodriver:// databases is installed"),
        ("postgresql+psycopg2://u:pw11@127.0.0.1:1/x", "pip install psycopg2-binary"),
        ("mysql://u@127.0.0.1:1/x", "pip install mysqlclient"),
        ("http://127.0.0.1:9", "cannot be reached (Connection refused); start it or check the address"),
        ("http://no-such-host.invalid", "there is no machine of that name"),
    ],
)
def test_a_store_that_is_not_there_has_its_own_remedy(tmp_path: Path, uri: str, told: str) -> None:
    said = send(study_in(tmp_path, uri))
    assert told in said and "pw11" not in said and said.startswith("MLflow at ")


class _Answers(BaseHTTPRequestHandler):
    code, body = 200, b""

    def _answer(self) -> None:
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def server(code: int, body: bytes) -> Iterator[str]:
    made = HTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"code": code, "body": body}))
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        made.server_close()


@pytest.mark.parametrize(
    ("code", "body", "told"),
    [
        (401, b"Unauthorized", "it needs a login (401); set MLFLOW_TRACKING_USERNAME"),
        (403, b"Forbidden", "it does not allow this (403)"),
        (404, b"<html>not here</html>", "there is no MLflow server at this address (404)"),
        (200, b"<!DOCTYPE html><html>Welcome to the router</html>", "(it answers with a web page); check"),
        (200, b'{"experiment": 5}', "no MLflow server at this address (its answer is not MLflow's); check the address"),
        (418, b"teapot", "no MLflow server at this address, or an old one; check the address"),
        (413, b"", "it accepts nothing so large (413)"),
        (500, b"oops", "the server failed; see its log"),
    ],
)
def test_a_server_that_answers_otherwise_has_its_own_remedy(tmp_path: Path, code: int, body: bytes, told: str) -> None:
    with server(code, body) as uri:
        said = send(study_in(tmp_path, uri))
    assert told in said and said.count(";") <= 3


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("HTTPSConnectionPool(host='h'): SSLError(certificate verify failed: self-signed certificate)", "not trusted"),
        ("HTTPSConnectionPool(host='h', port=443): Read timed out. (read timeout=10)", "timed out"),
        ("ProxyError('Cannot connect to proxy.', OSError('Tunnel connection failed: 403'))", "the proxy refuses"),
        ('FATAL:  password authentication failed for user "me"', "does not accept the name and password"),
        ('connection failed: FATAL:  database "x" does not exist', "no such database on that server; create it"),
        ("(pymysql.err.OperationalError) (1049, \"Unknown database 'x'\")", "no such database on that server"),
        ("(sqlite3.OperationalError) attempt to write a readonly database", "the database is read-only; make the file"),
        ("(sqlite3.OperationalError) database is locked", "locked by another program"),
        ("(sqlite3.DatabaseError) database disk image is malformed", "the database is damaged"),
        ("Could not parse SQLAlchemy URL from given URL string", "MLflow cannot read this address; examples: sqlite:"),
    ],
)
def test_what_libraries_say_is_read(said: str, told: str) -> None:
    assert told in databases.explained(RuntimeError(said), "http://h")


def test_a_message_that_nobody_knows_is_told_whole() -> None:
    long = "a reason that nobody has heard of " * 30
    assert databases.explained(RuntimeError(f"\n---\n{long}\nmore"), "http://h") == long.strip()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_database_that_is_read_only_is_told(tmp_path: Path) -> None:
    study = study_in(tmp_path)
    send(study)
    (tmp_path / "mlflow.db").chmod(0o444)
    assert "the database is read-only" in send(study)


def test_a_run_goes_on_with_the_data_where_it_lies_now(tmp_path: Path) -> None:
    from fakes import make_run
    from harness.runs.folders import RunFolder

    run = make_run("origin", 0)
    folder = RunFolder(tmp_path / run.id)
    folder.create(run)
    folder.create(replace(run, settings=run.settings.with_values({"data.path": "/new/place/photos"})))
    assert folder.run().settings.data.path == "/new/place/photos"
    assert folder.run().id == run.id
