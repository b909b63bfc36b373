"""What a grid shows while it runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from harness.runs.record import FINAL, Run, State, Status
from harness.scheduler.slots import Slot
from harness.scheduler.time_left import Smoothed, grid_seconds_left, run_seconds_left
from harness.terminal.table import TextTable
from harness.text import duration, one_line, quantity, shortened

Statuses = Mapping[str, Status]
"""By run id."""
SIGNS: dict[State, tuple[str, str, str]] = {
    "running": ("▶", ">", "bold cyan"),
    "done": ("✔", "+", "green"),
    "pruned": ("✂", "/", "dim"),
    "diverged": ("↯", "~", "magenta"),
    "failed": ("✘", "x", "bold red"),
    "interrupted": ("■", "#", "yellow"),
    "pending": ("·", ".", "dim"),
}
"""State -> symbol, the same in ASCII, style; in the order of the caption."""

REDRAW_S = 0.5
DRAWING = 0.01
"""The share of the time that drawing may take; many runs on a tall terminal are drawn more rarely."""
REPORT_S = 30.0
"""Seconds between two progress lines without a terminal."""
WIDE = 100
"""Columns from which there is room for longer bars."""


class LiveView:
    """Context manager around a grid: shows the statuses that `tick` is given, as often as it likes."""

    def __init__(self, runs: Sequence[Run], root: Path, slots: Sequence[Slot], console: Console) -> None:
        live = console.is_terminal and not console.is_dumb_terminal
        self._view = _TableView(runs, len(slots), console) if live else _LineView(runs, root, len(slots), console)
        self._seen = True

    def __enter__(self) -> LiveView:
        self._show(self._view.open)
        return self

    def __exit__(self, *_: object) -> None:
        self._show(self._view.close)

    def tick(self, statuses: Statuses) -> None:
        """Show where the runs stand; `statuses` by run id."""
        self._show(lambda: self._view.tick(statuses))

    def say(self, paragraphs: Sequence[str | TextTable]) -> None:
        """Print sentences and tables above what is redrawn; without a terminal a line for each sentence and record."""
        self._show(lambda: self._view.print(paragraphs))

    def _show(self, draw: Callable[[], None]) -> None:
        """A terminal that went away, or a full disk behind it, ends no run: from then on nothing is drawn."""
        if self._seen:
            try:
                draw()
            except OSError:
                self._seen = False


class _TableView:
    """Running runs first, then the newest finished ones, as many as fit; counts and the time left below."""

    def __init__(self, runs: Sequence[Run], slots: int, console: Console) -> None:
        self.runs, self.slots, self.console = runs, slots, console
        self.statuses: Statuses = {}
        self.smoothed = Smoothed()
        self.began, self.due = time.monotonic(), 0.0
        self.live = Live(console=console, auto_refresh=False, get_renderable=self.render)

    def open(self) -> None:
        """Start drawing; what is logged meanwhile goes above the table."""
        for handler in logging.getLogger("harness").handlers:
            if hasattr(handler, "console"):
                handler.console = self.console
        self.live.start()

    def close(self) -> None:
        self.live.refresh()
        self.live.stop()

    def print(self, paragraphs: Sequence[str | TextTable]) -> None:
        """All at once, as the table below is drawn anew each time."""
        parts: list[Text] = []
        for each in paragraphs:
            if isinstance(each, TextTable):
                lines = Text("\n").join(each.lines(self.console.width))
                lines.no_wrap, lines.overflow = True, "ignore"
                parts.append(lines)
            else:
                parts.append(Text(one_line(each)))
        self.console.print(Group(*parts))

    def tick(self, statuses: Statuses) -> None:
        self.statuses = statuses
        began = time.monotonic()
        if began >= self.due:
            self.live.refresh()
            self.due = began + max(REDRAW_S, (time.monotonic() - began) / DRAWING)

    def render(self) -> Group:
        statuses = [self.statuses.get(run.id, Status()) for run in self.runs]
        rows = sorted(zip(self.runs, statuses, strict=True), key=lambda row: rank(row[1]))
        shown = rows[: max(3, self.console.height - 6)]
        return Group(self.table(shown), self.caption(statuses, len(rows) - len(shown)))

    def caption(self, statuses: Sequence[Status], hidden: int) -> Text:
        """Counts, and under them the time."""
        left = self.smoothed("", grid_seconds_left(self.runs, self.statuses, self.slots))
        parts = [duration(time.monotonic() - self.began)]
        parts += [f"about {duration(left)} left"] if left else []
        parts += [f"{quantity(hidden, 'more run')} not shown"] if hidden else []
        states = Counter(status.state for status in statuses)
        counts = ", ".join(f"{states[state]} {state}" for state in SIGNS if states[state])
        text = f"{quantity(len(statuses), 'run')}: {counts}\n{', '.join(parts)}"
        return Text(text, style="dim", no_wrap=True, overflow="ellipsis")

    def table(self, rows: Sequence[tuple[Run, Status]]) -> Table:
        wide = self.console.width >= WIDE
        words = [Column(name, no_wrap=True) for name in ("state", "")]
        numbers = [Column(name, no_wrap=True, justify="right") for name in ("step", "img/s", "left")]
        columns = [Column("run", overflow="ellipsis"), *words, *numbers, Column("newest", overflow="ellipsis")]
        table = Table(*columns, box=None, padding=(0, 1, 0, 0), header_style="dim")
        for run, status in rows:
            table.add_row(*self.cells(run, status, wide))
        return table

    def cells(self, run: Run, status: Status, wide: bool) -> tuple[Text | ProgressBar | str, ...]:
        symbol, plain, style = SIGNS[status.state]
        state = f"{plain if self.console.options.ascii_only else symbol} {status.word}"
        attempt = f" #{status.attempt}" if status.attempt > 1 else ""
        running = status.state == "running"
        left = self.smoothed(run.id, run_seconds_left(run, status) if running else None)
        took = f"({duration(status.seconds)})" if status.state in FINAL and status.seconds else ""
        note = Text(status.reason, style=style) if status.error else Text(newest(status))
        note.no_wrap, note.overflow = True, "ellipsis"
        return (
            Text(f"{run.cell}/{run.seed}", no_wrap=True, overflow="ellipsis"),
            Text(state + attempt, style=style),
            ProgressBar(max(1, status.total_steps), status.step, width=16 if wide else 6),
            f"{status.step}/{status.total_steps}" if status.total_steps else "",
            f"{status.images_per_s:.3g}" if running and status.images_per_s else "",
            duration(left) if left is not None else took,
            note,
        )


class _LineView:
    """A line for every change of state, and one about progress every half minute."""

    def __init__(self, runs: Sequence[Run], root: Path, slots: int, console: Console) -> None:
        self.runs, self.root, self.slots, self.console = runs, root, slots, console
        self.shown: dict[str, tuple[State, int]] = {}
        self.smoothed = Smoothed()
        self.reported = time.monotonic()

    def open(self) -> None:
        """Nothing to set up."""

    def close(self) -> None:
        """Nothing to put back."""

    def print(self, paragraphs: Sequence[str | TextTable]) -> None:
        for each in paragraphs:
            for line in each.lines() if isinstance(each, TextTable) else [Text(one_line(each))]:
                self.console.print(line, soft_wrap=True)

    def tick(self, statuses: Statuses) -> None:
        finished = sum(status.state in FINAL for status in statuses.values())
        if not self.shown and finished:
            self.say(finished, f"finished before: {finished} of {quantity(len(self.runs), 'run')}")
        first = not self.shown
        for run in self.runs:
            status = statuses.get(run.id, Status())
            now = (status.state, status.attempt)
            before = self.shown.get(run.id, ("pending", 0))
            self.shown[run.id] = now
            if now != before and not (first and status.state != "running"):
                self.say(finished, f"{run.cell} seed {run.seed}: {self.change(run, status)}")
        if time.monotonic() - self.reported >= REPORT_S:
            self.reported = time.monotonic()
            self.say(finished, self.progress(statuses))

    def change(self, run: Run, status: Status) -> str:
        """The new state of a run, in words."""
        took = f" in {duration(status.seconds)}" if status.seconds else ""
        attempt = f", attempt {status.attempt}" if status.attempt > 1 else ""
        reason = status.reason or "no reason given"
        log = os.path.relpath(self.root / run.id / "log.txt")
        match status.state:
            case "running":
                return f"running{attempt}"
            case "done":
                scores = newest(status)
                return f"done{took}" + (f": {scores}" if scores else "")
            case "pending":
                return f"to be tried again: {reason} (see {log})"
            case "failed" | "diverged":
                return f"{status.state}{took}: {reason} (see {log})"
        return f"{status.state} at step {status.step}"

    def progress(self, statuses: Statuses) -> str:
        """How far the running runs are."""
        running = [(run, statuses[run.id]) for run in self.runs if statuses[run.id].state == "running"]
        each = [
            f"{run.cell}/{run.seed} {100 * it.step / max(1, it.total_steps):.0f} %{' measuring' * it.measuring}"
            for run, it in running
        ]
        left = self.smoothed("", grid_seconds_left(self.runs, statuses, self.slots))
        return (f"running: {shortened(each, 4)}" if each else "no run is under way here") + (
            f"; about {duration(left)} left" if left else ""
        )

    def say(self, finished: int, text: str) -> None:
        width = len(str(len(self.runs)))
        line = f"[{finished:>{width}}/{len(self.runs)}] {text}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)


def rank(status: Status) -> tuple[int, float]:
    """Running first, by start; then what ended, newest first; then the rest."""
    if status.state == "running":
        return 0, status.started
    if status.state == "pending":
        return 2, 0.0
    return 1, -status.updated


def newest(status: Status) -> str:
    """The newest scores and, until a run has ended, losses, the generator's first: `fd_emoji 45.1  G 12.3  D 1.4`."""
    losses = [] if status.state in FINAL else sorted(status.last.items(), reverse=True)
    return "  ".join(f"{name} {value:.3g}" for name, value in (*status.scores.items(), *losses))
