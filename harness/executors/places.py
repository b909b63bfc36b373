"""Whether workers can be started in a study's folder: its path goes into PYTHONPATH, and into file names of Slurm."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from harness.finding import Finding
from harness.text import escaped

_FIX = "rename the folder, or move the study to another one"


def unusable(root: Path, executor: str) -> Iterator[Finding]:
    """What keeps workers of this engine from being started in a study's folder of runs."""
    path, subject = str(root), escaped(str(root))
    if os.pathsep in path:
        detail = f"{os.pathsep!r} in a path ends an entry of PYTHONPATH, by which workers find their code"
        yield Finding(subject, detail, _FIX)
    if executor == "slurm" and any(character == "\\" or character < " " for character in path):
        # A backslash makes it take %a of the log as it stands, so that all workers would write one file.
        detail = "Slurm cannot name the logs of workers in a path with a backslash, a line end or the like"
        yield Finding(subject, detail, _FIX)
