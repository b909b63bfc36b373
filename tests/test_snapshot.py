"""How often a grid that finds nothing to do, and what else asks about runs, reads each run's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.files import write_json
from harness.grid import outcome
from harness.runs.folders import RunFolder
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.tracking import ledger
from harness.tracking.address import recorded_uri, tracking_uri
from harness.tracking.names import called
from hostile import write_images
from test_damaged_runs import STUDY, finished

COUNTED = """
import collections, json, os, sys
counts = collections.Counter()

def count(event, arguments):
    if event in ("open", "os.scandir", "os.listdir") and isinstance(arguments[0], (str, os.PathLike)):
        counts[os.path.abspath(arguments[0])] += 1

sys.addaudithook(count)
from harness.cli.main import main
sys.argv[0] = "harness"
try:
    main()
finally:
    with open("counts.json", "w") as file:
        json.dump(counts, file)
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plan]:
    """A study whose runs are all done, with a report of them that is current and in MLflow."""
    folder = tmp_path_factory.mktemp("snapshot")
    write_images(folder / "images")
    (folder / "study.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(folder)
        made = make_plan(load_study(folder / "study.yaml", None, ()))
        root, reports = made.study.root, made.study.reports
        for run in made.runs:
            finished(RunFolder(root / run.id), run, 0)
        write_json(outcome.scale_path(made), {"ceiling": {"fd_emoji": 1.5}})
        outcome.write_grid(outcome.gather(made))
        reports.mkdir(parents=True)
        for name in ("report.md", "report.html"):
            (reports / name).touch()
        known = ledger.GridLedger(
            recorded_uri(made.study, tracking_uri(made.study)), parent="2", described=True, status="FINISHED"
        )
        for run in made.runs:
            known.delivered[run.id] = ledger.changed_at(root / run.id / "status.json") or 0
            known.called[run.id] = called(run, made.study)
        ledger.save(root / ledger.NAME, known)
        yield made


def counts_of(plan: Plan, *words: str) -> tuple[str, dict[str, int]]:
    """What the command said on standard error, and how often it opened each file and listed each folder."""
    command = [sys.executable, "-c", COUNTED, *words, "study.yaml"]
    folder = plan.study.path.parent
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counts: dict[str, int] = json.loads((folder / "counts.json").read_text())
    return done.stderr, counts


@pytest.mark.parametrize("verb", ["run-grid", "status", "plan"])
def test_each_file_of_a_finished_run_is_read_once(plan: Plan, verb: str) -> None:
    told, counts = counts_of(plan, verb)
    assert verb != "run-grid" or ("nothing to do" in told and "report:" not in told)
    root = str(plan.study.root.resolve())
    inside = {path: count for path, count in counts.items() if path.startswith(root + os.sep) and path != root}
    of_runs = {path: count for path, count in inside.items() if Path(path).relative_to(root).parts[0] in ids(plan)}
    if verb == "run-grid":
        read = {Path(path).relative_to(root).as_posix() for path in of_runs}
        assert {f"{run.id}/{name}" for run in plan.runs for name in ("run.json", "result.json")} <= read
    # A claim is no record: whether somebody holds a run is asked whenever it matters.
    assert {path: count for path, count in of_runs.items() if count > 1 and not path.endswith("claim")} == {}
    assert max(counts.get(root, 0), *of_runs.values()) <= 2


def ids(plan: Plan) -> set[str]:
    return {run.id for run in plan.runs}
