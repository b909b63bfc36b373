"""What is printed: answers and JSON to standard output, notes and errors to standard error.

Text of users and files is never read as Rich's markup, and its control characters are written as escapes.
"""

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
from harness.terminal.table import print_sentence, stream_width
from harness.text import escaped

_log = logging.getLogger("harness")
NARROWEST = 40
"""Answers are laid out for at least so many columns: a narrower terminal breaks the lines itself, nothing is cut."""


def terminal(error: bool = False, live: bool = False) -> Console:
    """A console on standard output or standard error. `live`: for what is redrawn, which has to fit exactly."""
    stream = sys.stderr if error else sys.stdout
    width = None if live or stream is None else stream_width(stream)
    console = _Console(stderr=error, markup=False, emoji=False, highlight=False, width=width)
    if not live and console.width < NARROWEST:
        console.width = NARROWEST
    return console


class Notes(logging.Handler):
    """Writes what is logged as sentences to standard error."""

    console: Console | None = None
    """A console with a live display, above which they are written while it is there."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):  # a terminal that was closed ends no training
            print_sentence(self.console or terminal(error=True), masked(self.format(record)))


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """An error that a caller can catch, whereas Rich would end the process: a grid goes on without a reader."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def configure(quiet: bool, verbose: bool) -> None:
    """Set how much is written to standard error: errors only, notes too, or everything."""
    _log.handlers = [Notes()]
    _log.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


def note(text: str) -> None:
    """Log something that is not the answer; -q leaves it out."""
    _log.info(plain(text))


def failure(text: str) -> None:
    """Write what went wrong and what the user has to do to standard error."""
    terminal(error=True).print(Text.assemble(("error: ", "bold red"), plain(text)), soft_wrap=True)


def result(text: str) -> None:
    """Print a command's answer, such as a path, on a line of its own."""
    terminal().print(Text(plain(text)), soft_wrap=True)


def json_document(value: Any) -> None:
    print(json.dumps(masked_tree(value), indent=1))


def plain(text: str) -> str:
    """`text` without secrets, its control characters escaped, line breaks kept."""
    return "\n".join(map(escaped, masked(text).split("\n")))


def shown(path: Path) -> str:
    """Relative to the current folder, if it lies below."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
