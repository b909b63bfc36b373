"""Exit codes, of the command line and of the process of one run."""

import signal

REFUSED = 2
"""The user's input. 0 is success, 1 a fault of ours, with its traceback."""
FAILED_RUNS = 3
"""The call came to its end, but some of its runs have no result."""
DIVERGED = 4
"""Of a run's process alone: a loss or an image was no longer finite."""
STOPPED = 128
"""Codes beyond it, by the number of a signal, say that somebody ended the call."""
INTERRUPTED = STOPPED + signal.SIGTERM
"""Of a run's process: it was asked to stop and has written a checkpoint."""
WHEN_ASKED = frozenset({INTERRUPTED, -signal.SIGTERM, -signal.SIGKILL})
"""The codes of a process that has ended as it was asked to; who is slow is killed."""
REQUEUE = 75
"""Its time is nearly over (SIGUSR2): checkpoints are written, and it should be started again. EX_TEMPFAIL."""
