"""A grid of stand-ins on one GPU, as a process of its own: `python shared_gpu_process.py ROOT GPU CELL...`."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from fakes import make_run
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot
from nvidia_tools import act

if __name__ == "__main__":
    # A runner in the background may have SIGINT ignored; this process stands for one in a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root, gpu, *cells = sys.argv[1:]
    slots = tuple(Slot(index, gpu, 1) for index in range(len(cells)))
    scheduler = Scheduler(Path(root), slots, act, 0, grace_s=1, mps=True)
    scheduler.run([make_run(cell, seed) for seed, cell in enumerate(cells)], lambda statuses: None)
    sys.exit(scheduler.stop.exit_code)
