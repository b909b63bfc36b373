"""The files of a study's own training script: which they are, their text, and the hash that stands for them."""

from __future__ import annotations

import hashlib
import os
import re
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from harness.errors import SpecError
from harness.ideas.meaning import meaning
from harness.text import escaped, is_utf8, shortened

MOST_BYTES = 4_000_000
"""Of all files together, as every run keeps a copy."""
MADE = frozenset(("runs", "reports", "mlruns", "mlartifacts"))
"""Folders beside the study file that hold what runs have made."""
_NEVER = frozenset(("__pycache__", "node_modules"))
_ENCODING = r"[ \t\f]*#.*?coding[:=]"
_READ_BY = (re.compile(rf"#!|{_ENCODING}"), re.compile(_ENCODING))
"""Of the first line and of the second."""


def wrong_pattern(pattern: str) -> str:
    """What is wrong with it; empty if nothing is."""
    parts = PurePosixPath(pattern).parts
    if not pattern or pattern.startswith(("/", "~")) or ".." in parts or "://" in pattern or "\\" in pattern:
        return "must be a path below the study file's folder, such as train.py or **/*.py"
    return ""


def read_files(patterns: Sequence[str], folder: Path) -> dict[str, str]:
    """Relative path -> text of all files that the patterns name, sorted. Raises SpecError."""
    texts: dict[str, str] = {}
    size = 0
    for name, path in sorted(_named(patterns, folder)):
        if not is_utf8(name):
            raise SpecError(f"command.code: {escaped(str(path))}: the name is not UTF-8; rename the file")
        try:
            data = path.read_bytes()
            texts[name] = data.decode("utf-8")
        except OSError as error:
            raise SpecError(f"command.code: {path}: cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            fix = "name files of source alone, and let the script find others by {study}"
            raise SpecError(f"command.code: {path}: is no text in UTF-8; {fix}") from error
        size += len(data)
        if size > MOST_BYTES:
            fix = "name fewer of them, and let the script find data and weights by {study}"
            raise SpecError(
                f"command.code: {shortened(patterns)}: more than {MOST_BYTES // 10**6} MB, of which every run keeps a "
                f"copy; {fix}"
            )
    return texts


def digest(texts: Mapping[str, str]) -> str:
    """16 hex digits over the names and contents; of Python's files without comments, docstrings and blank lines."""
    forms = {name: _form(name, text) for name, text in sorted(texts.items())}
    lines = (f"{name}\0{hashlib.sha256(form.encode()).hexdigest()}\n" for name, form in forms.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _form(name: str, text: str) -> str:
    """What decides a result in a file: every byte where it is no Python, or reads its own docstring as docopt does."""
    if not name.endswith(".py"):
        return text
    text = text.removeprefix("\ufeff")  # editors on Windows put it there, and Python reads over it
    if "__doc__" in text:
        return text
    # Two comments say by what program and in what encoding a file is read; both stand in the first two lines.
    read_by = [line for at, line in enumerate(text.split("\n")[:2]) if _READ_BY[at].match(line)]
    try:
        return "\n".join([*read_by, meaning(text)])
    except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
        return text


def _named(patterns: Sequence[str], folder: Path) -> Iterator[tuple[str, Path]]:
    for pattern in dict.fromkeys(patterns):
        files = list(_matching(PurePosixPath(pattern).parts, folder))
        if not files:
            fix = "write a path or pattern relative to it"
            if (first := PurePosixPath(pattern).parts[0]) in MADE:
                fix = f"what is in {first} is made by runs, and is no code of theirs"
            raise SpecError(f"command.code: {pattern}: names no file in {folder}; {fix}")
        yield from ((path.relative_to(folder).as_posix(), path) for path in files)


def _matching(parts: Sequence[str], folder: Path, is_top: bool = True) -> Iterator[Path]:
    """As `Path.glob`, but folders that hold no source, and may be large, are not entered; nor are linked ones."""
    first, rest = parts[0], parts[1:] or ("*",) * (parts[0] == "**")
    if first == "**":
        yield from _matching(rest, folder, is_top)
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name.startswith(".") or entry.name in _NEVER or (is_top and entry.name in MADE):
                continue
            if first == "**":
                yield from _matching(parts, Path(entry.path), is_top=False)
            elif rest and fnmatchcase(entry.name, first):
                yield from _matching(rest, Path(entry.path), is_top=False)
        elif not rest and fnmatchcase(entry.name, first) and entry.is_file():
            yield Path(entry.path)
