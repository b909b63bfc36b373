"""Rich's view of standard output and standard error. No torch here."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.text import Text

from harness.masking import masked, masked_tree
from harness.terminal.columns import room, say

_log = logging.getLogger("harness")
NARROWEST = 40
"""Columns for which answers are laid out at least: a narrower terminal breaks the lines itself, and nothing is cut."""


def terminal(error: bool = False, live: bool = False) -> Console:
    """A stream that text is written to and never read as markup. `live`: what is redrawn has to fit exactly."""
    stream = sys.stderr if error else sys.stdout
    width = None if live or stream is None else room(stream)
    made = _Console(stderr=error, markup=False, emoji=False, highlight=False, width=width)
    if not live and made.width < NARROWEST:
        made.width = NARROWEST
    return made


class Notes(logging.Handler):
    """What is logged, as sentences on standard error."""

    console: Console | None = None
    """One that draws meanwhile, above whose drawing they go."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a terminal that went away ends no training
            say(self.console or terminal(error=True), masked(self.format(record)))


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Not the end of the process, as in Rich: a grid goes on without an audience."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def configure(quiet: bool, verbose: bool) -> None:
    """How much the harness says on standard error: failures only, notes, or everything."""
    _log.handlers = [Notes()]
    _log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


def note(text: str) -> None:
    """Say something in passing; -q leaves it out."""
    _log.info(plain(text))


def failure(text: str) -> None:
    """Say what the user has to put right."""
    console = terminal(error=True)
    console.print(Text.assemble(("error: ", "bold red"), plain(text)), soft_wrap=True)


def result(text: str) -> None:
    """Print a verb's answer, such as a path, on a line of its own."""
    terminal().print(Text(plain(text)), soft_wrap=True)


def json_document(value: Any) -> None:
    print(json.dumps(masked_tree(value), indent=1))


def plain(text: str) -> str:
    """`text` without secrets, and with control characters, line breaks aside, written as their escapes."""
    shown = masked(text)
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in shown)


def shown(path: Path) -> str:
    """Relative to where the user stands, if it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
