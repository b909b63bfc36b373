"""Addresses that nobody could answer at are refused before anything is sent."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

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
