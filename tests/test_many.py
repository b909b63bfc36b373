"""A hundred thousand images: the rate, flat memory, and going on after a kill."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from harness.data.dataset import load
from harness.settings import DataConfig

COUNT = 100_000
FOLDER = 1000
SHARD = 256


def write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "caption"])
        for number in range(COUNT):
            name = f"{number // FOLDER:03d}/{number:06d}.png"
            (folder / name).parent.mkdir(exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((64, 64), Image.Resampling.BICUBIC).save(folder / name)
            table.writerow([name, f"thing {number}"])
    (folder / "study.yaml").write_text("study: many\ndata: {source: table, path: table.csv, resolution: 64}\n")


def prepare(folder: Path, killed_at: int = 2 * COUNT) -> tuple[int, int]:
    """Exit code, and the most memory in MiB that its processes held together; shared pages are counted once."""
    command = [sys.executable, "-m", "harness", "data", "prepare", "study.yaml"]
    environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache")}
    process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        peak = max(peak, sum(_memory(each) for each in family))
        if len(done(folder)) * SHARD > killed_at:
            for each in family:
                each.kill()
        time.sleep(0.2)
    assert process.stderr
    print(process.stderr.read().strip().splitlines()[-1:], f"{peak} MiB")
    return process.returncode, peak


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss) >> 20
    except psutil.Error:
        return 0


def done(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "data").glob("*/*.jsonl"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_they_are_prepared_in_flat_memory_and_after_a_kill_from_where_it_stopped(tmp_path: Path) -> None:
    write(tmp_path)
    code, peak = prepare(tmp_path, killed_at=COUNT // 2)
    assert code == -9 and peak < 2048
    before = {path: path.stat().st_mtime_ns for path in done(tmp_path)}
    assert COUNT // 2 <= len(before) * SHARD < COUNT
    code, peak = prepare(tmp_path)
    assert code == 0 and peak < 2048
    assert all(path.stat().st_mtime_ns == written for path, written in before.items())
    config = DataConfig(source="table", path=str(tmp_path / "table.csv"), resolution=64)
    dataset = load(config, tmp_path / "cache")
    assert len(dataset.images) == COUNT == len(dataset.train) + len(dataset.held_out)
    first, last = (np.asarray(Image.open(tmp_path / name)) for name in ("000/000000.png", "099/099999.png"))
    assert np.array_equal(dataset.images[0], first.transpose(2, 0, 1))
    assert np.array_equal(dataset.images[COUNT - 1], last.transpose(2, 0, 1))
