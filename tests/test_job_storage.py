"""What `ls`, `gc` and `pack` make of the folder of jobs."""

from __future__ import annotations

import os
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.cli import main
from harness.code.engine import UNKNOWN
from harness.errors import HarnessError
from harness.executors import live
from harness.executors.executor import WorkerState
from harness.executors.job import AskedStudy, Job, JobFolder, JobRuns, make_job
from harness.runs.folders import RunFolder
from harness.runs.record import Result, Run, Status
from harness.storage import garbage
from harness.storage.caches import Reads, needed
from harness.storage.folders import stored_runs
from harness.storage.pack import pack
from harness.storage.pack_facts import make_record
from harness.storage.starting import starting
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


def test_a_job_that_another_process_deletes_meanwhile_is_no_mistake(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, entries = make(plan, WEEK + 60), garbage._entries

    def vanishing(folder: Path) -> list[os.DirEntry[str]]:
        found = entries(folder)
        if folder == made.path:
            shutil.rmtree(folder)
        return found

    monkeypatch.setattr(garbage, "_entries", vanishing)
    assert removable(plan) == ([], ())


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


def trained(plan: Plan, *runs: Run) -> None:
    for run in runs:
        RunFolder(plan.study.root / run.id).create(run)
        RunFolder(plan.study.root / run.id).put(Status("done"))
        RunFolder(plan.study.root / run.id).finish(Result({"fd_emoji": 1.0}, {}, {"seconds": 1.0}))


def queue(plan: Plan, *runs: Run) -> JobFolder:
    asked = AskedStudy(str(plan.study.path), None, (), ())
    job = Job(asked, Resources(executor="slurm"), 1, UNKNOWN, ids=("7",))
    return make_job(plan.study.root, job, JobRuns(runs, {}), {})


@pytest.fixture
def rm(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`harness COMMAND STUDY WORDS...`: the exit code and all that was printed, on one line."""

    def ask(command: str, *words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["harness", command, str(plan.study.path), *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        told = capsys.readouterr()
        return int(str(end.value.code)), " ".join((told.out + told.err).split())

    return ask


def test_runs_that_a_waiting_job_would_train_again_are_not_deleted(
    plan: Plan, rm: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = plan.runs[:3]
    trained(plan, first, second, third)
    job = queue(plan, first, second)
    for running, why in (("7", "has workers"), ("silent", "may have workers (squeue does not answer)")):
        monkeypatch.setattr(live, "make_executor", lambda resources, places, its=running: Engine(its))
        for words in ((first.id, third.id, "--yes"), (first.id,)):
            code, text = rm("rm", *words)
            assert (
                code == 2 and f"{job.path}: {why} that would train these runs again: {first.cell}/{first.seed}" in text
            )
            assert "`harness cancel` ends the workers" in text and "nothing was deleted" in text
    assert rm("rm", third.id, "--yes")[0] == 0 and not (plan.study.root / third.id).exists()
    monkeypatch.setattr(live, "make_executor", lambda resources, places: Engine())
    assert rm("rm", first.id, "--yes")[0] == 0, "its workers are gone"
    (job.path / "runs.json").write_text("{")
    monkeypatch.setattr(live, "make_executor", lambda resources, places: Engine("7"))
    assert rm("rm", second.id, "--yes")[0] == 0, "no worker can read that list"


def test_what_runs_of_a_job_read_and_start_from_is_kept(plan: Plan) -> None:
    source, run = plan.runs[:2]
    trained(plan, source)
    (plan.study.root / source.id / "checkpoint").mkdir()
    (plan.study.root / source.id / "checkpoint" / "state").write_bytes(b"weights")

    def checkpoints() -> list[str]:
        pieces = garbage.find(plan, stored_runs(plan), time.time()).pieces
        return [piece.names[0] for piece in pieces if piece.kind == "checkpoints"]

    assert checkpoints() == [source.id]
    of_before = replace(
        run,
        id="0" * 12,
        fingerprints={**run.fingerprints, "data": "of before"},
        first_weights={"generator": str(plan.study.root / source.id / "generator.safetensors")},
    )
    job = queue(plan, of_before)
    assert checkpoints() == []
    assert any("of before" in reads for reads in needed(plan.study.root, Reads()).reads)
    assert starting(plan, needed(plan.study.root, Reads())).names(source.id) == [f"{run.cell}/{run.seed}"]
    job.cancel()
    assert checkpoints() == [source.id] and not any(
        "of before" in each for each in needed(plan.study.root, Reads()).reads
    )


def test_all_jobs_are_asked_whatever_becomes_of_one(
    plan: Plan, rm: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Half(Engine):
        def cancel(self, ids: tuple[str, ...]) -> None:
            asked.extend(ids)

        save = cancel

    silent, alive = make(plan, ids=("7",)), make(plan, ids=("8",))
    alive.write(
        replace(alive.read(), resources=Resources(executor="ray"), study=replace(alive.read().study, path="/b.yaml"))
    )
    monkeypatch.setattr(
        live, "make_executor", lambda resources, places: Half("silent" if resources.executor == "slurm" else "8")
    )
    code, text = rm("checkpoint")
    assert code == 2 and asked == ["8"] and silent.save_asked_at() and not silent.is_cancelled
    code, text = rm("cancel")
    assert code == 2 and asked == ["8", "8"] and silent.is_cancelled and alive.is_cancelled
    assert "squeue does not answer" in text and "(submitted from b.yaml)" in text
    assert rm("cancel") == (0, f"{plan.study.name} has no workers")
    queue_of_another = JobFolder(plan.study.root.with_name(f"{plan.study.name}-paper") / ".jobs" / "1")
    queue_of_another.path.mkdir(parents=True)
    (queue_of_another.path / "job.json").write_text("{}")
    monkeypatch.setattr("harness.study.load.profiles_of", lambda path: ("paper",))
    assert f"those of {plan.study.name}-paper may have some: see --profile" in rm("cancel")[1]


def test_workers_that_a_killed_call_has_submitted_and_not_noted_are_asked_in_their_folder(
    plan: Plan, rm: Callable[..., tuple[int, str]]
) -> None:
    """It was killed before `sbatch` could tell it their numbers."""
    left = make(plan, ids=())
    code, text = rm("checkpoint")
    assert code == 2 and "killed before it could note them; those of its workers that run write checkpoints" in text
    assert left.save_asked_at() and not left.is_cancelled
    assert rm("cancel")[0] == 2 and left.is_cancelled
    assert rm("cancel") == (0, f"{plan.study.name} has no workers")


@pytest.mark.parametrize(("name", "what"), [("worker-0.json", "delete it"), ("job.json", "delete this job's folder")])
def test_status_shows_the_runs_of_a_study_whose_job_is_damaged(
    plan: Plan, rm: Callable[..., tuple[int, str]], name: str, what: str
) -> None:
    damaged = queue(plan, *plan.runs)
    (damaged.path / name).write_text("{")
    code, text = rm("status")
    assert code == 0 and plan.runs[0].id in text and what in text and "who works for job 1 is not shown" in text


@pytest.mark.parametrize("noted", [True, False], ids=["its folder is noted", "of an earlier version"])
def test_workers_of_a_study_that_was_copied_are_left_to_the_original(
    plan: Plan, rm: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(live, "make_executor", lambda resources, places: asked.append("engine") or Engine("7"))
    (plan.study.path.parent / "first").mkdir()
    first = plan_in(plan.study.path.parent / "first")
    trained(first, first.runs[0])
    made = queue(first, first.runs[0])
    if not noted:
        made.write(replace(made.read(), folder="", inode=0))
    assert [job.folder.path for job in live.live_jobs(first.study.root)] == [made.path] and asked.pop()
    shutil.copytree(first.study.root, plan.study.root)
    copy = JobFolder(plan.study.root / ".jobs" / "1")
    told = f"was made as {made.path}, so its workers are left alone; `harness cancel` there ends them"
    for command, code in (("cancel", 0), ("checkpoint", 0), ("status", 0)):
        answer = rm(command)
        # A long path is broken at the end of a line.
        assert answer[0] == code and told.replace(" ", "") in answer[1].replace(" ", "")
    assert list(live.live_jobs(plan.study.root)) == [] and not copy.is_cancelled and not made.is_cancelled
    assert rm("rm", first.runs[0].id, "--yes")[0] == 0 and not asked, "no engine was asked"
    if noted:  # as where another machine has the folder under another path
        elsewhere = first.study.root.rename(plan.study.root.with_name("elsewhere"))
        assert [job.folder.path for job in live.live_jobs(elsewhere)] == [elsewhere / ".jobs" / "1"] and asked.pop()
        elsewhere.rename(first.study.root)
    made.cancel()
    shutil.copy(made.path / "cancelled", copy.path)
    assert "was made as" not in rm("status")[1]
