"""The progress of a long preparation: a bar on a terminal, a line now and then in a pipe, nothing with -q."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from harness.terminal.console import terminal

_log = logging.getLogger("harness")
_LINE_S = 30.0
"""Seconds between two lines in a pipe."""
_WORTH_A_LINE_S = 1.0
"""Shorter preparations are not reported."""

Advance = Callable[[int], None]
"""Called with the number that were finished since the last call."""


@contextmanager
def counted(what: str, total: int, done: int = 0) -> Iterator[Advance]:
    """Shows the progress from `done` to `total`, and at the end how many there were per second."""
    console, began = terminal(error=True, live=True), time.perf_counter()
    is_live, line_at = console.is_terminal and _log.isEnabledFor(logging.INFO), began
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Speed(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not is_live) as bar:
        task = bar.add_task(what, total=total, completed=done)

        def advance(count: int) -> None:
            nonlocal line_at
            bar.update(task, advance=count)
            if not is_live and time.perf_counter() - line_at > _LINE_S:
                line_at = time.perf_counter()
                _log.info(f"{what}: {bar.tasks[0].completed:,.0f} of {total:,}")

        yield advance
    seconds = max(time.perf_counter() - began, 1e-9)
    if seconds > _WORTH_A_LINE_S:
        _log.info(f"{what}: {total - done:,} in {seconds:.1f} s, {(total - done) / seconds:,.0f} per second")


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")
