"""The whole tool on the embedded data: real encoders, real processes, a real tracking store, runs of a few steps."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors import safe_open

from conftest import EMOJI_CACHE, trained_once
from forked import Forked, run_forked
from harness.files import read_json
from harness.runs.folders import RunFolder

STUDY = """
study: tiny
data: {resolution: 8}
generator: {z_dim: 16, w_dim: 16, mapping_layers: 2, channel_base: 64, channel_max: 8}
discriminator: {channel_base: 64, channel_max: 8}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide", crop: 0.125, pixel_noise: 0.05}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 32}
train: {batch: 8, kimg: 0.24, lr: 0.005, snapshots: 2}
toggles: [paired_contrast, resnet_guided]
design: {kind: one-at-a-time, include: [origin], seeds: 1}
"""
STEPS = 30


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished grid of three cells; the cache is shared by the tests of this file."""
    return trained_once("grid", train, tmp_path_factory.mktemp("grid"))


def train(folder: Path) -> None:
    (folder / "study.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "harness", "run-grid", "study.yaml"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if "`harness sync`" in done.stderr:  # a machine that is busy leaves some of it
        assert harness(folder, "sync", "study.yaml").returncode == 0


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    return {**kept, "HARNESS_CACHE": os.environ[EMOJI_CACHE], "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}


def harness(folder: Path, *arguments: str, quick_figures: bool = True) -> subprocess.CompletedProcess[str]:
    return run_forked(arguments, folder, environment(), quick_figures=quick_figures)


def start(folder: Path, *arguments: str) -> Forked:
    return Forked(arguments, folder, environment())


def test_a_grid_whose_runs_have_two_processes_each(workspace: Path, tmp_path: Path) -> None:
    """The same runs by their ids, with the same results but for rounding."""
    (tmp_path / "study.yaml").write_text(STUDY)
    wanted = ["--set", "resources.gpus_per_run=2", "--only", "resnet_guided", "--only", "origin"]
    done = harness(tmp_path, "run-grid", "study.yaml", *wanted)
    assert done.returncode == 0, done.stderr
    assert "on the processor, 2 processes for each run" in done.stdout + done.stderr
    shared, alone = (
        {path.parent.name: path.parent for path in (folder / "runs" / "tiny").glob("*/run.json")}
        for folder in (tmp_path, workspace)
    )
    assert len(shared) == 2 and shared.keys() <= alone.keys()
    for name, folder in shared.items():
        record = RunFolder(folder)
        ours, theirs = record.result(), RunFolder(alone[name]).result()
        assert ours and theirs and record.status().ranks == 2
        # Rounding grows with each step of so small a run, and one image of 16 is 0.06 of the R-precision.
        assert ours.metrics == pytest.approx(theirs.metrics, rel=0.12, abs=0.1)
        assert ours.weights != theirs.weights
        log = (folder / "log.txt").read_text()
        assert log.count("--- attempt 1 on cpu in 2 processes, slot") == 1 and "Traceback" not in log
    assert next((tmp_path / "reports").rglob("report.md")).read_text()


def run_folder(folder: Path, cell: str) -> Path:
    found = [path.parent for path in (folder / "runs" / "tiny").glob("*/run.json") if read_json(path)["cell"] == cell]
    assert len(found) == 1
    return found[0]


def weights(folder: Path, cell: str) -> dict[str, bytes]:
    """All bytes of the final training state: both networks, the average and both optimisers."""
    path = run_folder(folder, cell) / "checkpoint" / f"{STEPS:09d}.safetensors"
    with safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118


def points(folder: Path, cell: str) -> list[tuple[int, dict[str, float]]]:
    """Everything logged but times and machine load."""
    return [
        (point.step, {k: v for k, v in point.values.items() if not k.startswith(("training/", "system/"))})
        for point in RunFolder(run_folder(folder, cell)).points()
    ]


def test_every_run_leaves_its_result(workspace: Path) -> None:
    for cell in ("origin", "paired_contrast", "resnet_guided"):
        folder = run_folder(workspace, cell)
        status, result = RunFolder(folder).status(), RunFolder(folder).result()
        assert (status.state, status.step) == ("done", STEPS)
        assert result is not None
        assert {"fd_emoji", "kid_emoji", "clip_score", "clip_score_seen", "r_precision"} <= set(result.metrics)
        assert result.cards["fd_emoji"]["n"] == 32
        assert result.cost["gflops_per_step"] > 0 and result.cost["s_per_kimg"] > 0
        measured = [point.step for point in RunFolder(folder).points() if "metrics/fd_emoji" in point.values]
        assert measured == [0, STEPS // 2, STEPS]
        sheet = np.asarray(Image.open(folder / "samples" / f"{STEPS:09d}.png"))
        assert sheet.shape == (8, 8 * 16, 3) and sheet.std() > 0


def test_every_regulariser_that_was_taken_is_logged_once_per_interval(workspace: Path) -> None:
    found = points(workspace, "origin")
    for name, interval in (("discriminator/r1", 16), ("generator/path_length", 4)):
        assert [step for step, values in found if name in values] == list(range(1, STEPS + 1, interval))


def test_guided_runs_cost_more_arithmetic(workspace: Path) -> None:
    flops = {
        cell: read_json(run_folder(workspace, cell) / "result.json")["cost"]["gflops_per_step"]
        for cell in ("origin", "paired_contrast", "resnet_guided")
    }
    assert flops["origin"] < min(flops["paired_contrast"], flops["resnet_guided"])


def test_asking_again_does_nothing(workspace: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (workspace / "runs").rglob("*") if path.is_file()}
    again = harness(workspace, "run-grid", "study.yaml")
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert "paired_contrast" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (workspace / "runs").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["report.md", "report.html"])
def test_a_report_that_is_missing_is_written_when_asking_again(workspace: Path, name: str) -> None:
    report = workspace / "reports" / "tiny" / name
    before = report.read_bytes()
    report.unlink()
    again = harness(workspace, "run-grid", "study.yaml", quick_figures=False)
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert report.read_bytes() == before, "the same records give the same bytes"


def test_a_margin_written_later_is_told_by_a_new_report(workspace: Path) -> None:
    again = harness(workspace, "run-grid", "study.yaml", "--set", "margins.fd=7")
    assert again.returncode == 0 and "nothing to do" in again.stderr and "report:" in again.stderr
    (place,) = (workspace / "reports").glob("tiny.margins-fd-7-*/analysis.json")
    assert read_json(place)["metrics"]["fd_emoji"]["margin"] == 7
    assert read_json(workspace / "reports" / "tiny" / "analysis.json")["metrics"]["fd_emoji"]["margin"] != 7


def test_what_the_data_was_and_what_was_left_out_stands_beside_the_runs(workspace: Path) -> None:
    data = read_json(workspace / "runs" / "tiny" / "provenance.json")["data"]
    assert data["images"] > data["held_out"] > 0 and data["left_out"] == []
    assert "CC-BY" in data["attribution"]


def test_a_report_before_any_run_says_that_there_is_nothing_yet(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    assert harness(tmp_path, "report", "study.yaml").returncode == 0
    assert "nothing to compare yet" in (tmp_path / "reports" / "tiny" / "report.md").read_text()


def test_an_encoder_that_cannot_be_had_is_the_users_to_mend(tmp_path: Path) -> None:
    text = STUDY.replace("embedded:resnet-measure", "timm:resnet18.a1_in1k")
    (tmp_path / "study.yaml").write_text(text)
    done = harness(tmp_path, "run-grid", "study.yaml")
    assert done.returncode == 2
    assert "resnet18" in done.stderr and "local file" in done.stderr and "Traceback" not in done.stderr


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "runs").write_text("a file where a folder should be")
    done = harness(tmp_path, "run-grid", "study.yaml")
    assert done.returncode == 2 and "runs" in done.stderr and "Traceback" not in done.stderr


def test_the_report_names_every_cell_and_its_figures_exist(workspace: Path) -> None:
    folder = workspace / "reports" / "tiny"
    text = (folder / "report.md").read_text()
    for word in ("origin", "paired_contrast", "resnet_guided", "untrained", "ceiling", "Twemoji", "CC-BY 4.0"):
        assert word in text, word
    assert (folder / "figures" / "samples.png").stat().st_size > 1000
    assert "one seed" in text.lower()


def test_mlflow_holds_every_point_once(workspace: Path) -> None:
    script = """
import json, sys, mlflow
client = mlflow.MlflowClient("sqlite:///mlflow.db")
experiment = client.get_experiment_by_name("tiny")
found = {}
for run in client.search_runs([experiment.experiment_id]):
    if "cell" in run.data.tags:
        history = client.get_metric_history(run.info.run_id, "generator/total")
        found[run.data.tags["cell"]] = [run.info.status, len(history), len({p.step for p in history})]
print(json.dumps(found))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=workspace, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        cell: ["FINISHED", STEPS, STEPS] for cell in ("origin", "paired_contrast", "resnet_guided")
    }


def test_samples_of_a_finished_run(workspace: Path) -> None:
    for out, seed in (("one.png", "0"), ("again.png", "0"), ("other.png", "1")):
        prompts, options = ["red heart", "cat"], ["--study", "study.yaml", "--out", out, "--seed", seed]
        done = harness(workspace, "sample", "origin/0", *prompts, *options)
        assert done.returncode == 0, done.stderr
    one, again, other = (np.asarray(Image.open(workspace / name)) for name in ("one.png", "again.png", "other.png"))
    assert one.shape == (256, 512, 3), "two images of 8 px, side by side"
    assert (one == one[::32, ::32].repeat(32, axis=0).repeat(32, axis=1)).all(), "enlarged by whole pixels"
    assert (one == again).all() and (one != other).any()


@pytest.mark.parametrize("number", [pytest.param(signal.SIGKILL, marks=pytest.mark.slow), signal.SIGINT])
def test_a_stopped_run_ends_with_the_same_bytes(workspace: Path, number: signal.Signals, tmp_path: Path) -> None:
    folder = tmp_path / number.name
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY)
    process = start(folder, "run-grid", "study.yaml", "--only", "paired_contrast")
    status = wait_for_step(folder, 2)
    if number == signal.SIGKILL:
        os.kill(status.pid, signal.SIGKILL)  # the run dies without a word; the scheduler starts it again
        assert process.wait(120) in (0, 3)
    else:
        os.kill(status.pid, signal.SIGSTOP)  # lest it ends before the request arrives
        process.send_signal(signal.SIGINT)
        os.kill(status.pid, signal.SIGCONT)
        assert process.wait(120) == 130
        assert RunFolder(run_folder(folder, "paired_contrast")).status().state == "interrupted"
        assert not psutil.pid_exists(status.pid)
        again = harness(folder, "run-grid", "study.yaml", "--only", "paired_contrast")
        assert again.returncode in (0, 3), again.stderr
    assert weights(folder, "paired_contrast") == weights(workspace, "paired_contrast")
    assert points(folder, "paired_contrast") == points(workspace, "paired_contrast")


def wait_for_step(folder: Path, step: int):  # type: ignore[no-untyped-def]
    """The status of the only run once it has logged `step`."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        found = list((folder / "runs" / "tiny").glob("*/metrics.jsonl"))
        if found and len(RunFolder(found[0].parent).points()) > step:
            return RunFolder(found[0].parent).status()
        time.sleep(0.005)
    raise AssertionError("the run did not get so far")


def test_a_diverged_run_is_a_result(workspace: Path, tmp_path: Path) -> None:
    folder = tmp_path / "diverged"
    folder.mkdir()
    (folder / "study.yaml").write_text(STUDY.replace("lr: 0.005", "lr: 1.0e+30"))
    done = harness(folder, "run-grid", "study.yaml", "--only", "origin")
    assert done.returncode == 3
    assert "diverged" in done.stderr and "log.txt" in done.stderr
    diverged = RunFolder(run_folder(folder, "origin"))
    status = diverged.status()
    assert status.state == "diverged" and diverged.result() is None
    assert "step" in status.error
    (report,) = (folder / "reports").glob("tiny.only-origin-*/report.md")
    assert "diverged" in report.read_text()
    before = status.attempt
    assert harness(folder, "run-grid", "study.yaml", "--only", "origin").returncode == 3
    assert RunFolder(run_folder(folder, "origin")).status().attempt == before, "the same settings diverge again"


def test_what_mlflow_lacks_is_sent_when_there_is_nothing_to_train(workspace: Path) -> None:
    again = harness(workspace, "run-grid", "study.yaml", "--set", "tracking.uri=sqlite:///other.db")
    assert again.returncode == 0 and "nothing to do" in again.stderr
    assert tracked(workspace / "other.db") == tracked(workspace / "mlflow.db") != []


def tracked(store: Path) -> list[tuple[str, str, str, int]]:
    """Name, state, metric and step of every point that the runs of a grid have in an MLflow store."""
    query = """
        SELECT runs.name, status, metrics.key, step FROM metrics JOIN runs USING (run_uuid)
        WHERE run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId') ORDER BY 1, 2, 3, 4
    """
    with contextlib.closing(sqlite3.connect(store)) as connection:
        return connection.execute(query).fetchall()
