"""What is computed in a process of its own shows its progress where the command is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
PROGRESS = """
import logging, sys
from harness.scheduler.forkserver import run_apart
from harness.terminal.console import configure
import fakes
configure(quiet=sys.argv[1] == "quiet", verbose=False)
run_apart(fakes.count_to_three)
"""


def test_work_apart_shows_its_progress_on_the_same_terminal() -> None:
    told = [run_with_terminal(how) for how in ("pipe", "terminal", "quiet")]
    assert told[0] == "counting: 1 of 3\ncounting: 2 of 3\ncounting: 3 of 3\n"
    assert "counting" in told[1] and "3/3" in told[1] and "\x1b[?25h" in told[1], "a bar, and the cursor after it"
    assert told[2] == ""


def run_with_terminal(how: str) -> str:
    """What is written to standard error: a terminal, or a pipe."""
    mine, theirs = os.openpty() if how == "terminal" else os.pipe()
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent)])
    environment = {**os.environ, "PYTHONPATH": paths, "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", PROGRESS, how], env=environment, stderr=theirs, check=True)
    os.close(theirs)
    written = b""
    with contextlib.suppress(OSError), open(mine, "rb", buffering=0) as stream:  # the end of a terminal is an error
        while part := stream.read(65536):
            written += part
    return written.decode()
