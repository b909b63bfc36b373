"""What a run's own process writes: in an order that a loss of power cannot harm, and only while the run is its own."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

import executed
from executed import RUN, STEPS, At, execute, install, long_work, send
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck, ClaimLost
from harness.training import session as module

calm = pytest.fixture(autouse=True)(executed.calm)


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
