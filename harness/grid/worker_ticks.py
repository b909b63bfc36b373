"""What a worker does about once a second."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from harness.executors.job import JobFolder
from harness.runs.record import Run, Status
from harness.scheduler.live import LiveView
from harness.scheduler.processes import Stop


class Work(Protocol):
    """What a worker is at: a scheduler, or one after another."""

    @property
    def started(self) -> Mapping[str, Run]:
        """The runs that it has started, by id."""

    @property
    def stop(self) -> Stop:
        """Who asked for its end."""


@dataclass
class Follower:
    """Shows the worker's own runs, and looks for what is asked of its job."""

    folder: JobFolder
    work: Work
    view: LiveView
    runs: list[Run]
    """What the view shows."""
    saved: int = field(init=False)

    def __post_init__(self) -> None:
        self.saved = self.folder.save_asked_at()

    def tick(self, statuses: Mapping[str, Status]) -> None:
        started, stop = self.work.started, self.work.stop
        self.runs[:] = started.values()
        self.view.tick({name: statuses[name] for name in started})
        # Where no engine passes signals on, the folder is asked.
        if self.folder.is_cancelled:
            stop.heed(signal.SIGTERM)
        asked = self.folder.save_asked_at()
        if asked != self.saved:
            self.saved = asked
            stop.heed(signal.SIGUSR1)
