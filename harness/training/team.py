"""The processes that share a run: rank 0, which is the run's own, orders; the others follow, and end with it.

The others are forked from the run's process, which comes from the fork server and has not touched a GPU yet. So they
are of its process group, and whoever ends the group ends them. Signals are for rank 0: it stops between two orders, so
all ranks stop at the same step. A rank that dies or falls silent ends the run, in the way in which it ended itself.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

import psutil
import torch.distributed as dist

from harness.errors import Diverged, HarnessError
from harness.exit_codes import DIVERGED
from harness.processes import way_it_ended
from harness.scheduler.failures import POLICIES, of_error
from harness.scheduler.slots import Slot
from harness.training.ranks import RankLost, Ranks

Follow = Callable[["Orders"], None]
"""What a rank other than 0 does."""
SIGN_S = 0.5
"""Seconds between two signs of life of a rank."""
SILENT_LOOKS = 15
"""So many looks in a row without a sign: it hangs. Looks and not seconds, as the whole group may have been halted."""
GRACE_S = 1.0
"""What ends one rank often ends rank 0 as well, which then tells of it itself."""
MEETING_S = 300.0
"""Longest time in which all ranks must have come to the same place."""
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class NoOrders(Exception):
    """Rank 0 is gone: it asks for nothing any more."""


class Orders:
    """What rank 0 asks of this rank, in this rank's process."""

    def __init__(self, slot: Slot, rank: int, link: Connection, store: Path) -> None:
        self.slot, self.rank, self._link, self._store = slot, rank, link, store
        self._lock = threading.Lock()

    def wait(self) -> tuple[str, int]:
        """Until rank 0 asks for something: what to do and at which step. Raises NoOrders."""
        try:
            order: tuple[str, int] = self._link.recv()
        except (EOFError, OSError):
            raise NoOrders from None
        return order

    def meet(self, unit: int) -> Ranks:
        """Wait until all ranks are ready for the first step."""
        self.tell("ready")
        self.wait()
        return _connect(self.slot, self.rank, unit, self._store)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """What to do and at which step, as rank 0 asks for it, however long that takes."""
        while (order := self.wait())[0] != "end":
            yield order

    def tell(self, what: str, text: str = "") -> None:
        """To rank 0: a sign of life, that it is ready, or why it ends."""
        with self._lock:
            self._link.send((what, text))

    def show_life(self) -> None:
        """For ever; when rank 0 is gone this process ends."""
        while True:
            try:
                self.tell("lives")
            except OSError:
                os._exit(1)
            time.sleep(SIGN_S)


class Team:
    """The other ranks, in rank 0's process; of most runs there are none, and nothing here does anything."""

    def __init__(self, slot: Slot, folder: Path, follow: Follow) -> None:
        """Starts the others, each with `follow`, before this process touches a GPU. `folder`: where they may meet."""
        self._slot, self._store = slot, folder / f".ranks.{os.getpid()}-0.tmp"
        self._links, self._pids = list[Connection](), list[int]()
        self._ready, self._is_ending = threading.Semaphore(0), False
        if slot.ranks == 1:
            return
        self._store.unlink(missing_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        for rank in range(1, slot.ranks):
            ours, theirs = Pipe()
            pid = os.fork()
            if pid == 0:
                for link in (*self._links, ours):
                    link.close()  # or the others would not notice rank 0's end
                _live(Orders(slot, rank, theirs, self._store), follow)
            theirs.close()
            self._links.append(ours)
            self._pids.append(pid)
        os.environ.update(slot.of_rank(0).environment)
        threading.Thread(target=self._watch, daemon=True).start()

    def meet(self, unit: int) -> Ranks:
        """Let the others prepare, and wait until all ranks are ready for the first step."""
        if not self._links:
            return Ranks()
        self.order("prepare")
        for _ in self._links:
            self._ready.acquire()
        self.order("meet")
        return _connect(self._slot, 0, unit, self._store)

    def order(self, what: str, step: int = 0) -> None:
        """Asked of all others; each does it once it has done what was asked before."""
        for link in self._links:
            with contextlib.suppress(OSError):  # it has died, which `_watch` is about to tell
                link.send((what, step))

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if not self._links:
            return
        if isinstance(error, RankLost):
            time.sleep(SIGN_S * (SILENT_LOOKS + 2) + GRACE_S)  # `_watch` ends this process in the lost rank's way
            self._end_as(-signal.SIGKILL, f"the processes of this run have waited {MEETING_S:.0f} s for each other")
        self._is_ending = True
        if error is None:
            self.order("end")
            psutil.wait_procs(list(_living(self._pids)), timeout=5)
            dist.destroy_process_group()
        self._kill()
        self._store.unlink(missing_ok=True)

    def _watch(self) -> None:
        """End this process as soon as one of the others has ended or hangs."""
        silent, at_work, why = [0] * len(self._links), [False] * len(self._links), [""] * len(self._links)
        while not self._is_ending:
            time.sleep(SIGN_S)
            for at, link in enumerate(self._links):
                silent[at] += at_work[at]
                try:
                    while link.poll():
                        what, text = link.recv()
                        silent[at] = 0
                        why[at] = text or why[at]
                        if what == "ready":
                            at_work[at] = True
                            self._ready.release()
                except (EOFError, OSError):
                    self._lost(at, why[at])
                if silent[at] > SILENT_LOOKS:
                    self._end_as(-signal.SIGKILL, f"{self._named(at)} hangs: it gives no sign of life")

    def _lost(self, at: int, why: str) -> None:
        """Another rank has ended; why, if it could still tell."""
        time.sleep(GRACE_S)
        if self._is_ending:
            return
        _, status = os.waitpid(self._pids[at], 0)
        code = os.waitstatus_to_exitcode(status)
        self._end_as(code or 1, f"{self._named(at)} {way_it_ended(code)}{': ' if why else ''}{why}")

    def _named(self, at: int) -> str:
        return f"process {at + 2} of the {len(self._links) + 1} of this run (on {self._slot.of_rank(at + 1).device})"

    def _end_as(self, code: int, why: str) -> NoReturn:
        """End this process, and the others, as a process that ended with this code, minus the signal if by one."""
        with contextlib.suppress(OSError):  # where there is no room for the log, how it ends still tells
            print(why, file=sys.stderr, flush=True)
        self._kill()
        with contextlib.suppress(OSError):
            self._store.unlink(missing_ok=True)
        if code < 0:
            faulthandler.disable()  # it would tell of a crash of this process
            signal.pthread_kill(threading.get_ident(), -code)
            os.kill(os.getpid(), signal.SIGKILL)  # where a handler has taken that signal
        os._exit(code)

    def _kill(self) -> None:
        for pid in self._pids:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _living(pids: Iterable[int]) -> Iterator[psutil.Process]:
    """Those that have not ended."""
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            yield psutil.Process(pid)


def _live(orders: Orders, follow: Follow) -> NoReturn:
    """The life of another rank, in its own process."""
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    code = 0
    try:
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        os.environ.update(orders.slot.of_rank(orders.rank).environment)
        threading.Thread(target=orders.show_life, daemon=True).start()
        follow(orders)
    except RankLost:
        time.sleep(SIGN_S * (SILENT_LOOKS + 2))  # until rank 0 has found out which one it was
    except NoOrders:
        code = 1
    except BaseException as error:
        text = f"error: {error}" if isinstance(error, HarnessError) else traceback.format_exc()
        with contextlib.suppress(OSError):
            orders.tell("fails", text)
        code = DIVERGED if isinstance(error, Diverged) else POLICIES[of_error(error)].exit_code
    os._exit(code)


def _connect(slot: Slot, rank: int, unit: int, store: Path) -> Ranks:
    """The ranks of one machine: over NCCL, or by gloo over the loopback device, whatever the host's name means."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == "127.0.0.1" for each in addresses):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
    dist.init_process_group(
        "nccl" if slot.torch_device == "cuda" else "gloo",
        store=dist.FileStore(str(store), slot.ranks),  # type: ignore[attr-defined]
        rank=rank,
        world_size=slot.ranks,
        timeout=timedelta(seconds=MEETING_S),
    )
    return Ranks(rank, slot.ranks, unit)
