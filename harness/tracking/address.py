"""Where MLflow's copy is kept: the address for MLflow, the one that is remembered, and files behind it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from harness.databases import absolute_address, sqlite_file
from harness.errors import HarnessError
from harness.masking import masked, remember

if TYPE_CHECKING:
    from harness.study.schema import Study

NAMED = "MLFLOW_TRACKING_URI"
ALLOWED = (
    "sqlite:///mlflow.db, http://HOST:PORT, https://..., databricks, or postgresql://, mysql://, mssql:// and a server"
)
_DATABRICKS = re.compile(r"databricks(?:-uc)?(?::.*)?")
_PLAIN = re.compile(r"(?!\.+$)[^/\\\x00]+")


def tracking_uri(study: Study) -> str:
    """The tracking store: MLFLOW_TRACKING_URI, else the study's `tracking.uri`, else mlflow.db beside the study file.

    Relative SQLite paths of the study are relative to the study file; those of MLFLOW_TRACKING_URI to where the command
    is given, as MLflow reads them. Raises HarnessError for what is none, such as a folder, which MLflow has given up.
    """
    named = os.environ.get(NAMED)
    uri = named or study.tracking.uri or "sqlite:///mlflow.db"
    remember(uri)
    source = NAMED if named else f"{study.path}: tracking.uri"
    dialect = _dialect(uri, source)
    if is_server(uri):
        return uri
    if dialect in ("", "file"):
        message = f"{masked(uri)!r} is a folder, which MLflow no longer writes to"
        raise HarnessError(f"{source}: {message}; allowed: {ALLOWED}")
    if dialect in ("postgres", "oracle", "mariadb", "redis", "mongodb"):
        raise HarnessError(f"{source}: {masked(uri)!r}: MLflow keeps nothing in {dialect}; allowed: {ALLOWED}")
    if dialect != "sqlite":
        return uri
    return absolute_address(uri, Path.cwd() if named else study.path.parent.resolve(), source)


def _dialect(uri: str, source: str) -> str:
    """What the address begins with, without a driver. Raises HarnessError for one that cannot be read."""
    try:
        parts = urlsplit(uri)
        if parts.scheme in ("http", "https") and not (parts.hostname and parts.port != 0):
            raise ValueError("it names no host")
    except ValueError as error:
        raise HarnessError(f"{source}: {masked(uri)!r} is no address ({error}); allowed: {ALLOWED}") from error
    return parts.scheme.partition("+")[0]


def is_server(uri: str) -> bool:
    """Whether what answers has a place of its own for files."""
    return bool(re.match(r"https?://", uri, re.IGNORECASE) or _DATABRICKS.fullmatch(uri))


def kept_as(study: Study, uri: str) -> str:
    """What is remembered of an address: no password, and of a database beside the study no place that may move."""
    file, home = sqlite_file(uri), study.path.parent.resolve()
    if file is not None and file.is_relative_to(home):
        return f"sqlite:///{file.relative_to(home).as_posix()}"
    return masked(uri)


def artifacts(study: Study) -> Path:
    """Where the artefacts of a local store lie."""
    return study.path.parent / "mlartifacts" / _folder(study.tracking.experiment or study.name)


def _folder(experiment: str) -> str:
    """A name of an experiment, which may hold slashes, as one folder's."""
    return experiment if _PLAIN.fullmatch(experiment) else quote(experiment, safe="").replace(".", "%2E")
