"""What the tests of hostile input share: folders that must stay as they are, a limit on time, values nobody meant."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from harness.errors import HarnessError
from harness.terminal import console

CPU_SECONDS = 10
MEGABYTES = 400
"""Of memory beyond what was in use before."""

SMALL = """
study: tiny
data: {source: folder, path: images, resolution: 8, held_out: {share: 0.3}}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 32}
"""
"""A study that can be planned in a moment where `images` lie beside it."""

VALUES: list[Any] = [
    None, True, False, 0, -1, 3, 2**31, 2**63 - 1, -(2**63), 2**63, 10**40, 0.5, -0.5, 1e-320, 1e300, 1.7e308,
    ".nan", ".inf", "-.inf", "1e999", "", " ", "x" * 300, "a\nb", "\x1b[31mred", "\0", "\ud800", "\u202e", "\u2028",
    "é", "../../etc/passwd", "../up", "/dev/zero", "/etc/shadow", "~", "~nobody-here/x", "a/b", "a\\b", ".", "..",
    "con", "origin", "full", "full-minus-", "transform_w+transform_w", "+", "{0..999999999}", "*", "${HOME}", "$(id)",
    "%s", "{}", "embedded:../x", "open_clip:ViT-B-32/openai@/dev/zero", "timm:hf-hub:../..@~nobody-here", "yes",
    "1_000", "0x10", "1:30", [], {}, [[]], [{}], [None], {"": None}, {"a": {"a": {"a": {}}}}, [[[[[[[[1]]]]]]]],
    ["transform_w"] * 3, [1, 1], [-1], {"kimg": {"kimg": 3}}, {"x": "y" * 200}, list(range(200)), {"study": "../x"},
    [["origin"]], [{"a": {"loss.tau": 2}}],
]  # fmt: skip


def write_images(folder: Path, count: int = 24) -> None:
    """Captioned images of 8 x 8 pixels."""
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 8), (number * 10, number, 3)).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"caption {number}\n")


def listing(*folders: Path) -> dict[str, tuple[int, int, int]]:
    """Every path below the folders with its kind, size and time."""
    found = {}
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            state = path.lstat()
            found[str(path)] = (state.st_mode, state.st_size, state.st_mtime_ns)
    return found


@contextlib.contextmanager
def untouched(*folders: Path) -> Iterator[None]:
    """Nothing in these folders is made, changed or removed."""
    before = listing(*folders)
    yield
    assert listing(*folders) == before


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Ends what takes too much of the processor, whatever else the machine does, and notices what takes memory."""

    def too_long(*_: Any) -> None:
        raise AssertionError(f"more than {CPU_SECONDS} s of computing")

    before, peak = signal.signal(signal.SIGVTALRM, too_long), _peak_mb()
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert _peak_mb() - peak < MEGABYTES


@contextlib.contextmanager
def refusal() -> Iterator[list[str]]:
    """Lets a refusal pass that says something in a few lines that can be printed; all else that is raised fails."""
    told: list[str] = []
    try:
        yield told
    except HarnessError as error:
        told.append(console.plain(str(error)))
        told[0].encode()
        assert 0 < len(told[0]) < 100_000 and told[0].count("\n") < 60


def device(kind: str, path: Path) -> Path:
    """A file of a kind that nobody expects, at `path`."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(2**31)
    elif kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path)
    else:
        path.symlink_to(kind)
    return path


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
