"""Whole grids whose runs train in workers on a real Slurm of two nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from safetensors import safe_open

from conftest import trained_once
from harness.executors.job import JobFolder
from harness.files import read_json
from harness.runs.folders import RunFolder
from harness.runs.record import Status
from slurm_cluster import NODES, SlurmCluster
from slurm_jobs import calls, counting_programs
from test_grid import STUDY, environment
from test_tune import ROOT as SEARCHED
from test_tune import STUDY as SEARCH
from test_tune import search
from test_tune_elsewhere import is_the_same_search
from waiting import until

pytestmark = pytest.mark.slurm
STEPS = 60
FOUR_RUNS = (
    STUDY.replace("kimg: 0.24", "kimg: 0.48")
    .replace("[paired_contrast, resnet_guided]", "[paired_contrast]")
    .replace("include: [origin], seeds: 1", "include: [origin], seeds: 2")
)
SITE = """
resources:
  executor: slurm
  workers: 2
  slurm: {partition: low, cpus: 1, extra: ["--exclusive"], time: "00:30:00"}
"""
"""A worker has a node to itself, and trains one run at a time with one thread, as the grid without Slurm does."""


@pytest.fixture
def cluster(slurm_of_all: SlurmCluster) -> SlurmCluster:
    return slurm_of_all


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four runs, trained on this machine without Slurm."""
    return trained_once("slurm-grid", train, tmp_path_factory.mktemp("grid"))


def train(folder: Path) -> None:
    (folder / "study.yaml").write_text(FOUR_RUNS)
    command = [sys.executable, "-m", "harness", "run-grid", "study.yaml"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def searched_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of four trials, on this machine without Slurm."""
    return trained_once("tune", search, tmp_path_factory.mktemp("tune"))


class Place:
    """A folder with the study of four runs and a site file that sends them to the cluster."""

    def __init__(self, folder: Path, cluster: SlurmCluster) -> None:
        self.folder, self.programs = folder, counting_programs(folder / "programs")
        (folder / "study.yaml").write_text(FOUR_RUNS)
        (folder / "site.yaml").write_text(SITE)
        self.variables = {
            **environment(),
            "SLURM_CONF": cluster.environment["SLURM_CONF"],
            "HARNESS_SITE": str(folder / "site.yaml"),
            "PATH": f"{self.programs}:{os.environ['PATH']}",
        }

    def start(self, *words: str) -> subprocess.Popen[str]:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background may have it ignored
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *words],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        out, err = process.communicate(timeout=600)
        return process.returncode, out + err

    @property
    def job(self) -> JobFolder:
        return JobFolder(self.folder / "runs" / "tiny" / ".jobs" / "1")

    def statuses(self) -> Mapping[tuple[str, int], Status]:
        return {key: RunFolder(path).status() for key, path in run_folders(self.folder).items()}

    def checkpoints(self) -> set[Path]:
        return {*self.job.root.glob("*/checkpoint/*.safetensors")}

    def steps(self) -> int:
        return sum(status.step for status in self.statuses().values())


def run_folders(folder: Path) -> dict[tuple[str, int], Path]:
    found = {}
    for path in (folder / "runs" / "tiny").glob("*/run.json"):
        run = read_json(path)
        found[run["cell"], run["seed"]] = path.parent
    return found


def bytes_of(folder: Path) -> dict[tuple[str, int], dict[str, bytes]]:
    """Of each run all that its last state holds, and what it was measured at."""
    found = {}
    for key, path in run_folders(folder).items():
        with safe_open(path / "checkpoint" / f"{STEPS:09d}.safetensors", framework="np") as file:
            found[key] = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        found[key]["metrics"] = str(read_json(path / "result.json")["metrics"]).encode()
    return found


def node_of(cluster: SlurmCluster, worker: str) -> str:
    return cluster.ask("squeue", "-hrj", worker, "-o%N").strip()


def is_waiting(cluster: SlurmCluster, worker: str) -> bool:
    return "PENDING" in cluster.ask("squeue", "-hrj", worker, "-o%T")


@pytest.mark.slow
def test_a_search_is_shared_by_workers_of_which_one_is_queued_again(
    cluster: SlurmCluster, tmp_path: Path, searched_here: Path
) -> None:
    place = Place(tmp_path, cluster)
    (tmp_path / "study.yaml").write_text(SEARCH)
    follower = place.start("tune", "study.yaml", "--set", "resources.slurm.cpus=1")
    root = tmp_path / SEARCHED
    until(lambda: any(RunFolder(path.parent).status().state == "running" for path in root.glob("*/run.json")), "", 120)
    job = JobFolder(root / ".jobs" / "1")
    cluster.ask("scontrol", "requeue", job.read().ids[0])
    out, text = follower.communicate(timeout=600)
    assert follower.returncode == 0 and "for 2 workers on slurm" in text, text
    is_the_same_search(tmp_path, searched_here)
    assert job.has_ended and "4 of 4 trials have an outcome" in " ".join(out.split())
    assert len(calls(place.programs, "sbatch")) == 1
    cluster.cancel_all()  # the worker that was queued again, if Slurm lets it wait that long


def test_whatever_happens_to_its_workers_a_grid_ends_with_the_same_bytes(
    cluster: SlurmCluster, tmp_path: Path, undisturbed: Path
) -> None:
    place = Place(tmp_path, cluster)
    submitter = place.start("run-grid", "study.yaml")
    until(lambda: place.steps() > 5, "the first runs train", 200)
    ids = place.job.read().ids
    # The call that submitted them is killed: nothing ends with it.
    submitter.kill()
    submitter.wait()  # not for the end of its output, which its children may have open for a while
    # A better job takes one node: its worker writes checkpoints and is queued again. The time of the other is over.
    better = cluster.ask("sbatch", "--parsable", "-N1", "-c4", "-o/dev/null", "--wrap=sleep 100").strip()
    until(lambda: any(is_waiting(cluster, each) for each in ids), "one has to wait", 60)
    other = ids[1] if is_waiting(cluster, ids[0]) else ids[0]
    cluster.ask("scancel", "--batch", "--signal=USR2", other)
    until(lambda: all(is_waiting(cluster, each) for each in ids), "both are queued again", 60)
    before = place.steps()
    cluster.ask("scancel", better)
    until(lambda: all(node_of(cluster, each) in NODES for each in ids), "both run again", 60)
    second_start = lambda: place.job.log(1).read_text().partition(", start 2, ")[2]  # noqa: E731
    until(lambda: ": running" in second_start() and place.steps() > before, "they train, also the one to be lost", 60)
    # A node is lost, with all that runs there.
    lost = node_of(cluster, ids[1])
    cluster.kill_node(lost)
    cluster.ask("scontrol", "update", f"nodename={lost}", "state=down", "reason=test")
    submitter.communicate()
    # The same command follows the workers that there are.
    code, text = place.ask("run-grid", "study.yaml")
    assert code == 0, text
    # On a busy machine the worker that is left has done all the rest before this call begins.
    assert "has workers on slurm" in text or "nothing to do" in text
    assert not (place.job.path.parent / "2").exists()
    assert bytes_of(tmp_path) == bytes_of(undisturbed)
    attempts = [status.attempt for status in place.statuses().values()]
    assert len(attempts) == 4 and {status.state for status in place.statuses().values()} == {"done"}
    assert sum(attempts) >= 4 + 3
    assert len(calls(place.programs, "sbatch")) == 1 and calls(place.programs, "sacct") == []
    logs = [place.job.log(number).read_text() for number in range(2)]
    # The one of the lost node begins a third time only if the other leaves it a run (tests/test_slurm.py waits for it).
    assert all(f", start {number}, " in log for log in logs for number in (1, 2))


LONG = FOUR_RUNS.replace("kimg: 0.48", "kimg: 48")


@pytest.fixture
def long(cluster: SlurmCluster, tmp_path: Path) -> Iterator[Place]:
    """A study whose runs take so long that their workers can be met; nothing of it is left afterwards."""
    place = Place(tmp_path, cluster)
    (tmp_path / "study.yaml").write_text(LONG)
    yield place
    cluster.kill_jobs(*NODES)
    cluster.cancel_all()


@pytest.mark.slow
def test_workers_are_followed_asked_and_ended(cluster: SlurmCluster, long: Place) -> None:
    code, text = long.ask(
        "run-grid", "study.yaml", "--detach", "--set", "resources.slots=2", "--set", "resources.slurm.cpus=2"
    )
    assert code == 0 and "4 runs for 2 workers on slurm" in text, text
    until(
        lambda: sum(status.step > 0 for status in long.statuses().values()) == 4, "two workers train two runs each", 120
    )
    ids, asked_before = long.job.read().ids, len(calls(long.programs, "squeue"))
    # Following them asks Slurm rarely, and Ctrl-C ends the following alone.
    follower = long.start("run-grid", "study.yaml")
    steps = long.steps()
    until(lambda: len(calls(long.programs, "squeue")) > asked_before, "it asks for the workers", 60)
    time.sleep(5)
    assert follower.poll() is None
    follower.send_signal(signal.SIGINT)
    told = "".join(follower.communicate(timeout=180))
    assert follower.returncode == 130 and "the workers go on; `harness run-grid study.yaml` follows them" in told
    assert len(calls(long.programs, "squeue")) == asked_before + 1 and long.steps() > steps
    assert len(calls(long.programs, "sbatch")) == 1
    code, shown = long.ask("status", "study.yaml")
    assert code == 0 and "job 1 on slurm: 2 running (n1 and n2)" in shown and ids[0] in shown, shown
    # Checkpoints, and on; twice, as runs also write them by themselves, but not so often.
    for _ in range(2):
        before = long.checkpoints()
        code, text = long.ask("checkpoint", "study.yaml")
        assert code == 0 and "its workers on slurm write checkpoints" in text, text
        until(lambda before=before: len({path.parent for path in long.checkpoints() - before}) == 4, "four are new", 60)
    assert all(node_of(cluster, each) for each in ids)
    # The end, after checkpoints, of which nobody queues anything again.
    code, text = long.ask("cancel", "study.yaml")
    assert code == 0 and "end after checkpoints" in text, text
    until(lambda: not cluster.ask("squeue", "-h").strip(), "all workers are gone", 60)
    until(
        lambda: {status.state for status in long.statuses().values()} <= {"interrupted", "pending"}, "they stopped", 60
    )
    assert all(status.attempt <= 1 for status in long.statuses().values())


@pytest.mark.slow
def test_a_worker_that_slurm_starts_twice_does_not_take_its_own_run_again(cluster: SlurmCluster, long: Place) -> None:
    """The node is out of reach, not dead: the first worker trains on, the second has to leave its run alone."""
    words = ("run-grid", "study.yaml", "--detach", "--only", "origin", "--workers", "1", "--set", "design.seeds=1")
    code, text = long.ask(*words)
    assert code == 0, text
    until(lambda: long.steps() > 0, "the run trains", 120)
    (worker,), ((key, before),) = long.job.read().ids, long.statuses().items()
    node = node_of(cluster, worker)
    cluster.end(node, signal.SIGKILL)
    cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        until(lambda: "it started 0 runs" in long.job.log(0).read_text(), "the second start leaves", 120)
        after = long.statuses()[key]
        assert (after.attempt, after.pid, after.state) == (1, before.pid, "running") and after.step > before.step
        assert ", start 2, " in long.job.log(0).read_text()
    finally:
        cluster.kill_jobs(node)
        cluster.begin_node(node)
        cluster.until_idle(node)


def test_what_cannot_be_had_is_refused_before_anything_is_lost(cluster: SlurmCluster, tmp_path: Path) -> None:
    place = Place(tmp_path, cluster)
    (tmp_path / "site.yaml").write_text(SITE.replace("partition: low", "partition: lo"))
    code, text = place.ask("run-grid", "study.yaml")
    assert (
        code == 2 and "site.yaml:5:22: resources.slurm.partition: no partition 'lo' here; did you mean 'low'?" in text
    )
    place.variables["PATH"] = os.path.dirname(sys.executable)
    code, text = place.ask("run-grid", "study.yaml", "--set", "resources.slurm.partition=low")
    assert code == 2 and "slurm: this machine has no sbatch" in text and "Traceback" not in text, text
    assert not (tmp_path / "runs" / "tiny" / ".jobs").exists() and calls(place.programs, "sbatch") == []
