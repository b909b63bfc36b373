"""Jobs for a real Slurm whose workers are stand-ins: they say which signals they get, and end as workers do."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from harness.code.engine import Engine
from harness.executors.job import AskedStudy, Job, JobFolder
from harness.executors.slurm import Slurm
from harness.study.resources import Resources, SlurmResources
from slurm_cluster import SlurmCluster
from waiting import until

PROGRAMS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "sacct", "srun")
_STAND_IN = """\
#!{python} -S
import json, os, signal, sys, time
number, job = sys.argv[sys.argv.index("--worker") + 1], sys.argv[5]
def note(what):
    with open(f"{{job}}/events-{{number}}.txt", "a") as file:
        file.write(what + "\\n")
def end(name, code):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # both Slurm and the script send it
    note(name)
    time.sleep(0.5)  # as checkpoints take their time
    note("saved")
    sys.exit(code)
signal.signal(signal.SIGUSR1, lambda *_: note("USR1"))
signal.signal(signal.SIGUSR2, lambda *_: end("USR2", 75))
signal.signal(signal.SIGTERM, lambda *_: end("TERM", 143))
with open(f"{{job}}/environment-{{number}}.json", "w") as file:
    json.dump({{**os.environ, "PWD": os.getcwd(), "pid": os.getpid(), "words": sys.argv[1:]}}, file)
note("begin")
while not os.path.exists(f"{{job}}/end"):
    time.sleep(0.05)
note("end")
"""


def make_folder(parent: Path) -> JobFolder:
    """The first job of a study in `parent`, whose workers are stand-ins."""
    folder = JobFolder(parent / "runs" / "demo" / ".jobs" / "1")
    folder.path.mkdir(parents=True)
    stand_in = parent / "stand_in"
    stand_in.write_text(_STAND_IN.format(python=sys.executable))
    stand_in.chmod(0o755)
    asked = AskedStudy(str(parent / "demo.yaml"), None, (), ())
    folder.write(Job(asked, Resources(executor="slurm"), 1, Engine("t" * 12, "m" * 12), python=str(stand_in)))
    return folder


def slurm(places: dict[str, str] | None = None, **asked: Any) -> Slurm:
    return Slurm(Resources(executor="slurm", slurm=SlurmResources(**asked)), places or {})


def events(folder: JobFolder, worker: int) -> list[str]:
    """What a stand-in has noted, over all of its starts."""
    path = folder.path / f"events-{worker}.txt"
    return path.read_text().split() if path.exists() else []


def environment(folder: JobFolder, worker: int) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder.path / f"environment-{worker}.json").read_text())
    return value


def until_events(folder: JobFolder, worker: int, *wanted: str) -> None:
    until(lambda: events(folder, worker) == list(wanted), f"worker {worker}: {wanted}, not {events(folder, worker)}")


class Submitted:
    """Workers of a folder that were submitted to a cluster."""

    def __init__(self, cluster: SlurmCluster, folder: JobFolder, executor: Slurm, workers: int) -> None:
        self.cluster, self.folder, self.executor = cluster, folder, executor
        self.ids = executor.submit(folder, workers)
        folder.note_ids(self.ids)

    def phase(self, worker: int) -> str:
        states = self.executor.look(self.ids)
        return states[self.ids[worker]].phase if self.ids[worker] in states else "gone"

    def end(self) -> None:
        """Let all stand-ins end by themselves."""
        (self.folder.path / "end").touch()
        until(lambda: {self.phase(worker) for worker in range(len(self.ids))} == {"gone"}, "all have ended")


def counting_programs(folder: Path) -> Path:
    """A folder for PATH with the programs of Slurm, each of which notes its call and the time in `calls.txt` there."""
    folder.mkdir()
    for name in PROGRAMS:
        real = shutil.which(name) or f"/usr/bin/{name}"
        script = folder / name
        script.write_text(f'#!/bin/sh\necho "{name} $(date +%s.%N) $*" >>{folder}/calls.txt\nexec {real} "$@"\n')
        script.chmod(0o755)
    return folder


def calls(folder: Path, name: str) -> list[float]:
    """When a program was called, in seconds, from what `counting_programs` has noted."""
    path = folder / "calls.txt"
    rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [float(when) for program, when, *_ in rows if program == name]
