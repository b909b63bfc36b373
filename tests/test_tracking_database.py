"""The file of MLflow's database: made whole or not at all, and told with what to do where it is not."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mlflow.store.db import utils

from harness.databases import explaining_errors
from harness.errors import HarnessError
from harness.tracking.mlflow_store import prepare_database
from mirrored import connect, empty_store

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")


def test_a_database_whose_making_ends_in_the_middle_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, made = empty_store(), list[Path]()

    def make(engine: Any) -> None:
        """The second time all of it; the first time Ctrl-C comes in between."""
        made.append(Path(engine.url.database))
        with engine.connect() as database:
            database.exec_driver_sql("create table metrics (step int)")
        if len(made) == 1:
            raise KeyboardInterrupt
        shutil.copy(whole, made[-1])

    monkeypatch.setattr(utils, "_initialize_tables", make)
    (tmp_path / "disk").mkdir()
    (tmp_path / "m.db").symlink_to("disk/m.db")
    uri = f"sqlite:///{tmp_path}/m.db"
    with pytest.raises(KeyboardInterrupt):
        prepare_database(uri)
    assert (tmp_path / "m.db").stat().st_size == 0 and not made[0].exists()
    (tmp_path / "disk" / ".m.db.7-killed.tmp").touch()
    for _ in range(2):
        prepare_database(uri)
    assert len(made) == 2 and (tmp_path / "m.db").is_symlink()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["m.db"]
    assert [each.name for each in connect(uri).search_experiments()] == ["Default"]


def test_what_another_version_of_mlflow_does_by_itself_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(utils, "_initialize_tables")
    prepare_database(f"sqlite:///{tmp_path}/m.db")
    assert [(path.name, path.stat().st_size) for path in tmp_path.iterdir()] == [("m.db", 0)]


def test_one_that_was_left_half_made_is_told_with_what_to_do(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "m.db")) as database:
        database.execute("create table metrics (key text, step int)")
    uri = f"sqlite:///{tmp_path}/m.db"
    with pytest.raises(HarnessError) as told, explaining_errors(uri):
        connect(uri).search_experiments()
    assert "ended in the middle" in str(told.value) and "or move it away, and all is sent again" in str(told.value)
