"""Addresses that nobody could answer at are refused before anything is sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.databases import absolute_address
from harness.errors import HarnessError
from harness.tracking.address import NAMED, tracking_uri

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
