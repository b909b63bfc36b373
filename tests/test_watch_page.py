"""`harness watch` in a browser: a grid of four runs from before its start to after its end, and nothing else."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.runs.folders import RunFolder
from watched import SCRIPT, go_on, planned

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
HERE = Path(__file__).parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Its address and its process, before any run has begun."""
    planned(tmp_path)
    command = [sys.executable, "-m", "harness", "watch", "watched.yaml"]
    # As from a terminal: a runner in the background may have SIGINT ignored.
    heed = lambda: signal.signal(signal.SIGINT, signal.default_int_handler)  # noqa: E731
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, preexec_fn=heed, **pipes)
    assert process.stdout
    yield process.stdout.readline().split()[0], process
    process.kill()
    process.communicate()


@pytest.fixture
def page(watched: Any) -> Iterator[Any]:
    """A tab that fails the test if it complained, spoke up, asked elsewhere or loaded the document again."""
    url, heard = watched[0], []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        tab = browser.new_page(viewport={"width": 390, "height": 844})
        # The test ends the server while the page goes on to ask it.
        tab.on("console", lambda told: None if "CONNECTION_REFUSED" in told.text else heard.append(told.text))
        tab.on("pageerror", lambda error: heard.append(str(error)))
        tab.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
        tab.on("request", lambda request: None if request.url.startswith((url, "data:")) else heard.append(request.url))
        tab.goto(url)
        tab.evaluate("window.first = true")
        yield tab
        assert tab.evaluate("window.first"), "the page was never loaded again"
        browser.close()
    assert heard == []


def holds(page: Any, condition: str) -> None:
    """In a while; the page's policy keeps even a test from waiting inside of it."""
    deadline = time.monotonic() + 60
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, (condition, page.inner_text("#watched"))
        page.wait_for_timeout(50)


def states(words: str) -> str:
    return f"[...document.querySelectorAll('td .word')].map(one => one.textContent.trim()).join(' ') === '{words}'"


def fits(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert page.evaluate(
            "[...document.querySelectorAll('#watched *')].filter(one => !one.closest('.scroll'))"
            ".every(one => one.getBoundingClientRect().right <= innerWidth + 1)"
        ), width


def test_a_grid_is_watched_from_before_its_start_to_after_its_end(
    tmp_path: Path, watched: tuple[str, subprocess.Popen[str]], page: Any
) -> None:
    assert "No run has begun yet" in page.inner_text("#s0-lead")
    holds(page, states("pending pending pending pending"))
    grid = subprocess.Popen([sys.executable, str(HERE / "watched.py"), str(tmp_path)], env=ENVIRONMENT)
    try:
        holds(page, states("running pending running pending"))
        holds(page, "document.querySelectorAll('.curve svg path[d^=M]').length === 4 && document.querySelector('pre')")
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        # What is left grows less while the page is drawn, and sooner on a busy machine.
        assert re.search(r"5 of 10.* about \d(\.\d)? s left", page.inner_text(".facts >> nth=0"))
        go_on(tmp_path, "measure")
        holds(page, states("measuring pending measuring pending"))
        assert page.locator("img.strip[src*='000000005']").count() == 0
        go_on(tmp_path, "draw")
        holds(
            page,
            "[...document.querySelectorAll('img.strip[src*=\"000000005\"]')]"
            ".filter(one => one.naturalWidth === 128).length === 2",
        )
        assert page.evaluate("getComputedStyle(document.querySelector('img.strip')).imageRendering") == "pixelated"
        assert page.evaluate("[...document.querySelectorAll('.run details')].every(one => one.open)"), "as it was left"
        go_on(tmp_path, "end")
        holds(page, states("done done done failed"))
        grid.wait(60)
    finally:
        grid.kill()
    assert "4 of 4 runs ended: 3 done, 1 failed" in page.inner_text("#s0-lead")
    assert SCRIPT in page.inner_text(".run.failed .error") and "fd 12.5" in page.inner_text(".run.done >> nth=0")
    assert SCRIPT in page.text_content("#s0-captions") and SCRIPT in page.text_content("pre")
    fits(page)
    made = planned(tmp_path)
    gone = RunFolder(made.study.root / made.runs[0].id).path
    gone.rename(tmp_path / "moved")
    holds(page, states("pending done done failed"))
    watched[1].send_signal(signal.SIGINT)
    _, told = watched[1].communicate(timeout=30)
    assert (watched[1].returncode, told) == (130, "no longer watched; the runs go on\n")
