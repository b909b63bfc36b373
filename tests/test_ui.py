"""`harness ui` shows the runs of a study in a browser, answers this machine alone, and leaves nothing when it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from fakes import make_run
from harness.cli import ui
from harness.errors import HarnessError
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result
from harness.study.load import load_study
from harness.tracking.ledger import Report
from harness.tracking.mirror import sync
from harness.tracking.parent_run import ask_for_report
from mirrored import empty_store

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


VALUES = {"origin": (30.0, 25.5), "mix_logits": (20.5, 24.0), "transform_w": (41.25, 23.0)}
"""Cell -> its Fréchet distance and CLIP score."""


def tracked(folder: Path) -> None:
    """A study of three finished runs in `folder`, and its store."""
    (folder / "study.yaml").write_text("study: emoji\ntoggles: [mix_logits, transform_w]\n")
    shutil.copy(empty_store(), folder / "mlflow.db")
    study, runs = load_study(folder / "study.yaml"), []
    for cell, (distance, score) in VALUES.items():
        run = replace(make_run(cell), toggles=() if cell == "origin" else (cell,))
        own = RunFolder(study.root / run.id)
        own.create(run)
        own.append(Point(1, 0.016, time.time(), {"metrics/fd_emoji": 2 * distance}))
        own.update(state="done", attempt=1, started=time.time(), step=10)
        own.finish(Result({"fd_emoji": distance, "clip_score": score}, {}, {"seconds": 3.0}))
        runs.append(run)
    headlines = [("fd_emoji", "lower"), ("clip_score", "higher")]
    answer = Report(note=["**mix_logits** improves it", "| idea | change |\n|---|---|\n| mix_logits | better |"])
    ask_for_report(study, study.root, replace(answer, headlines=headlines), None)
    sync(study, study.root, runs)


@pytest.fixture
def server(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it: so what it sets is taken back
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    tracked(tmp_path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    # What would open the server to others, were it heeded.
    kept |= {"MLFLOW_SERVER_ALLOWED_HOSTS": "*", "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true"}
    kept |= {"PYTHONPATH": str(Path(__file__).parent.parent)}
    kept |= {"http_proxy": "http://127.0.0.1:9", "no_proxy": "", "NO_PROXY": "elsewhere"}  # which nobody answers at
    command = [sys.executable, "-m", "harness", "ui", "study.yaml", "--port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, env=kept, stdout=subprocess.PIPE, stderr=log, text=True)
    yield process
    family = [psutil.Process(process.pid)] if process.poll() is None else []
    for each in [child for one in family for child in one.children(recursive=True)] + family:
        with contextlib.suppress(psutil.Error):
            each.kill()
    process.wait()


def printed(server: subprocess.Popen[str]) -> str:
    """The address, which is printed once the server answers."""
    assert server.stdout is not None
    return server.stdout.readline().strip()


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


def table(page: Any) -> dict[str, list[str]]:
    """Of MLflow's table of runs the columns after the name of the run, from top to bottom."""
    page.wait_for_function("document.querySelectorAll('.ag-center-cols-container [role=row]').length >= 3")
    heads = page.locator(".ag-header-viewport .ag-header-cell").all_inner_texts()
    rows = page.locator(".ag-center-cols-container [role=row]").all()
    cells = [[text.strip() for text in row.locator("[role=gridcell]").all_inner_texts()] for row in rows]
    return {head.split("\n")[0]: list(column) for head, column in zip(heads, zip(*cells, strict=True), strict=True)}


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_the_printed_page_shows_runs_by_idea_and_headline_metric(server: subprocess.Popen[str], port: int) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    address = printed(server)
    assert status("127.0.0.1", port) == 200, "printed once it answers"
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 2400, "height": 900})
        page.goto(address)
        columns = table(page)
        note = page.get_by_text("improves it").first.inner_text()
        browser.close()
    assert columns.pop("Duration")
    assert columns == {
        "outcome": ["done", "done", "done"],
        "fd_emoji": ["20.5", "30", "41.25"],
        "clip_score": ["24", "25.5", "23"],
        "mix_logits": ["1", "0", "0"],
        "transform_w": ["0", "0", "1"],
    }
    assert note == "emoji: mix_logits improves it"


def test_only_this_machine_is_answered_and_nothing_is_left(
    server: subprocess.Popen[str], port: int, tmp_path: Path
) -> None:
    assert printed(server).startswith(f"http://127.0.0.1:{port}/#/experiments/")
    assert status("127.0.0.1", port) == status("127.0.0.1", port, f"127.0.0.1:{port}") == 200
    assert status("127.0.0.1", port, "localhost:8080") == 200, "through a tunnel"
    assert status("127.0.0.1", port, "evil.example") == status("127.0.0.1", port, "10.0.0.7") == 403
    for address in other_addresses():
        assert status(address, port) == 0
    family = psutil.Process(server.pid).children(recursive=True)
    listening = [it for one in family for it in one.net_connections("inet") if it.status == psutil.CONN_LISTEN]
    assert {it.laddr.ip for it in listening if it.laddr.port == port} == {"127.0.0.1"}
    assert all(it.laddr.ip in ("127.0.0.1", "::1") for it in listening)
    assert "GET" not in (tmp_path / "log").read_text(), "no line for each request"
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 143
    assert psutil.wait_procs(family, timeout=10)[1] == []
    assert status("127.0.0.1", port) == 0


def test_the_server_of_another_call_is_not_taken_for_the_own(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took the port after both had found it free."""
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "health").write_text("OK")
    states = iter([None, 1])
    process: Any = SimpleNamespace(poll=lambda: next(states), returncode=1)
    of_another = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", port), of_another) as other, (tmp_path / "log").open("w+b") as log:
        threading.Thread(target=other.serve_forever).start()
        try:
            with pytest.raises(
                HarnessError, match=rf"--port: .*:{port} cannot be used \(address already in use\); name"
            ):
                ui._wait_for(port, process, log)
        finally:
            other.shutdown()


def test_a_server_that_ends_by_itself_is_told_with_its_last_words(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after it has answered; its exit code is not that of the call, where 3 would mean failed runs."""
    (tmp_path / "study.yaml").write_text("study: emoji\n")
    start = subprocess.Popen
    dies = ["sh", "-c", "echo it broke >&2; exit 3"]
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(ui.subprocess, "Popen", lambda command, **named: start(dies, **named))
    monkeypatch.setattr(ui, "_wait_for", lambda *_: None)
    monkeypatch.setattr(ui, "runs_page", lambda *_: "the page")
    with pytest.raises(HarnessError, match=r"MLflow's server ended with code 3\n  it broke\n"):
        ui.serve_mlflow(load_study(tmp_path / "study.yaml"), port, False)
