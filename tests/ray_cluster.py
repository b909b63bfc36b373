"""A real Ray cluster of two nodes, `head` and `second`, in a network of its own that has loopback alone.

In the network of the machine Ray would take 127.0.0.1 for the machine's own address, and listen on all of them. What is
started here is ended by process id.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import pytest

from waiting import until

PORT = 6399
ADDRESS = f"127.0.0.1:{PORT}"
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@functools.cache
def missing() -> str:
    """Why there can be no cluster here, and what to do; empty if there can."""
    try:
        version("ray")
    except PackageNotFoundError:
        return 'which need Ray: pip install -e ".[ray]"'
    try:
        with own_network():
            return ""
    except OSError as error:
        return f"which need a network of their own for Ray, and none can be made ({error}): run them as root"


@contextmanager
def own_network() -> Iterator[None]:
    """This thread, and the processes that it starts, see a loopback of their own and nothing else. Raises OSError."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _call(_LIBC.unshare, _CLONE_NEWNET)
        try:
            with socket.socket() as any_socket:
                request = struct.pack("16sh", b"lo", 0)
                (flags,) = struct.unpack_from("16xh", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
                fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", flags | _IFF_UP))
            yield
        finally:
            _call(_LIBC.setns, before, _CLONE_NEWNET)
    finally:
        os.close(before)


def _call(function: Callable[..., int], *arguments: int) -> None:
    if function(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class RayCluster:
    """Its nodes by name, each a process `ray start --block` and all that this has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        self.token = secrets.token_hex(32)
        self.hidden = folder / "hidden"
        """A folder whose content `second` does not see."""
        self.short = Path(tempfile.mkdtemp(prefix="ray-"))
        """Where its sockets lie: their paths may have 107 letters, and those of a test process's folder have more."""
        (folder / "home").mkdir(parents=True)
        self.hidden.mkdir()

    @property
    def environment(self) -> dict[str, str]:
        """Of whoever may use it."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SCHEDULER_EVENTS": "0"}
        return {**ours, **quiet, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def start(self) -> None:
        """Both nodes; where none can be had, its tests are left out and say so."""
        of_head = ["--head", "--node-ip-address=127.0.0.1", f"--port={PORT}", "--include-dashboard=false"]
        self.begin_node("head", *of_head, f"--temp-dir={self.short}", "--num-cpus=1", "--num-gpus=0")
        try:
            until(lambda: _listens() or self.nodes["head"].poll() is not None, "the head listens", 120)
        except AssertionError as error:
            pytest.skip(f"Ray does not start here: {error}")
        assert self.nodes["head"].poll() is None, self._log("head").read_text()
        self.begin_second()
        self.await_node("head")
        self.await_node("second")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and the processes that it starts, see the cluster and no other network."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/proc/{self.nodes['head'].pid}/ns/net", os.O_RDONLY)
        try:
            _call(_LIBC.setns, inside, _CLONE_NEWNET)
            yield
        finally:
            _call(_LIBC.setns, before, _CLONE_NEWNET)
            os.close(inside)
            os.close(before)

    def begin_second(self) -> None:
        resources = ["--num-cpus=2", "--num-gpus=2", '--resources={"second": 1}']  # GPUs that are none
        self.begin_node("second", f"--address={ADDRESS}", *resources)

    def begin_node(self, name: str, *options: str) -> None:
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--node-name={name}", *options]
        words += ["--object-store-memory=80000000", "--disable-usage-stats"]
        if name == "second":
            hide = 'mount -t tmpfs hidden "$0" && exec "$@"'
            words = ["unshare", "--mount", "sh", "-c", hide, str(self.hidden), *words]
        with self._log(name).open("wb") as log:
            self.nodes[name] = subprocess.Popen(
                words,
                # What whoever starts a cluster may see, Ray hands on to workers that it grants no GPU.
                env={**self.environment, "HOME": str(self.folder / "home"), "CUDA_VISIBLE_DEVICES": "0,1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_node(self, name: str) -> None:
        path, process = self._log(name), self.nodes[name]
        until(lambda: b"Ray runtime started" in path.read_bytes() or process.poll() is not None, f"{name} has started")
        assert process.poll() is None, path.read_text()

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def until_whole(self) -> None:
        """Both nodes are there; a lost one is started again."""
        if "second" not in self.nodes:
            self.begin_second()
            self.await_node("second")

    def kill_node(self, name: str) -> None:
        """As if its power had gone: all that runs there ends without a chance to write anything."""
        doomed: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            node = psutil.Process(self.nodes.pop(name).pid)
            doomed = [*node.children(recursive=True), node]
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.suspend()  # so that none sees another die
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(doomed, 10)

    def workers(self, name: str = "") -> list[psutil.Process]:
        """The processes `harness work` of a node, or of all."""
        nodes = [self.nodes[name]] if name else self.nodes.values()
        below = [each for node in nodes for each in psutil.Process(node.pid).children(recursive=True)]
        return [each for each in below if is_worker(each)]

    def stop(self) -> None:
        """At once: asked to end, its nodes would take several seconds."""
        for name in [*self.nodes]:
            self.kill_node(name)
        shutil.rmtree(self.short, ignore_errors=True)


@contextmanager
def ray_cluster(folder: Path) -> Iterator[RayCluster]:
    """A started cluster, which is ended afterwards."""
    cluster = RayCluster(folder)
    try:
        with own_network():
            cluster.start()
        yield cluster
    finally:
        cluster.stop()


def is_worker(process: psutil.Process) -> bool:
    """Whether it is a process `harness work`."""
    with suppress(psutil.Error):
        words = process.cmdline()
        return "harness" in words and "work" in words
    return False


def _listens() -> bool:
    try:
        socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
    except OSError:
        return False
    return True
