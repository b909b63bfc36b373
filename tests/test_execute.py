"""A run's own process: whatever stops it and wherever, what it leaves in the end is what an undisturbed run leaves."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import executed
from executed import RUN, SNAPSHOTS, STEPS, At, execute, install, left, long_work, send, steps
from harness.models.config import GeneratorConfig
from harness.runs.folders import RunFolder
from harness.training.checkpoint import read_tensors
from harness.training.signals import Signals, Stopped

INTERRUPTED = 143


calm = pytest.fixture(autouse=True)(executed.calm)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("undisturbed") / RUN.id
    with pytest.MonkeyPatch.context() as patch:
        install(patch.setattr)
        assert execute(folder) == 0
    found = left(folder)
    taken = [step for step, _, values in found["points"] if "metrics/fd" in values]
    assert tuple(taken) == SNAPSHOTS and found["metrics"].keys() == {"fd"}
    return found


@pytest.mark.parametrize("nth", range(3))
def test_sigterm_in_a_snapshot_saves_the_step_and_the_snapshot_is_taken_when_it_goes_on(
    nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / RUN.id
    install(monkeypatch.setattr, At({("measure", nth): lambda: long_work(signal.SIGTERM)}))
    assert execute(folder) == INTERRUPTED
    assert steps(folder) == ([SNAPSHOTS[nth]] if nth else [])
    assert RunFolder(folder).status().step == SNAPSHOTS[nth]
    taken: list[str] = []
    monkeypatch.undo()
    install(monkeypatch.setattr, taken.append)
    assert execute(folder) == 0
    assert taken.count("step") == STEPS - SNAPSHOTS[nth], "no step is trained again"
    assert taken.count("measure") == len(SNAPSHOTS) - nth
    assert left(folder) == undisturbed


@pytest.mark.parametrize("part", ["prepare", "gflops"])
def test_sigterm_ends_what_goes_before_and_after_training(
    part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / RUN.id
    install(monkeypatch.setattr, At({(part, 0): lambda: long_work(signal.SIGTERM)}))
    assert execute(folder) == INTERRUPTED
    assert not (folder / "result.json").exists()
    assert execute(folder) == 0
    assert left(folder) == undisturbed


@pytest.mark.parametrize("nth", range(STEPS))
def test_sigterm_in_a_step_ends_after_it(
    nth: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    folder = tmp_path / RUN.id
    install(monkeypatch.setattr, At({("step", nth): lambda: send(signal.SIGTERM)}))
    assert execute(folder) == INTERRUPTED
    assert steps(folder) == [nth + 1] and RunFolder(folder).status().step == nth + 1
    assert execute(folder) == 0
    assert left(folder) == undisturbed


@pytest.mark.parametrize(
    ("part", "nth", "step"), [("step", 2, 3), ("step", 7, 8), ("measure", 1, 5), ("prepare", 0, 1)]
)
def test_sigusr1_saves_and_goes_on(
    part: str, nth: int, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    install(monkeypatch.setattr, At({(part, nth): lambda: send(signal.SIGUSR1)}))
    assert execute(tmp_path / RUN.id) == 0
    assert steps(tmp_path / RUN.id) == [step, STEPS], "once, at the next step"
    assert left(tmp_path / RUN.id) == undisturbed


def test_ctrl_c_is_not_for_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    install(monkeypatch.setattr, At({("step", 3): lambda: send(signal.SIGINT)}))
    assert execute(tmp_path / RUN.id) == 0
    assert left(tmp_path / RUN.id) == undisturbed


def test_a_library_cannot_take_the_stop_for_its_own_failure() -> None:
    signals = Signals()
    with pytest.raises(Stopped), signals.breakable():
        try:
            long_work(signal.SIGTERM)
        except Exception:
            pytest.fail("it was caught as an Exception")
    send(signal.SIGTERM)  # outside it is remembered
    with pytest.raises(Stopped), signals.breakable():
        pytest.fail("what must be cut short is not begun")


def test_a_run_with_its_result_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)
    folder = tmp_path / RUN.id
    assert execute(folder) == 0
    (folder / "checkpoint" / ".000000001.safetensors.1-a.tmp").write_text("not even this is looked at")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    asked: list[str] = []
    install(monkeypatch.setattr, asked.append)
    assert execute(folder) == 0
    assert asked == [] and {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("at", [2, None])
def test_what_a_killed_process_was_writing_does_not_stay(
    at: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    """Whether it was killed at a step or before its first state; what others may be writing now is left to them."""
    folder = tmp_path / RUN.id
    install(monkeypatch.setattr, At({("prepare" if at is None else "step", at or 0): lambda: send(signal.SIGTERM)}))
    assert execute(folder) == INTERRUPTED
    ours = (
        "metrics.jsonl",
        "result.json",
        "generator.safetensors",
        "samples/0.png",
        "checkpoint/000000001.safetensors",
    )
    theirs = ".status.json.77-0a1b2c3d.tmp"
    for name in ours:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.with_name(f".{path.name}.77-0a1b2c3d.tmp").write_text("half")
    (folder / theirs).write_text("half")
    assert execute(folder) == 0
    assert [path.name for path in folder.rglob(".*")] == [theirs]
    (folder / theirs).unlink()
    assert left(folder) == undisturbed


@pytest.mark.parametrize("damage", ["torn", "flipped"])
def test_a_damaged_state_costs_steps_and_nothing_else(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    """The points that the damaged state covered are written anew, none twice."""
    folder = tmp_path / RUN.id
    asked = {("step", 3): lambda: send(signal.SIGUSR1), ("step", 5): lambda: send(signal.SIGTERM)}
    install(monkeypatch.setattr, At(asked))
    assert execute(folder) == INTERRUPTED and steps(folder) == [4, 6]
    newest = folder / "checkpoint" / "000000006.safetensors"
    content = bytearray(newest.read_bytes())
    content[-9] ^= 1
    newest.write_bytes(content if damage == "flipped" else content[:-9])
    monkeypatch.undo()
    install(monkeypatch.setattr)
    assert execute(folder) == 0
    assert left(folder) == undisturbed


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_with_room_it_goes_on(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, Any]
) -> None:
    """The disk fills at another place in each attempt, and is made a little larger."""
    folder, refused = small_disk / RUN.id, 0
    install(monkeypatch.setattr, lambda what: send(signal.SIGUSR1))
    for size in range(64, 4000, 32):
        subprocess.run(["mount", "-o", f"remount,size={size}k", str(small_disk)], check=True)
        try:
            assert execute(folder) == 0
            break
        except OSError as error:
            assert error.errno == errno.ENOSPC
            assert not list(folder.rglob(".*")), "nothing torn stays"
            refused += 1
    assert refused > 5
    assert left(folder) == undisturbed


def attempt(folder: Path, slow_s: float) -> None:
    """A process of the run, its parts slow enough to be met by signals."""
    install(setattr, lambda what: time.sleep(slow_s))
    os._exit(execute(folder))


def test_signals_at_random_moments_change_nothing(tmp_path: Path, undisturbed: dict[str, Any]) -> None:
    """Real processes that are killed, stopped and asked to save until one of them comes to the end."""
    for number in (signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # as it is in a run's process before it has handlers
    draw, folder, codes = random.Random(7), tmp_path / RUN.id, Counter[int]()
    while not codes[0]:
        process = multiprocessing.get_context("fork").Process(target=attempt, args=(folder, 0.05))
        process.start()
        for number in draw.choices([signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL, signal.SIGINT], k=2):
            process.join(draw.uniform(0, 0.5))
            if process.is_alive():
                os.kill(process.pid or 0, number)
        process.join(60)
        for kind in ("run", "status"):  # what schedulers write too, they clear away
            for leftover in folder.glob(f".{kind}.json.{process.pid}-*.tmp"):
                leftover.unlink()
        codes[process.exitcode or 0] += 1
    assert set(codes) <= {0, INTERRUPTED, -signal.SIGKILL, -signal.SIGTERM} and codes.total() > 1
    assert left(folder) == undisturbed


def test_files_of_weights_say_which_generator_they_are_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that lies elsewhere starts other runs as the run's own file does."""
    install(monkeypatch.setattr)
    folder = tmp_path / RUN.id
    assert execute(folder) == 0
    for path in (folder / "generator.safetensors", *(folder / "checkpoint").glob("*.safetensors")):
        _, meta = read_tensors(path)
        assert GeneratorConfig(**json.loads(meta["generator"])) == RUN.settings.generator
