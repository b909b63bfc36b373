"""What the whole seeds say while others still train: shown on the terminal, and the report written anew.

The comparison is made by the parent, which takes a fraction of a second. The report, with its figures, is written by a
process of its own that yields the processor to the runs, and only so often that it takes little of it all the same.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

from filelock import Timeout

from harness.analysis.results import Analysis
from harness.errors import HarnessError
from harness.files import alone
from harness.grid.outcome import gather, write
from harness.processes import without_main
from harness.runs.record import Run, Status
from harness.scheduler import worker
from harness.scheduler.forkserver import CONTEXT
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import ended_since
from harness.scheduler.scheduler import Tick
from harness.study.plan import Plan

FIRST_REPORT_S = 30.0
"""Of training before the first report: a grid that is over sooner has its report at once."""
SHARE = 0.05
"""Of the time, for writing reports beside the training."""
_log = logging.getLogger(__name__)


class WholeSeeds:
    """Looks, at each tick, whether another seed is whole: each of its runs has a result or has failed for good."""

    def __init__(self, plan: Plan, attempts: Mapping[str, int]) -> None:
        """`attempts`: run id -> its attempts before it was asked for; one that failed before is tried again."""
        self.plan, self.attempts = plan, attempts
        blocks: dict[int, list[Run]] = {seed: [] for seed in plan.study.design.seeds}
        for run in plan.runs:
            blocks.get(run.seed, []).append(run)
        self._open = [list(runs) for runs in blocks.values()]
        self._whole: int | None = None

    def tick(self, statuses: Mapping[str, Status]) -> int:
        """How many seeds are whole, if these are more than when it was last asked, and not all; else 0."""
        while self._open:
            # From the end, so that nearly always one status is looked at.
            runs = self._open[0]
            while runs and (it := statuses.get(runs[-1].id)) and ended_since(it, self.attempts.get(runs[-1].id, 0)):
                runs.pop()
            if runs:
                break
            self._open.pop(0)
        before, self._whole = self._whole, len(self.plan.study.design.seeds) - len(self._open)
        # Those that were whole when the call began are nothing new.
        return self._whole if self._open and before is not None and self._whole > before else 0

    def compared(self, count: int) -> Analysis:
        """What so many whole seeds say. Raises HarnessError."""
        seeds = self.plan.study.design.seeds[:count]
        runs = tuple(run for run in self.plan.runs if run.seed in seeds)
        return gather(replace(self.plan, runs=runs)).analysis


class ReportInBetween:
    """Has the report of a plan written while its runs train, by one process at a time."""

    def __init__(self) -> None:
        self._process: ForkServerProcess | None = None
        self._reply: Connection | None = None
        self._began = time.monotonic()
        self._due = self._began + FIRST_REPORT_S

    def write(self, plan: Plan) -> None:
        """Begin to write it, unless another is being written, or the last one was so soon before."""
        self._look()
        if self._process is not None or time.monotonic() < self._due:
            return
        reply, theirs = CONTEXT.Pipe(duplex=False)
        # A plan without what it has computed for itself, which cannot be sent.
        arguments = (theirs, logging.CRITICAL, write_kindly, (replace(plan),))
        process = CONTEXT.Process(target=worker.answer, args=arguments, daemon=True)
        try:
            with without_main():
                process.start()
        except (OSError, EOFError):
            _log.debug("no report in between", exc_info=True)
            return
        finally:
            theirs.close()
        self._process, self._reply, self._began = process, reply, time.monotonic()

    def finish(self) -> None:
        """Wait until what is being written is there."""
        if self._process is not None:
            self._process.join()
            self._look()

    def _look(self) -> None:
        """See whether the last one is there, and what became of it."""
        if self._process is None or self._reply is None or self._process.is_alive():
            return
        self._due = time.monotonic() + FIRST_REPORT_S
        with suppress(EOFError, OSError):
            error, seconds = self._reply.recv()
            if error is None:
                self._due = self._began + seconds / SHARE
            else:
                _log.debug("no report in between: %s", error)
        self._reply.close()
        self._process = self._reply = None


def write_kindly(plan: Plan) -> float:
    """Write the report of what is there, at the lowest priority; of several calls at once one does. How long it took,
    in seconds."""
    began = time.monotonic()
    os.nice(19)
    with suppress(Timeout), alone(plan.study.root, "report", 0):
        write(gather(plan))
    return time.monotonic() - began


def showing(seeds: WholeSeeds, reports: ReportInBetween) -> Callable[[LiveView], Tick]:
    """What a grid does about once a second: show where its runs stand and, once a seed is whole, what that says."""
    from harness.report.so_far import shown_so_far

    def tick(view: LiveView, statuses: Mapping[str, Status]) -> None:
        view.tick(statuses)
        if count := seeds.tick(statuses):
            try:
                view.say(shown_so_far(seeds.compared(count), len(seeds.plan.study.design.seeds)))
                reports.write(seeds.plan)
            except (HarnessError, OSError):  # the end of the grid says what is wrong with its runs
                _log.debug("nothing is compared in between", exc_info=True)

    return lambda view: partial(tick, view)
