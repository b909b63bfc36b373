"""Whole grids whose runs train in workers on a real Ray cluster of two nodes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from conftest import trained_once
from harness.executors.job import job_folders
from harness.runs.folders import RunFolder
from harness.runs.lease import live_status
from ray_cluster import ADDRESS, RayCluster, is_worker
from test_grid import environment
from test_slurm_grid import FOUR_RUNS, bytes_of, run_folders, train
from test_tune import ROOT as SEARCHED
from test_tune import STUDY as SEARCH
from test_tune import search
from test_tune_elsewhere import is_the_same_search
from waiting import until

pytestmark = pytest.mark.ray
SITE = f"""
resources:
  executor: ray
  workers: 2
  ray: {{address: "{ADDRESS}"}}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four runs, trained on this machine without an engine."""
    return trained_once("slurm-grid", train, tmp_path_factory.mktemp("grid"))


@pytest.fixture(scope="module")
def searched_here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search of four trials, on this machine without an engine."""
    return trained_once("tune", search, tmp_path_factory.mktemp("tune"))


@pytest.fixture
def cluster(undisturbed: Path, ray_of_all: RayCluster) -> RayCluster:
    return ray_of_all


class Place:
    """A folder with a study of four runs and a site file that sends them to the cluster."""

    def __init__(self, folder: Path, cluster: RayCluster, study: str = FOUR_RUNS) -> None:
        self.folder, self.root = folder, folder / "runs" / "tiny"
        (folder / "study.yaml").write_text(study)
        (folder / "site.yaml").write_text(SITE)
        self.variables = {**cluster.environment, **environment(), "HARNESS_SITE": str(folder / "site.yaml")}

    def start(self, *words: str) -> subprocess.Popen[str]:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background may have it ignored
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *words, "study.yaml"],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *words: str) -> tuple[int, str]:
        return end_of(self.start(*words))

    def steps(self) -> dict[tuple[str, int], int]:
        return {key: RunFolder(path).status().step for key, path in run_folders(self.folder).items()}

    def states(self) -> set[str]:
        """As `harness status` shows them: a run that says it is running and that nobody has is interrupted."""
        folders = run_folders(self.folder).values()
        return {live_status(path, RunFolder(path).status()).state for path in folders}

    def attempts(self) -> int:
        return sum(RunFolder(path).status().attempt for path in run_folders(self.folder).values())

    def checkpoints(self) -> list[Path]:
        return [*self.root.glob("*/checkpoint/*.safetensors")]


def end_of(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=600)
    return process.returncode, out + err


def driver_of(caller: subprocess.Popen[str]) -> psutil.Process:
    below = psutil.Process(caller.pid).children()
    (driver,) = [each for each in below if "harness.executors.ray_driver" in each.cmdline()]
    return driver


@pytest.mark.slow
def test_workers_are_followed_asked_and_ended(cluster: RayCluster, tmp_path: Path) -> None:
    place = Place(tmp_path, cluster, FOUR_RUNS.replace("kimg: 0.48", "kimg: 48"))
    code, text = place.ask("run-grid", "--detach")
    assert code == 2 and "--detach: workers of ray end with the call that started them" in text, text
    caller = place.start("run-grid")
    until(lambda: sum(step > 0 for step in place.steps().values()) == 2, "two workers train", 120)
    code, shown = place.ask("status")
    assert code == 0 and "job 1 on ray: 2 running (head and second)" in shown, shown
    # Checkpoints, and on.
    assert not place.checkpoints()
    code, text = place.ask("checkpoint")
    assert code == 0 and "its workers on ray write checkpoints" in text, text
    until(lambda: len(place.checkpoints()) == 2, "each run has a checkpoint", 30)
    # Ctrl-C ends the workers, after checkpoints; the same command starts others.
    assert caller.poll() is None and len(cluster.workers()) == 2
    caller.send_signal(signal.SIGINT)
    code, text = end_of(caller)
    assert code == 130 and "the workers end with this call, after checkpoints" in text, text
    assert cluster.workers() == [] and place.states() == {"interrupted"}
    reached = place.steps()
    caller = place.start("run-grid")
    until(lambda: sum(place.steps()[key] > step for key, step in reached.items()) == 2, "they go on", 120)
    # Somebody else ends them.
    code, text = place.ask("cancel")
    assert code == 0 and "end after checkpoints" in text, text
    code, text = end_of(caller)
    assert code == 3 and "all workers are gone, and 4 runs without a result" in text, text
    assert cluster.workers() == [] and place.states() == {"interrupted"} and len(job_folders(place.root)) == 2


@pytest.mark.slow
def test_a_search_is_shared_by_workers_of_which_one_is_killed(
    cluster: RayCluster, tmp_path: Path, searched_here: Path
) -> None:
    place = Place(tmp_path, cluster, SEARCH)
    caller = place.start("tune")
    root = tmp_path / SEARCHED
    until(lambda: any(RunFolder(path.parent).status().state == "running" for path in root.glob("*/run.json")), "", 120)
    cluster.workers()[0].kill()
    code, text = end_of(caller)
    assert code == 0 and "for 2 workers on ray" in text, text
    is_the_same_search(tmp_path, searched_here)
    assert cluster.workers() == []


@pytest.mark.slow
def test_whatever_happens_to_its_workers_a_grid_ends_with_the_same_bytes(
    cluster: RayCluster, tmp_path: Path, undisturbed: Path
) -> None:
    place = Place(tmp_path, cluster)
    caller = place.start("run-grid")
    until(lambda: sum(place.steps().values()) > 5, "the first runs train", 200)
    # A worker is killed.
    (worker,) = cluster.workers("head")
    worker.kill()
    until(lambda: [each for each in cluster.workers("head") if each != worker], "it is started again", 30)
    # A node is lost, with all that runs there.
    cluster.kill_node("second")
    # The driver is lost: Ray ends its workers, and the runs write checkpoints.
    before = sum(place.steps().values())
    until(lambda: sum(place.steps().values()) > before, "the other worker trains", 60)
    runs = [each for worker in cluster.workers() for each in worker.children(recursive=True)]
    driver_of(caller).kill()
    code, text = end_of(caller)
    assert code == 3 and "the connection to Ray has ended" in text and "Traceback" not in text, text
    psutil.wait_procs(runs, 20)
    assert not any(map(psutil.Process.is_running, runs)) and not any(map(is_worker, cluster.workers()))
    assert "running" not in place.states() and place.checkpoints()
    # The same command goes on.
    code, text = place.ask("run-grid")
    assert code == 0 and (tmp_path / "reports" / "tiny" / "report.md").exists(), text
    assert bytes_of(tmp_path) == bytes_of(undisturbed)
    assert place.attempts() >= 4 + 3 and place.states() == {"done"}
