"""When `harness tune --apply` writes weights into the study file, and what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.grid import tune
from harness.tuning.findings import Findings
from search_findings import better, compared, four

WORSE = compared({"fd_emoji": [5.0, 5.5, 4.8, 5.2, 5.1]}, {"fd_emoji": [1.20, 1.21, 1.19, 1.20, 1.205]})


@pytest.mark.parametrize(
    ("change", "told", "written"),
    [
        ({"comparison": better()}, "the weights are in the profile new (under fresh seeds: better)", True),
        ({"comparison": None}, "(not compared under fresh seeds)", True),
        ({"comparison": WORSE}, "under fresh seeds the weights found are worse than those as written; nothing", False),
        ({"best": 0}, "no trial was better than the weights as written; nothing is written", False),
        ({"best": None}, "the weights are written when all are", False),
        ({"trials": 3}, "4 trials are done; the weights are written when all are", False),
    ],
)
def test_weights_are_written_when_they_are_to_be_had_and_not_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], told: str, written: bool
) -> None:
    found = _changed(four(tmp_path, trials=4), change)
    calls: list[Any] = []
    monkeypatch.setattr(tune, "write_profile", lambda *given: calls.append(given) or "new")
    assert told in tune._apply(found.search.study, found)
    assert bool(calls) == written
    if written:
        study, weights, tuned = calls[0]
        assert study is found.search.study and weights == found.trials[1].values
        assert [(cell, it.trials, it.objective) for cell, it in tuned.items()] == [(found.search.cell.name, 4, "fd")]


def _changed(found: Findings, change: dict[str, Any]) -> Findings:
    if "trials" in change:
        return replace(found, trials=found.trials[: change["trials"]])
    if "best" in change:
        return replace(found, best=None if change["best"] is None else found.trials[change["best"]])
    return replace(found, **change)
