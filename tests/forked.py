"""`harness ...` in a process forked from one that has imported it: for tests of what a command does, not of its start.

A process of its own takes one to ten seconds of imports; a fork takes a few hundredths. All test processes share the
servers that are forked from.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.tracking.mlflow_store import ENVIRONMENT

ROOT = Path(__file__).parent.parent
SOCKETS = "TESTS_FORKED"
"""Environment variable: the folder of the servers' sockets. They end when it has gone, or with OWNER."""
OWNER = "TESTS_FORKED_BY"
"""Environment variable: the number of the process that all tests belong to."""
PRELOADED = (
    "harness.cli.main",
    "harness.cli.show_plan",
    "harness.cli.show_storage",
    "harness.analysis.from_csv",
    "harness.study.plan",
    "harness.report.write",
    "harness.scheduler.scheduler",
    "harness.terminal.console",
)
"""What most commands import."""
HEAVY = (
    *PRELOADED,
    "mlflow",
    "harness.grid.run",
    "matplotlib.backends.backend_svg",
    "harness.training.session",
    "harness.command.session",
    "timm",
)
"""What commands that train, draw or read weights import as well."""
HEAVY_COMMANDS = frozenset({"evaluate", "import", "report", "run-grid", "sample", "tune"})


class Forked:
    """As `subprocess.Popen` of `harness WORDS`, or of a script of these tests and its words."""

    def __init__(
        self,
        words: Sequence[str],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        script: str = "",
        output: Path | None = None,
        quick_figures: bool = True,
    ) -> None:
        """`output`: a file that both streams are added to; without one, `communicate` returns them.

        `quick_figures`: they are drawn as SVG alone, as in these tests.
        """
        self.returncode: int | None = None
        self._scratch = tempfile.TemporaryDirectory()
        self._places = [output or Path(self._scratch.name, name) for name in ("out", "err")]
        request = {
            "words": [script or "harness", *words],
            "script": script,
            "folder": str(folder or Path.cwd()),
            "environment": dict(os.environ if environment is None else environment),
            "places": [str(place) for place in self._places],
            "quick_figures": quick_figures,
        }
        self._connection = _connected("heavy" if script or HEAVY_COMMANDS & set(words) else "light")
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._connection.makefile("r")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("harness", timeout or 0)
            self.returncode = int(self._answers.readline())
            self._connection.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = (place.read_text(encoding="utf-8") for place in self._places)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_forked(
    words: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    quick_figures: bool = True,
) -> subprocess.CompletedProcess[str]:
    """What `harness WORDS` answers in `folder`, with standard output and error in UTF-8."""
    process = Forked(words, folder, environment, quick_figures=quick_figures)
    try:
        out, err = process.communicate()
    finally:
        process.kill()
    return subprocess.CompletedProcess(words, process.wait(), out, err)


def _connected(kind: str) -> socket.socket:
    """To the server of that kind, which is started if there is none."""
    path = Path(os.environ[SOCKETS], kind)
    connection = socket.socket(socket.AF_UNIX)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
            server = subprocess.Popen([sys.executable, __file__, kind], env=environment, stdin=subprocess.DEVNULL)
            while not path.exists():
                assert server.poll() is None, "the server of forked processes does not start"
                time.sleep(0.05)
    connection.connect(str(path))
    return connection


def _serve(kind: str) -> dict[str, Any]:
    """Forks for each request. Returns in each forked process, with what is asked of it."""
    for name in HEAVY if kind == "heavy" else PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # a collection would write to every page that the processes share
    path, owner = Path(os.environ[SOCKETS], kind), int(os.environ[OWNER])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{path}.new")
        server.listen(64)
        Path(f"{path}.new").rename(path)
        while path.exists() and Path(f"/proc/{owner}").exists():
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            if select.select([server], [], [], 1.0)[0]:
                connection, _ = server.accept()
                if os.fork() == 0:
                    server.close()
                    return _forked(connection)
                connection.close()
    os._exit(0)


def _forked(connection: socket.socket) -> dict[str, Any]:
    """Returns in the process that is asked for. This one tells its number, and its exit code when it has ended."""
    with connection.makefile("r") as lines:
        request: dict[str, Any] = json.loads(lines.readline())
    process = os.fork()
    if process == 0:
        connection.close()
        _become(request)
        return request
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    connection.sendall(f"{process}\n".encode())
    _, status = os.waitpid(process, 0)
    with suppress(OSError):  # whoever asked has ended
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background may have it ignored
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    from conftest import await_tracking, draw_svg_alone

    await_tracking(pytest.MonkeyPatch())
    if request["quick_figures"]:
        draw_svg_alone(pytest.MonkeyPatch())
    sys.argv = request["words"]
    adding = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    places = (os.devnull, os.O_RDONLY), *((place, adding) for place in request["places"])
    for number, (place, mode) in enumerate(places):
        opened = os.open(place, mode, 0o644)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)
    if "torch" in sys.modules:
        _fork_the_fork_server()


def _fork_the_fork_server() -> None:
    """The command's own fork server, if it starts one, is forked from here as well, which saves four seconds.

    The fork waits for its program, files and environment, and ends with the command when there is no such request.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    waiting = os.fork()
    if waiting == 0:
        ours.close()
        _become_fork_server(theirs)
    theirs.close()
    start_anew = util.spawnv_passfds

    def start(path: bytes, arguments: Sequence[str], files: Sequence[int]) -> int:
        if ours.fileno() == -1 or "multiprocessing.forkserver" not in arguments[-1]:
            return int(start_anew(path, arguments, files))
        blocked = sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
        request = {"program": arguments[-1], "numbers": files, "environment": dict(os.environ), "blocked": blocked}
        socket.send_fds(ours, [json.dumps(request).encode()], files)
        ours.close()
        return waiting

    util.spawnv_passfds = start


def _become_fork_server(requests: socket.socket) -> None:
    content, files, _, _ = socket.recv_fds(requests, 1 << 20, 2)
    if not content:
        os._exit(0)
    request = json.loads(content)
    high = [fcntl.fcntl(file, fcntl.F_DUPFD, 200) for file in files]
    os.closerange(3, 200)
    for file, number in zip(high, request["numbers"], strict=True):
        os.dup2(file, number)
        os.close(file)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    os.environ.clear()
    os.environ.update(request["environment"])
    try:
        exec(request["program"], {})
    finally:
        os._exit(0)


def _end(script: str) -> None:
    """Of a forked process. Without taking the interpreter apart, which takes longer than most commands."""
    code: object = None
    try:
        if script:
            runpy.run_path(script, run_name="__main__")
        else:
            main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    from harness.cli.main import main

    _end(_serve(sys.argv[1])["script"])
