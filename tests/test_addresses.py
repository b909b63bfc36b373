"""Addresses that nobody could answer at are refused before anything is sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.databases import absolute_address, explaining_errors
from harness.errors import HarnessError
from harness.study.load import load_text
from harness.tracking.address import NAMED, tracking_uri
from harness.tracking.front import runs_page

STUDY = SimpleNamespace(path="study.yaml", tracking=SimpleNamespace(uri=""))


@pytest.mark.parametrize("uri", ["http://", "http://u:secretpw@[::1", "http://h:99999", "https://h:port", "//[x"])
def test_what_is_no_address_is_refused(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMED, uri)
    with pytest.raises(HarnessError, match=rf"{NAMED}: .* is no address .*; allowed: sqlite:///") as refused:
        tracking_uri(STUDY)
    assert "secretpw" not in str(refused.value)


@pytest.mark.parametrize(
    "uri", ["http://[::1]:5000", "HTTP://h/mlflow", "https://me:x%2Fy@h:443/a?b=c", "http://h:65535"]
)
def test_odd_addresses_stay_as_they_are(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMED, uri)
    assert tracking_uri(STUDY) == uri


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://u:secretpw@", r"'http://.*' is no address \(it names no host\)"),
        ("off", "'off' is a folder, which MLflow no longer writes to"),
        ("sqlite:///.", "'sqlite:///.' is a folder"),
        ("ftp://a/b", "'ftp://a/b': MLflow keeps nothing in ftp"),
    ],
)
def test_what_is_refused_is_told_with_its_place(
    uri: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(NAMED, raising=False)
    written = f"study: s\ntracking: {{uri: '{uri}'}}\n"
    for text, given, place in (("study: s\n", [f"tracking.uri={uri}"], "--set .*"), (written, [], r".*s\.yaml:2:17")):
        study = load_text(text, tmp_path / "s.yaml", None, given)
        with pytest.raises(HarnessError, match=rf"^{place}: tracking\.uri: {told}; allowed: sqlite:///") as refused:
            tracking_uri(study)
        assert "secretpw" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "folder", "told"),
    [
        ("sqlite:///x.db", "/p\udcff", r"^here: /p\\udcff/x\.db: this name is not UTF-8.*; rename the folder"),
        (
            "sqlite:///~nosuchuser/x.db",
            "/p",
            r"^here: '~nosuchuser/x\.db' begins with a home folder .*; write the path",
        ),
    ],
)
def test_a_database_whose_path_cannot_be_told_is_refused(url: str, folder: str, told: str) -> None:
    with pytest.raises(HarnessError, match=told):
        absolute_address(url, Path(folder), "here")


@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("sqlite://mlflow.db", "sqlite:///mlflow.db"),
        ("./m.db", "sqlite:///./m.db"),
        ("Databricks", "databricks"),
        ("Databricks://me", "databricks://me"),
    ],
)
def test_a_near_miss_is_told_with_what_was_meant(uri: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMED, uri)
    with pytest.raises(HarnessError, match=rf"{NAMED}: .*did you mean '{meant}'\?"):
        tracking_uri(STUDY)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:pass1word@h:5000/x/", "http://h:5000/x"),
        ("http://ghp_token@h", "http://h"),
        ("https://h:1", "https://h:1"),
    ],
)
def test_the_page_that_a_browser_gets_has_no_login(address: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = SimpleNamespace(experiment_id="7", tags={}, lifecycle_stage="active")
    monkeypatch.setattr("mlflow.MlflowClient", lambda _: SimpleNamespace(get_experiment_by_name=lambda _: there))
    study = SimpleNamespace(name="emoji", label="emoji", tracking=SimpleNamespace(experiment=None))
    assert runs_page(address, study, address) == f"{shown}/#/experiments/7/runs?workflowType=machine_learning"
    there.experiment_id = ""  # as of a server that answers {} to everything
    with pytest.raises(HarnessError, match=r"there is no MLflow server at this address .*; check the address"):
        runs_page(address, study, address)


@pytest.mark.parametrize("name", ["x" * 201, "Ж" * 101, "a/" * 60])
def test_an_experiment_whose_folder_would_have_too_long_a_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"tracking\.experiment.*must be up to 200 bytes"):
        load_text(f"study: s\ntracking: {{experiment: '{name}'}}\n", tmp_path / "s.yaml", None, [])
    load_text(f"study: s\ntracking: {{experiment: '{name[:50]}'}}\n", tmp_path / "s.yaml", None, [])


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "abc", "whole seconds above 0, such as 60"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "-1", "whole seconds above 0, such as 60"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "many", "a whole number from 0 to 10"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "-1", "a whole number from 0 to 10"),
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "11", "a whole number from 0 to 10"),
        ("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "x", "a number; or leave it out"),
    ],
)
def test_a_wrong_variable_of_mlflow_is_told_with_what_is_allowed(
    variable: str, value: str, allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv(variable, value)
    uri = "http://127.0.0.1:9"
    with pytest.raises(HarnessError) as refused, explaining_errors(uri):
        MlflowClient(uri).search_experiments()
    assert str(refused.value) == f"MLflow at {uri}: {variable} is '{value}'; allowed: {allowed}"
    with pytest.raises(ValueError, match="of ours"), explaining_errors(uri):
        raise ValueError("of ours")
