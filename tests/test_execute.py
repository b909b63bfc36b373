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
import torch

import executed
from executed import RUN, SNAPSHOTS, STEPS, At, execute, install, left, long_work, steps
from harness.models.config import GeneratorConfig
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck, ClaimLost
from harness.training import session as module
from harness.training.checkpoint import read_tensors
from harness.training.signals import Signals, Stopped

INTERRUPTED = 143


@pytest.fixture(autouse=True)
def calm() -> Iterator[None]:
    """Signals and threads as they were."""
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
    before, threads = {number: signal.getsignal(number) for number in numbers}, torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    for number, handler in before.items():
        signal.signal(number, handler)


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


def send(number: int) -> None:
    os.kill(os.getpid(), number)


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


def test_points_are_on_the_disk_before_the_state_that_covers_them_and_the_result_is_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a loss of power may take is what was not synced: the order of syncs and renames is the promise."""
    events: list[tuple[str, str, int]] = []
    fsync, replace = os.fsync, Path.replace

    def synced(number: int) -> None:
        fsync(number)
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        events.append(("sync", path.name, path.stat().st_size))

    def replaced(path: Path, target: Path) -> Path:
        points = path.parents[target.parent.name == "checkpoint"] / "metrics.jsonl"
        events.append((path.name, target.name, points.stat().st_size if points.exists() else 0))
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    install(monkeypatch.setattr, At({("step", 3): lambda: send(signal.SIGUSR1)}))
    folder = tmp_path / RUN.id
    assert execute(folder) == 0
    written = {name: place for place, (_, name, _) in enumerate(events)}
    for name, around in (("000000004.safetensors", "checkpoint"), ("000000010.safetensors", "checkpoint")):
        (place,) = (place for place, (kind, target, _) in enumerate(events) if target == name and kind != "sync")
        temporary, _, size = events[place]
        assert events[place - 1][:2] == ("sync", temporary), "the content first"
        assert events[place - 2] == ("sync", "metrics.jsonl", size), "and before it all points there are"
        assert events[place + 1][:2] == ("sync", around), "then the name"
    for name in ("generator.safetensors", "result.json"):
        assert events[written[name] - 1][0] == "sync" and events[written[name] + 1][:2] == ("sync", folder.name)
    assert written["result.json"] == len(events) - 2 > written["generator.safetensors"]


def test_nothing_is_written_by_who_has_lost_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost at many moments: from then on the folder stays as it is."""
    checks = 0
    for last in range(0, 100, 3):
        folder = tmp_path / str(last) / RUN.id
        calls, seen = 0, {}

        def check(_: ClaimCheck, last: int = last, folder: Path = folder) -> None:
            nonlocal calls, seen
            calls += 1
            if calls > last:
                seen = seen or contents(folder)
                raise ClaimLost

        monkeypatch.setattr(ClaimCheck, "check", check)
        # The last snapshot is cut short too: even then nothing is saved any more.
        install(monkeypatch.setattr, At({("measure", 2): lambda: long_work(signal.SIGTERM)}) if last % 2 else none)
        try:
            execute(folder)
            break
        except ClaimLost:
            assert contents(folder) == seen
            checks = last + 1
        monkeypatch.undo()
    assert checks > 2 * STEPS


def none(what: str) -> None:
    """Undisturbed."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_before_every_write_the_run_is_still_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since: list[str] = []

    def watched(name: str, write: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            assert "check" in since, f"{name} without a look, after {since}"
            since[:] = [name]
            return write(*arguments, **named)

        return call

    install(monkeypatch.setattr)
    monkeypatch.setattr(ClaimCheck, "check", lambda _: since.append("check"))
    places = [(RunFolder, name) for name in ("append", "update", "finish")]
    places += [(executed.Grid, "write"), (module.checkpoint, "save"), (module.checkpoint, "restore")]
    for place, name in places:
        monkeypatch.setattr(place, name, watched(name, getattr(place, name)))
    monkeypatch.setattr(module, "write_tensors", watched("generator", module.write_tensors))
    assert execute(tmp_path / RUN.id) == 0


@pytest.mark.parametrize(("share", "saved"), [(1e9, list(range(1, STEPS + 1))), (1e-9, [1, STEPS])])
def test_states_that_take_long_to_write_are_written_less_often(
    share: float, saved: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    save = module.checkpoint.save
    monkeypatch.setattr(module.checkpoint, "save", lambda *given: (seen.append(given[2]), save(*given)))
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(module, "CHECKPOINT_SHARE", share)
    install(monkeypatch.setattr)
    assert execute(tmp_path / RUN.id) == 0
    assert seen == saved


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
