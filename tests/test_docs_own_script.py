"""The page on training scripts of one's own, followed word by word, and its two examples, trained for a few steps."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
        done = run_forked(words, tmp_path, environment(), quick_figures=True)
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
    done = run_forked(["run-grid", f"{name}.yaml", *SHORT], examples, environment(), quick_figures=True)
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


def test_every_setting_of_the_section_is_on_the_page() -> None:
    from dataclasses import fields

    from harness.command.words import PLACES
    from harness.settings import CommandConfig

    assert all(f"| `{field.name}` |" in PAGE for field in fields(CommandConfig))
    assert all(f"`{{{place}}}`" in PAGE for place in PLACES)
