"""`harness data prepare` that is stopped, or has no room: nothing outlives it, what is done is kept, and it says so."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from forked import run_forked
from waiting import command_of

COUNT = 1200


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs large enough that a shard of them takes seconds."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).resize((1000, 800))
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG")
    for number in range(COUNT):  # what follows the end of a JPEG is not read; equal files would be decoded once
        (folder / "images" / f"{number}.jpg").write_bytes(encoded.getvalue() + str(number).encode())
    for number in range(COUNT):
        (folder / "images" / f"{number}.txt").write_text("a carpet")
    path = folder / "study.yaml"
    path.write_text("study: many\ndata: {source: folder, path: images, resolution: 8}\n")
    return path


@pytest.fixture
def started(study: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, once two processes are at work for it; in a group of its own, as a shell starts it."""
    environment = {**os.environ, "HARNESS_CACHE": str(tmp_path)}
    command = [sys.executable, "-m", "harness", "data", "prepare", str(study)]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background may have it ignored
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while len(workers(process.pid)) < 2 and process.poll() is None:
            time.sleep(0.02)
        yield process
        if process.poll() is None:
            process.kill()


def workers(parent: int) -> list[psutil.Process]:
    return [each for each in psutil.Process(parent).children() if "spawn_main" in command_of(each)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core packs without other processes")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_its_processes_do_not_outlive_it(started: subprocess.Popen[str], number: signal.Signals) -> None:
    theirs = workers(started.pid)
    assert theirs
    started.send_signal(number)
    started.wait(10)
    _, alive = psutil.wait_procs(theirs, timeout=10)
    assert alive == []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core packs without other processes")
@pytest.mark.parametrize("seconds", [0.0, 1.5])
def test_ctrl_c_ends_it_with_a_word(started: subprocess.Popen[str], seconds: float) -> None:
    time.sleep(seconds)
    theirs = workers(started.pid)
    os.killpg(started.pid, signal.SIGINT)
    told = started.communicate(timeout=10)[1]
    assert started.returncode == 130
    assert "stopped; what is done is kept: run the command again to continue" in told and "Traceback" not in told
    assert psutil.wait_procs(theirs, timeout=10)[1] == []


@pytest.mark.parametrize("cache", ["/proc/nowhere", "{study}"])
def test_a_cache_that_cannot_be_written_is_named(study: Path, cache: str) -> None:
    place = cache.format(study=study)
    done = run_forked(["plan", str(study)], environment={**os.environ, "HARNESS_CACHE": place})
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{place}/data" in done.stderr and "another place in HARNESS_CACHE" in " ".join(done.stderr.split())


def test_a_full_disk_is_said_with_its_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from harness.data import prepare as preparing
    from harness.errors import HarnessError
    from harness.settings import DataConfig

    def full(path: Path, array: object, allow_pickle: bool) -> None:
        path.write_bytes(b"part")
        raise OSError("12582912 requested and 2097024 written")

    monkeypatch.setattr(preparing.np, "save", full)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    with pytest.raises(HarnessError, match=r"data/\w+ cannot be written \(12582912 .*make room.*_CACHE"):
        preparing.prepare(DataConfig(resolution=8), tmp_path)
    monkeypatch.undo()
    folder, _ = preparing.prepare(DataConfig(resolution=8), tmp_path)
    assert not list(folder.glob("scratch*"))
