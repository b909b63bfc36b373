"""A study folder that was moved: MLflow's database names the place of every artefact in full."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from harness.databases import sqlite_file
from harness.errors import HarnessError
from harness.tracking.address import artifacts

if TYPE_CHECKING:
    from harness.study.schema import Study

_COLUMNS = (("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location"))
"""Where the database names places."""


def follow(study: Study, uri: str) -> str:
    """Have the database that lies in the study's folder name the artefacts where they lie now.

    Returns what was done, in words; empty if nothing had to be. Raises HarnessError where artefacts would go to the
    place that a study has left, and the database is not the study's alone.
    """
    file, now = sqlite_file(uri), artifacts(study)
    before = _place(file, study.tracking.experiment or study.name) if file and file.is_file() else None
    if file is None or before is None or before.parts[-2:] != now.parts[-2:] or _same(before, now):
        return ""
    if file.is_relative_to(study.path.parent.resolve()):
        _rewrite(file, before.parent, now.parent)
        return (
            f"the study was moved or copied: MLflow has its artefacts in {now.parent} from now on, not {before.parent}"
        )
    if before.parent.is_dir():  # of another study, with which this one shares its experiment
        return ""
    message = f"MLflow has the artefacts of the experiment in {before}, which is not there any more"
    raise HarnessError(f"{file}: {message}; move the study back, or give it another tracking.experiment")


def _place(file: Path, experiment: str) -> Path | None:
    """The folder of an experiment's artefacts; None if there is no experiment or no folder."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_opened(file, "ro")) as database:
        row = database.execute("select artifact_location from experiments where name = ?", (experiment,)).fetchone()
        parts = urlsplit(row[0]) if row and row[0] else None
        if parts is not None and parts.scheme in ("", "file"):
            return Path(url2pathname(parts.path) if parts.scheme else row[0])
    return None


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _rewrite(file: Path, before: Path, now: Path) -> None:
    """Put the new beginning in the place of the old one, all at once. Raises HarnessError."""
    try:
        with contextlib.closing(_opened(file, "rw")) as database, database:
            for table, column in _COLUMNS:
                if database.execute(
                    "select 1 from sqlite_master where type = 'table' and name = ?", (table,)
                ).fetchone():
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
