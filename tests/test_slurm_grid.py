"""Whole grids whose runs train in workers on a real Slurm of two nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from safetensors import safe_open

from conftest import trained_once
from harness.executors.job import JobFolder
from harness.files import read_json
from harness.runs.folders import RunFolder
from harness.runs.record import Status
from slurm_cluster import NODES, SlurmCluster, slurm_cluster, until
from slurm_jobs import calls, counting_programs
from test_grid import STUDY, environment

pytestmark = pytest.mark.slurm
STEPS = 60
SIX_RUNS = STUDY.replace("kimg: 0.24", "kimg: 0.48").replace(
    "include: [origin], seeds: 1", "include: [origin], seeds: 2"
)
SITE = """
resources:
  executor: slurm
  workers: 2
  slurm: {partition: low, cpus: 4, time: "00:30:00"}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "cluster", requeue_s=5) as started:
        yield started


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The six runs, trained on this machine without Slurm."""
    return trained_once("slurm-grid", train, tmp_path_factory.mktemp("grid"))


def train(folder: Path) -> None:
    (folder / "study.yaml").write_text(SIX_RUNS)
    command = [sys.executable, "-m", "harness", "run-grid", "study.yaml"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Place:
    """A folder with the study of six runs and a site file that sends them to the cluster."""

    def __init__(self, folder: Path, cluster: SlurmCluster) -> None:
        self.folder, self.programs = folder, counting_programs(folder / "programs")
        (folder / "study.yaml").write_text(SIX_RUNS)
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
        out, err = process.communicate(timeout=280)
        return process.returncode, out + err

    @property
    def job(self) -> JobFolder:
        return JobFolder(self.folder / "runs" / "tiny" / ".jobs" / "1")

    def statuses(self) -> Mapping[tuple[str, int], Status]:
        return {key: RunFolder(path).status() for key, path in run_folders(self.folder).items()}

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


def test_whatever_happens_to_its_workers_a_grid_ends_with_the_same_bytes(
    cluster: SlurmCluster, tmp_path: Path, undisturbed: Path
) -> None:
    place = Place(tmp_path, cluster)
    submitter = place.start("run-grid", "study.yaml")
    until(lambda: place.steps() > 5, "the first runs train", 120)
    ids = place.job.read().ids
    # The call that submitted them is killed: nothing ends with it.
    submitter.kill()
    submitter.communicate()
    # A better job takes one node: its worker writes checkpoints and is queued again.
    better = cluster.ask("sbatch", "--parsable", "-N1", "-c4", "-o/dev/null", "--wrap=sleep 100").strip()
    until(lambda: "PENDING" in cluster.ask("squeue", "-hrj", ids[0], "-o%T"), "one has to wait", 60)
    cluster.ask("scancel", better)
    until(lambda: all(node_of(cluster, each) in NODES for each in ids), "both run again", 60)
    # The time of one is nearly over.
    before = place.steps()
    until(lambda: place.steps() > before, "they train", 60)
    cluster.ask("scancel", "--batch", "--signal=USR2", ids[0])
    until(lambda: "PENDING" in cluster.ask("squeue", "-hrj", ids[0], "-o%T"), "it is queued again", 60)
    # A node is lost, with all that runs there.
    lost = node_of(cluster, ids[1])
    cluster.kill_node(lost)
    cluster.ask("scontrol", "update", f"nodename={lost}", "state=down", "reason=test")
    # The same command follows the workers that there are.
    code, text = place.ask("run-grid", "study.yaml")
    assert code == 0, text
    assert "has workers on slurm" in text and not (place.job.path.parent / "2").exists()
    assert bytes_of(tmp_path) == bytes_of(undisturbed)
    attempts = [status.attempt for status in place.statuses().values()]
    assert len(attempts) == 6 and {status.state for status in place.statuses().values()} == {"done"}
    assert sum(attempts) >= 6 + 3
    assert len(calls(place.programs, "sbatch")) == 1 and calls(place.programs, "sacct") == []
    log = place.job.log(0).read_text()
    assert ", start 1, " in log and ", start 3, " in log
