"""A grid of fakes as a process of its own: `python grid_process.py ROOT GRACE_S SLOTS CELL...`; exits like the CLI."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import fakes
from harness.scheduler.scheduler import Scheduler
from harness.scheduler.slots import Slot

if __name__ == "__main__":
    # A runner in the background may have SIGINT ignored; this process stands for one in a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    root, grace_s, count, *cells = sys.argv[1:]
    slots = tuple(Slot(index, "cpu", 1) for index in range(int(count)))
    scheduler = Scheduler(Path(root), slots, fakes.act, 0, grace_s=float(grace_s))
    scheduler.run([fakes.make_run(cell) for cell in cells], lambda statuses: None)
    sys.exit(scheduler.stop.exit_code)
