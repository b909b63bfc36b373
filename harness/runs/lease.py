"""Who works on a run: a lease in its folder, so that schedulers on any machine share a study's runs. No torch here.

A scheduler holds `<run>/claim` while it has the run, and refreshes it. It is taken over at once if its process is gone
from this machine, and when it has not been refreshed for LEASE_S seconds where that cannot be seen. Clocks need not
agree: who waits measures with its own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from harness.runs.folders import RunFolder
from harness.runs.record import Status

LEASE_S = 120.0
"""Longer than a heartbeat and the time that a run takes to end without its scheduler, together."""
HEARTBEAT_S = 20.0
UNWRITTEN_S = 10.0
"""After which an empty claim is that of a process that died before it wrote its name; writing takes milliseconds."""
_NAME = "claim"


@dataclass(frozen=True)
class Holder:
    """The scheduler that has a run."""

    host: str
    pid: int
    silent_s: float
    """Seconds since its last sign of life."""

    def __str__(self) -> str:
        silent = f", silent for {self.silent_s:.0f} s" if self.silent_s > LEASE_S else ""
        return f"{self.host.partition('?')[0]}:{self.pid}{silent}"


class Claim:
    """The right to execute one run and to write its state."""

    def __init__(self, folder: Path, on_loss: Callable[[], None] = lambda: None) -> None:
        self._lease = _lease(folder, lambda _: on_loss())
        self._path = folder / _NAME
        self._empty: tuple[int, int] | None = None
        self._empty_since = 0.0

    @property
    def token(self) -> str:
        """Names this holding of the claim, for the processes that write under it; empty while it is not held."""
        return self._lease.token or ""

    def take(self) -> bool:
        """Hold the claim from now on, unless another scheduler does. Raises OSError where nothing can be written."""
        try:
            self._lease.acquire(timeout=0)
        except (Timeout, LeaseSettingsMismatch):  # or held by another version, which may still live
            self._remove_if_unwritten()
            return False
        return True

    def _remove_if_unwritten(self) -> None:
        """filelock takes an empty claim for a living one, whoever made it and however long ago."""
        with contextlib.suppress(OSError):
            state = self._path.lstat()
            found = (state.st_ino, state.st_ctime_ns) if state.st_size == 0 else None
            if found != self._empty:
                self._empty, self._empty_since = found, time.monotonic()
            elif found and time.monotonic() - self._empty_since > UNWRITTEN_S:
                aside = self._path.with_name(f".{_NAME}.{secrets.token_hex(8)}.tmp")
                self._path.rename(aside)
                try:
                    moved = aside.lstat()
                    if (moved.st_ino, moved.st_size) != (state.st_ino, 0):  # another removed it first, and this is new
                        os.link(aside, self._path)
                finally:
                    aside.unlink()

    def drop(self) -> None:
        """Let others have it."""
        with contextlib.suppress(OSError):
            self._lease.release()


class ClaimLost(Exception):
    """Another scheduler has taken this run over: nothing of it may be written here any more."""


@dataclass(frozen=True)
class ClaimCheck:
    """For the process that works on a run under the claim of its scheduler: whether that claim still holds."""

    folder: Path
    token: str
    """`Claim.token` of the scheduler's claim."""

    def is_lost(self) -> bool:
        """Whether another scheduler has the run; False while nobody has."""
        # Whoever asks whether a claim is abandoned holds it for a moment, so one look is not enough.
        for wait in (0.0, 0.05, 0.2):
            time.sleep(wait)
            owner = _lease(self.folder).owner
            if owner is None or owner.token == self.token:
                return False
        return True

    def check(self) -> None:
        """To be called before anything of the run is written. Raises ClaimLost."""
        if self.is_lost():
            raise ClaimLost(f"{self.folder.name}: another scheduler has this run now")


def holder(folder: Path) -> Holder | None:
    """Who has the run in `folder`; None if nobody has, or its holder is known to be gone."""
    lease = _lease(folder)
    owner = lease.owner
    if owner is None:
        return None
    with contextlib.suppress(OSError):
        silent = time.time() - (folder / _NAME).stat().st_mtime
        if lease.is_lock_held_by_us or not _abandoned(lease):
            return Holder(owner.hostname, owner.pid, max(0.0, silent))
    return None


def standing(folder: RunFolder) -> Status:
    """The folder's status, but a run that nobody has is interrupted, whatever its last words were."""
    status = folder.status()
    return seen(folder.path, status)


def seen(folder: Path, status: Status) -> Status:
    """As `standing`, of a status that was read before."""
    if status.state != "running":
        return status
    found = holder(folder)
    return replace(status, state="interrupted", pid=0) if found is None or found.silent_s > 2 * LEASE_S else status


def _lease(folder: Path, on_loss: Callable[[object], None] | None = None) -> SoftFileLease:
    return SoftFileLease(
        folder / _NAME,
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        on_compromise=on_loss,
        thread_local=False,
    )


def _abandoned(lease: SoftFileLease) -> bool:
    """Whether the claim could be taken, as that of a process that is gone; it is given back at once."""
    try:
        lease.acquire(timeout=0)
    except (Timeout, LeaseSettingsMismatch):
        return False
    lease.release()
    return True
