"""`harness ui` answers this machine alone, and nothing of it is left when it is told to end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    (tmp_path / "study.yaml").write_text("study: tiny\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    # What would open the server to others, were it heeded.
    kept |= {"MLFLOW_SERVER_ALLOWED_HOSTS": "*", "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true"}
    kept |= {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-m", "harness", "ui", "study.yaml", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=kept, stdout=log, stderr=log)
    yield process
    family = [psutil.Process(process.pid)] if process.poll() is None else []
    for each in [child for one in family for child in one.children(recursive=True)] + family:
        with contextlib.suppress(psutil.Error):
            each.kill()
    process.wait()


def status(address: str, port: int, host: str = "localhost") -> int:
    """What the server answers to a browser that asked for `host`; 0 where nobody answers."""
    request = urllib.request.Request(
        f"http://{address}:{port}/api/2.0/mlflow/experiments/search?max_results=1", headers={"Host": host}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def other_addresses() -> list[str]:
    found = [each.address for some in psutil.net_if_addrs().values() for each in some if each.family == socket.AF_INET]
    return [address for address in found if address != "127.0.0.1"]


def test_only_this_machine_is_answered_and_nothing_is_left(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + 120
    while not status("127.0.0.1", port):
        assert server.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    assert status("127.0.0.1", port) == status("127.0.0.1", port, f"127.0.0.1:{port}") == 200
    assert status("127.0.0.1", port, "localhost:8080") == 200, "through a tunnel"
    assert status("127.0.0.1", port, "evil.example") == status("127.0.0.1", port, "10.0.0.7") == 403
    for address in other_addresses():
        assert status(address, port) == 0
    family = psutil.Process(server.pid).children(recursive=True)
    listening = [it for one in family for it in one.net_connections("inet") if it.status == psutil.CONN_LISTEN]
    assert {it.laddr.ip for it in listening if it.laddr.port == port} == {"127.0.0.1"}
    assert all(it.laddr.ip in ("127.0.0.1", "::1") for it in listening)
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 143
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert status("127.0.0.1", port) == 0
