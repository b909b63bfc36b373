"""The process of a script: started in a copy of its code, asked to stop, ended with all that it has started."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.scheduler.processes import JOB, end_processes_of

STOP_SECONDS = 45.0
"""Between SIGTERM and SIGKILL. The scheduler's own patience is a quarter of a minute longer."""


class Script:
    """A script under way. SIGTERM goes to its program alone, SIGKILL to all that it has started too."""

    def __init__(self, words: Sequence[str], code: Path, job: Path) -> None:
        """Raises HarnessError where there is no such program."""
        self._job = job
        end_processes_of(job)  # which an attempt that was killed may have left
        environment = {**os.environ, JOB: str(job), "PYTHONUNBUFFERED": "1"}
        try:
            # In the session of the run's process, so that it ends with it, but in a group of its own: of a SIGTERM to
            # the run's group it would hear twice.
            self._process = subprocess.Popen(
                words, cwd=code, env=environment, stdin=subprocess.DEVNULL, process_group=0
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            fix = "name a program of this machine, such as {python}, or a file of command.code"
            if isinstance(error, OSError) and error.errno == errno.E2BIG:
                fix = "give it fewer or shorter arguments; all settings are in the file that HARNESS_JOB names too"
            elif (code / words[0]).is_file():
                fix = "its first line must be #! and a program of this machine, such as #!/bin/sh"
            raise HarnessError(f"command.run: {words[0]} cannot be started ({reason}); {fix}") from error
        self.pid = self._process.pid
        self._began, self._took = time.perf_counter(), 0.0
        self._waiter = threading.Thread(target=self._wait_for_end, daemon=True)
        self._waiter.start()

    @property
    def seconds(self) -> float:
        """Wall time from its start to its end, or until now."""
        return self._took or time.perf_counter() - self._began

    def _wait_for_end(self) -> None:
        """In a thread, so that its end is noticed when it comes, also while somebody measures."""
        self._process.wait()
        self._took = time.perf_counter() - self._began

    def wait(self, seconds: float) -> int | None:
        """Its exit code, minus the signal that ended it; None if it has not ended after so many seconds."""
        self._waiter.join(seconds)
        return None if self._waiter.is_alive() else self._process.returncode

    def stop(self, grace_s: float = STOP_SECONDS) -> int:
        """SIGTERM, and SIGKILL if it has not ended by then; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        code = self.wait(grace_s)
        return self.kill() if code is None else code

    def kill(self) -> int:
        """End it, if it has not ended, and whatever it has started; its exit code."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._waiter.join()
        code = self._process.wait()
        end_processes_of(self._job)
        return code
