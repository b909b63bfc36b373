"""The call that follows workers, while engines cannot be asked."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes import make_run
from harness.code.engine import UNKNOWN
from harness.errors import HarnessError
from harness.executors.executor import WorkerState
from harness.executors.job import AskedStudy, Job, JobFolder, JobRuns, job_folders, make_job
from harness.executors.live import LiveJob
from harness.exit_codes import FAILED_RUNS
from harness.finding import Finding
from harness.grid.submit import Watch, start_workers
from harness.runs.record import Run, Status
from harness.study.load import load_text
from harness.study.resources import Resources


class Engine:
    """An engine that notes what it is asked for, or does not answer."""

    name, look_s, outlives_caller = "slurm", 60.0, True

    def __init__(self, is_there: bool) -> None:
        self.is_there, self.asked = is_there, list[str]()

    def check(self) -> list[Finding]:
        return []

    def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
        return ()

    def look(self, ids: Sequence[str]) -> dict[str, WorkerState]:
        return {}

    def cancel(self, ids: Sequence[str]) -> None:
        self._note("cancel")

    def save(self, ids: Sequence[str]) -> None:
        self._note("save")

    def _note(self, what: str) -> None:
        if not self.is_there:
            raise HarnessError("Slurm's controller does not answer: DOWN")
        self.asked.append(what)


class Open:
    """What is followed, open for so many looks."""

    def __init__(self, looks: int, has_failed: bool) -> None:
        self.looks, self.has_failed, self.left = looks, has_failed, "1 run without a result"
        self.runs: Sequence[Run] = ()
        self.statuses: dict[str, Status] = {}

    def read(self) -> None:
        self.looks -= 1

    @property
    def is_open(self) -> bool:
        return self.looks > 0


@contextmanager
def gets(number: int) -> Iterator[None]:
    """This process a signal. In the place of a mirror, which is entered once signals are heeded."""
    os.kill(os.getpid(), number)
    yield


class EndsWithCall(Engine):
    """Its workers write checkpoints for three looks. `again`: at each of these Ctrl-C comes again."""

    outlives_caller = False

    def __init__(self, told: list[str], again: bool) -> None:
        super().__init__(True)
        self.told, self.again, self.looks = told, again, 0

    def cancel(self, ids: Sequence[str]) -> None:
        super().cancel(ids)
        self.told.append("it is asked")

    def look(self, ids: Sequence[str]) -> dict[str, WorkerState]:
        self.looks += 1
        if self.again:
            os.kill(os.getpid(), signal.SIGINT)
        return {"7_0": WorkerState("gone" if self.looks > 3 else "running")}


def follow(
    root: Path,
    looks: int,
    has_failed: bool,
    signal_number: int = signal.SIGUSR1,
    cancelled: int = 0,
    engines: Sequence[Engine] = (),
) -> tuple[int, list[JobFolder], Sequence[Engine]]:
    """With two jobs, of which the first has an engine that does not answer, and so many of which were cancelled.

    `engines`: jobs of these instead.
    """
    study = load_text("study: s\n", root / "s.yaml")
    asked = Job(AskedStudy(str(study.path), None, (), ()), Resources(executor="slurm"), 1, UNKNOWN, ids=("7_0",))
    engines = engines or [Engine(False), Engine(True)]
    folders = [make_job(study.root, asked, JobRuns((make_run("origin"),), {}), {}) for _ in engines]
    jobs = [LiveJob(folder, asked, engine, {}) for folder, engine in zip(folders, engines, strict=True)]
    watch = Watch(study, jobs, Open(looks, has_failed), "run-grid", fail_fast=has_failed)
    for folder in folders[:cancelled]:
        folder.cancel()
    return watch.follow(gets(signal_number)), folders, engines


@pytest.fixture(autouse=True)
def study_file(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("study: s\n")


def test_checkpoints_that_an_engine_cannot_pass_on_are_asked_for_in_the_folder(tmp_path: Path) -> None:
    code, folders, engines = follow(tmp_path, 2, False)
    assert code == 0 and [engine.asked for engine in engines] == [[], ["save"]]
    assert [folder.save_asked_at() > 0 for folder in folders] == [True, False]


def test_an_engine_that_does_not_answer_keeps_no_other_job_from_its_end(tmp_path: Path) -> None:
    code, folders, engines = follow(tmp_path, 2, True)
    assert code == FAILED_RUNS and [engine.asked for engine in engines][1][-1] == "cancel"
    assert [folder.is_cancelled for folder in folders] == [True, True]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
def test_ctrl_c_says_of_workers_that_were_cancelled_no_more_that_they_go_on(
    tmp_path: Path, cancelled: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.grid.submit.note", (told := []).append)
    code, _, _ = follow(tmp_path, 2, False, signal.SIGINT, cancelled)
    after = "all workers were told to end, after checkpoints; `run-grid` goes on"
    assert code == 130 and (told == [after]) == (cancelled == 2)
    assert any("the workers go on" in text for text in told) == (cancelled < 2)


@pytest.mark.parametrize(("has_failed", "code"), [(False, 130), (True, FAILED_RUNS)])
@pytest.mark.parametrize("again", [False, True])
def test_an_end_that_is_waited_for_is_told_before_and_ctrl_c_again_leaves_it(
    tmp_path: Path, has_failed: bool, code: int, again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("harness.grid.submit.note", told.append)
    monkeypatch.setattr("harness.grid.submit.LOOK_S", 0.0)
    monkeypatch.setattr("harness.scheduler.processes.ONE_PRESS_S", -1.0)
    engine = EndsWithCall(told, again)
    number = signal.SIGUSR1 if has_failed else signal.SIGINT
    assert follow(tmp_path, 2, has_failed, number, engines=[engine])[0] == code
    first = "a run has failed: all workers are ended, after checkpoints" if has_failed else "stopping: the workers end"
    assert told[0].startswith(first) and told[1:] == ["it is asked"]
    assert engine.looks == (4 if not again else 2 if has_failed else 1)


def test_a_signal_while_workers_are_submitted_leaves_a_job_that_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Engine):
        def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
            os.kill(os.getpid(), signal.SIGTERM)
            return ("7_0",)

    told: list[str] = []
    monkeypatch.setattr("harness.grid.submit.note", told.append)
    study = load_text("study: s\n", tmp_path / "s.yaml")
    job = Job(AskedStudy(str(study.path), None, (), ()), Resources(executor="slurm"), 1, UNKNOWN)
    with pytest.raises(SystemExit) as ended:
        start_workers(study, Killed(True), job, JobRuns((make_run("origin"),), {}), "1 run")
    assert ended.value.code == 143 and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    (folder,) = job_folders(study.root)
    assert folder.is_cancelled and folder.code.is_dir() and "stays: workers may have been submitted" in told[0]
