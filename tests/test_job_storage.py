"""What `ls`, `gc` and `pack` make of the folder of jobs."""

from __future__ import annotations

import os
import time
import zipfile
from pathlib import Path

import pytest

from harness.code.engine import UNKNOWN
from harness.errors import HarnessError
from harness.executors import live
from harness.executors.executor import WorkerState
from harness.executors.job import AskedStudy, Job, JobFolder, JobRuns, make_job
from harness.storage import garbage
from harness.storage.folders import stored_runs
from harness.storage.pack import pack
from harness.storage.pack_facts import make_record
from harness.study.plan import Plan
from harness.study.resources import Resources
from kept import plan_in

WEEK = 7 * 24 * 3600


@pytest.fixture
def plan(without_content: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setenv("HARNESS_CACHE", str(without_content / "cache"))
    return plan_in(without_content)


def make(plan: Plan, age_s: float = 0.0, *, ids: tuple[str, ...] = ("7",)) -> JobFolder:
    """A job on Slurm whose files are so old."""
    asked = AskedStudy(str(plan.study.path), None, (), ())
    made = make_job(plan.study.root, Job(asked, Resources(executor="slurm"), 1, UNKNOWN, ids=ids), JobRuns((), {}), {})
    for path in (*made.path.iterdir(), made.path):
        os.utime(path, (time.time() - age_s,) * 2)
    return made


def removable(plan: Plan) -> tuple[list[str], tuple[str, ...]]:
    found = garbage.find(plan, stored_runs(plan), time.time())
    return ["/".join(piece.names) for piece in found.pieces if piece.kind == "jobs"], found.remarks


class Engine:
    """One that knows these workers."""

    name = "slurm"

    def __init__(self, *running: str) -> None:
        self.running = running

    def look(self, ids: tuple[str, ...]) -> dict[str, WorkerState]:
        if "silent" in self.running:
            raise HarnessError("squeue does not answer")
        return {each: WorkerState("running") for each in ids if each in self.running}


def test_jobs_whose_workers_are_gone_for_a_week_can_go(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    old, alive, young = make(plan, WEEK + 60), make(plan, WEEK + 60, ids=("8",)), make(plan, WEEK - 60)
    half = make(plan, WEEK + 60)
    (half.path / "job.json").unlink()
    os.utime(half.path, (time.time() - WEEK - 60,) * 2)
    monkeypatch.setattr(live, "make_executor", lambda resources, places: Engine("8"))
    assert removable(plan)[0] == [f".jobs/{each.path.name}" for each in (old, half)]
    alive.cancel()
    os.utime(alive.path / "cancelled", (time.time() - WEEK - 60,) * 2)
    os.utime(alive.path, (time.time() - WEEK - 60,) * 2)
    assert f".jobs/{alive.path.name}" in removable(plan)[0]
    pieces = [piece for piece in garbage.find(plan, stored_runs(plan), time.time()).pieces if piece.kind == "jobs"]
    deleted, failed = garbage.delete(pieces)
    assert len(deleted) == 3 and failed == []
    assert [path.name for path in (plan.study.root / ".jobs").iterdir()] == [young.path.name]


def test_a_job_is_kept_while_its_engine_does_not_answer(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    old = make(plan, WEEK + 60)
    monkeypatch.setattr(live, "make_executor", lambda resources, places: Engine("silent"))
    names, remarks = removable(plan)
    assert names == [] and f"{old.path}: kept, as it is not known whether it has workers (squeue does not" in remarks[0]


def test_the_folder_of_jobs_is_no_run_and_goes_into_no_pack(plan: Plan) -> None:
    before = stored_runs(plan)
    made = make(plan)
    after = stored_runs(plan)
    assert after.not_ours == before.not_ours == {} and after.rest > before.rest + 1_000_000
    packed = pack([plan], [make_record(plan, {}, True)], plan.study.path.parent / "out.zip", True)
    names = zipfile.ZipFile(packed.path).namelist()
    assert any(name.endswith(plan.study.path.name) for name in names)
    assert not any(".jobs" in name for name in names) and made.path.exists()
