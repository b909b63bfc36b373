"""Where MLflow's copy is kept: the address for MLflow, the one in our ledgers, and the files behind it."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit
from urllib.request import url2pathname

from harness.databases import absolute_address, sqlite_file
from harness.errors import HarnessError
from harness.masking import masked, remember

if TYPE_CHECKING:
    from harness.study.schema import Study

NAMED = "MLFLOW_TRACKING_URI"
ALLOWED = (
    "sqlite:///mlflow.db, http://HOST:PORT, https://..., databricks, or postgresql://, mysql://, mssql:// and a server"
)
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVER = re.compile(r"(?i:https?://).*|databricks(?:-uc)?(?::.*)?", re.DOTALL)
_PLAIN = re.compile(r"(?!\.+$)[^/\\\x00]+")


def tracking_uri(study: Study) -> str:
    """The tracking store: MLFLOW_TRACKING_URI, else the study's `tracking.uri`, else mlflow.db beside the study file.

    Relative SQLite paths of the study are relative to the study file; those of MLFLOW_TRACKING_URI to where the command
    is given, as MLflow reads them. Raises HarnessError for what is none, such as a folder, which MLflow has given up.
    """
    named = os.environ.get(NAMED)
    uri = named or study.tracking.uri or "sqlite:///mlflow.db"
    remember(uri)
    source = NAMED if named else study.placed("tracking.uri")
    try:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https") and not (parts.hostname and parts.port != 0):
            raise ValueError("it names no host")
    except ValueError as error:
        raise HarnessError(f"{source}: {masked(uri)!r} is no address ({error}); allowed: {ALLOWED}") from error
    if is_server(uri):
        return uri
    dialect = parts.scheme.partition("+")[0]
    if dialect in ("", "file") or dialect.startswith("databricks"):
        raise HarnessError(f"{source}: {_no_store(uri)}; allowed: {ALLOWED}")
    if dialect not in _DATABASES:
        raise HarnessError(f"{source}: {masked(uri)!r}: MLflow keeps nothing in {dialect}; allowed: {ALLOWED}")
    return absolute_address(uri, Path.cwd() if named else study.path.parent.resolve(), source)


def _no_store(uri: str) -> str:
    if _SERVER.fullmatch(uri.lower()):
        return f"{masked(uri)!r} is no address; did you mean {masked(uri.lower())!r}?"
    if uri.endswith((".db", ".sqlite", ".sqlite3")) and "://" not in uri:
        return f"{masked(uri)!r} is no address; did you mean 'sqlite:///{masked(uri)}'?"
    return f"{masked(uri)!r} is a folder, which MLflow no longer writes to"


def is_server(uri: str) -> bool:
    """Whether what answers has a place of its own for files."""
    return bool(_SERVER.fullmatch(uri))


def recorded_uri(study: Study, uri: str) -> str:
    """What a ledger records of an address: no password, and of a database beside the study no place that may move."""
    file, home = sqlite_file(uri), study.path.parent.resolve()
    if file is not None and file.is_relative_to(home):
        return f"sqlite:///{file.relative_to(home).as_posix()}"
    return masked(uri)


def experiment_of(study: Study) -> str:
    """The name of the study's experiment in MLflow."""
    return study.tracking.experiment or study.name


def artifacts(study: Study) -> Path:
    """Where the artefacts of a local store lie: in a folder of the experiment, whose name may hold slashes."""
    experiment = experiment_of(study)
    folder = experiment if _PLAIN.fullmatch(experiment) else quote(experiment, safe="").replace(".", "%2E")
    return study.path.parent / "mlartifacts" / folder


# A study folder that was moved: MLflow's database names the place of every artefact in full.

_COLUMNS = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"))
"""Where the database names places."""


def follow(study: Study, uri: str) -> str:
    """Have the database that lies in the study's folder name the artefacts where they lie now.

    Returns what was done, in words; empty if nothing had to be. Raises HarnessError where artefacts would go to the
    place that a study has left, and the database is not the study's alone.
    """
    file, now = sqlite_file(uri), artifacts(study)
    before = _place(file, experiment_of(study)) if file and file.is_file() else None
    if file is None or before is None or before.parts[-2:] != now.parts[-2:] or before.resolve() == now.resolve():
        return ""
    is_own = file.is_relative_to(study.path.parent.resolve())
    if not is_own and not before.parent.is_dir():
        message = f"MLflow has the artefacts of the experiment in {before}, which is not there any more"
        raise HarnessError(f"{file}: {message}; move the study back, or give it another tracking.experiment")
    if not is_own or _stays(file, before.parent, now.parent):  # of another study, with which it shares its experiment
        return ""
    _rewrite(file, before.parent, now.parent)
    places = f"in {now.parent} from now on, not {before.parent}"
    return f"the study was moved or copied: MLflow has its artefacts {places}"


def _place(file: Path, experiment: str) -> Path | None:
    """The folder of an experiment's artefacts; None if there is no experiment or no folder."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(file, "ro")) as database:
        row = database.execute("select artifact_location from experiments where name = ?", (experiment,)).fetchone()
        return _folder(row[0]) if row and row[0] else None
    return None


def _folder(address: str) -> Path | None:
    """As the database writes it; None for one that is elsewhere."""
    parts = urlsplit(address)
    return Path(url2pathname(parts.path) if parts.scheme else address) if parts.scheme in ("", "file") else None


def _stays(file: Path, before: Path, now: Path) -> bool:
    """Whether artefacts of any run lie below `before` and not below `now`: they were neither moved nor copied."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(file, "ro")) as database:
        named = database.execute("select artifact_uri from runs where artifact_uri is not null")
        places = [place for (uri,) in named if (place := _folder(uri)) and place.is_relative_to(before)]
        return any(place.exists() and not (now / place.relative_to(before)).exists() for place in places)
    return False


def _rewrite(file: Path, before: Path, now: Path) -> None:
    """Put the new beginning in the place of the old one, all at once. Raises HarnessError."""
    try:
        with contextlib.closing(_opened(file, "rw")) as database, database:
            tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
            for table, column in (pair for pair in _COLUMNS if pair[0] in tables):
                for old, new in ((before.as_uri(), now.as_uri()), (str(before), str(now))):
                    database.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) "
                        f"where {column} = ? or substr({column}, 1, ?) = ?",
                        (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                    )
    except sqlite3.Error as error:
        message = f"the study was moved, and its database cannot be updated ({error})"
        raise HarnessError(f"{file}: {message}; make it writable, or move the study back to {before.parent}") from error


def _opened(file: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.absolute().as_uri()}?mode={mode}", uri=True, timeout=5)
