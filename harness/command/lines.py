"""The lines that a script appends to its file of metrics, each read once: {"step", "total", NAME: number}.

What cannot be used is left out, counted and told. A line counts once it is whole; what a script that was killed has
left of one is cut off before it is started again, so that nothing is glued to it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DataError
from harness.runs.record import LARGEST, NOTE_OF, Point

PREFIX = "script/"
"""Of the script's own names among those of a run's points."""
LONGEST_LINE = 1_000_000
"""Bytes."""
MOST_POINTS = 1000
"""A run keeps about so many points of each name; some more where no total is said, or one that grows."""
MOST_NAMES = 1000
"""Different ones that a run keeps values of."""
MOST_TOLD = 20
"""Things that are counted for each name apart; those that come later are counted together."""
MOST_STEPS = 10**15
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./ -]{0,99}")
_RESERVED = frozenset(("step", "total", "samples"))


@dataclass(frozen=True)
class Line:
    """What one line says."""

    step: int
    total: int = 0
    """Steps in all; 0: not said."""
    values: Mapping[str, float] = field(default_factory=dict)
    has_samples: bool = False
    """`"samples": true`: the images of this step lie in samples/STEP."""


class MetricLines:
    """Reads what is appended to the file at `path`; `tell` is called with a sentence for what is left out."""

    def __init__(self, path: Path, tell: Callable[[str], None]) -> None:
        self.path, self._tell = path, tell
        self._offset = 0
        self.left_out: Counter[str] = Counter()
        """What was not used -> how often."""

    def new(self, at_end: bool = False) -> list[Line]:
        """The lines that became whole since the last call; `at_end`: nothing more is written, so the last one counts
        without its end of line too."""
        data = self._read()
        whole, newline, rest = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        lines = whole.split(b"\n") if newline else []
        if at_end and rest.strip():
            self._offset += len(rest)
            lines.append(rest)
        elif len(rest) > LONGEST_LINE:
            self._offset += len(rest)
            self.leave_out("a line without an end", f"after {LONGEST_LINE:,} bytes")
        return [line for each in lines if each.strip() and (line := self._parsed(each)) is not None]

    def catch_up(self, newest: Point | None) -> list[Line]:
        """The lines of earlier attempts that were not read when they were cut short; the newest point says how far
        reading had come. From here on `new` gives what is appended now."""
        self._offset = 0
        data = self._read()
        *whole, rest = data.split(b"\n")
        if rest and self._parsed(rest, quiet=True) is not None:  # which lacks but its end
            whole.append(rest)
            with self.path.open("ab") as file:
                file.write(b"\n")
        elif rest:
            os.truncate(self.path, len(data) - len(rest))
            self.leave_out("half a line of a script that was cut short", f"{len(rest)} bytes")
        self._offset = self.path.stat().st_size if data else 0
        texts = [each for each in whole if each.strip()]
        if newest is not None:
            lines = [self._parsed(each, quiet=True) for each in texts]
            # Of a line not every value is kept, see `Thinner`.
            kept = {(name.removeprefix(PREFIX), value) for name, value in newest.values.items()}
            same = [
                at for at, line in enumerate(lines) if line and line.step == newest.step and kept <= line.values.items()
            ]
            later = [at for at, line in enumerate(lines) if line and line.step > newest.step]
            texts = texts[same[-1] + 1 :] if same else [texts[at] for at in later]
        return [line for each in texts if (line := self._parsed(each)) is not None]

    def leave_out(self, what: str, example: str, of: str = "") -> None:
        """Count something that is not used, and tell of the first of its kind; `of`: the name whose value it is."""
        kind = f"{what}{NOTE_OF}{of}" if of else what
        if kind not in self.left_out and len(self.left_out) >= MOST_TOLD:
            kind = what
        self.left_out[kind] += 1
        if self.left_out[kind] == 1:
            self._tell(f"{self.path.name}: {what} is left out: {example}")

    def told_at_end(self) -> Iterator[str]:
        """How often each kind was left out."""
        for kind, count in self.left_out.items():
            if count > 1:
                yield f"{self.path.name}: left out {count:,} times: {kind}"

    def _read(self) -> bytes:
        try:
            if self.path.exists() and not self.path.is_file():  # to open a pipe would wait for ever
                raise DataError(f"{self.path}: cannot be read; it must be a plain file")
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    self.leave_out("what was read before", "the file is shorter now, and is read from its beginning")
                    self._offset = 0
                file.seek(self._offset)
                return file.read()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror}); it must be a plain file") from error

    def _parsed(self, text: bytes, quiet: bool = False) -> Line | None:
        found = _fields(text)
        if isinstance(found, str):
            if not quiet:
                self.leave_out(found, repr(text[:80].decode("utf-8", "replace")))
            return None
        values = {}
        for name, value in found.items():
            if name in _RESERVED:
                continue
            of = name
            if not _NAME.fullmatch(name):
                problem, of = "a name that is not made of letters, digits, blanks and _./-", ""
            elif isinstance(value, bool) or not isinstance(value, int | float):
                problem = "a value that is no number"
            elif not _is_finite(value):
                problem = "a value that is not finite"
            else:
                values[name] = float(value)
                continue
            if not quiet:
                self.leave_out(problem, f"{name[:100]}: {json.dumps(value)[:60]} at step {found['step']}", of)
        return Line(found["step"], found.get("total", 0), values, found.get("samples", False))


def _fields(text: bytes) -> dict[str, Any] | str:
    """The object of a line, whose step, total and samples are as they must be; else what is wrong with it."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "a line that is no JSON"
    if not isinstance(found, dict):
        return "a line that is no JSON object"
    for name, least in (("step", 0), ("total", 1)):
        value = found.get(name, least if name == "total" else None)
        if type(value) is float and value.is_integer():
            value = found[name] = int(value)
        if type(value) is not int or not least <= value < MOST_STEPS:
            return f"a line whose {name} is no whole number of at least {least}"
    if not isinstance(found.get("samples", False), bool):
        return "a line whose samples is not true or false"
    return found


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value) and abs(value) < LARGEST
    except OverflowError:
        return False


class Thinner:
    """Keeps about MOST_POINTS values of each name, however often a script reports it, of MOST_NAMES names.

    Of one step it keeps one value of a name, the first.
    """

    def __init__(self, leave_out: Callable[[str, str], None]) -> None:
        """`leave_out` is called with what is not kept for its name, and an example."""
        self._leave_out = leave_out
        self._begun: dict[str, int] = {}
        """Name -> the first step that had it; of `_kept` those of which a value is kept."""
        self._kept: dict[str, list[int]] = {}
        self._total = (0, 0)
        """The total that was said last, and the step that said it first."""

    def note(self, point: Point) -> None:
        """A point that was kept before."""
        self._begun = dict.fromkeys(point.values, point.step) | self._begun
        self._add(point.values, point.step)

    def forget(self, step: int) -> None:
        """Values from that step on are taken anew."""
        self._begun = {name: at for name, at in self._begun.items() if at < step}
        self._kept = {name: [at for at in steps if at < step] for name, steps in self._kept.items()}

    def kept(self, line: Line) -> dict[str, float]:
        """Those of the line's values that a run keeps, under their names in its points."""
        if line.total != self._total[0]:
            self._total = line.total, line.step
        # What grows with the step says nothing of where the end is.
        is_end = line.step == line.total and line.step > self._total[1]
        values = {}
        for name, value in line.values.items():
            if PREFIX + name not in self._begun:
                if len(self._begun) >= MOST_NAMES:
                    self._leave_out(f"a value of a name after the first {MOST_NAMES:,}", f"{name} at step {line.step}")
                    continue
                self._begun[PREFIX + name] = line.step
            steps = self._kept.get(PREFIX + name)
            if steps and steps[-1] == line.step:
                self._leave_out("a further value of the same step", f"{name} at step {line.step}")
            elif not steps or is_end or line.step - steps[-1] >= _apart(line, len(steps)):
                values[PREFIX + name] = value
        self._add(values, line.step)
        return values

    def _add(self, names: Iterable[str], step: int) -> None:
        for name in names:
            self._kept.setdefault(name, []).append(step)


def _apart(line: Line, kept: int) -> int:
    """Steps between two values: a thousandth of the way, and twice as many for each thousand beyond the first two."""
    return max(1, (line.total or line.step) // MOST_POINTS) << max(0, kept // MOST_POINTS - 1)
