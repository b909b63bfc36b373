"""Runs that train in workers: real processes that a test's engine starts on this machine, on the embedded data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conftest import trained_once
from elsewhere import folder_with
from harness.executors.job import JobFolder, job_folders
from harness.files import read_json
from harness.runs.folders import RunFolder
from harness.runs.lease import holder
from harness.runs.record import Status
from test_grid import STUDY, environment, harness, run_folder, train, weights
from waiting import until

TESTS = Path(__file__).parent
CELLS = ("origin", "paired_contrast", "resnet_guided")
SLOW = STUDY.replace("kimg: 0.24", "kimg: 24")
"""So long that a worker can be met in the middle of a run."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_once("grid", train, tmp_path_factory.mktemp("grid"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with the study; what was started in it is ended."""
    with folder_with(STUDY, tmp_path):
        yield tmp_path


def ask(place: Path, *words: str, **variables: str) -> subprocess.Popen[str]:
    """`harness WORDS` with the engine of these tests."""
    command = [sys.executable, str(TESTS / "elsewhere.py"), str(place), *words]
    variables = {**environment(), "PYTHONPATH": f"{TESTS}:{TESTS.parent}", "COLUMNS": "1000", **variables}
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def asked(place: Path, *words: str, **variables: str) -> tuple[int, str]:
    """The exit code and all that was printed."""
    process = ask(place, *words, **variables)
    out, err = process.communicate(timeout=600)
    return process.returncode, out + err


def grid(*words: str, executor: str = "slurm", workers: int = 2) -> tuple[str, ...]:
    return ("run-grid", "study.yaml", "--executor", executor, "--workers", str(workers), *words)


def job(place: Path, number: int = 1) -> JobFolder:
    return JobFolder(place / "runs" / "tiny" / ".jobs" / str(number))


def log(place: Path, worker: int = 0, number: int = 1) -> str:
    return job(place, number).log(worker).read_text()


def states(place: Path) -> dict[str, Status]:
    folders = [path.parent for path in (place / "runs" / "tiny").glob("*/run.json")]
    return {read_json(folder / "run.json")["cell"]: RunFolder(folder).status() for folder in folders}


def worker(place: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A worker that a user starts, with the harness that is installed."""
    command = [sys.executable, "-m", "harness", "work", str(job(place).path), *words]
    there = {**environment(), "COLUMNS": "1000", **variables}
    return subprocess.run(
        command, cwd=TESTS.parent, env=there, capture_output=True, text=True, check=False, timeout=600
    )


def start_worker(place: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "harness", "work", str(job(place).path), *words]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=TESTS.parent, env=environment(), stdout=quiet, stderr=quiet)


def submit(place: Path, study: str = STUDY, workers: int = 2) -> None:
    """A job without an engine."""
    (place / "study.yaml").write_text(study)
    done = harness(place, *grid("--detach", executor="folder", workers=workers))
    assert (done.returncode, done.stdout) == (0, f"harness work {job(place).path}\n"), done.stderr


def test_workers_do_each_run_once_with_the_bytes_of_an_undisturbed_grid(place: Path, undisturbed: Path) -> None:
    code, text = asked(place, *grid())
    assert code == 0, text
    assert {cell: status.attempt for cell, status in states(place).items()} == dict.fromkeys(CELLS, 1)
    for cell in CELLS:
        assert weights(place, cell) == weights(undisturbed, cell)
        one, other = (run_folder(each, cell).joinpath("result.json") for each in (place, undisturbed))
        assert read_json(one)["metrics"] == read_json(other)["metrics"]
        (machine,) = RunFolder(run_folder(place, cell)).run().machines
        assert machine.host == socket.gethostname() and machine.versions["torch"] and machine.device
    begun = [int(log(place, number).split("it started ")[1].split()[0]) for number in (0, 1)]
    assert sum(begun) == 3 and min(begun) >= 1
    assert (place / "reports/tiny/report.md").exists() and "3 runs for 2 workers" in text
    assert sum("report: " in each for each in (text, log(place, 0), log(place, 1))) == 1
    assert asked(place, *grid())[1].count("nothing to do") == 1 and len(job_folders(job(place).root)) == 1
    assert read_json(place / "runs/tiny/provenance.json")["calls"][0]["code"]["commit"]


def test_a_detached_job_is_reported_by_the_worker_that_ends_last(place: Path) -> None:
    submit(place)
    (place / "study.yaml").write_text(STUDY.replace("seeds: 1", "seeds: 2"))  # the report is as it was asked for
    alone = worker(place, "--worker", "1", "--cores", "1")
    assert alone.returncode == 0, alone.stderr
    assert "worker 1 of tiny.1: 1 at a time on the processor" in alone.stderr and "report: " in alone.stderr
    order = [read_json(job(place).path / "runs.json")["runs"][number][1] for number in (1, 2, 0)]
    begun = sorted((place / "runs/tiny").glob("*/status.json"), key=lambda path: read_json(path)["updated"])
    assert [path.parent.name for path in begun] == order  # from its share on, and round
    late = worker(place)
    assert (late.returncode, late.stderr.count("it started 0 runs")) == (0, 1)


@pytest.mark.slow
def test_code_that_is_edited_while_a_job_waits_changes_nothing_that_it_does(
    place: Path, undisturbed: Path, tmp_path: Path
) -> None:
    checkout = tmp_path / "checkout"
    shutil.copytree(TESTS.parent / "harness", checkout / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    variables = {**environment(), "PYTHONPATH": str(checkout)}

    def harness(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "harness", *words]
        return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)

    # Without the engine of these tests, whose workers would begin before the edit.
    submitted = harness(place, *grid("--only", "origin", "--detach", executor="folder"))
    assert submitted.returncode == 0 and states(place) == {}, submitted.stderr
    assert "--set resources.workers=2 --only origin` waits for them" in " ".join(submitted.stderr.split())
    losses = checkout / "harness" / "models" / "losses.py"
    losses.write_text("raise SystemExit('edited')\n")
    (checkout / "harness" / "cli" / "work.py").write_text((TESTS.parent / "harness/cli/work.py").read_text())
    done = harness(tmp_path, "work", str(job(place).path))
    assert done.returncode == 0 and "it started 1 run; 0 failed" in done.stderr, done.stderr
    assert weights(place, "origin") == weights(undisturbed, "origin")
    engines = [read_json(run_folder(each, "origin") / "run.json")["engine"] for each in (place, undisturbed)]
    assert engines[0] == engines[1] == read_json(job(place).path / "job.json")["engine"]


def test_a_job_whose_code_or_token_is_another_is_refused(place: Path) -> None:
    submit(place)
    wrong = worker(place, "--token", "0" * 16)
    assert wrong.returncode == 2 and "is another job than this worker was started for" in wrong.stderr
    losses = job(place).code / "harness" / "models" / "losses.py"
    losses.write_text(losses.read_text().replace("return", "return -1 *", 1))
    changed = worker(place)
    assert changed.returncode == 2 and "was changed since the job was made" in changed.stderr
    assert states(place) == {} and "Traceback" not in wrong.stderr + changed.stderr
    shutil.rmtree(job(place).code / "harness")
    missing = worker(place)
    assert missing.returncode == 2 and "is the copy there?" in missing.stderr
    (job(place).path / "job.json").unlink()
    assert "is no job" in worker(place).stderr


def test_a_killed_worker_loses_nothing(place: Path, undisturbed: Path) -> None:
    submit(place)
    first = start_worker(place, "--worker", "0", "--cores", "1")
    until(lambda: any(status.step > 3 for status in states(place).values()))
    first.kill()
    first.wait()
    second = worker(place, "--worker", "1")
    assert second.returncode == 0 and "report: " in second.stderr, second.stderr
    assert sorted(status.attempt for status in states(place).values()) in ([1, 1, 1], [1, 1, 2])
    assert {cell: weights(place, cell) for cell in CELLS} == {cell: weights(undisturbed, cell) for cell in CELLS}


@pytest.mark.slow
def test_a_worker_leaves_when_others_have_all_that_is_left_and_heeds_signals(place: Path) -> None:
    submit(place, SLOW)
    first = start_worker(place, "--cores", "1")
    until(lambda: any(status.step > 0 for status in states(place).values()))
    narrow = start_worker(place, "--cores", "2")  # which takes the two others
    until(lambda: sum(status.step > 0 for status in states(place).values()) == 3)
    idle = worker(place)
    assert idle.returncode == 0 and "worker 2 ends: it started 0 runs" in idle.stderr
    assert "report" not in idle.stderr
    first.send_signal(signal.SIGUSR1)
    mine = next(cell for cell in CELLS if held_by(place, cell, first))
    until(lambda: [*run_folder(place, mine).glob("checkpoint/*.safetensors")])
    assert first.poll() is None
    first.send_signal(signal.SIGUSR2)
    assert first.wait(60) == 75
    assert states(place)[mine].state == "interrupted" and states(place)[mine].step > 0
    done = harness(place, "checkpoint", "study.yaml")
    assert "its workers on folder write checkpoints" in done.stdout, done.stderr
    others = [cell for cell in CELLS if cell != mine]
    until(lambda: all([*run_folder(place, cell).glob("checkpoint/*.safetensors")] for cell in others))
    assert "end after checkpoints" in harness(place, "cancel", "study.yaml").stdout
    assert narrow.wait(60) == 143
    assert {status.state for status in states(place).values()} == {"interrupted"}
    late = worker(place)
    assert late.returncode == 0 and "this job was cancelled" in late.stderr
    assert harness(place, "cancel", "study.yaml").stdout == "tiny has no workers\n"


def held_by(place: Path, cell: str, process: subprocess.Popen[bytes]) -> bool:
    who = holder(run_folder(place, cell))
    return who is not None and who.pid == process.pid


@pytest.mark.slow
def test_ctrl_c_leaves_the_workers_and_the_second_call_joins_them(place: Path) -> None:
    (place / "study.yaml").write_text(SLOW.replace("kimg: 24", "kimg: 1.6"))
    process = ask(place, *grid("--only", "origin", workers=1))
    until(lambda: states(place) and states(place)["origin"].step > 0)
    training = psutil.Process(states(place)["origin"].pid)
    training.suspend()  # so that it is still there when it is asked for again, however slow this machine is
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=180)
    assert process.returncode == 130 and "the workers go on; `harness run-grid study.yaml --set" in text
    assert "`harness cancel study.yaml --set" in text and "` ends them" in text
    (number,) = job(place).read().ids
    assert psutil.pid_exists(int(number)) and states(place)["origin"].state == "running"
    shown = json.loads(asked(place, "status", "study.yaml", "--json")[1])
    (told,) = shown["jobs"]
    assert (told["number"], told["executor"], told["workers"][0]["phase"]) == (1, "slurm", "running")
    row = next(row for row in shown["runs"] if row["cell"] == "origin")
    assert row["worker"] == {"job": 1, "number": 0, "id": number, "log": str(job(place).log(0))}
    again = ask(place, *grid("--only", "origin", workers=1))
    assert again.stderr is not None
    first = again.stderr.readline()
    training.resume()
    _, text = again.communicate(timeout=600)
    assert again.returncode == 0 and "has workers on slurm: 1 running (here)" in first + text, first + text
    assert len(job_folders(job(place).root)) == 1 and states(place)["origin"].attempt == 1


def test_workers_that_are_gone_before_the_runs_have_ended_are_told_with_their_last_lines(place: Path) -> None:
    (place / "study.yaml").write_text(SLOW)
    process = ask(place, *grid("--only", "origin", workers=1))
    until(lambda: states(place) and states(place)["origin"].step > 0)
    os.kill(int(job(place).read().ids[0]), signal.SIGKILL)
    _, text = process.communicate(timeout=180)
    again = "harness run-grid study.yaml --set resources.executor=slurm --set resources.workers=1 --only origin"
    assert process.returncode == 3
    assert f"all workers are gone, and 1 run without a result; `{again}` goes on with them" in text
    assert "worker-0.log:" in text and "origin seed 0: running" in text


def test_workers_of_an_engine_that_did_not_answer_keep_their_folder_and_end(place: Path) -> None:
    (place / "study.yaml").write_text(SLOW)
    code, text = asked(place, *grid("--only", "origin", workers=1), TESTS_NO_ANSWER="1")
    assert code == 2 and "sbatch: no answer within 2 min" in text and "Traceback" not in text
    assert "stays: workers may have been submitted all the same, and end as soon as they start" in text
    (left,) = job_folders(job(place).root)
    assert left.is_cancelled and left.code.is_dir()
    until(lambda: "this job was cancelled" in left.log(0).read_text())
    assert states(place) == {} or states(place)["origin"].state == "pending"


def test_what_is_refused_is_refused_before_anything_is_lost(place: Path) -> None:
    cases = [
        (grid(), {"TESTS_NO_ENGINE": "1"}, "slurm: sbatch is not there; install slurm-client"),
        (grid(), {"TESTS_REFUSES": "1"}, "sbatch: error: invalid partition"),
        (grid("--detach"), {"TESTS_ENDS_WITH_CALLER": "1"}, "--detach: workers of slurm end with the call"),
        (grid("--detach", "--fail-fast"), {}, "--detach: nobody is there to see a failure"),
        (grid("--retrain"), {}, "--retrain: trains on this machine alone"),
        (("run-grid", "study.yaml", "--detach"), {}, "--detach: runs on this machine end with the call"),
        (("tune", "study.yaml", "--detach"), {}, "--detach: runs on this machine end with the call"),
    ]
    for words, variables, message in cases:
        code, text = asked(place, *words, **variables)
        assert code == 2 and message in text and "Traceback" not in text, text
    assert states(place) == {} and job_folders(job(place).root) == []
