"""Rich's view of standard output and standard error. No torch here."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from typing import NoReturn

from rich.console import Console

from harness.columns import room, say
from harness.masking import masked

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
