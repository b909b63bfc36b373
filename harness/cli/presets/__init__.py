"""Study files to start from, shipped with the package."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path

from harness.errors import SpecError


def names() -> list[str]:
    """Every preset."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")
    )


def _named(text: str, preset: str, path: Path) -> str:
    """The commands in the comments at the top, for the file that is written rather than for the preset's own.

    By its name alone, as its folder may move and commands are given beside it.
    """
    lines = text.splitlines(keepends=True)
    head = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    word = shlex.quote(path.name).replace("\n", " ")
    known = re.compile(rf"(?<=\s)(?:{re.escape(preset)}|ablations|study)\.yaml\b")
    return "".join([*(known.sub(lambda _: word, line) for line in lines[:head]), *lines[head:]])


def write(preset: str, path: Path) -> None:
    """Write a preset to a new file. Raises SpecError if there is no such preset or the file is already there."""
    if preset not in names():
        raise SpecError(f"--preset {preset}: unknown preset; allowed: {', '.join(names())}")
    text = (files(__name__) / f"{preset}.yaml").read_text(encoding="utf-8")
    text = _named(text, preset, path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise SpecError(f"{path}: already there and left as it is; name another file") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error})") from error
