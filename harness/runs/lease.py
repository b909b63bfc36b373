"""Who works on a run: a lease in its folder, so that schedulers on several machines share the runs of a study.

A scheduler holds `<run>/claim` while it works on the run, and refreshes it. Another scheduler takes a claim over at
once if the holder's process on this machine is gone, else when the claim has not been refreshed for LEASE_S seconds.
Clocks need not agree: each scheduler measures that time with its own, or by the clock of the folder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from harness.runs.record import Status

LEASE_S = 120.0
"""Longer than a heartbeat plus the time in which a run ends after its scheduler has died."""
HEARTBEAT_S = 20.0
UNWRITTEN_S = 10.0
"""An empty claim older than this is of a process that died before it wrote its name, which takes milliseconds."""
_NAME = "claim"


@dataclass(frozen=True)
class Holder:
    """The scheduler that works on a run."""

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
        """Changes whenever the claim is taken; the processes of a run check it before they write. Empty if not held."""
        return self._lease.token or ""

    def take(self) -> bool:
        """Whether it is ours from now on; False if another has it. Raises OSError if nothing can be written."""
        with contextlib.suppress(FileNotFoundError):  # it was given back meanwhile
            if _is_of_another_start(self._lease) and _silence(self._path.parent) <= LEASE_S:
                return False
        try:
            self._lease.acquire(timeout=0)
        except (Timeout, LeaseSettingsMismatch):  # the second: held by another version, which may still be alive
            self._remove_if_unwritten()
            return False
        return True

    def _remove_if_unwritten(self) -> None:
        """filelock takes an empty claim for a valid one, however old it is."""
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
        """Give it back."""
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
    """Who holds the run in `folder`; None if nobody does, or the holder is known to be dead."""
    if not os.path.exists(folder / _NAME):  # a thousand runs notice what a lease takes
        return None
    lease = _lease(folder)
    owner = lease.owner
    if owner is None:
        return None
    with contextlib.suppress(OSError):
        silent = _silence(folder)
        if not lease.is_lock_held_by_us and not (_is_of_another_start(lease) and silent <= LEASE_S):
            try:
                lease.acquire(timeout=0)  # what can be taken has a dead holder; it is given back at once
            except (Timeout, LeaseSettingsMismatch):
                pass
            else:
                lease.release()
                return None
        return Holder(owner.hostname, owner.pid, silent)
    return None


def heartbeat(folder: Path) -> int | None:
    """When the holder of the run in `folder` last showed life, in ns of the folder's own clock; None if nobody has it.

    Two answers are to be compared with each other, and with nothing else.
    """
    try:
        return (folder / _NAME).stat().st_mtime_ns
    except OSError:
        return None


def live_status(folder: Path, status: Status) -> Status:
    """The status that was read in `folder`, but a run that says it is running and that nobody holds is interrupted."""
    if status.state != "running":
        return status
    owner = holder(folder)
    # Twice the lease: a holder that is only slow is not called dead while another may still take the run over.
    return replace(status, state="interrupted", pid=0) if owner is None or owner.silent_s > 2 * LEASE_S else status


def boot() -> str:
    """What tells this start of this machine from any other start of any machine; empty where that is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _is_of_another_start(lease: SoftFileLease) -> bool:
    """Whether the claim is of another machine of this one's name, or of this one before it was started again.

    filelock would look for its process among those here, not find it, and take a living claim at once.
    """
    owner, here = lease.owner, boot()
    boot_of_owner = owner.start >> 64 if owner is not None and owner.start else 0  # where filelock keeps the boot
    return bool(boot_of_owner and here) and boot_of_owner != int(here.replace("-", ""), 16)


def _silence(folder: Path) -> float:
    """Seconds since the claim on the run in `folder` was refreshed, by the clock that stamps the files of the folder.

    By this machine's where nothing can be written there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            now = os.fstat(file.fileno()).st_mtime
    except OSError:
        now = time.time()
    return max(0.0, now - (folder / _NAME).stat().st_mtime)


def _lease(folder: Path, on_loss: Callable[[object], None] | None = None) -> SoftFileLease:
    return SoftFileLease(
        folder / _NAME,
        lease_duration=LEASE_S,
        heartbeat_interval=HEARTBEAT_S,
        on_compromise=on_loss,
        thread_local=False,
    )
