"""`harness run-grid` with short pauses between attempts: a test has no minutes to wait for a disk to empty itself."""

from __future__ import annotations

import signal

from harness.cli.main import main
from harness.scheduler import failures

if __name__ == "__main__":
    # A runner in the background may have SIGINT ignored; this process stands for one in a terminal.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    failures.LONGEST_PAUSE_S = 0.5
    main()
