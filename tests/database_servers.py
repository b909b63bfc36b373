"""Real servers of PostgreSQL and MySQL (MariaDB) on loopback, each in a folder and on a port of its own.

They run as an unprivileged user and are ended by process id.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
USER, PASSWORD, DATABASE = "tester", "pass@word/1", "trials"
ENCODED = "pass%40word%2F1"
_PROGRAMS = {"postgresql": ("initdb", "postgres"), "mysql": ("mariadb-install-db", "mariadbd")}
_PACKAGES = {"postgresql": "postgresql", "mysql": "mariadb-server-core mariadb-client-core"}
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql"}
_SQL = f"""
CREATE DATABASE IF NOT EXISTS {DATABASE};
CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';
GRANT ALL ON {DATABASE}.* TO '{USER}'@'%';
"""


def missing(kind: str) -> str:
    """What is not on this machine, and how to get it; empty if nothing is."""
    absent = [name for name in _PROGRAMS[kind] if _program(name) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install --no-install-recommends {_PACKAGES[kind]}"
    driver = _DRIVERS[kind]
    return "" if importlib.util.find_spec(driver) else f"no {driver}: pip install '.[{kind}]'"


def _program(name: str) -> str | None:
    beside = [str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", *beside]))


class Server:
    """One of the two kinds, by the name of its extra."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None
        if kind == "postgresql":
            (folder / "password").write_text(PASSWORD)
            name = ("-D", "data", "-U", USER, "--pwfile=password", "-A", "scram-sha-256")
            self._finish("initdb", *name, "--no-sync", "-E", "UTF8", "--locale=C")
        else:
            (folder / "start.sql").write_text(_SQL)
            own = (f"--datadir={folder}/data", "--auth-root-authentication-method=normal", "--skip-test-db")
            self._finish("mariadb-install-db", "--no-defaults", *own, "--skip-name-resolve")

    def address(self, password: str = ENCODED, database: str = DATABASE) -> str:
        return f"{self.kind}://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns when it answers."""
        if self.kind == "postgresql":
            words = ["postgres", "-D", "data", "-p", str(self.port), "-k", "", "-h", "127.0.0.1", "-c", "fsync=off"]
        else:
            at = [f"--datadir={self.folder}/data", "--bind-address=127.0.0.1", f"--port={self.port}"]
            files = [f"--{name}={self.folder}/{name}" for name in ("socket", "pid-file")]
            once = f"--init-file={self.folder}/start.sql"
            words = ["mariadbd", "--no-defaults", *at, *files, once, "--skip-name-resolve", "--innodb-fast-shutdown=2"]
        with (self.folder / "log").open("ab") as log:
            self.process = self._begin(words, log.fileno())
        until = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """At once, as a machine that is switched off; what was committed is there after `start`."""
        if self.process is not None:
            self.process.send_signal(signal.SIGQUIT if self.kind == "postgresql" else signal.SIGKILL)
            self.process.wait(30)
            self.process = None

    def _answers(self) -> bool:
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import SQLAlchemyError

        from harness.databases import with_driver

        first = "postgres" if self.kind == "postgresql" else DATABASE
        engine = create_engine(with_driver(self.address(database=first)), isolation_level="AUTOCOMMIT")
        try:
            with engine.connect() as connection:
                if self.kind == "postgresql":
                    there = connection.execute(text(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'"))
                    if there.first() is None:
                        connection.execute(text(f"CREATE DATABASE {DATABASE}"))
        except SQLAlchemyError:
            return False
        finally:
            engine.dispose()
        return True

    def _begin(self, words: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        program = _program(words[0])
        assert program
        # Neither server runs as root.
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        return subprocess.Popen(
            [program, *words[1:]], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **user
        )  # type: ignore[call-overload]

    def _finish(self, *words: str) -> None:
        with (self.folder / "log").open("ab") as log:
            code = self._begin(words, log.fileno()).wait(120)
        assert code == 0, (self.folder / "log").read_text()[-2000:]


@contextmanager
def serving(kind: str) -> Iterator[Server]:
    """A server that answers, with an empty database."""
    folder = Path(tempfile.mkdtemp(prefix=f"{kind}-"))
    if os.getuid() == 0:
        os.chown(folder, NOBODY, NOBODY)
    server = Server(kind, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
