"""A run of `executed.py` that several processes share: `python shared_run.py FOLDER RANKS [PART:NTH:RANK:ACT]...`.

ACT is the number of a signal to that rank, 0 or 1, `stop`: SIGTERM to all, `memory`: it runs out of
memory, or `eof`: it reads a file that ends early.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import executed


class OutOfMemoryError(RuntimeError):
    """As torch has it."""


def hook_of(acts: list[str]):  # type: ignore[no-untyped-def]
    """Does what is asked for in the n-th call of a part on a rank."""
    wanted = {tuple(act.split(":")[:3]): act.split(":")[3] for act in acts}
    calls, first = Counter[str](), os.getpid()

    def hook(part: str) -> None:
        rank = int(os.getpid() != first)  # of two
        what = wanted.get((part, str(calls[part]), str(rank)))
        calls[part] += 1
        if what == "memory":
            raise OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if what == "eof":
            raise EOFError("a file ends early")
        if what == "stop":
            os.killpg(0, signal.SIGTERM)
        elif what:
            os.kill(os.getpid(), int(what))

    return hook


if __name__ == "__main__":
    faulthandler.enable()  # as the process of any run
    folder, ranks, *acts = sys.argv[1:]
    executed.install(setattr, hook_of(acts))
    sys.exit(executed.execute(Path(folder), int(ranks)))
