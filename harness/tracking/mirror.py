"""MLflow as a mirror of the run folders: fed beside the training, never in its way.

The folders are the truth. A thread sends what is new in them; while the server is away it tries again, ever more
rarely, and whatever is missing at the end is sent by `sync` or by the next grid. Of several grids on one study one
sends for all. Nothing here raises into a grid.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from harness.databases import TRY_AGAIN, explained, explaining_errors
from harness.errors import HarnessError
from harness.files import alone
from harness.masking import masked
from harness.runs import lease
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.tracking import ledger as ledgers
from harness.tracking.address import experiment_of, recorded_uri, tracking_uri
from harness.tracking.mlflow_store import ENDED, set_environment
from harness.tracking.names import renamed
from harness.tracking.parent_run import unshown
from harness.tracking.study_sync import TOO_LATE, StudySync

if TYPE_CHECKING:
    from harness.study.schema import Study

POLL_S = 5.0
LONGEST_WAIT_S = 60.0
SHARE = 0.01
"""Of one core, for sending beside a training: after a pass that took long the next one waits."""
END_S = 30.0
"""How long the end of a grid waits for what is still to be sent: once before its report, and once for that."""
STILL_AWAY_S = 30.0
"""A server that did not answer so recently is not asked again at the end of a grid."""
LOCK_S = 5.0
NEVER = float("-inf")
_log = logging.getLogger(__name__)


class Mirror:
    """Context manager around a grid: while entered, what the runs write reaches MLflow within a minute."""

    def __init__(self, study: Study, root: Path, runs: Sequence[Run]) -> None:
        self.study, self.root, self.runs = study, root, runs
        """A list may grow; what is added to it is sent too."""
        self.uri = tracking_uri(study)
        set_environment()
        self._sending: StudySync | None = None
        self._away_at = NEVER
        """When the server last did not answer, of `time.monotonic`; NEVER while it answers."""
        self._deadline = float("inf")
        self._stop = threading.Event()
        self._thread = self._sender(0)

    def _sender(self, patience: float) -> threading.Thread:
        """`patience`: seconds that it waits for another grid which sends."""
        return threading.Thread(target=self._follow, args=(patience,), name="mlflow", daemon=True)

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def catch_up(self) -> None:
        """Send what is missing, outside of the `with` block; what goes wrong is a warning."""
        if self._thread.is_alive():  # still at the rest of a grid that did not wait for it
            return
        self._thread = self._sender(LOCK_S)
        self._end()

    def _end(self) -> None:
        """Have the rest sent, and wait no longer than END_S: from a server that sends a byte now and then one answer
        takes for ever, whatever the timeout of requests.
        """
        self._deadline = time.monotonic() + END_S
        self._stop.set()
        if self._thread.ident is None:
            self._thread.start()
        try:
            self._thread.join(END_S)
        except KeyboardInterrupt:
            _log.warning("MLflow was still being sent the rest; `harness sync` sends what is missing")
            raise
        if self._thread.is_alive():
            self._tell_away(TOO_LATE)

    def _follow(self, patience: float) -> None:
        lock, wait = alone(self.root, "mirror", patience), 0.0
        try:
            while not self._stop.wait(wait):
                if not _taken(lock):
                    wait = POLL_S
                    continue
                seconds = self._try(running=True)
                least = 2 * wait if seconds is None else seconds / SHARE
                wait = min(max(POLL_S, least), LONGEST_WAIT_S)
            if time.monotonic() - self._away_at > STILL_AWAY_S and _taken(lock):
                self._try(running=False)
        except Exception:  # such as a folder that cannot be written: tracking ends, the training does not
            _log.warning("MLflow gets nothing more of this grid; `harness sync` sends what is missing", exc_info=True)
        finally:
            self._sending = None
            lock.release()

    def _try(self, running: bool) -> float | None:
        """Deliver; returns the CPU seconds of it. Whatever goes wrong is one warning and None; the training goes on."""
        try:
            if self._sending is None:
                self._sending = StudySync(self.study, self.root, self.runs, self.uri)
            begun = time.thread_time()
            self._sending.send(running, self._deadline)
        except Exception as error:
            self._sending = None  # what comes back may be another store
            self._tell_away(explained(error, self.uri).removesuffix(f"; {TRY_AGAIN}"))  # it tries again by itself
            _log.debug("the whole error", exc_info=True)
            return None
        if time.monotonic() < self._deadline:  # later nobody waits for it any more, which was told
            if self._away_at != NEVER:
                _log.warning("MLflow at %s is back and has all that it missed", masked(self.uri))
            self._away_at = NEVER
        return time.thread_time() - begun

    def _tell_away(self, why: str) -> None:
        """Once, until it is back."""
        is_news, self._away_at = self._away_at == NEVER, time.monotonic()
        if is_news:
            _log.warning("MLflow at %s: %s; `harness sync` sends what is missing", masked(self.uri), why)


def _taken(lock: FileLock) -> bool:
    """Whether it is this thread that sends. Of several grids the others ask again, and one goes on where it ends."""
    if not lock.is_locked:
        with contextlib.suppress(Timeout):
            lock.acquire()
    return bool(lock.is_locked)


def missing(study: Study, root: Path, runs: Sequence[Run]) -> bool:
    """Whether MLflow may lack something of these runs or of their grid; read from files alone, without MLflow.

    Raises HarnessError for a damaged file or a tracking store that cannot be one.
    """
    ledger = ledgers.read(root / ledgers.NAME, ledgers.GridLedger)
    is_here = ledger.uri == recorded_uri(study, tracking_uri(study))
    if not (is_here and ledger.experiment in ("", experiment_of(study))):
        ledger = ledgers.GridLedger()
    undelivered = ledgers.undelivered(root, (run.id for run in runs), ledger)
    if undelivered or unshown(root, ledger) or renamed(runs, study, ledger):
        return True
    return ledger.status not in ENDED and bool(ledger.parent)


def sync(
    study: Study, root: Path, runs: Sequence[Run], advance: Callable[[int], None] = lambda _: None
) -> Counter[str]:
    """Send to MLflow what it missed; the numbers of runs, points, images and files sent.

    `advance(1)` is called after each run. Raises HarnessError when the server cannot be reached, when a running grid
    is sending already, or for a run that is damaged or that MLflow does not take, after all others have been sent.
    """
    uri = tracking_uri(study)
    set_environment()
    try:
        with explaining_errors(uri), alone(root, "mirror", LOCK_S):
            sending = StudySync(study, root, runs, uri)
            sending.look_at_every_run()
            sent = sending.send(advance=advance)
    except Timeout as error:
        statuses = Snapshot(root, runs).statuses
        holders = (lease.holder(root / run_id) for run_id, status in statuses.items() if status.state == "running")
        who = ", ".join(sorted({str(holder) for holder in holders if holder})) or "a running grid"
        message = f"{who} sends to MLflow already, what comes and what is missing; ask again when it has ended"
        raise HarnessError(f"{root}: {message}") from error
    if sending.not_sent:
        raise HarnessError("; ".join(["all else was sent", *sending.not_sent]))
    return sent


def unsent(study: Study, root: Path, planned: Sequence[Run]) -> list[Run]:
    """Runs in the folder that the plan no longer holds, and that the study's store has not got."""
    store, ids = recorded_uri(study, tracking_uri(study)), {run.id for run in planned}
    grid = ledgers.read(root / ledgers.NAME, ledgers.GridLedger)
    others = [run for run in Snapshot(root, ()).other_runs if run.id not in ids]
    notes = [ledgers.read(root / run.id / ledgers.NAME, ledgers.Ledger) for run in others]
    in_place = [note.uri == store and (grid.uri != store or note.parent == grid.parent) for note in notes]
    return [run for run, is_there in zip(others, in_place, strict=True) if not is_there]
