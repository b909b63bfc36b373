"""Files of a run's folder as a page may show them: each read only where it changed, and none outside of the folder.

A folder may be changed by others meanwhile, or be gone. Links in it are not followed: what a page shows is the run's.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from harness.errors import RecordError
from harness.files import parse
from harness.masking import masked
from harness.runs.folders import parse_point
from harness.text import escaped

LOG_BYTES = 8192
"""Of the end of a log."""
LOG_LINES = 30
MOST_BYTES = 2**24
"""Of new points that are read at a time."""
MOST_POINTS = 1000
"""Of a curve; the oldest of more are forgotten."""
PNG = b"\x89PNG\r\n\x1a\n"
Signature = tuple[int, int, int]
_STEP = re.compile(r"(\d{9})\.png")


def opened(folder: Path, *names: str) -> BinaryIO:
    """A regular file at `folder`/`names`, none of which is a link; the folder itself may be one. Raises OSError."""
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names[:-1]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            os.close(parent)
            parent = inner
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        found = os.open(names[-1], flags, dir_fd=parent)
    finally:
        os.close(parent)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise OSError(f"{names[-1]} is no regular file")
    return open(found, "rb")


def signature(path: str | Path) -> Signature | None:
    """What changes when a file or folder does; None where there is none."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


@dataclass(frozen=True)
class Samples:
    """The newest sample grid of a run."""

    step: int
    width: int
    height: int


@dataclass
class RunFiles:
    """What the folder of one run holds beside its status, as far as it was read."""

    path: Path
    points: dict[str, deque[tuple[int, float]]] = field(default_factory=dict)
    """Recorded name -> (step, value)."""
    unread: int = 0
    """Lines of metrics.jsonl that are no points."""
    log: str = ""
    samples: Samples | None = None
    real: Samples | None = None
    captions: tuple[str, ...] = ()
    _seen: dict[str, Signature | None] = field(default_factory=dict)
    _offset: int = 0
    _inode: int = 0

    def look(self) -> None:
        """Read what changed since."""
        if self._changed("metrics.jsonl"):
            self._read_points()
        if self._changed("log.txt"):
            self.log = self._tail()
        if self._changed("samples"):
            self._read_samples()

    def _changed(self, name: str) -> bool:
        now = signature(self.path / name)
        before = self._seen.get(name)
        self._seen[name] = now
        return now != before

    def _read_points(self) -> None:
        """The lines that became whole. A run that goes on from a checkpoint writes the file anew, as another one."""
        with contextlib.suppress(OSError), opened(self.path, "metrics.jsonl") as file:
            state = os.fstat(file.fileno())
            if state.st_ino != self._inode or state.st_size < self._offset:
                self._inode, self._offset, self.unread = state.st_ino, 0, 0
                self.points.clear()
            file.seek(self._offset)
            new = file.read(MOST_BYTES)
            whole = new[: new.rfind(b"\n") + 1]
            self._offset += len(whole)
            if len(new) == MOST_BYTES and whole:
                self._seen.pop("metrics.jsonl")  # there is more, which the next look reads
            for line in whole.splitlines():
                self._take(line)
            return
        self.points.clear()
        self._inode = self._offset = 0

    def _take(self, line: bytes) -> None:
        try:
            point = parse_point(line, "metrics.jsonl")
        except RecordError:
            self.unread += 1
            return
        for name, value in point.values.items():
            if math.isfinite(value):
                self.points.setdefault(name, deque(maxlen=MOST_POINTS)).append((point.step, value))

    def _tail(self) -> str:
        try:
            with opened(self.path, "log.txt") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
                lines = file.read(LOG_BYTES).decode("utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(escaped(masked(line.rstrip())) for line in lines[-LOG_LINES:])

    def _read_samples(self) -> None:
        names = []
        with contextlib.suppress(OSError):
            names = os.listdir(self.path / "samples")
        steps = sorted((int(match[1]) for name in names if (match := _STEP.fullmatch(name))), reverse=True)
        found = (grid for step in steps if (grid := _grid(self.path, f"{step:09d}.png", step)))
        self.samples, self.real = next(found, None), _grid(self.path, "real.png", 0)
        self.captions = tuple(_captions(self.path))


@dataclass(frozen=True)
class _Column:
    caption: str | None
    image_id: int | None


def _captions(folder: Path) -> Iterator[str]:
    """Of the columns of the sample grid; none where they cannot be read."""
    with contextlib.suppress(OSError, RecordError), opened(folder, "samples", "captions.json") as file:
        for column in parse(file.read(2**20), tuple[_Column, ...], "captions.json", ""):
            yield column.caption or "no caption"


def _grid(folder: Path, name: str, step: int) -> Samples | None:
    """The size of a PNG as its first bytes have it; None for anything else."""
    try:
        with opened(folder, "samples", name) as file:
            head = file.read(24)
    except OSError:
        return None
    if len(head) < 24 or not head.startswith(PNG):
        return None
    return Samples(step, int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"))
