"""The page on training scripts of one's own, followed word by word, and its two examples, trained for a few steps."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from conftest import EMOJI_CACHE
from forked import run_forked
from harness.files import read_json
from harness.runs.folders import RunFolder

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "own-script.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = re.findall(r"^ *\$ (harness .*)$", PAGE, re.MULTILINE)
EXAMPLES = DOCS / "own-script"
SHORT = (
    "--set",
    "command.args.steps=4",
    "--set",
    "metrics.samples=16",
    "--set",
    "design.seeds=1",
    "--set",
    "data.resolution=8",
)


def environment() -> dict[str, str]:
    return {**os.environ, "HARNESS_CACHE": os.environ[EMOJI_CACHE], "HF_HUB_OFFLINE": "1"}


def test_the_page_works_as_written(tmp_path: Path) -> None:
    assert set(BLOCKS) == {"train.py", "study.yaml"} and len(COMMANDS) == 4
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        done = run_forked(words, tmp_path, environment())
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    report = (tmp_path / "reports" / "own" / "report.md").read_text()
    assert "noisy" in report and "grey" in report
    analysis = read_json(tmp_path / "reports" / "own" / "analysis.json")
    assert {"fd_emoji", "clip_score"} <= set(analysis["metrics"])


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples") / "own-script"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("emoji", "runs", "reports"))
    subprocess.run([sys.executable, "pairs.py", "40"], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("name", "losses", "measured"),
    [("gan", {"script/loss_g", "script/loss_d"}, [4]), ("diffusion", {"script/loss"}, [2, 4])],
)
def test_each_example_trains_and_is_reported(examples: Path, name: str, losses: set[str], measured: list[int]) -> None:
    done = run_forked(["run-grid", f"{name}.yaml", *SHORT], examples, environment())
    assert done.returncode == 0, done.stderr
    runs = [RunFolder(path.parent) for path in (examples / "runs" / f"own-{name}").glob("*/run.json")]
    assert len(runs) == 3 and {run.status().state for run in runs} == {"done"}
    for run in runs:
        names = {each for point in run.points() for each in point.values}
        assert losses <= names
        assert [point.step for point in run.points() if "metrics/fd_emoji" in point.values] == measured
    pixels = {result.weights for run in runs if (result := run.result())}
    assert len(pixels) == 3, "every setting changes what is trained"
    (report,) = (examples / "reports").glob(f"own-{name}.*/report.md")
    assert "figures/samples" in report.read_text()


def run_by_hand(examples: Path, name: str, folder: Path, stop: bool = False) -> int:
    """The exit code of 60 steps of an example with a job of its own; asked to stop after its first step."""
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    args = yaml.safe_load((examples / f"{name}.yaml").read_text())["command"]["args"] | {"steps": 60}
    rows = [{"index": n, "caption": ["a red heart", "dog face"][n % 2], "seed": n} for n in range(70)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    job = {"args": args, "seed": 3, "resolution": 8, "snapshots": 2, "study": str(examples), "folder": str(folder)}
    job |= {"samples": f"{folder}/samples", "prompts": f"{folder}/prompts.jsonl", "metrics": f"{folder}/m.jsonl"}
    (folder / "job.json").write_text(json.dumps(job))
    variables = {**os.environ, "HARNESS_JOB": str(folder / "job.json"), "PYTHONPATH": str(DOCS.parent)}
    process = subprocess.Popen([sys.executable, f"{name}.py"], cwd=examples, env=variables)
    metrics = folder / "m.jsonl"
    while stop and process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.01)
    if stop:
        process.send_signal(signal.SIGTERM)
    return process.wait(120)


@pytest.mark.parametrize("name", [pytest.param("gan", marks=pytest.mark.slow), "diffusion"])
def test_an_example_that_was_stopped_goes_on_to_the_same_bytes(examples: Path, tmp_path: Path, name: str) -> None:
    assert run_by_hand(examples, name, tmp_path / "whole") == 0
    assert run_by_hand(examples, name, tmp_path / "parts", stop=True) == 143
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts" / "m.jsonl").open()]
    assert 0 < max(steps) < 60 and [path.name for path in (tmp_path / "parts").glob("state*")] == ["state"]
    assert run_by_hand(examples, name, tmp_path / "parts") == 0
    whole, parts = (
        {
            path.relative_to(tmp_path / kind): path.read_bytes()
            for path in (tmp_path / kind).rglob("*.*")
            if path.suffix == ".png" or path.name == "m.jsonl"
        }
        for kind in ("whole", "parts")
    )
    assert whole == parts and len(whole) >= 71


def test_the_examples_are_short_and_the_helper_loads_no_torch() -> None:
    for name in ("gan", "diffusion"):
        assert 20 <= len((EXAMPLES / f"{name}.py").read_text().splitlines()) <= 60
    program = "import sys, harness.script; print({'torch', 'numpy', 'PIL', 'harness.settings'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_every_setting_of_the_section_is_on_the_page() -> None:
    from dataclasses import fields

    from harness.command.words import PLACES
    from harness.settings import CommandConfig

    assert all(f"| `{field.name}` |" in PAGE for field in fields(CommandConfig))
    assert all(f"`{{{place}}}`" in PAGE for place in PLACES)
