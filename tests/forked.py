"""`harness ...` in a process forked from one that has imported it: for tests of what a command does, not of its start.

A process of its own takes one to seven seconds of imports; a fork takes a few hundredths.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.mlflow_store import ENVIRONMENT

ROOT = Path(__file__).parent.parent
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


def run_forked(
    words: Sequence[str],
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    *,
    quick_figures: bool = False,
) -> subprocess.CompletedProcess[str]:
    """What `harness WORDS` answers in `folder`, with standard output and error in UTF-8.

    `quick_figures`: they are drawn as SVG alone, as in the fixture of that name.
    """
    server = _server(HEAVY if HEAVY_COMMANDS & set(words) else PRELOADED)
    assert server.stdin and server.stdout
    with tempfile.TemporaryDirectory() as scratch:
        request = {
            "words": list(words),
            "folder": str(folder or Path.cwd()),
            "environment": dict(os.environ if environment is None else environment),
            "scratch": scratch,
            "quick_figures": quick_figures,
        }
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err = (Path(scratch, name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess(words, code, out, err)


@functools.cache
def _server(modules: tuple[str, ...]) -> subprocess.Popen[str]:
    """Ends with this process, as its standard input is closed then."""
    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, *modules]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _serve() -> None:
    """Forks for each request. The forked process returns from here as a `harness` process that has just started."""
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.freeze()  # a collection would write to every page that the processes share
    replies = os.dup(1)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            os.close(replies)
            _become(json.loads(line))
            return
        _, status = os.waitpid(process, 0)
        os.write(replies, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    sys.exit()


def _become(request: dict[str, Any]) -> None:
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    if request["quick_figures"]:
        from conftest import draw_svg_alone

        draw_svg_alone(pytest.MonkeyPatch())
    sys.argv = ["harness", *request["words"]]
    writing = os.O_WRONLY | os.O_CREAT
    places = (os.devnull, os.O_RDONLY), (f"{request['scratch']}/out", writing), (f"{request['scratch']}/err", writing)
    for number, (place, mode) in enumerate(places):
        opened = os.open(place, mode)
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


def _end() -> None:
    """Of a forked process. Without taking the interpreter apart, which takes longer than most commands."""
    try:
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

    _serve()
    _end()
