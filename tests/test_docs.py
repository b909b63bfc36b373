"""The page for users who bring their own data, followed word by word."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from forked import run_forked
from harness.data.sources.twemoji import Twemoji
from harness.settings import DataConfig

PAGE = Path(__file__).parent.parent / "docs" / "data.md"
COMMANDS = re.findall(r"^ *\$ (harness .*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
SHORTER = ["--set", "train.kimg=0.064", "--set", "metrics.samples=20"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Emoji as somebody's own images: photographs' format, captions in files."""
    folder = tmp_path_factory.mktemp("own")
    images = folder / "my-images"
    images.mkdir()
    for record in Twemoji(DataConfig()).records()[::60]:
        picture = Image.open(record.where).convert("RGBA")
        opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
        opaque.save(images / f"{record.key}.jpg")
        (images / f"{record.key}.txt").write_text("\n".join(record.captions), encoding="utf-8")
    return folder


def test_the_page_for_ones_own_data_works_as_written(folder: Path) -> None:
    assert len(COMMANDS) == 5
    environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    for command in COMMANDS:
        arguments = shlex.split(command)[1:]
        if arguments[0] in ("plan", "run-grid"):
            arguments += SHORTER
        done = run_forked(arguments, folder, environment)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.width > 1000
    (place,) = (folder / "reports").glob("mine-trial.metrics-samples-20-train-kimg-0-064-*/report.md")
    report = place.read_text(encoding="utf-8")
    assert "2 runs: 2 done" in report


def test_the_csv_of_the_page_on_comparing_is_read_as_written(tmp_path: Path) -> None:
    page = (PAGE.parent / "comparing.md").read_text(encoding="utf-8")
    (csv,) = re.findall(r"^```\n(transform_w,.*?)```$", page, re.MULTILINE | re.DOTALL)
    (command,) = re.findall(r"^ *\$ harness (analyze .*)$", page, re.MULTILINE)
    (tmp_path / "results.csv").write_text(csv)
    done = run_forked([*shlex.split(command), "--json"], tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["metrics"]["fid"]
    assert [each["toggle"] for each in found["effects"]] == ["transform_w", "mix_logits"]
    assert found["effects"][0]["verdict"] == "better"
    assert found["margin"] == 5.0


def test_the_examples_of_the_page_on_designs_are_what_the_tool_prints(tmp_path: Path) -> None:
    page = (PAGE.parent / "designs.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^    \$ harness (.*)\n((?:    .*\n|\n(?=    ))*)", page, re.MULTILINE)
    assert len(blocks) == 2
    shutil.copy(PAGE.parent.parent / "ablations.yaml", tmp_path)
    environment = {**os.environ, "COLUMNS": "120"}
    for command, block in blocks:
        done = run_forked(shlex.split(command), tmp_path, environment)
        assert done.returncode == 0, done.stderr
        printed = iter([line.rstrip() for line in done.stdout.splitlines()])
        for line in (line.removeprefix("    ") for line in block.splitlines() if line.strip() not in ("", "...")):
            assert line in printed, f"{command}: {line!r} is not printed, or not here"
