"""Everything of a study that MLflow lacks, sent in one pass after another.

Only the holder of the study's `mirror` lock may have one of these.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.databases import explained
from harness.errors import HarnessError
from harness.runs.record import Run
from harness.scheduler.ownership import SETTLED
from harness.tracking import ledger as ledgers
from harness.tracking.ledger import GridLedger
from harness.tracking.mlflow_store import common_tags, open_store
from harness.tracking.parent_run import Parent, state_of_grid
from harness.tracking.run_sync import RunSync

if TYPE_CHECKING:
    from harness.study.schema import Study

SAVE_EVERY = 200
"""Runs between two savings of a long pass: what is noted there need not be looked at again."""
_OF_THIS_RUN = frozenset({"INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST"})
"""Answers that concern one run, such as one deleted in MLflow; all others mean that the server is not well."""
_log = logging.getLogger(__name__)


class OutOfTime(Exception):
    """A pass did not come to its end in the time it had."""


class StudySync:
    """An open store and what it has of the study's runs. Raises what MLflow raises when it cannot be reached."""

    def __init__(self, study: Study, root: Path, runs: Sequence[Run], uri: str) -> None:
        self.root, self.runs = root, runs
        ledger = ledgers.load_grid(root)
        self.store = open_store(study, ledger, uri)
        if (ledger.uri, ledger.parent) != (self.store.uri, self.store.parent):
            ledger = GridLedger(self.store.uri, self.store.experiment_id, self.store.parent)
            ledgers.save(root / ledgers.NAME, ledger)
        self.ledger, self.parent, self._tags = ledger, Parent(self.store, study, ledger), common_tags(study)
        self.damaged: list[str] = []
        """What is wrong with runs that could not be sent."""
        self._deliveries: dict[str, RunSync] = {}
        self._closed: set[str] = set()
        """Runs that need no further look: settled ones, and those that cannot be sent."""
        self._unsaved = 0

    def look_everywhere(self) -> None:
        """Have the next pass look at every run, also at those that were delivered whole."""
        self.ledger.delivered.clear()
        self.ledger.settled.clear()

    def send(
        self,
        running: bool = False,
        deadline: float = float("inf"),
        advance: Callable[[int], None] = lambda _: None,
    ) -> Counter[str]:
        """Send all that is missing, once, and count it by kind.

        `running`: the grid goes on. `advance(1)` is called after each run. Raises what MLflow raises, and OutOfTime
        after `deadline` (of `time.monotonic`); what was sent by then counts.
        """
        sent: Counter[str] = Counter()
        before = replace(self.ledger, reports=dict(self.ledger.reports))
        try:
            self.parent.describe()
            for run in [run for run in self.runs if run.id not in self._closed]:
                if time.monotonic() > deadline:
                    raise OutOfTime("the grid is over before everything is sent")
                sent += self._send_run(run)
                advance(1)
            sent += self.parent.send_reports(self.root)
        except BaseException:
            self._save_unfinished()
            raise
        self.parent.tell("RUNNING" if running else state_of_grid(self.root, self.runs))
        if self._unsaved or self.ledger != before:
            ledgers.save(self.root / ledgers.NAME, self.ledger)
            self._unsaved = 0
        return sent

    def _send_run(self, run: Run) -> Counter[str]:
        """What is new of one run. A look at one that has not changed costs no more than a `stat`."""
        mark = ledgers.mark(f"{self.root}/{run.id}")
        if mark is None:
            return Counter()
        if mark == self.ledger.mark_of(run.id):
            self._closed |= {run.id} & self.ledger.settled.keys()
            return Counter()
        from requests import RequestException

        try:
            sent = self._deliver(run)
        except RequestException:
            raise
        except (HarnessError, ValueError, TypeError, KeyError) as error:
            self._leave_out(
                run, f"{run.cell} seed {run.seed} cannot be sent to MLflow: {explained(error, self.store.uri)}"
            )
            self.damaged.append(str(error))
            return Counter()
        delivery = self._deliveries.get(run.id)
        if delivery is None or delivery.state != "running":
            self._note_delivered(run, mark, delivery is None or delivery.state in SETTLED)
        return sent

    def _deliver(self, run: Run) -> Counter[str]:
        from mlflow.exceptions import MlflowException

        if run.id not in self._deliveries:
            self._deliveries[run.id] = RunSync(self.store, self.root / run.id, run, self._tags)
        delivery = self._deliveries[run.id]
        try:
            try:
                return delivery.deliver()
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                delivery.forget()
                return delivery.deliver()
        except MlflowException as error:
            if error.error_code not in _OF_THIS_RUN:
                raise
            self._leave_out(run, f"MLflow does not take {run.cell} seed {run.seed}: {explained(error, self.store.uri)}")
            return Counter()

    def _leave_out(self, run: Run, why: str) -> None:
        self._closed.add(run.id)
        self._deliveries.pop(run.id, None)
        _log.warning("%s", why)

    def _note_delivered(self, run: Run, mark: int, settled: bool) -> None:
        self.ledger.note(run.id, mark, settled)
        if settled:
            self._closed.add(run.id)
            self._deliveries.pop(run.id, None)
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self._save_unfinished()

    def _save_unfinished(self) -> None:
        """With the grid's own state left open, so that it is sent again if nobody comes to the end of this pass."""
        ledgers.save(self.root / ledgers.NAME, replace(self.ledger, status=""))
        self._unsaved = 0
