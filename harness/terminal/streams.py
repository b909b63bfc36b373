"""What this process writes to: standard output and standard error, whatever their encoding, width or state.

No torch here.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from harness.errors import HarnessError
from harness.masking import masked

ANSWERS = "standard output"
PIPE_CLOSED = 141
"""What a shell says of a program whose reader went away, such as `head`: 128 + SIGPIPE."""
_IN_OTHER_LETTERS = "harness.in_other_letters"
_LETTERS = {
    "−": "-",
    "–": "-",
    "—": "-",
    "×": "x",
    "±": "+-",
    "≥": ">=",
    "≤": "<=",
    "≈": "~",
    "∞": "inf",
    "…": "...",
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "→": "->",
    "²": "^2",
    "·": ".",
    "•": "*",
    "─": "-",
    "�": "?",
    "α": "alpha",
    "σ": "sigma",
    "Δ": "Delta",
}
"""What stands for our own signs where the encoding lacks them; other letters are written as their escapes."""
_SIZE = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


def prepare() -> None:
    """Make both streams usable; to be called once, before anything is printed. Raises HarnessError."""
    for name in ("COLUMNS", "LINES"):  # 0 is what a terminal without a size says
        if not _SIZE.fullmatch(os.environ.get(name, "")):
            os.environ.pop(name, None)
    sys.stdout, sys.stderr = _careful(sys.stdout, ANSWERS), _careful(sys.stderr, "standard error")
    _fill_descriptors()
    if sys.stdout is None:
        raise HarnessError("standard output is closed; give it a place, such as > answer.txt or > /dev/null")


def finish(code: int) -> int:
    """Write what is left to standard output; the exit code. Raises OSError where it cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        drop_answer()
        return PIPE_CLOSED
    return code


def drop_answer() -> None:
    """Nobody reads standard output, or it is full: what is left for it goes nowhere, without complaints."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class Careful(io.TextIOWrapper):
    """A stream that takes all letters and shows no secrets: also of what libraries print, and of tracebacks."""

    def __init__(self, binary: BinaryIO, encoding: str, line_buffering: bool, title: str) -> None:
        codecs.register_error(_IN_OTHER_LETTERS, _other_letters)
        super().__init__(binary, encoding, _IN_OTHER_LETTERS, line_buffering=line_buffering)
        self._title = title

    def write(self, text: str, /) -> int:
        with self._named():
            super().write(masked(text))
        return len(text)

    def flush(self) -> None:
        with self._named():
            super().flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """An error of a stream says of which."""
        try:
            yield
        except OSError as error:
            error.filename = self._title
            raise


def _careful(stream: Any, title: str) -> Any:
    """The same stream with care taken; one that a program has put in its place is left as it is."""
    if type(stream) is not io.TextIOWrapper:
        return stream
    encoding, line_buffering = stream.encoding, stream.line_buffering
    return Careful(stream.detach(), encoding, line_buffering, title)


def _fill_descriptors() -> None:
    """A file opened later would take the number of a stream that is closed, and get what C code prints."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _other_letters(error: UnicodeError) -> tuple[str, int]:
    """Handler of characters that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_letter, error.object[error.start : error.end])), error.end


def _letter(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is no text
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _LETTERS.get(character, character.encode("ascii", "backslashreplace").decode())
