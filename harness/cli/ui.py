"""MLflow's user interface, for this machine alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from harness.masking import masked
from harness.study.schema import Study
from harness.tracking.address import follow, is_server, tracking_uri

HOST = "127.0.0.1"
ALLOWED_HOSTS = ",".join(f"{name}{port}" for name in ("localhost", HOST) for port in ("", ":*"))
"""Host names that requests may have: a web page that reaches this machine under another name gets nothing (DNS
rebinding). Any port, so that tunnels work."""
GRACE_S = 5.0
"""Seconds that the server has to stop by itself."""


def serve_mlflow(study: Study, port: int) -> int:
    """Serve MLflow's user interface to this machine until it is stopped; its exit code."""
    uri = tracking_uri(study)
    if is_server(uri):
        print(f"the study is tracked on a server: {masked(uri)}")
        return 0
    if moved := follow(study, uri):
        print(moved)
    print(f"http://{HOST}:{port} (Ctrl-C ends it)", flush=True)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port)]
    command += ["--workers", "1", "--allowed-hosts", ALLOWED_HOSTS]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_SERVER_")}
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # not on the command line, which all users of the machine can read
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # for reading only
    with _ended_by_signals():
        process = subprocess.Popen(command, cwd=study.path.parent, env=environment, start_new_session=True)
        try:
            return process.wait()
        finally:  # stop the server and all that it started
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack, as Ctrl-C does."""

    def leave(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
