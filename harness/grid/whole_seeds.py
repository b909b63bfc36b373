"""What a grid says while runs train: whole seeds are compared on the terminal, and report.html is written anew.

The comparison is made by the parent, which takes a fraction of a second. The page is written after every run that has
ended, by a process of its own of low priority, and only so often that it takes little of the processor all the same.
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
from harness.runs.record import SETTLED, Run, Status
from harness.scheduler import worker
from harness.scheduler.forkserver import CONTEXT
from harness.scheduler.live import LiveView
from harness.scheduler.ownership import ended_since
from harness.scheduler.scheduler import Tick
from harness.study.plan import Plan

FIRST_REPORT_S = 30.0
"""Of training before the first report: a grid that is over sooner has its report at once."""
SHARE = 0.1
"""Of the time of one processor core, for writing reports beside the training."""
NICE = 10
"""The priority of that; at the lowest one a page would take many minutes where all cores are busy."""
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
    """Has the report of a plan written while its runs train, by one process at a time. It never fails the grid."""

    def __init__(self) -> None:
        self._process: ForkServerProcess | None = None
        self._reply: Connection | None = None
        self._wanted: Plan | None = None
        self._is_warned = False
        self._began = time.monotonic()
        self._due = self._began + FIRST_REPORT_S

    def want(self, plan: Plan) -> None:
        """Have it written once that is due: there is news."""
        self._wanted = plan

    def tick(self) -> None:
        """See to what is wanted; to be called about once a second."""
        self._look()
        if self._wanted is None or self._process is not None or time.monotonic() < self._due:
            return
        reply, theirs = CONTEXT.Pipe(duplex=False)
        # A plan without what it has computed for itself, which cannot be sent.
        arguments = (theirs, logging.CRITICAL, write_kindly, (replace(self._wanted),))
        process = CONTEXT.Process(target=worker.answer, args=arguments, daemon=True)
        self._wanted, self._began = None, time.monotonic()
        try:
            with without_main():
                process.start()
        except (OSError, EOFError) as error:
            self._put_off(error)
            reply.close()
            return
        finally:
            theirs.close()
        self._process, self._reply = process, reply

    def finish(self) -> None:
        """Wait until what is being written is there."""
        if self._process is not None:
            self._process.join()
            self._look()

    def _look(self) -> None:
        """See whether the last one is there, and what became of it."""
        if self._process is None or self._reply is None or self._process.is_alive():
            return
        try:
            error, seconds = self._reply.recv()
        except (EOFError, OSError):
            error, seconds = "its process was ended", 0.0
        if error is None:
            self._due = self._began + seconds / SHARE
        else:
            self._put_off(error)
        self._reply.close()
        self._process = self._reply = None

    def _put_off(self, problem: object) -> None:
        """It could not be written: said once, and tried again with the next run that ends."""
        self._due = time.monotonic() + FIRST_REPORT_S
        if not self._is_warned:
            _log.warning("report.html is not written anew for now, while the runs go on: %s", problem)
        self._is_warned = True


def write_kindly(plan: Plan) -> float:
    """Write the page of what is there, at a low priority; of several calls at once one does. The processor time that
    it took, in seconds."""
    os.nice(NICE)
    with suppress(Timeout), alone(plan.study.root, "report", 0):
        write(gather(plan), page_alone=True)
    return time.process_time()


def showing(seeds: WholeSeeds, reports: ReportInBetween) -> Callable[[LiveView], Tick]:
    """What a grid does about once a second: show where its runs stand and, once a seed is whole, what that says.

    Once a run has ended, the report is written anew.
    """
    from harness.report.so_far import shown_so_far

    ended: int | None = None

    def tick(view: LiveView, statuses: Mapping[str, Status]) -> None:
        nonlocal ended
        view.tick(statuses)
        if count := seeds.tick(statuses):
            try:
                view.say(shown_so_far(seeds.compared(count), len(seeds.plan.study.design.seeds)))
            except (HarnessError, OSError):  # the end of the grid says what is wrong with its runs
                _log.debug("nothing is compared in between", exc_info=True)
        before, ended = ended, sum(status.state in SETTLED for status in statuses.values())
        if before is not None and before < ended < len(statuses):  # at the end the whole report is written
            reports.want(seeds.plan)
        reports.tick()

    return lambda view: partial(tick, view)
