"""MLflow's user interface, for this machine alone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NoReturn
from urllib.parse import urlsplit

from harness.databases import explaining_errors
from harness.errors import HarnessError
from harness.masking import masked
from harness.study.schema import Study
from harness.terminal.console import note, result
from harness.tracking.address import follow, is_server, tracking_uri
from harness.tracking.front import runs_page
from harness.tracking.mlflow_store import prepare_database, set_environment

HOST = "127.0.0.1"
ALLOWED_HOSTS = ",".join(f"{name}{port}" for name in ("localhost", HOST) for port in ("", ":*"))
"""Host names that requests may have: a web page that reaches this machine under another name gets nothing (DNS
rebinding). Any port, so that tunnels work."""
OURS = "x-harness-ui"
"""Header of all answers of the server: the number of the process that has started it."""
GRACE_S = 5.0
"""Seconds that the server has to stop by itself."""
_ASK_S, _SLOW_S = 0.2, 10.0
_LAST_LINES = 5
"""Of what a server printed that ended by itself."""


def serve_mlflow(study: Study, port: int, open_browser: bool) -> int:
    """Serve MLflow's user interface to this machine until it is stopped. Raises HarnessError."""
    uri = tracking_uri(study)
    set_environment()
    if is_server(uri):
        if uri.startswith("databricks"):
            result(f"the study is tracked on a server: {masked(uri)}")
            return 0
        with explaining_errors(uri):
            page = runs_page(uri, study, uri)
        if "@" in urlsplit(uri).netloc:
            note("the login is left out of the address: the page asks for it")
        _show(page, open_browser)
        return 0
    _refuse_taken(port)
    _prepare(study, uri)
    verbose = logging.getLogger("harness").isEnabledFor(logging.DEBUG)
    command = [sys.executable, "-m", "mlflow", "ui", "--host", HOST, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", ALLOWED_HOSTS]
    quiet = "" if verbose else " --no-access-log --log-level warning"
    command += ["--uvicorn-opts", f"--header {OURS}:{os.getpid()}{quiet}"]
    with _ended_by_signals(), tempfile.TemporaryFile() as log:
        output = None if verbose else log
        process = subprocess.Popen(
            command, cwd=study.path.parent, env=_environment(uri), start_new_session=True, stdout=output, stderr=output
        )
        try:
            address = f"http://{HOST}:{port}"
            _wait_for(port, process, log)
            _show(runs_page(address, study, uri), open_browser)
            note("Ctrl-C ends it")
            process.wait()
            raise _ended(process, log)
        finally:
            _stop(process)


def _environment(uri: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_SERVER_")}
    environment["MLFLOW_BACKEND_STORE_URI"] = uri  # not on the command line, which all users of the machine can read
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # for reading only
    return environment


def _prepare(study: Study, uri: str) -> None:
    """What has to be so before MLflow's server starts. Raises HarnessError."""
    if moved := follow(study, uri):
        note(moved)
    with explaining_errors(uri):
        prepare_database(uri)
    _ask_past_the_proxy()


def _ask_past_the_proxy() -> None:
    """A proxy, as clusters have one, cannot reach this machine under the address that is its own."""
    listed = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if listed != "*":
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(filter(None, (listed, HOST)))


def _refuse_taken(port: int) -> None:
    """Else another program would answer in the server's place."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise HarnessError(
                f"--port: {HOST}:{port} cannot be used ({why}); name another, such as {port + 1}"
            ) from None


def _wait_for(port: int, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
    """Until the server answers, and not another one. Raises HarnessError if it ends before, with its last lines."""
    begun, told = time.monotonic(), False
    while process.poll() is None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=_SLOW_S) as answer,
        ):
            if answer.headers.get(OURS) == str(os.getpid()):
                return
        if not told and time.monotonic() - begun > _SLOW_S:
            note("MLflow's server is starting")
            told = True
        time.sleep(_ASK_S)
    _refuse_taken(port)  # by another that was started meanwhile
    raise _ended(process, log)


def _ended(process: subprocess.Popen[bytes], log: IO[bytes]) -> HarnessError:
    """The server ended without being asked to."""
    log.seek(0)
    lines = log.read().decode(errors="replace").strip().splitlines()[-_LAST_LINES:]
    why = "\n  ".join([f"MLflow's server ended with code {process.returncode}", *lines])
    return HarnessError(f"{why}\nharness ui -v shows all that it says")


def _show(page: str, open_browser: bool) -> None:
    result(page)
    sys.stdout.flush()
    if open_browser and not webbrowser.open(page):
        note("no browser could be opened here; open the address above")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The server and all that it started."""
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
