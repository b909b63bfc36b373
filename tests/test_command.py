"""Runs of a script of the study's own, in real processes: how they end, what they leave, and that they go on."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from command_script import SCRIPT, STUDY
from conftest import EMOJI_CACHE
from forked import run_forked
from harness.data.dataset import load
from harness.errors import SpecError
from harness.files import read_json
from harness.metrics.evaluate import Networks, evaluate
from harness.metrics.manifest import make_manifest
from harness.report.figures import reported
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result, Run, RunRecord, State, Status
from harness.settings import CommandConfig, Settings
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.study.search_space import parameters

DONE = ("good", "nan", "text", "bool", "backwards", "snapshots", "killed", "grey", "outside", "children")
FAILED = {
    "program_error": ("code", "error: the script ended with exit code 1: ValueError: a wrong learning rate"),
    "out_of_memory": ("out_of_memory", "exit code 1: RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"),
    "unasked_143": (
        "killed",
        "error: the script ended with exit code 143, as after SIGTERM, without having been asked to stop: ",
    ),
    "missing": ("data", "1 of 48 images are missing: 000047.png"),
    "wrong_size": ("data", "9 x 8 pixels; the script must write images of data.resolution, 8 x 8"),
    "unreadable": ("data", "cannot be read"),
    "fails_at_length": ("code", "exit code 7: the reason, without an end of line"),
    "deletes": ("data", "script: is gone since the script was started"),
    "deletes_run": ("data", "is gone: while the run was under way it was deleted, or the study moved"),
    "samples_file": ("data", "samples: is no folder"),
    "records": ("data", "run.json"),
}
ENDS = {**dict.fromkeys((*DONE, "early"), "done"), **dict.fromkeys(FAILED, "failed"), "diverged": "diverged"}
CELLS = f"""
toggles: [no_program: {{command.run: [no-such-program]}}, noisy: {{command.args.noise: 2}}]
levels: {{command.args.mode: [{", ".join(ENDS)}]}}
design: {{kind: one-at-a-time, include: [origin], seeds: 1}}
"""


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    return {**kept, "HARNESS_CACHE": os.environ[EMOJI_CACHE], "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}


def harness(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run_forked(words, folder, environment())


def study(folder: Path, more: str, script: str = SCRIPT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY + more)
    (folder / "train.py").write_text(script)
    return folder


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A study of every way in which a script can end, run once."""
    folder = study(tmp_path_factory.mktemp("own"), CELLS)
    done = harness(folder, "run-grid", "study.yaml")
    assert done.returncode == 3, done.stderr
    yield folder


def run_of(folder: Path, cell: str) -> RunFolder:
    found = [path.parents[1] for path in (folder / "runs" / "own").glob("*/script/job.json")]
    cells = {read_json(path / "script" / "job.json")["cell"].removeprefix("mode="): path for path in found}
    return RunFolder(cells[cell])


def script_points(run: RunFolder) -> list[tuple[int, dict[str, float]]]:
    return [
        (point.step, own)
        for point in run.points()
        if (own := {name: value for name, value in point.values.items() if name.startswith("script/")})
    ]


def measured(run: RunFolder) -> list[Point]:
    return [point for point in run.points() if any(name.startswith("metrics/") for name in point.values)]


LOSSES = [(step, {"script/loss": 1 / step, "script/lr": 0.5}) for step in range(1, 7)]


@pytest.mark.parametrize("mode", DONE)
def test_a_script_that_ends_with_0_is_done_and_measured(workspace: Path, mode: str) -> None:
    run = run_of(workspace, "origin" if mode == "good" else mode)
    status, result = run.status(), run.result()
    assert (status.state, status.step, status.total_steps) == ("done", 6, 6)
    assert result is not None and {"fd_emoji", "kid_emoji", "clip_score", "r_precision"} <= set(result.metrics)
    assert "clip_score_seen" not in result.metrics, "nothing is known of what guided the script"
    assert result.cards["fd_emoji"]["n"] == 16 and result.cost["script_seconds"] > 0
    sheet = np.asarray(Image.open(run.path / "samples" / "000000006.png"))
    assert sheet.shape == (8, 8 * 16, 3)
    assert run.run().engine.training == "script"


@pytest.mark.parametrize("mode", FAILED)
def test_a_script_that_fails_says_why_and_how(workspace: Path, mode: str) -> None:
    folder = workspace / "runs" / "own"
    if mode == "records":
        paths = [path.parent for path in folder.glob("*/run.json") if path.read_text() == "{}"]
        assert len(paths) == 1 and RunFolder(paths[0]).status().state == "failed"
        return
    if mode.startswith("deletes"):
        runs = [RunFolder(path.parent) for path in folder.glob("*/run.json") if path.read_text() != "{}"]
        (status,) = [run.status() for run in runs if run.run().cell == f"mode={mode}"]
    else:
        status = run_of(workspace, mode).status()
    assert status.state == "failed"
    assert status.failure == FAILED[mode][0] and FAILED[mode][1] in status.error
    causes = ("exit code ", "killed by ")  # of the run's own process, which ends itself for its script
    assert not status.error.startswith(causes) or "error: the script " not in status.error


def test_a_script_that_says_that_it_has_diverged_is_a_result(workspace: Path) -> None:
    status = run_of(workspace, "diverged").status()
    assert status.state == "diverged" and "the loss is infinite" in status.error


def test_a_program_that_is_not_there_fails_with_its_name(workspace: Path) -> None:
    status = run_of(workspace, "no_program").status()
    assert status.state == "failed" and "no-such-program cannot be started (No such file" in status.error


def test_what_a_script_reports_is_a_point_each_and_what_is_no_number_is_told(workspace: Path) -> None:
    assert script_points(run_of(workspace, "origin")) == LOSSES
    for mode in ("nan", "text", "bool"):
        run = run_of(workspace, mode)
        assert script_points(run) == [(step, {"script/lr": 0.5}) for step in range(1, 7)]
        log = (run.path / "log.txt").read_text()
        assert "a value that is" in log and "loss: " in log and "6 times" in log


def test_a_step_back_within_one_attempt_is_left_out_and_told(workspace: Path) -> None:
    run = run_of(workspace, "backwards")
    assert script_points(run) == LOSSES
    assert "2 after 4" in (run.path / "log.txt").read_text()


def test_a_script_killed_in_the_middle_of_a_line_goes_on_where_it_had_saved(workspace: Path) -> None:
    run = run_of(workspace, "killed")
    assert run.status().attempt == 2
    assert script_points(run) == LOSSES, "each step once, steps 3 and 4 as taken anew, step 5 not spoilt by its half"
    log = (run.path / "log.txt").read_text()
    assert "begins after 2" in log and "half a line" in log and "goes on at step 3; it had reported 4" in log


def test_images_on_the_way_are_measured_when_they_are_announced(workspace: Path) -> None:
    run = run_of(workspace, "snapshots")
    assert [point.step for point in measured(run)] == [2, 4, 6]
    values = [point.values["metrics/fd_emoji"] for point in measured(run)]
    result = run.result()
    assert result is not None and values[-1] == result.metrics["fd_emoji"] and len(set(values)) == 3
    assert not [path for path in (run.path / "script" / "samples").iterdir() if path.is_dir()], "measured ones are gone"
    assert {"000000002.png", "000000004.png", "000000006.png"} <= {p.name for p in (run.path / "samples").iterdir()}


def test_what_is_noticed_is_told(workspace: Path) -> None:
    assert "left_behind.txt" in (run_of(workspace, "outside").path / "log.txt").read_text()
    assert "1 images: has transparent pixels" in (run_of(workspace, "grey").path / "log.txt").read_text()


def test_a_script_that_ends_before_its_total_has_ended_there_and_that_is_told(workspace: Path) -> None:
    status = run_of(workspace, "early").status()
    assert (status.state, status.step, status.total_steps) == ("done", 4, 4)
    assert status.script_notes["steps of its total that it has not reported"] == 2


def test_what_was_not_used_is_told_in_status_and_report(workspace: Path) -> None:
    listed = json.loads(harness(workspace, "status", "study.yaml", "--json").stdout)["runs"]
    rows = {row["cell"]: row for row in listed}
    assert rows["mode=nan"]["script_notes"]["a value that is not finite; name: loss"] == 6
    assert rows["mode=outside"]["script_notes"]["files outside its folder, written while it ran"] >= 1
    assert "a value that is no number; name: loss" not in rows["mode=nan"]["script_notes"]
    shown = " ".join(harness(workspace, "status", "study.yaml").stdout.split())
    report = (workspace / "reports" / "own" / "report.md").read_text()
    for text in (shown, report):
        assert "6 x a value that is not finite: loss (mode=nan seed 0; see log.txt)" in text
        assert "12 x a value that is no number: loss (mode=text seed 0 and mode=bool seed 0; see log.txt)" in text


def test_no_process_of_a_script_outlives_it(workspace: Path) -> None:
    pids = read_json(run_of(workspace, "children").path / "script" / "pids.json")
    assert len(pids) == 2 and not any(map(psutil.pid_exists, pids))


def test_prompts_are_those_of_the_manifest_then_of_the_sample_grid(workspace: Path) -> None:
    plan = make_plan(load_study(workspace / "study.yaml"))
    run = plan.runs[0]
    dataset = load(run.settings.data, Path(os.environ[EMOJI_CACHE]), run.fingerprints["data"])
    manifest = make_manifest(dataset, run.settings)
    lines = (run_of(workspace, "origin").path / "script" / "prompts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    asked = [dataset.captions[i][c] for i, c in zip(manifest.images, manifest.captions, strict=True)]
    grid = [row["caption"] for row in read_json(run_of(workspace, "origin").path / "samples" / "captions.json")]
    assert [row["caption"] for row in rows] == asked + grid
    assert [row["index"] for row in rows] == list(range(len(rows)))
    assert rows == [json.loads(line) for line in (run_of(workspace, "noisy").path / "script/prompts.jsonl").open()]
    assert len({row["seed"] for row in rows}) == len(rows)


def test_equal_images_give_equal_numbers_to_evaluate(workspace: Path, tmp_path: Path) -> None:
    run = run_of(workspace, "origin")
    settings = run.run().settings
    dataset = load(settings.data, Path(os.environ[EMOJI_CACHE]), run.run().fingerprints["data"])
    manifest = make_manifest(dataset, settings)
    for name in ("real", "fake"):
        (tmp_path / name).mkdir()
    for image in manifest.real.tolist():
        Image.fromarray(dataset.images[[image]][0].transpose(1, 2, 0)).save(tmp_path / "real" / f"{image:06d}.png")
    for number in range(manifest.samples):
        source = run.path / "script" / "samples" / f"{number:06d}.png"
        (tmp_path / "fake" / source.name).write_bytes(source.read_bytes())
    networks = Networks(resnet="embedded:resnet-measure", clip="embedded:clip-measure")
    found = evaluate(tmp_path / "real", tmp_path / "fake", None, networks, lambda images, *_: images).metrics
    result = run.result()
    assert result is not None
    for name in ("fd_emoji", "kid_emoji", "precision", "recall"):
        assert found[name] == pytest.approx(result.metrics[name], rel=1e-6, abs=1e-9), name


def test_commands_know_a_script(workspace: Path) -> None:
    terms = harness(workspace, "terms", "study.yaml")
    assert "train.py" in terms.stdout and "{args}" not in terms.stdout and terms.returncode == 0
    assert harness(workspace, "terms", "study.yaml", "--json").stdout.strip() == "[]"
    plan = harness(workspace, "plan", "study.yaml")
    assert "a script at 8 px" in plan.stdout and "s a run" in plan.stdout and plan.returncode == 0
    sample = harness(workspace, "sample", "origin/0", "a dog", "--study", "study.yaml")
    assert sample.returncode == 2 and "prompts.jsonl" in sample.stderr
    status = harness(workspace, "status", "study.yaml")
    assert status.returncode == 0 and "wrong learning rate" in status.stdout
    assert harness(workspace, "ls", "study.yaml").returncode == 0


def test_the_report_has_the_comparison_and_no_terms_of_ours(workspace: Path) -> None:
    report = workspace / "reports" / "own"
    text = (report / "report.md").read_text()
    assert "noisy" in text and "s of the script" in text and "pseudo" not in text
    assert "the images that the script has left" in text and "loss weights" not in text
    assert re.search(
        r"mode=nan.*: trained by `\{python\} train.py .*\{args\}`; its code `[0-9a-f]{16}`: train\.py", text
    )
    assert text.count("trained by `") == 2, "one line for each script, and not for each of its settings"
    assert (report / "figures" / "reported.svg").exists()
    resolved = read_json(report / "study.json")
    assert resolved["command"]["args"]["noise"] == 1.0 and not {"loss", "train", "generator"} & set(resolved)
    assert (report / "figures" / "samples.svg").exists()


def test_what_is_drawn_of_a_script_are_means_over_finished_seeds() -> None:
    def record(seed: int, values: list[float], state: State = "done") -> RunRecord:
        points = tuple(Point(step, step / 1000, 0.0, {"script/loss": it}) for step, it in enumerate(values, 1))
        run = Run(f"r{seed}", "own", "origin", seed, (), Settings(command=CommandConfig(run=("x",))), {"data": "d"})
        return RunRecord(run, Status(state=state), Result({}, {}, {}), points)

    records = [record(0, [1.0, 2.0, 4.0]), record(1, [3.0, 6.0]), record(2, [9.0, 9.0, 9.0], "failed")]
    assert reported.names(records) == ("loss",)
    steps, means = reported.line(records, "origin", "loss")
    assert steps.tolist() == [1, 2] and means.tolist() == [2.0, 4.0]


def test_a_search_varies_the_settings_of_a_script_that_have_decimals(tmp_path: Path) -> None:
    tune = "tune: {cell: origin, trials: 2, confirm: 0, objective: fd, span: 2}\n"
    folder = study(tmp_path / "s", "toggles: []\ndesign: {kind: list, cells: [[]], seeds: 1}\n" + tune)
    loaded = load_study(folder / "study.yaml", None, ["command.args.pause=0.001"])
    found = {it.name: (it.written, it.low, it.high) for it in parameters(loaded.settings, loaded.tune)}
    assert found == {"command.args.noise": (1.0, 0.5, 2.0), "command.args.pause": (0.001, 0.0005, 0.002)}
    for problem in ("tune.parameters=[command.args.nois]", "tune.parameters=[loss.tau]"):
        with pytest.raises(SpecError, match=r"allowed: command\.args\.noise"):
            load_study(folder / "study.yaml", None, [problem])
    done = harness(folder, "tune", "study.yaml")
    assert done.returncode == 0 and "2 of 2 trials have" in done.stdout, done.stderr
