"""Databases that MLflow and Optuna keep their records in: their addresses, and what their errors mean.

An SQLite database is a file, whose folder may have any name that is UTF-8; all others are servers.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, describe_os_error
from harness.files import user_path
from harness.masking import masked
from harness.text import escaped, is_utf8

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:", re.IGNORECASE)
_CHOSEN = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_ALLOWED = "sqlite:///FILE.db, or sqlite:////FOLDER/FILE.db from the root"
_SIMPLE = re.compile(r"sqlite:///[A-Za-z0-9_./-]+", re.ASCII)
"""An address in which the path of the file stands as it is. It is read without SQLAlchemy, which takes long to load."""


# Addresses.


def is_sqlite(url: str) -> bool:
    return _SQLITE.match(url) is not None


def sqlite_file(url: str) -> Path | None:
    """The file of an SQLite database; None for another database, and for one that has no file of its own."""
    if not _SQLITE.match(url):
        return None
    name = _database(url, url)
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name)


def absolute_address(url: str, folder: Path, source: str) -> str:
    """The address of an SQLite database with the full path of its file; other addresses stay as they are.

    A relative path starts at `folder`, `~` is the user's home. Raises HarnessError, whose message begins with `source`.
    """
    if not _SQLITE.match(url):
        return url
    name = _database(url, source)
    if name in ("", ":memory:"):
        if host := _parsed(url, source).host:  # between two slashes and the next one stands a machine
            raise HarnessError(f"{source}: {masked(url)!r} names no file; did you mean 'sqlite:///{host}'?")
        problem = f"{masked(url)!r} is a database in memory, which is lost when the command ends"
        raise HarnessError(f"{source}: {problem}; allowed: {_ALLOWED}")
    if name.startswith("file:"):  # SQLite's own form of an address, in which the path is absolute
        return url
    file = os.path.abspath(folder / user_path(name, source))
    if os.path.isdir(file):
        raise HarnessError(f"{source}: {masked(url)!r} is a folder; allowed: {_ALLOWED}")
    if not is_utf8(file):
        raise HarnessError(f"{source}: {escaped(file)}: this name is not UTF-8, as addresses are; rename the folder")
    plain = f"sqlite:///{file}"
    if _SIMPLE.fullmatch(plain) and _SIMPLE.fullmatch(url):
        return plain
    # Without a driver named, MLflow takes the rest for a path as it is, and would make a folder `a%20b`.
    parsed = _parsed(re.sub("^sqlite:", "sqlite+pysqlite:", url), url)
    return parsed.set(database=file).render_as_string(hide_password=False)


def with_driver(url: str) -> str:
    """The address of a server of PostgreSQL or MySQL with the driver that the extras install, if it names none."""
    return re.sub(r"^(postgresql|mysql|mariadb):", lambda match: f"{match[1]}+{_CHOSEN[match[1]]}:", url)


def _database(url: str, source: str) -> str:
    """What the address names: a file, or a database on a server."""
    return url.removeprefix("sqlite:///") if _SIMPLE.fullmatch(url) else _parsed(url, source).database or ""


def _parsed(url: str, source: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        problem = f"{masked(url)!r} is not the address of a database"
        raise HarnessError(f"{source}: {problem}; an example: sqlite:///FILE.db") from error


def quiet_libraries() -> None:
    """Libraries print nothing of their own about databases and servers: what goes wrong is raised, and told by us."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    # When a server is lost as a connection is given back, SQLAlchemy writes a traceback though nothing fails: the next
    # use opens another connection, and raises if there is no server.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)


# Errors of MLflow, Optuna, SQLAlchemy and the drivers of databases.

_DRIVERS = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
    "pymysql": "pymysql[rsa]",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob",
    "databricks": "databricks-sdk",
}
"""Module -> the package to install, where their names differ."""
_LOGIN = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_SIGNS = "in a password @ is written %40, / is %2F and % is %25"
"""Otherwise the machine that is asked is not the one that the reader sees in the address."""
CHECK_ADDRESS = "check the address, with its port and path"
TRY_AGAIN = "start it or check the address, then run the command again"
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (r"Detected Unity Catalog", "this is a registry of models, not a store of runs",
     "runs of the same workspace go to databricks, or databricks://PROFILE"),
    (r"Could not parse SQLAlchemy URL|[Ii]nvalid URL|Failed to parse: http|Invalid (?:port|IPv6 URL)",
     "MLflow cannot read this address", "examples: sqlite:///mlflow.db, http://HOST:PORT, databricks"),
    (r"[Dd]atabricks authentication|default auth|configure Databricks|DatabricksConfig|DATABRICKS_HOST",
     "Databricks needs a login",
     "set DATABRICKS_HOST and DATABRICKS_TOKEN, or name a profile of ~/.databrickscfg: databricks://PROFILE"),
    (r"certificate verify failed|SSLCertVerif|CERTIFICATE_VERIFY|self[- ]signed",
     "its certificate is not trusted",
     "name the certificate file of its authority in MLFLOW_TRACKING_SERVER_CERT_PATH; to go on without a check, set "
     "MLFLOW_TRACKING_INSECURE_TLS=true"),
    (r"SSLError|WRONG_VERSION_NUMBER|wrong version number", "it does not speak TLS", "try http:// instead of https://"),
    (r"ProxyError|[Cc]annot connect to proxy|Tunnel connection failed|error code 407",
     "the proxy refuses the connection", "check HTTPS_PROXY and HTTP_PROXY, or name the host in NO_PROXY"),
    (r"[Nn]ame or service not known|name resolution|nodename nor servname|could not translate host name|NameResolution"
     r"|Unknown .*server host",
     "there is no machine of that name", f"check the address; {_SIGNS}"),
    (r"connection timeout expired|Can't connect to .*timed out", "cannot be reached (timed out)", TRY_AGAIN),
    (r"Connection refused|Can't connect to", "cannot be reached (Connection refused)", TRY_AGAIN),
    (r"[Nn]o route to host|Network is unreachable", "cannot be reached (no route to that machine)", TRY_AGAIN),
    (r"Failed to convert '(.*)' for MLFLOW_HTTP_REQUEST_TIMEOUT|Attempted to set connect timeout to (\S+), but",
     r"MLFLOW_HTTP_REQUEST_TIMEOUT is '\1\2'", "allowed: whole seconds above 0, such as 60"),
    (r"Failed to convert '(.*)' for MLFLOW_HTTP_REQUEST_MAX_RETRIES|max_retries value (?:\(|.* Got )(-?\d+)",
     r"MLFLOW_HTTP_REQUEST_MAX_RETRIES is '\1\2'", "allowed: a whole number from 0 to 10"),
    (r"Failed to convert '(.*)' for (MLFLOW_\w+)", r"\2 is '\1'", "allowed: a number; or leave it out"),
    (r"timed out|[Tt]imeout", "cannot be reached (timed out)",
     "check that it is running, or give it more time: MLFLOW_HTTP_REQUEST_TIMEOUT=60"),
    (r"Connection aborted|Connection reset|RemoteDisconnected|IncompleteRead|EOF occurred"
     r"|Lost connection to MySQL|server has gone away|closed the connection unexpectedly|terminating connection"
     r"|the connection is (?:lost|closed)",
     "the connection was lost", "check the address and the server, then run the command again"),
    (r"error code 401|401 .*Unauthorized|UNAUTHENTICATED", "it needs a login (401)", _LOGIN),
    (r"error code 403|403 .*Forbidden|PERMISSION_DENIED", "it does not allow this (403)",
     f"ask its administrator for the right to write, or use another login: {_LOGIN}"),
    (r"error code 404", "there is no MLflow server at this address (404)", CHECK_ADDRESS),
    (r"error code 30\d", "it redirects to another address", "use the address that a browser ends at"),
    (r"error code 5\d\d|too many 5\d\d error", "the server failed", "see its log, then run the command again"),
    (r"error code 429|too many 429 error", "it gets too many requests (429)", "try again later"),
    (r"error code 413", "it accepts nothing so large (413)",
     "raise the limit of the proxy in front of it, such as client_max_body_size of nginx"),
    (r"error code 4(?:0[56]|1\d)", "there is no MLflow server at this address, or an old one", CHECK_ADDRESS),
    (r"Failed to parse|has no field named|Invalid value \"\" for parameter '\w+_id'",
     "there is no MLflow server at this address (its answer is not MLflow's)", CHECK_ADDRESS),
    (r"Expecting value|not in a valid JSON|JSONDecodeError|<!DOCTYPE|<html",
     "there is no MLflow server at this address (it answers with a web page)", CHECK_ADDRESS),
    (r"permission denied for|command denied to user|Access denied for user .* to database",
     "the user may not do this in the database, or it is not there",
     "create the database, and let this user create and change tables in it (GRANT)"),
    (r"the database system is (?:starting up|shutting down|in recovery)", "the server is not ready",
     "run the command again when it is"),
    (r"password authentication failed|Access denied for user|Login failed|authentication failed",
     "the database does not accept the name and password",
     f"check them in the address; {_SIGNS}"),
    (r"database \"?.*\"? does not exist|Unknown database|Cannot open database",
     "there is no such database on that server", "create it there; its tables are made at the first use"),
    (r"file is not a database", "the file is not an SQLite database", "use another name, or move the file away"),
    (r"database disk image is malformed", "the database is damaged",
     "replace it by a backup, or move it away, and all is sent again"),
    (r"[Dd]uplicate column name|(?:table|index) \S+ already exists",
     "making or upgrading its tables was ended in the middle, and MLflow cannot go on from there",
     "put a backup in its place, or move it away, and all is sent again to a new one"),
    (r"database is locked", "the database is locked by another program",
     "end that program, or try again when it is done"),
    (r"readonly database|read-only", "the database is read-only", "make the file and its folder writable"),
    (r"unable to open database file", "the database file cannot be opened",
     "check that its folder exists and can be written"),
    (r"database or disk is full|No space left", "the disk of the database is full", "make room"),
)  # fmt: skip
"""(what the text of an error matches, what it means, what to do, which may name groups); the first match counts."""
OF_DATABASES = tuple(row for row in _MEANINGS if not re.search("MLflow|MLFLOW|atabricks", f"{row[1]} {row[2]}"))
"""Those that do not speak of MLflow, for other users of a database."""
_OLD_SCHEMA = re.compile(r"out-of-date database schema \(found version (\w+), but expected (\w+)\)")
_UNKNOWN_SCHEMA = re.compile(r"Can't locate revision identified by '(\w+)'")
_NO_DIALECT = re.compile(r"Can't load plugin: sqlalchemy.dialects:(\w+)(?:\.(\w+))?")


@contextmanager
def explaining_errors(uri: str) -> Iterator[None]:
    """What MLflow and the libraries below it raise inside becomes a HarnessError that says what to do."""
    from alembic.util import CommandError
    from google.protobuf.json_format import Error as ParseError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    theirs = (MlflowException, RequestException, SQLAlchemyError, CommandError, ParseError, ImportError)
    try:
        yield
    except (*theirs, ValueError) as error:
        if not isinstance(error, theirs) and "MLFLOW_" not in str(error):  # which names a variable of the user's
            raise
        raise HarnessError(f"MLflow at {masked(uri)}: {explained(error, uri)}") from error


def explained(error: BaseException, uri: str, meanings: Sequence[tuple[str, str, str]] = _MEANINGS) -> str:
    """What is wrong with the store at `uri` and what to do, in one sentence of any length."""
    text = masked(str(error)).strip()
    if isinstance(error, HarnessError):
        return text
    if isinstance(error, ImportError):
        cause = error.__cause__  # Optuna's own error says only that something is missing
        return _missing_package(cause if isinstance(cause, ImportError) else error)
    if error.__cause__ and "An exception is raised during the commit" in text:  # Optuna's words for whatever it was
        return explained(error.__cause__, uri, meanings)
    if version := _driver_or_version(text, uri):
        return version
    for pattern, meaning, remedy in meanings:
        if match := re.search(pattern, text):
            return match.expand(f"{meaning}; {remedy}")
    if isinstance(error, OSError) and (place := describe_os_error(error)):
        return place
    return first_line(text) or type(error).__name__


def first_line(text: str) -> str:
    """The first line that holds a letter or a digit."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if any(map(str.isalnum, line))), "")


def _missing_package(error: ImportError) -> str:
    text = masked(str(error))
    module = (error.name or "").partition(".")[0] or (re.findall(r"'([\w.]+)'", text) or [""])[0].partition(".")[0]
    package = _DRIVERS.get(module, module)
    install = f"; pip install {shlex.quote(package)}"
    return f"{first_line(text)}: this kind of store needs it{install}" if module else first_line(text)


def _driver_or_version(text: str, uri: str) -> str:
    """What to do about an unknown driver, or a database of another version; empty for any other error."""
    address = shlex.quote(masked(uri))
    newer_mlflow = "the database is of a newer MLflow (schema {}) than the one here; pip install --upgrade mlflow"
    if match := _NO_DIALECT.search(text):
        driver = f"{match[1]}+{match[2]}" if match[2] else match[1]
        return f"no driver for {driver}:// databases is installed; check the spelling, or install the driver"
    if match := _OLD_SCHEMA.search(text):
        from alembic.script import ScriptDirectory
        from mlflow.store.db.utils import _get_alembic_config

        scripts = ScriptDirectory.from_config(_get_alembic_config(""))
        if match[1] not in {script.revision for script in scripts.walk_revisions()}:
            return newer_mlflow.format(match[1])
        copy = "copy the file" if sqlite_file(uri) else "take a backup"
        remedy = f"{copy} first, then bring it to the latest schema: mlflow db upgrade {address}"
        return f"the database is of an older MLflow (schema {match[1]}); {remedy}"
    if match := _UNKNOWN_SCHEMA.search(text):
        return newer_mlflow.format(match[1])
    if "optuna storage upgrade" in text:
        command = f"optuna storage upgrade --storage {address}"
        return f"the database is of an older Optuna; copy it first, then upgrade it: {command}"
    if "pip install -U optuna" in text:
        own = "or name a database of its own, if this is another program's, such as MLflow's"
        return f"the database is of a newer Optuna than the one here; pip install --upgrade optuna, {own}"
    return ""
