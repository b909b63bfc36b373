"""What Ray runs on the nodes of a cluster. It is sent there as it stands, so it imports the standard library alone."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

POLL_S = 0.2
_PR_SET_PDEATHSIG = 1


def what_is_missing(job: str, token: str, python: str) -> str:
    """What of a job's needs this node lacks: `folder`, `python`, or nothing."""
    try:
        if token not in Path(job, "job.json").read_text(encoding="utf-8"):
            return "folder"
    except OSError:
        return "folder"
    return "" if os.access(python, os.X_OK) else "python"


def run_worker(words: Sequence[str], environment: Mapping[str, str], node: str, log: str) -> int:
    """Run a worker to its end; its exit code, negative for the signal that killed it.

    `node`: a file for the number of the node that it runs on. Ray's `cancel` becomes a SIGTERM for the worker, which
    then writes checkpoints, and so does the death of this process. When the driver is lost, Ray kills both at once;
    then the runs, which are in sessions of their own, notice that and write checkpoints by themselves.
    """
    import ray

    # Ray raises a cancel between two steps of this thread: not while it waits for a process, and not as a signal that
    # the worker would get. A handler cannot lose a worker that is just being started, as an exception would.
    cancelled: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: cancelled.append(number))
    try:
        Path(node).write_text(ray.get_runtime_context().get_node_id(), encoding="utf-8")
        with open(log, "ab") as output:
            process = subprocess.Popen(
                words,
                env=_environment(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_end_with(os.getpid(), ctypes.CDLL(None)),
            )
        stopped = False
        while process.poll() is None:
            if cancelled and not stopped:
                stopped = True
                process.terminate()
            time.sleep(POLL_S)
        return process.returncode
    finally:
        signal.signal(signal.SIGINT, before)


def _environment(of_job: Mapping[str, str]) -> dict[str, str]:
    """The node's, with the GPUs that Ray has granted and no others, and without what Ray says of threads."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "OMP_"))}
    return {"CUDA_VISIBLE_DEVICES": "", **ours, **of_job}


def _end_with(parent: int, libc: ctypes.CDLL):  # type: ignore[no-untyped-def]
    """What the new process does first: it asks for a SIGTERM when `parent` dies."""

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(128 + signal.SIGTERM)

    return ask
