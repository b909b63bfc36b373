"""Addresses of databases, of MLflow and of Optuna alike: where a file lies, whatever its folder is called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, of_place
from harness.masking import masked

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:", re.IGNORECASE)
_MEANS_ITSELF = re.compile(r"sqlite:///[A-Za-z0-9_./-]+", re.ASCII)


def file_of(url: str) -> Path | None:
    """The file of an SQLite database; None for another one, and for one that has no file of its own."""
    if not _SQLITE.match(url):
        return None
    name = _name(url, url)
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name)


def placed(url: str, folder: Path, source: str) -> str:
    """The address of an SQLite database with its file in full; a relative one is in `folder`, `~` is the user's home.

    Other addresses stay as they are. Raises HarnessError, which begins with `source`.
    """
    if not _SQLITE.match(url):
        return url
    name = _name(url, source)
    if name in ("", ":memory:"):
        told = f"{masked(url)!r} is a database in memory, which nobody finds again"
        raise HarnessError(f"{source}: {told}; allowed: sqlite:///FILE.db, or sqlite:////FOLDER/FILE.db from the root")
    if name.startswith("file:"):  # SQLite's own form, which says all by itself
        return url
    return address(Path(os.path.abspath(folder / os.path.expanduser(name))), url)


def address(file: Path, like: str = "sqlite:///x") -> str:
    """The URL of the SQLite database in this file; `like`: one that has its driver and its options."""
    plain = f"sqlite:///{file}"
    if _MEANS_ITSELF.fullmatch(plain) and _MEANS_ITSELF.fullmatch(like):
        return plain
    # MLflow would take the part behind `sqlite:///` for a folder, signs like %20 and all, and make it.
    made = _parsed(re.sub("^sqlite:", "sqlite+pysqlite:", like), like).set(database=str(file))
    return made.render_as_string(hide_password=False)


def _name(url: str, source: str) -> str:
    """The database that the address names. What means itself is read without SQLAlchemy, which takes long to load."""
    return url.removeprefix("sqlite:///") if _MEANS_ITSELF.fullmatch(url) else _parsed(url, source).database or ""


def _parsed(url: str, source: str) -> URL:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except (ArgumentError, ValueError) as error:
        raise HarnessError(
            f"{source}: {masked(url)!r} is no address of a database; such as sqlite:///FILE.db"
        ) from error


_DRIVERS = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "psycopg[binary]",
    "MySQLdb": "mysqlclient",
    "google": "google-cloud-storage",
    "azure": "azure-storage-blob",
    "databricks": "databricks-sdk",
}
"""Module -> the package that has it, where they are called differently."""
_LOGIN = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, as the server asks for them"
)
_OTHER_ADDRESS = "see that the address is right, port and path too"
AGAIN = "start it, or see that the address is right, and ask again"
_KINDS: tuple[tuple[str, str, str], ...] = (
    (r"Detected Unity Catalog", "that is a registry of models, not a place for runs",
     "databricks, or databricks://PROFILE, is the place for runs of the same workspace"),
    (r"Could not parse SQLAlchemy URL|[Ii]nvalid URL|Failed to parse: http|Invalid (?:port|IPv6 URL)",
     "that is no address that MLflow knows", "such as sqlite:///mlflow.db, http://HOST:PORT or databricks"),
    (r"[Dd]atabricks authentication|default auth|configure Databricks|DatabricksConfig|DATABRICKS_HOST",
     "Databricks does not know who asks",
     "set DATABRICKS_HOST and DATABRICKS_TOKEN, or name a profile of ~/.databrickscfg: databricks://PROFILE"),
    (r"certificate verify failed|SSLCertVerif|CERTIFICATE_VERIFY|self[- ]signed",
     "its certificate is not trusted",
     "name the file of its authority in MLFLOW_TRACKING_SERVER_CERT_PATH, or, if you must, set "
     "MLFLOW_TRACKING_INSECURE_TLS=true"),
    (r"SSLError|WRONG_VERSION_NUMBER|wrong version number", "it does not speak TLS", "try http:// instead of https://"),
    (r"ProxyError|[Cc]annot connect to proxy|Tunnel connection failed|error code 407",
     "the proxy refuses", "see HTTPS_PROXY and HTTP_PROXY, or name the host in NO_PROXY"),
    (r"[Nn]ame or service not known|name resolution|nodename nor servname|could not translate host name|NameResolution"
     r"|Unknown .*server host",
     "there is no machine of that name", "see that the address is right"),
    (r"Connection refused|Can't connect to", "cannot be reached (Connection refused)", AGAIN),
    (r"[Nn]o route to host|Network is unreachable", "cannot be reached (no way to that machine)", AGAIN),
    (r"timed out|[Tt]imeout", "cannot be reached (timed out)",
     "see that it is well, or let it have longer: MLFLOW_HTTP_REQUEST_TIMEOUT=60"),
    (r"Connection aborted|Connection reset|RemoteDisconnected|IncompleteRead|EOF occurred",
     "the connection broke off", "see that the address is right and the server well, and ask again"),
    (r"error code 401|401 .*Unauthorized|UNAUTHENTICATED", "it asks who you are (401)", _LOGIN),
    (r"error code 403|403 .*Forbidden|PERMISSION_DENIED", "it does not let you do this (403)",
     f"ask whoever keeps it for the right to write, or give another login: {_LOGIN}"),
    (r"error code 404", "what answers there is no MLflow server (404)", _OTHER_ADDRESS),
    (r"error code 30\d", "it sends to another place", "give the address that a browser ends at"),
    (r"error code 5\d\d|too many 5\d\d error", "it has a fault of its own", "see its log, and ask again"),
    (r"error code 429|too many 429 error", "it is asked too often (429)", "ask again later"),
    (r"error code 413", "it takes nothing so large (413)",
     "raise the limit of the proxy before it, such as client_max_body_size of nginx"),
    (r"error code 4(?:0[56]|1\d)", "what answers there is no MLflow server, or an old one", _OTHER_ADDRESS),
    (r"Failed to parse|has no field named|Invalid value \"\" for parameter '\w+_id'",
     "what answers there is no MLflow server (its answer is none of MLflow's)", _OTHER_ADDRESS),
    (r"Expecting value|not in a valid JSON|JSONDecodeError|<!DOCTYPE|<html",
     "what answers there is no MLflow server (a page, no JSON)", _OTHER_ADDRESS),
    (r"password authentication failed|Access denied for user|Login failed|authentication failed",
     "the database does not accept the name and password",
     "see those in the address; %40 stands for @, %2F for /"),
    (r"database \"?.*\"? does not exist|Unknown database|Cannot open database",
     "there is no such database on that server", "create it there; MLflow fills it by itself"),
    (r"file is not a database", "the file is no SQLite database", "give another name, or move the file away"),
    (r"database disk image is malformed", "the database is damaged",
     "put a copy in its place, or move it away, and all is sent again"),
    (r"database is locked", "the database is locked by another program", "end that one, or ask again when it is done"),
    (r"readonly database|read-only", "the database cannot be written", "make the file and its folder writable"),
    (r"unable to open database file", "the database file cannot be opened",
     "see that its folder is there and may be written"),
    (r"database or disk is full|No space left", "there is no room for the database", "make room"),
)  # fmt: skip
"""What MLflow, SQLAlchemy, requests or a driver says -> what it means -> what to do."""
_SCHEMA = re.compile(r"out-of-date database schema \(found version (\w+), but expected (\w+)\)")
_UNKNOWN_REVISION = re.compile(r"Can't locate revision identified by '(\w+)'")
_NO_DIALECT = re.compile(r"Can't load plugin: sqlalchemy.dialects:(\w+)(?:\.(\w+))?")


@contextmanager
def foreign(uri: str) -> Iterator[None]:
    """What MLflow and all below it raise inside becomes a HarnessError with its remedy."""
    from alembic.util import CommandError
    from google.protobuf.json_format import Error as ParseError
    from mlflow.exceptions import MlflowException
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, CommandError, ParseError, ImportError) as error:
        raise HarnessError(f"MLflow at {masked(uri)}: {told(error, uri)}") from error


def told(error: BaseException, uri: str) -> str:
    """What is wrong and how to put it right, in a sentence that is never cut."""
    text = masked(str(error)).strip()
    if isinstance(error, HarnessError):
        return text
    if isinstance(error, ImportError):
        within = error.__cause__  # Optuna says only that something is missing
        return _missing(within if isinstance(within, ImportError) else error)
    if version := _of_version(text, uri):
        return version
    for pattern, meaning, remedy in _KINDS:
        if re.search(pattern, text):
            return f"{meaning}; {remedy}"
    if isinstance(error, OSError) and (place := of_place(error)):
        return place
    return first_line(text) or type(error).__name__


def _of_version(text: str, uri: str) -> str:
    """What to do about a driver that nobody knows, or a database of another version; empty for anything else."""
    if match := _NO_DIALECT.search(text):
        driver = f"{match[1]}+{match[2]}" if match[2] else match[1]
        return f"nobody here knows {driver}:// databases; see that it is written right, and install its driver"
    if match := _SCHEMA.search(text):
        return _other_schema(match[1], uri)
    if match := _UNKNOWN_REVISION.search(text):
        return _newer(match[1])
    if "optuna storage upgrade" in text:
        command = f"optuna storage upgrade --storage {_quoted(masked(uri))}"
        return f"the database is of an older Optuna; copy it first, then bring it up: {command}"
    if "pip install -U optuna" in text:
        return "the database is of a newer Optuna than the one here; pip install --upgrade optuna"
    return ""


def first_line(text: str) -> str:
    """The first line that says something, whole."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if any(map(str.isalnum, line))), "")


def _missing(error: ImportError) -> str:
    text = masked(str(error))
    module = (error.name or "").partition(".")[0] or (re.findall(r"'([\w.]+)'", text) or [""])[0].partition(".")[0]
    package = _DRIVERS.get(module, module)
    install = f"pip install '{package}'" if "[" in package else f"pip install {package}"
    return f"{first_line(text)}: this kind of store needs it; {install}" if module else first_line(text)


def _other_schema(found: str, uri: str) -> str:
    """A database of another version of MLflow: an older one can be brought up, a newer one needs a newer MLflow."""
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    known = {script.revision for script in ScriptDirectory.from_config(_get_alembic_config("")).walk_revisions()}
    if found not in known:
        return _newer(found)
    what = "copy the file" if file_of(uri) else "take a backup"
    return (
        f"the database is of an older MLflow (schema {found}); {what} first, then bring it to the latest schema: "
        f"mlflow db upgrade {_quoted(masked(uri))}"
    )


def _newer(found: str) -> str:
    return f"the database is of a newer MLflow (schema {found}) than the one here; pip install --upgrade mlflow"


def _quoted(uri: str) -> str:
    return uri if re.fullmatch(r"[\w:/.@%+=,-]+", uri, re.ASCII) else "'" + uri.replace("'", "'\\''") + "'"
