"""Where Optuna keeps the trials of a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.tuning.trials import Trials
from searched import TWO, search_in, without_weights

__all__ = ["without_weights"]


def test_a_relative_storage_is_beside_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    Trials(search_in(tmp_path / "s", TWO, "tune.storage=sqlite:///trials.db", "tune.pruner=none"))
    assert (tmp_path / "s" / "trials.db").is_file() and not list((tmp_path / "elsewhere").iterdir())


def test_that_of_the_environment_is_where_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///trials.db")
    Trials(search_in(tmp_path / "s", TWO, "tune.pruner=none"))
    assert (tmp_path / "elsewhere" / "trials.db").is_file() and not (tmp_path / "s" / "trials.db").exists()


@pytest.mark.parametrize("name", ["a b#c", "a?b%20c", "é日;&+"])
@pytest.mark.parametrize("storage", ["tune.storage=sqlite:///trials.db", "tune.storage=null"])
def test_a_search_in_an_odd_folder_stays_in_it(tmp_path: Path, name: str, storage: str) -> None:
    (tmp_path / name).mkdir()
    Trials(search_in(tmp_path / name, TWO, storage, "tune.pruner=none"))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "trials.db").exists() is ("trials.db" in storage)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql+psycopg2://u:s3cret@127.0.0.1:1/x", "pip install psycopg2-binary"),
        ("oracle+nothing://u:s3cret@h/x", "no driver for oracle+nothing:// databases is installed"),
        ("sqlite:////no/such/folder/x.db", "the database file cannot be opened; check that its folder exists"),
        ("sqlite://", "in memory, which is lost when the command ends"),
        ("sqlite:///.", "'sqlite:///.' is a folder; allowed: sqlite:///FILE.db"),
    ],
)
def test_a_storage_that_cannot_be_used_has_its_own_remedy(tmp_path: Path, url: str, told: str) -> None:
    with pytest.raises(HarnessError) as refused:
        Trials(search_in(tmp_path, TWO, f"tune.storage={url}", "tune.pruner=none"))
    assert told in str(refused.value) and "s3cret" not in str(refused.value)
    assert str(refused.value).startswith("--set tune.storage=")
