"""What a grid shows, on a terminal and elsewhere."""

from __future__ import annotations

import io
import logging
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fakes import make_run
from harness.runs.record import Run, Status
from harness.scheduler import live
from harness.scheduler.live import LiveView, newest
from harness.scheduler.slots import Slot
from harness.scheduler.time_left import Smoothed, grid_seconds_left, measured_at, run_seconds_left
from harness.terminal.console import Notes

SLOTS = (Slot(0, "cpu", 1), Slot(1, "cpu", 1))
RUNNING = Status("running", 100, 300, 80.0, 1, 7, 1.0, 2.0, 20.0, {"D": 1.0, "G": 12.345})
DONE = Status("done", 300, 300, 0.0, 1, seconds=63.2, updated=5.0)
FAILED = Status("failed", 7, 300, attempt=2, error="exit code 1\nharness.x.DataError: upside down", updated=6.0)


@pytest.fixture(autouse=True)
def stopped_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times left are those that were estimated, however long a test takes."""
    monkeypatch.setattr(live, "Smoothed", lambda: Smoothed(lambda: 0.0))


def make_runs(count: int) -> list[Run]:
    return [make_run("separate_features", seed) for seed in range(count)]


def terminal(width: int, **options: object) -> Console:
    settings = {"force_terminal": True, "_environ": {"TERM": "xterm-256color"}, **options}
    return Console(file=io.StringIO(), width=width, height=24, **settings)  # type: ignore[arg-type]


def final_screen(console: Console, runs: list[Run], statuses: list[Status]) -> list[str]:
    """The lines of the last drawing, without control codes."""
    named = {run.id: status for run, status in zip(runs, statuses, strict=True)}
    with LiveView(runs, Path("runs"), SLOTS, console) as view:
        view.tick(named)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", console.file.getvalue())  # type: ignore[attr-defined]
    return text[text.rindex("run  ") :].splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits_and_says_what_matters(width: int) -> None:
    lines = final_screen(terminal(width), make_runs(4), [DONE, RUNNING, FAILED, Status()])
    assert max(map(len, lines)) <= width
    assert "separate_features/1" in lines[1] and "running" in lines[1] and "100/300" in lines[1]
    assert "40 s" in lines[1] and "G 12.3  D 1" in lines[1]
    assert "failed #2" in lines[2] and "DataError" in lines[2]
    assert "done" in lines[3] and "63 s" in lines[3]
    assert "pending" in lines[4]
    assert lines[5].strip() == "4 runs: 1 running, 1 done, 1 failed, 1 pending"
    assert "about 62 s left" in lines[6]


def test_one_is_said_in_the_singular() -> None:
    assert final_screen(terminal(80), make_runs(1), [DONE])[2].strip() == "1 run: 1 done"
    lines = final_screen(terminal(80), make_runs(19), [DONE] * 19)
    assert lines[-2].strip() == "19 runs: 19 done" and "1 more run not shown" in lines[-1]


def test_many_runs_show_the_running_and_the_newest() -> None:
    done = [replace(DONE, updated=float(index)) for index in range(40)]
    lines = final_screen(terminal(80), make_runs(64), [*done, RUNNING, RUNNING, *[Status()] * 22])
    assert len(lines) <= 24
    assert [line.split()[0] for line in lines[1:4]] == [f"separate_features/{seed}" for seed in (40, 41, 39)]
    assert "64 runs: 2 running, 40 done, 22 pending" in lines[-2] and "46 more runs not shown" in lines[-1]


def test_colours_only_where_they_are_wanted() -> None:
    for environment, coloured in (({"NO_COLOR": "1"}, False), ({}, True)):
        console = terminal(80, _environ={"TERM": "xterm-256color", **environment})
        final_screen(console, make_runs(1), [FAILED])
        assert ("\x1b[1;31m" in console.file.getvalue()) is coloured  # type: ignore[attr-defined]


def test_what_is_logged_stands_above_the_table() -> None:
    console, logger = terminal(80), logging.getLogger("harness")
    handler = Notes()
    logger.addHandler(handler)
    with LiveView(make_runs(1), Path("runs"), SLOTS, console):
        logger.warning("stopping")
    logger.removeHandler(handler)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert 0 < shown.index("stopping") < shown.rindex("separate_features/0")


def printed(ticks: list[list[Status]]) -> list[str]:
    """Lines of a console that is no terminal."""
    console, runs = Console(file=io.StringIO(), width=40), make_runs(len(ticks[0]))
    with LiveView(runs, Path.cwd() / "runs", SLOTS, console) as view:
        for statuses in ticks:
            view.tick({run.id: status for run, status in zip(runs, statuses, strict=True)})
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b" not in text
    return text.splitlines()


def test_lines_tell_every_change_once() -> None:
    waiting, again = Status(), replace(FAILED, state="pending", attempt=1)
    second = replace(RUNNING, attempt=2)
    lines = printed(
        [
            [DONE, waiting, waiting],
            [DONE, RUNNING, waiting],
            [DONE, RUNNING, waiting],
            [DONE, DONE, again],
            [DONE, DONE, second],
            [DONE, DONE, FAILED],
        ]
    )
    log = f"runs/{make_run('separate_features', 2).id}/log.txt"
    assert lines == [
        "[1/3] finished before: 1 of 3 runs",
        "[1/3] separate_features seed 1: running",
        "[2/3] separate_features seed 1: done in 63 s",
        f"[2/3] separate_features seed 2: to be tried again: DataError: upside down (see {log})",
        "[2/3] separate_features seed 2: running, attempt 2",
        f"[3/3] separate_features seed 2: failed: DataError: upside down (see {log})",
    ]


def test_lines_report_progress_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "REPORT_S", 0.0)
    assert printed([[RUNNING, Status()]])[-1] == "[0/2] running: separate_features/0 33 %; about 60 s left"
    assert printed([[RUNNING] * 6])[-1].count("33 %") == 4


def test_a_run_that_is_measured_says_so_and_shows_its_last_scores() -> None:
    scores = {"clip_score": 12.34, "fd_emoji": 45.67}
    measured = replace(RUNNING, measuring=True, scores=scores, measuring_s=5.0)
    lines = final_screen(terminal(120), make_runs(2), [measured, replace(DONE, scores=scores, last={"G": 1.0})])
    assert "measuring" in lines[1] and "clip_score 12.3  fd_emoji 45.7  G 12.3  D 1" in lines[1]
    assert lines[2].rstrip().endswith("(63 s) clip_score 12.3  fd_emoji 45.7"), "losses are no news by then"
    assert "2 runs: 1 running, 1 done" in lines[3]
    assert printed([[RUNNING], [replace(DONE, scores=scores)]])[-1].endswith("63 s: clip_score 12.3  fd_emoji 45.7")
    assert replace(measured, state="interrupted").word == "interrupted", "whatever its process left behind"


def test_the_time_left_counts_measuring() -> None:
    run = make_run("separate_features", 0)
    assert run.settings.train.snapshots == 4 and measured_at(300, 4) == {0, 75, 150, 225, 300}
    at = replace(RUNNING, measuring_s=5.0)
    assert run_seconds_left(run, at) == 40 + 3 * 5
    assert run_seconds_left(run, replace(at, step=150, measuring=True)) == 30 + 2 * 5 + 5
    assert run_seconds_left(run, replace(at, step=300)) == 0


def test_a_time_that_is_shown_counts_down_and_follows_without_jumping() -> None:
    now = [0.0]
    shown = Smoothed(lambda: now[0])
    assert shown("run", 100.0) == 100.0 and shown("other", None) is None
    told = []
    for _ in range(60):  # the same speed, told with noise of a half
        now[0] += 1.0
        told.append(shown("run", (100.0 - now[0]) * (1.5 if now[0] % 2 else 0.5)))
    assert max(abs(value - (100.0 - second)) for second, value in enumerate(told, 1)) < 4
    assert all(before > after for before, after in zip(told, told[4:], strict=False))
    now[0] += 1000.0
    assert shown("run", 50.0) == pytest.approx(50.0), "what was shown long ago has no say"
    assert shown("run", None) is None and shown("run", 7.0) == 7.0


def test_time_left() -> None:
    first, second, third = make_runs(3)
    assert run_seconds_left(first, RUNNING) == 200 * 16 / 80
    assert run_seconds_left(first, Status()) is None
    # 40 s of the running one and twice the mean of 60 s and 60 s, on one slot and on three
    statuses = {first.id: RUNNING, second.id: Status()}
    assert grid_seconds_left([first, second, third], statuses, 1) == 40 + 60 + 60
    assert grid_seconds_left([first, second, third], statuses, 3) == 60
    sharing = {first.id: replace(statuses[first.id], sharing="up to 3 runs at a time, as memory allows")}
    assert grid_seconds_left([first, second, third], statuses | sharing, 3) == 40 + 60 + 60
    assert grid_seconds_left([first], {}, 1) is None
    assert grid_seconds_left([first], {first.id: DONE}, 1) is None


def test_words() -> None:
    assert Status(error="exit code 1\na.b.Error: no\n").reason == "Error: no"
    assert Status(error="torch.cuda.OutOfMemoryError: CUDA out").reason == "OutOfMemoryError: CUDA out"
    assert newest(RUNNING) == "G 12.3  D 1"
    assert set(live.SIGNS) == {"running", "done", "diverged", "failed", "interrupted", "pending", "pruned"}
