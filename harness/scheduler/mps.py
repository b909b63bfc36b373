"""MPS, by which processes that share a GPU compute at the same time instead of in turns: daemons of our own.

A daemon serves one device, or one set of devices that train a run together. Its folder names the scheduler that it is
for. A small shell that waits for the scheduler's end, however that comes, tells the daemon to quit; what even that one
has left behind, the next scheduler on this machine ends.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.scheduler.gpus import is_index
from harness.scheduler.processes import CLOCK_SLACK_S, node
from harness.text import quantity

CONTROL = "nvidia-cuda-mps-control"
PROCESSES = "nvidia-cuda-mps"
"""What the names of the daemon and its servers begin with."""
PIPE, LOG = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
START_S = 15.0
LONGEST_PATH = 80
"""Bytes of a folder of pipes: the path of a Unix socket in it has 107 at most."""
_OWNER = "owner.json"
_NONE = "no MPS, so runs on one GPU take turns: "
_KEEPER = """
trap '' HUP INT TERM
read -r _
servers=$(echo get_server_list | nvidia-cuda-mps-control 2>/dev/null | grep '^[0-9][0-9]*$')
echo "quit -t $1" | nvidia-cuda-mps-control >/dev/null 2>&1
pid=$(cat "$CUDA_MPS_PIPE_DIRECTORY/nvidia-cuda-mps-control.pid" 2>/dev/null)
tries=0
while [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null && [ $tries -lt $((5 * $1)) ]; do
  sleep 0.2
  tries=$((tries + 1))
done
[ -z "$pid" ] || ! kill -0 "$pid" 2>/dev/null || kill -KILL "$pid" $servers 2>/dev/null
rm -rf "$2"
"""
"""Waits until its standard input ends. $1: seconds that runs may take for their checkpoints; $2: what to remove."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Daemon:
    """Of one device, with the shell that ends it."""

    folder: Path
    keeper: subprocess.Popen[bytes]

    def close(self) -> None:
        """Let the shell begin."""
        assert self.keeper.stdin is not None
        self.keeper.stdin.close()


class Mps:
    """Context manager: while entered, runs on these devices share them by MPS where that can be had."""

    def __init__(self, devices: Sequence[str], grace_s: float) -> None:
        """`devices`: as slots name them, each shared by several runs. `grace_s`: what runs have for a checkpoint."""
        self.devices, self._grace_s = tuple(devices), int(grace_s) + 10
        self._daemons: dict[str, _Daemon] = {}
        self._ending: list[_Daemon] = []
        self._is_served = False
        self.reason = ""
        """What serves the devices, or why nothing does, in words."""

    def __enter__(self) -> Mps:
        sweep(self._grace_s)
        if not self.devices:
            return self
        self.reason = running_daemon()
        self._is_served = bool(self.reason)
        self.reason = self.reason or unavailable(self.devices)
        if not self.reason:
            problems = [problem for device in self.devices if (problem := self._start(device))]
            served = f"MPS serves {quantity(len(self._daemons), 'GPU')} for this call"
            self.reason = "; ".join([*([served] if self._daemons else []), *problems])
        return self

    def __exit__(self, *_: object) -> None:
        daemons = [*self._daemons.values(), *self._ending]
        self._daemons.clear()
        for daemon in daemons:
            daemon.close()
        for daemon in daemons:
            _finish(daemon, 2 * self._grace_s)

    def serves(self, device: str) -> bool:
        """Whether runs on this device share one server, ours or another: then a fault of one may end all."""
        return device in self._daemons or (self._is_served and device in self.devices)

    def environment(self, device: str) -> dict[str, str]:
        """Variables by which a run on this device finds its daemon; none where it has none of ours."""
        daemon = self._daemons.get(device)
        return _variables(daemon.folder) if daemon else {}

    def give_up(self, device: str) -> bool:
        """From now on runs there take turns; whether a daemon of ours served them so far.

        It ends after the runs that it serves.
        """
        daemon = self._daemons.pop(device, None)
        if daemon:
            daemon.close()
            self._ending.append(daemon)
        return daemon is not None

    def _start(self, device: str) -> str:
        """Start a daemon; why it could not be, empty if it was."""
        folder = Path(tempfile.mkdtemp(prefix=_prefix()))
        for name in ("pipe", "log"):
            (folder / name).mkdir(mode=0o700)
        daemon = _Daemon(folder, _keep(folder, self._grace_s, waits=True))
        me = psutil.Process()
        owner = {"node": node(), "pid": me.pid, "started": me.create_time(), "keeper": daemon.keeper.pid}
        (folder / _OWNER).write_text(json.dumps(owner), encoding="utf-8")
        problem = _ask(["-d"], "", _variables(folder) | {"CUDA_VISIBLE_DEVICES": device})[1]
        problem = problem or _wait_for_server(folder)
        if not problem:
            self._daemons[device] = daemon
            return ""
        last = ""
        with contextlib.suppress(OSError):
            log = (folder / "log" / "control.log").read_text(encoding="utf-8", errors="replace")
            last = "".join(log.strip().splitlines()[-1:])
        daemon.close()
        _finish(daemon, START_S)
        return f"no MPS on {device}, so its runs take turns: {CONTROL}: {problem}{f' ({last})' if last else ''}"


def unavailable(devices: Sequence[str]) -> str:
    """Why no daemon can be started here for these devices; empty if one may be tried."""
    if shutil.which(CONTROL) is None:
        return f"{_NONE}{CONTROL}, which comes with the driver, is not there"
    if numbers := [part for device in devices for part in device.split(",") if is_index(part)]:
        named = f"CUDA_VISIBLE_DEVICES names GPUs by number ({', '.join(numbers)}), and CUDA counts in its own order"
        return f"{_NONE}{named}; give the UUIDs that `nvidia-smi -L` lists"
    if len(os.fsencode(_prefix())) + 16 > LONGEST_PATH:
        return f"{_NONE}the path of {tempfile.gettempdir()} is too long for its sockets"
    return ""


def running_daemon() -> str:
    """That a daemon serves this user already, in words; empty if none does. It is used, and not stopped."""
    if shutil.which(CONTROL) is None or _ask([], "get_server_list", {})[1]:
        return ""
    return f"MPS by the daemon that runs already ({os.environ.get(PIPE, '/tmp/nvidia-mps')}), which is left running"


def sweep(grace_s: int) -> None:
    """End the daemons that schedulers of this user on this machine have left behind when they died."""
    for folder in Path(tempfile.gettempdir()).glob(f"{Path(_prefix()).name}*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if folder.stat().st_uid != os.getuid():
                continue
            owner = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
            if owner["node"] != node() or _is_alive(owner["pid"], owner["started"]):
                continue
            if _keeps(owner["keeper"], folder):
                continue  # it is at it: runs of the dead scheduler may be writing their checkpoints
            _log.info("%s: a daemon of MPS that a scheduler has left behind is ended", folder)
            _keep(folder, grace_s, waits=False)


def _prefix() -> str:
    return str(Path(tempfile.gettempdir(), f"harness-mps-{os.getuid()}-"))


def _variables(folder: Path) -> dict[str, str]:
    return {PIPE: str(folder / "pipe"), LOG: str(folder / "log")}


def _keep(folder: Path, grace_s: int, *, waits: bool) -> subprocess.Popen[bytes]:
    """A shell that ends the daemon of a folder, at once or when this process has gone or closed its pipe."""
    return subprocess.Popen(
        ["sh", "-c", _KEEPER, "sh", str(grace_s), str(folder)],
        stdin=subprocess.PIPE if waits else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_variables(folder)},
        start_new_session=True,  # Ctrl-C in a terminal is for the scheduler, whose runs still need the daemon
    )


def _ask(options: Sequence[str], command: str, variables: Mapping[str, str]) -> tuple[str, str]:
    """(answer, problem) of the control program; the problem is empty where all is well."""
    with tempfile.TemporaryFile("w+") as out:  # no pipe: a daemon that keeps it open would be waited for
        try:
            done = subprocess.run(
                [CONTROL, *options],
                input=command,
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=START_S,
                env={**os.environ, **variables},
            )
        except subprocess.TimeoutExpired:
            return "", f"no answer in {START_S:.0f} s"
        except OSError as error:
            return "", error.strerror or str(error)
        out.seek(0)
        answer = out.read()
    last = "".join(answer.strip().splitlines()[-1:])
    return answer, "" if done.returncode == 0 else last or f"exit code {done.returncode}"


def _wait_for_server(folder: Path) -> str:
    """Have the daemon start its server, without which it is of no use; why that failed, or empty."""
    problem = _ask([], f"start_server -uid {os.getuid()}\n", _variables(folder))[1]
    until = time.monotonic() + START_S
    while not problem:
        answer, problem = _ask([], "get_server_list\n", _variables(folder))
        if any(line.strip().isdecimal() for line in answer.splitlines()):
            return ""
        if time.monotonic() > until:
            return f"its server did not start in {START_S:.0f} s"
        time.sleep(0.1)
    return problem


def _is_alive(pid: int, started: float) -> bool:
    try:
        return abs(psutil.Process(pid).create_time() - started) <= CLOCK_SLACK_S
    except psutil.Error:
        return False


def _keeps(pid: int, folder: Path) -> bool:
    """Whether this process is the shell that ends the daemon of the folder."""
    try:
        return str(folder) in psutil.Process(pid).cmdline()
    except psutil.Error:
        return False


def _finish(daemon: _Daemon, seconds: float) -> None:
    """Wait until a daemon that was told to quit has, and kill what is left of it and its servers then."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        daemon.keeper.wait(seconds)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name().startswith(PROCESSES) and process.environ().get(PIPE) == str(daemon.folder / "pipe"):
                process.kill()
    shutil.rmtree(daemon.folder, ignore_errors=True)
