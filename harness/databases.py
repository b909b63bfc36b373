"""Addresses of databases, of MLflow and of Optuna alike: where a file lies, whatever its folder is called."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
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
