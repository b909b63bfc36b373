"""Which runs this scheduler has, and what stands in their folders.

A run is taken by its claim, repaired if its last scheduler died in the middle of something, and written to by nobody
else until it is given back.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.errors import RecordError
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim, heartbeat, holder
from harness.runs.record import FINAL, SETTLED, Run, Status
from harness.runs.snapshot import RunTexts
from harness.scheduler.failures import Failure
from harness.scheduler.processes import living, node, signal_group, sweep_group, sweep_session

_log = logging.getLogger(__name__)


def ended_since(status: Status, attempts: int) -> bool:
    """Whether a run has a result, or has failed in an attempt after so many."""
    return status.state in SETTLED or (status.state in FINAL and status.attempt > attempts)


class Ownership:
    """The runs of a call by id: their statuses as last seen, and the claims on them."""

    def __init__(self, root: Path, grace_s: float, attempts_before: Mapping[str, int]) -> None:
        """`attempts_before`: see `Scheduler`."""
        self.root, self.grace_s = root, grace_s
        self.statuses: dict[str, Status] = {}
        self.elsewhere: set[str] = set()
        """Runs that another scheduler had when this one last asked."""
        self.lost: set[str] = set()
        """Runs that another scheduler has taken over from this one."""
        self._runs: dict[str, Run] = {}
        self._texts = RunTexts()
        self._claims: dict[str, Claim] = {}
        self._attempts_before = attempts_before
        self._attempts: dict[str, int] = {}
        self._heartbeats: dict[str, int | None] = {}
        self._orphans: dict[str, float] = {}
        self._unsaved: dict[str, dict[str, Any]] = {}
        self._is_warned = False
        """Whether it was said that states cannot be written, since they last all could."""
        self._leaving: set[str] = set()

    def folder(self, name: str) -> RunFolder:
        return RunFolder(self.root / name)

    def enter(self, run: Run) -> bool:
        """Whether the run has no result yet; `take` makes its folder. Raises RecordError for one that is damaged."""
        self._runs[run.id] = run
        if os.path.lexists(self.root / run.id):
            self.folder(run.id).create(run, self._texts.parse)
        return self.is_open(run)

    def is_open(self, run: Run) -> bool:
        """As `enter`, by the run's status alone: nothing is written."""
        status = self.statuses[run.id] = self.folder(run.id).status()
        # A failure that another scheduler meets from now on is an answer, one from before is not.
        self._attempts[run.id] = self._attempts_before.get(run.id, status.ended_attempts)
        return not self.has_ended(run.id)

    def take(self, name: str) -> bool:
        """Whether the run is this scheduler's to start now. Raises OSError where nothing can be written."""
        claim = self._claims.setdefault(name, Claim(self.root / name, lambda: self.lost.add(name)))
        self.elsewhere.discard(name)
        if claim.token:
            return True
        status = self.folder(name).status()
        if self._has_orphan(name, status):
            return False
        self.folder(name).create(self._runs[name])
        if not claim.take():
            self.statuses[name] = status
            self.elsewhere.add(name)
            return False
        self.lost.discard(name)
        try:
            self.folder(name).create(self._runs[name])  # once more: it may have been deleted meanwhile
            self.statuses[name] = self._repaired(name, self.folder(name).status())
        except BaseException:
            claim.drop()
            raise
        if self.has_ended(name):
            claim.drop()
        return not self.has_ended(name)

    def has_ended(self, name: str) -> bool:
        """Whether the run has a result, or failed for another scheduler since this one was asked."""
        return name in self.statuses and ended_since(self.statuses[name], self._attempts[name])

    def is_in_living_hands(self, name: str) -> bool:
        """Whether the scheduler that has a run lives: its run's process is here, or there was a sign of life.

        That is a heartbeat since this was first asked, or since `forget_heartbeats`.
        """
        now = heartbeat(self.root / name)
        if now is None:
            return False
        return living(self.statuses[name]) is not None or self._heartbeats.setdefault(name, now) != now

    def forget_heartbeats(self) -> None:
        self._heartbeats.clear()

    def token(self, name: str) -> str:
        """Of the claim on a run that was taken."""
        return self._claims[name].token

    def write(self, name: str, **changes: Any) -> Status:
        """Change the status of a run that was taken; where it cannot be written, it is kept in mind until it can."""
        changes = {**self._unsaved.pop(name, {}), **changes}
        changed = replace(self.statuses[name], updated=time.time(), **changes)
        try:
            if not (self.root / name).exists() and self.root.exists():  # deleted meanwhile: it says how the run ended
                self.folder(name).create(self._runs[name])
                self.folder(name).put(changed)
            try:
                changed = self.folder(name).update(**changes)
            except RecordError:  # edited by hand: what was known still holds
                self.folder(name).put(changed)
        except OSError as error:
            if not self._is_warned:
                reason = error.strerror or error
                _log.warning(
                    "%s: %s; the states of runs are kept in memory until they can be written", self.root, reason
                )
            self._is_warned = True
            self._unsaved[name] = changes
        else:
            self._is_warned = bool(self._unsaved)
        self.statuses[name] = changed
        return changed

    def look(self, names: set[str]) -> dict[str, Status]:
        """The newest statuses of these runs; all others as they were."""
        for name in list(self._unsaved):
            self.write(name)
        for name in self._leaving - self._unsaved.keys():
            self.drop(name)
        for name in names - self._unsaved.keys():
            with contextlib.suppress(RecordError):  # as in `write`
                self.statuses[name] = self.folder(name).status()
        return self.statuses

    def drop(self, name: str) -> None:
        """Let others have the run, once its state is written."""
        self._leaving.discard(name)
        if name in self._unsaved:
            self._leaving.add(name)
        elif name in self._claims:
            self._claims.pop(name).drop()

    def drop_all(self) -> None:
        for claim in self._claims.values():
            claim.drop()
        self._claims.clear()

    def _repaired(self, name: str, status: Status) -> Status:
        """What an earlier scheduler left unsaid: it died after the result, or while the run was running."""
        self.statuses[name] = status
        if status.state != "done" and self.folder(name).result() is not None:
            return self.write(name, state="done", pid=0, failure="", error="")
        if status.state != "running":
            return status
        if living(status):  # its scheduler sleeps, and lost the claim meanwhile: too late for a checkpoint
            sweep_group(status.pid)
        why: Failure = "killed" if status.host == node() else "lost_node"
        error = f"its scheduler on {status.host.partition(' ')[0] or 'an unknown machine'} was gone"
        return self.write(name, state="interrupted", pid=0, failure=why, error=error)

    def _has_orphan(self, name: str, status: Status) -> bool:
        """Whether a process of a dead scheduler still has the run here: asked to end, and after a while made to."""
        if status.state != "running" or holder(self.root / name) is not None:
            return False
        if living(status) is None:
            sweep_session(status)
            return False
        if name not in self._orphans:
            self._orphans[name] = time.monotonic() + self.grace_s
            signal_group(status.pid, signal.SIGTERM)
        elif time.monotonic() > self._orphans[name]:
            sweep_group(status.pid)
        return True
