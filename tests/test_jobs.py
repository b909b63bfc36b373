"""The folder of a job: what its workers read, and that many runs are few files."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fakes import make_run
from harness.code.engine import Engine
from harness.errors import RecordError
from harness.executors import job
from harness.executors.job import AskedStudy, Job, JobFolder, JobRuns, Worker, job_folders, make_job
from harness.files import read_json
from harness.runs.record import Run
from harness.study.resources import RayResources, Resources, SlurmResources

ASKED = AskedStudy(str(Path(__file__).parent / "golden" / "mistakes.yaml"), "paper", ("train.kimg=2",), ("origin",))
RESOURCES = Resources(
    executor="slurm",
    workers=3,
    slurm=SlurmResources(setup=("module load cuda",)),
    ray=RayResources(resources={"a": 1.5}),
)


def make(root: Path, *runs: Run, attempts: dict[str, int] | None = None) -> JobFolder:
    asked = Job(ASKED, RESOURCES, 3, Engine("t" * 12, "m" * 12))
    return make_job(root, asked, JobRuns(runs, attempts or {}), {"ideas.py": "x = 1\n"})


def of_seeds(cell: str, seeds: range) -> list[Run]:
    first = make_run(cell)
    return [replace(first, id=f"{cell[-4:]:0>4}{seed:08}", seed=seed) for seed in seeds]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    runs = [*of_seeds("origin", range(3)), replace(make_run("full"), source={"a.py": "x = 1\n"}, toggles=("a", "b"))]
    runs.insert(1, replace(runs[0], id="f" * 12, seed=9, fingerprints={"data": "other"}))  # of that cell, but not alike
    folder = make(tmp_path, *runs, attempts={runs[2].id: 4})
    written = JobFolder(folder.path).runs()
    assert written.runs == tuple(runs) and written.attempts == {run.id: 4 if run is runs[2] else 0 for run in runs}
    asked = folder.read()
    assert (asked.study, asked.resources, asked.workers, asked.ids) == (ASKED, RESOURCES, 3, ())
    folder.note_ids(["7_0", "7_1"])
    assert folder.read() == replace(asked, ids=("7_0", "7_1"))
    assert (folder.root, folder.title) == (tmp_path, f"{tmp_path.name}.1")


def test_a_worker_is_started_on_the_copy_of_the_code(tmp_path: Path) -> None:
    folder = make(tmp_path, make_run("origin"))
    copy = folder.code / "harness"
    assert folder.environment["PYTHONPATH"].split(":")[0] == str(folder.code)
    assert (copy / "models" / "losses.py").is_file() and not (copy / "models").is_symlink()
    assert not [*copy.rglob("__pycache__")] and any((copy / "models" / "weights").iterdir())
    assert len(read_json(folder.code / "code.json")["copy"]) == 16
    words = folder.command("$I")
    assert words[1:4] == ["-P", "-m", "harness"] and words[4:8] == ["work", str(folder.path), "--worker", "$I"]
    assert words[-1] == folder.read().token != make(tmp_path, make_run("origin")).read().token


def test_ten_thousand_runs_are_written_and_read_as_a_handful_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run for number in range(100) for run in of_seeds(f"cell{number:03}", range(100))]
    folder = JobFolder(tmp_path / "runs" / ".jobs" / "1")
    folder.path.mkdir(parents=True)
    parsed: list[str] = []
    whole = job.parse_run
    monkeypatch.setattr(job, "parse_run", lambda text, where: parsed.append(where) or whole(text, where))
    folder.write_runs(runs, {})
    assert [path.name for path in folder.path.iterdir()] == ["runs.json"]
    assert (folder.path / "runs.json").stat().st_size < 100 * 20_000  # settings stand there once a cell
    assert folder.runs().runs == tuple(runs)
    assert len(parsed) == 100  # and are checked once a cell


def test_two_callers_get_two_jobs(tmp_path: Path) -> None:
    made: list[JobFolder] = []
    threads = [threading.Thread(target=lambda: made.append(make(tmp_path, make_run("origin")))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(folder.path.name for folder in made) == ["1", "2", "3"]
    assert [folder.path.name for folder in job_folders(tmp_path)] == ["1", "2", "3"]
    (tmp_path / ".jobs" / "12").mkdir()  # of a caller that was killed
    assert [folder.path.name for folder in job_folders(tmp_path)] == ["1", "2", "3"]
    assert make(tmp_path, make_run("origin")).path.name == "13"
    assert job_folders(tmp_path / "no") == []


@pytest.mark.parametrize("name", ["job.json", "runs.json"])
@pytest.mark.parametrize("content", ["", "{}", '{"cells": {}, "runs": [["a", "b", 0, 0]]}'])
def test_a_damaged_job_is_named(tmp_path: Path, name: str, content: str) -> None:
    folder = make(tmp_path, make_run("origin"))
    (folder.path / name).write_text(content)
    with pytest.raises(RecordError, match=rf"\.jobs/1/{name}: .*delete this job's folder"):
        folder.read()
        folder.runs()


def test_a_number_that_is_just_being_taken_is_no_damage_and_is_given_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path, make_run("origin"))
    (folder.path / "worker-1.json").touch()  # of a worker that was killed there
    assert folder.enrol(Worker(0, "a", 7)).number == 0 and folder.workers() == [Worker(0, "a", 7)]
    monkeypatch.setattr(job, "write_json", lambda path, value: seen.append(folder.workers()))
    seen: list[list[Worker]] = []
    assert folder.enrol(Worker(0, "a", 8)).number == 2 and seen == [[Worker(0, "a", 7)]]
