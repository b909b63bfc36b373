"""An engine for tests: it starts the workers on this machine, as real processes. And the grid that asks it for them.

`python elsewhere.py FOLDER WORDS...` is `harness WORDS` in a folder, with this engine in the place of Slurm.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from harness.errors import HarnessError
from harness.executors import live
from harness.executors.executor import NoAnswer, WorkerState
from harness.executors.job import JobFolder
from harness.finding import Finding
from waiting import alive


class Processes:
    """The id of a worker is the number of its process."""

    name = "slurm"
    look_s = 0.2
    outlives_caller = "TESTS_ENDS_WITH_CALLER" not in os.environ

    def check(self) -> list[Finding]:
        if "TESTS_NO_ENGINE" in os.environ:
            return [Finding("slurm", "sbatch is not there", "install slurm-client")]
        return [Finding("slurm", "there")]

    def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
        if "TESTS_REFUSES" in os.environ:
            raise HarnessError("sbatch: error: invalid partition")
        ids = tuple(str(start(job, number).pid) for number in range(workers))
        if "TESTS_NO_ANSWER" in os.environ:
            raise NoAnswer("sbatch: no answer within 2 min")
        return ids

    def look(self, ids: Sequence[str]) -> dict[str, WorkerState]:
        running = [each for each in ids if alive(int(each))]
        return {each: WorkerState("running", "here") for each in running}

    def cancel(self, ids: Sequence[str]) -> None:
        self._send(ids, signal.SIGTERM)

    def save(self, ids: Sequence[str]) -> None:
        self._send(ids, signal.SIGUSR1)

    def _send(self, ids: Sequence[str], number: signal.Signals) -> None:
        for each in filter(alive, map(int, ids)):
            os.kill(each, number)


def start(job: JobFolder, number: int) -> subprocess.Popen[bytes]:
    """A worker as an engine starts it."""
    environment = {**os.environ, **job.environment}
    with job.log(number).open("ab") as log:
        words = job.command(number)
        return subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background may have it ignored
    from harness.grid import submit

    engine = Processes()
    live.make_executor = submit.make_executor = lambda resources, places: engine  # type: ignore[assignment]
    from harness.cli.main import main

    os.chdir(sys.argv[1])
    sys.argv[:2] = ["harness"]
    main()


@contextmanager
def folder_with(study: str, folder: Path) -> Iterator[None]:
    """The study's file is there; afterwards every process that names the folder is ended."""
    (folder / "study.yaml").write_text(study)
    yield
    for process in psutil.process_iter(["cmdline"]):
        if str(folder) in " ".join(process.info["cmdline"] or ()):
            process.kill()
