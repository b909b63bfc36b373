"""Everything of a study that MLflow lacks, sent in one pass after another.

Only the holder of the study's `mirror` lock may have one of these.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.databases import explained
from harness.errors import HarnessError
from harness.masking import masked, masked_code
from harness.runs.record import Run
from harness.tracking import ledger as ledgers
from harness.tracking.address import experiment_of
from harness.tracking.ledger import GridLedger, Ledger
from harness.tracking.mlflow_store import SENT_TAG, open_store
from harness.tracking.names import called, renamed
from harness.tracking.parent_run import Parent, state_of_grid
from harness.tracking.run_sync import RunSync

if TYPE_CHECKING:
    from harness.study.schema import Study

SAVE_EVERY = 200
"""Runs between two savings of a long pass: what is noted there need not be looked at again."""
TOO_LATE = "the grid is over before everything is sent"
_OF_THIS_RUN = frozenset({"INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST"})
"""Answers that concern one run, such as one deleted in MLflow; all others mean that the server is not well."""
_log = logging.getLogger(__name__)


class StudySync:
    """An open store and what it has of the study's runs. Raises what MLflow raises when it cannot be reached."""

    def __init__(self, study: Study, root: Path, runs: Sequence[Run], uri: str) -> None:
        self.study, self.root, self.runs = study, root, runs
        ledger = ledgers.read(root / ledgers.NAME, GridLedger)
        noted = deepcopy(ledger)
        self.store = open_store(study, ledger, uri)
        place = GridLedger(self.store.uri, self.store.parent, experiment=experiment_of(study))
        if (ledger.uri, ledger.parent) != (place.uri, place.parent):
            ledger = place
        elif self.store.sent_at < ledger.sent_at:
            older = "holds an earlier state than was sent, such as a backup"
            _log.warning("MLflow at %s %s; it is asked what it has, and gets the rest", masked(uri), older)
            self._forget(all_runs=True)
            ledger = place
        ledger.experiment = place.experiment
        for run_id in renamed(runs, study, ledger):  # is looked at, though its folder is as it was
            del ledger.delivered[run_id]
        if ledger != noted:
            ledgers.save(root / ledgers.NAME, ledger)
        self.ledger, self.parent = ledger, Parent(self.store, study, ledger)
        self.not_sent: list[str] = []
        """What is wrong with runs that could not be sent."""
        for path in sorted({path for run in runs for path, text in run.source.items() if masked_code(text) != text}):
            _log.warning("%s: holds a password or token, which MLflow does not get; models there cannot use it", path)
        self._run_syncs: dict[str, RunSync] = {}
        self._left_out: set[str] = set()
        """Runs that cannot be sent."""
        self._unsaved = 0

    def send(
        self, running: bool = False, deadline: float = float("inf"), advance: Callable[[int], None] = lambda _: None
    ) -> Counter[str]:
        """Send all that is missing, once, and count it by kind.

        `running`: the grid goes on. `advance(1)` is called after each run. Raises what MLflow raises, and TimeoutError
        after `deadline` (of `time.monotonic`); what was sent by then counts.
        """
        sent: Counter[str] = Counter()
        before = replace(self.ledger, reports=dict(self.ledger.reports), notes=dict(self.ledger.notes))
        try:
            self.parent.describe()
            for run in list(self.runs):
                if time.monotonic() > deadline:
                    raise TimeoutError(TOO_LATE)
                sent += self._send_run(run)
                advance(1)
            self.parent.show_view(self.root)
            self.parent.send_notes(self.root)
            if not running:  # whose files are many: each report in between would be sent whole
                sent += self.parent.send_reports(self.root)
        except BaseException:
            self._save_unfinished()
            raise
        self.parent.show_status("RUNNING" if running else state_of_grid(self.root, self.runs))
        is_news = self.ledger != before or any(sent.values())
        if is_news:
            self.ledger.sent_at = int(time.time() * 1000)
            self.store.client.set_tag(self.store.parent, SENT_TAG, str(self.ledger.sent_at))
        if self._unsaved or is_news:
            ledgers.save(self.root / ledgers.NAME, self.ledger)
            self._unsaved = 0
        return sent

    def look_at_every_run(self) -> None:
        """Trust no note that all of a run was sent, nor one of a run that is not there any more."""
        self.ledger.delivered.clear()
        self._forget()

    def _forget(self, all_runs: bool = False) -> None:
        """Begin anew the runs that the server has lost; of the others, with `all_runs`, it is asked what it has."""
        paths = sorted(self.root.glob(f"*/{ledgers.NAME}"))
        there = self.store.children() if paths else set()
        for path in paths:
            with contextlib.suppress(HarnessError):  # what is damaged is told when its run is sent
                noted = ledgers.read(path, Ledger)
                if (noted.uri, noted.parent) != (self.store.uri, self.store.parent) or not noted.run_id:
                    continue
                if noted.run_id not in there:
                    path.unlink()
                elif all_runs:  # an image keeps its name
                    place = Ledger(noted.uri, noted.parent, noted.begun, noted.run_id, adopted=True)
                    ledgers.save(path, replace(place, images=noted.images))

    def _send_run(self, run: Run) -> Counter[str]:
        """What is new of one run. A look at one that has not changed costs no more than a `stat`."""
        changed_at = ledgers.changed_at(f"{self.root}/{run.id}/status.json")
        if run.id in self._left_out or changed_at is None or changed_at == self.ledger.delivered.get(run.id):
            return Counter()
        from mlflow.exceptions import MlflowException
        from requests import RequestException

        sent: Counter[str] = Counter()
        try:
            if run.id not in self._run_syncs:
                self._run_syncs[run.id] = RunSync(self.store, self.root / run.id, run, self.study)
            sent = self._run_syncs[run.id].send()
            if self._run_syncs[run.id].state == "running":
                return sent
        except RequestException:  # some are ValueErrors too
            raise
        except MlflowException as error:
            if error.error_code not in _OF_THIS_RUN:
                raise
            sync = self._run_syncs[run.id]
            told = self._leave_out(run, f"MLflow does not take {run.cell} seed {run.seed}", error)
            if not sync.is_deleted():  # which is wanted, and stays so
                self.not_sent.append(told)
                sync.show_end()
                return sent
        except (HarnessError, ValueError, TypeError, KeyError) as error:
            told = self._leave_out(run, f"{run.cell} seed {run.seed} cannot be sent to MLflow", error)
            self.not_sent.append(told)
            return sent
        self._run_syncs.pop(run.id, None)
        self.ledger.delivered[run.id], self.ledger.called[run.id] = changed_at, called(run, self.study)
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self._save_unfinished()
        return sent

    def _leave_out(self, run: Run, what: str, error: Exception) -> str:
        """Says what is wrong, and returns that."""
        self._left_out.add(run.id)
        self._run_syncs.pop(run.id, None)
        told = f"{what}: {explained(error, self.store.uri)}"
        _log.warning("%s", told)
        return told

    def _save_unfinished(self) -> None:
        """With the grid's own state left open, so that it is sent again if nobody comes to the end of this pass."""
        ledgers.save(self.root / ledgers.NAME, replace(self.ledger, status=""))
        self._unsaved = 0
