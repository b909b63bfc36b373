"""Whether what is about to be written fits on the disk. No torch here."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.filesize import decimal


def shortage(root: Path, needed_bytes: int) -> str | None:
    """What to tell a user for whose files below `root`, which need not exist yet, there is no room; None if there is.

    One sentence: what is needed, what is free, where, and what helps.
    """
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free >= needed_bytes:
        return None
    told = f"{root} needs about {decimal(needed_bytes)} and its disk has {decimal(free)} free"
    return f"{told}; `harness gc` shows what can be deleted, or put the study on another disk"
