"""Standard output and standard error made usable, whatever their encoding, width or state."""

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

STDOUT = "standard output"
PIPE_CLOSED = 141
"""What a shell says of a program whose reader went away, such as `head`: 128 + SIGPIPE."""
_SUBSTITUTE = "harness.substitute"
_ASCII_FORMS = {
    "−": "-", "–": "-", "—": "-", "─": "-", "×": "x", "±": "+-", "·": ".", "•": "*", "…": "...", "→": "->", "²": "^2",
    "≥": ">=", "≤": "<=", "≈": "~", "∞": "inf", "’": "'", "‘": "'", "“": '"', "”": '"', "�": "?",
    "α": "alpha", "σ": "sigma", "Δ": "Delta",
}  # fmt: skip
"""What replaces our own signs where the encoding lacks them; other letters are written as their escapes."""
_TERMINAL_SIZE = re.compile(r"[1-9][0-9]{0,3}", re.ASCII)


def prepare() -> None:
    """Make both streams usable; to be called once, before anything is printed. Raises HarnessError."""
    for name in ("COLUMNS", "LINES"):  # a terminal without a size sets them to 0, which Rich would take for a width
        if not _TERMINAL_SIZE.fullmatch(os.environ.get(name, "")):
            os.environ.pop(name, None)
    sys.stdout, sys.stderr = _safe(sys.stdout, STDOUT), _safe(sys.stderr, "standard error")
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: a file opened later would take its number and get what C code prints
            os.open(os.devnull, os.O_RDWR)
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
    """Nobody reads standard output, or its disk is full: what is still buffered for it is thrown away silently."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


class SafeStream(io.TextIOWrapper):
    """A stream that can write every letter and masks secrets, also in what libraries print and in tracebacks."""

    def __init__(self, binary: BinaryIO, encoding: str, line_buffering: bool, name: str) -> None:
        codecs.register_error(_SUBSTITUTE, _substitute)
        super().__init__(binary, encoding, _SUBSTITUTE, line_buffering=line_buffering)
        self._stream_name = name

    def write(self, text: str, /) -> int:
        with self._naming_errors():
            super().write(masked(text))
        return len(text)

    def flush(self) -> None:
        with self._naming_errors():
            super().flush()

    @contextlib.contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """An error names the stream that it is about, as errors of files do."""
        try:
            yield
        except OSError as error:
            error.filename = self._stream_name
            raise


def _safe(stream: Any, name: str) -> Any:
    """The same stream made safe; one that a program (a notebook, a test) has put in its place is left as it is."""
    if type(stream) is not io.TextIOWrapper:
        return stream
    encoding, line_buffering = stream.encoding, stream.line_buffering
    return SafeStream(stream.detach(), encoding, line_buffering, name)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """The handler for characters that an encoding does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii_form, error.object[error.start : error.end])), error.end


def _ascii_form(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a file name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _ASCII_FORMS.get(character, character.encode("ascii", "backslashreplace").decode())
