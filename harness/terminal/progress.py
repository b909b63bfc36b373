"""How far a long preparation is: a bar on a terminal, a line now and then in a pipe, nothing with -q."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from harness.terminal.console import terminal

_log = logging.getLogger("harness")
_EVERY = 30.0
"""Seconds between two lines in a pipe."""
_SHORT = 1.0
"""What took less is not worth a line."""

Advance = Callable[[int], None]
"""Called with the number that were finished since the last call."""


@contextmanager
def counted(what: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Shows the progress from `done` to `total`, and at the end how many a second there were."""
    console, begun, before = terminal(error=True, live=True), time.perf_counter(), done
    if console.is_terminal and _log.isEnabledFor(logging.INFO):
        with _bar(console) as bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda count: bar.update(task, advance=count)
    else:
        yield _lines(what, total, done)
    seconds = max(time.perf_counter() - begun, 1e-9)
    if seconds > _SHORT:
        _log.info(f"{what}: {total - before:,} in {seconds:.1f} s, {(total - before) / seconds:,.0f} a second")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True)


def _lines(what: str, total: int, done: int) -> Advance:
    said = time.perf_counter()

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if time.perf_counter() - said > _EVERY:
            said = time.perf_counter()
            _log.info(f"{what}: {done:,} of {total:,}")

    return advance
