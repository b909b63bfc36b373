"""Study files to start from, shipped with the package."""

from __future__ import annotations

import re
import shlex
from importlib.resources import files
from pathlib import Path

from harness.errors import SpecError, choices
from harness.text import file_word


def names() -> list[str]:
    """Of all presets."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")
    )


def write(preset: str, path: Path) -> None:
    """Write a preset to a new file. Raises SpecError if there is no such preset or the file is already there."""
    if preset not in names():
        raise SpecError(f"--preset {preset}: unknown preset{choices(preset, names())}")
    text = (files(__name__) / f"{preset}.yaml").read_text(encoding="utf-8")
    # The commands in the comments at the top get the name of the new file, without its folder, which may be moved.
    lines = text.splitlines(keepends=True)
    head = next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))
    word = shlex.quote(file_word(Path(path.name))).replace("\n", " ")
    study = re.compile(rf"(?<=\s)(?:{re.escape(preset)}|ablations|study)\.yaml\b")
    text = "".join([*(study.sub(lambda _: word, line) for line in lines[:head]), *lines[head:]])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        fix = "there is a file where a folder is needed; move it away or name another place"
        raise SpecError(f"{error.filename}: {fix}") from None
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                path.unlink()  # half a study would be in the way of the next try
                raise
    except FileExistsError:
        raise SpecError(f"{path}: already exists and was not changed; name another file") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be written ({error.strerror}); make room or name another place") from error
