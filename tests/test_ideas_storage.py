"""What becomes of runs and the cache when a file of ideas is edited: nothing that an earlier text needs is deleted."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.runs.record import Run
from harness.storage import garbage
from harness.storage.folders import delete, stored_runs
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from kept import encoded, lay

IDEAS = """
raise SystemExit("nobody may run this")
from harness.ideas import *

f_own = feature("embedded:resnet-guide")

@term("generator", reads=("f_own",))
def near(step): return step.feature("f_own", "x").mean()

@layer("generator", at=8)
class block(Base): ...
"""
STUDY = """
study: mine
code: my_ideas.py
data: {source: twemoji, resolution: 16}
toggles: [near, block]
design: {kind: one-at-a-time, seeds: 1}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-measure"}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 16}
"""
NETWORK = "ideas.f_own.network"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def planned(place: Path, ideas: str) -> tuple[Plan, dict[str, Run]]:
    """The plan, and its runs by cell, with this text of the file of ideas."""
    (place / "my_ideas.py").write_text(ideas)
    plan = make_plan(load_study(place / "study.yaml"))
    return plan, {run.cell: run for run in plan.runs}


def removable(plan: Plan) -> set[str]:
    """`kind NAME/NAME` of what could go in a month."""
    found = garbage.find(plan, stored_runs(plan), time.time() + 30 * 24 * 3600)
    return {f"{piece.kind} {'/'.join(piece.names)}" for piece in found.pieces}


def test_what_runs_of_an_earlier_text_need_stays_as_long_as_they_are_there(place: Path) -> None:
    plan, before = planned(place, IDEAS)
    root = plan.study.root
    lay(root, before["near"], "interrupted")
    lay(root, before["block"])
    features = encoded(place / "cache", "data", before["near"].fingerprints[NETWORK])
    unread = encoded(place / "cache", "data", "nobody")
    expected = {f"features features/{unread.name}", f"checkpoints {before['block'].id}/checkpoint"}
    assert removable(plan) == expected

    edited = IDEAS.replace("resnet-guide", "clip-measure").replace(".mean()", ".sum()")
    plan, now = planned(place, edited)
    assert now["near"].fingerprints[NETWORK] != before["near"].fingerprints[NETWORK]
    assert {each.run.id: each.planned for each in stored_runs(plan).runs} == {
        before[cell].id: False for cell in ("near", "block")
    }
    assert removable(plan) == expected
    delete(root, before["near"].id)
    assert removable(plan) == {*expected, f"features features/{features.name}"}
    plan, again = planned(place, f"# a comment\n{IDEAS}")
    assert {cell: run.id for cell, run in again.items()} == {cell: run.id for cell, run in before.items()}
    assert removable(plan) == expected, "with the text as it was they are read again"
