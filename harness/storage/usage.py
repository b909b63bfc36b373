"""What files and folders take on disk, as the disk counts it, and whether what is about to be written fits."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from rich.filesize import decimal


@dataclass(frozen=True)
class Usage:
    """What a file or folder takes."""

    bytes: int = 0
    """Allocated on disk: a file of one byte takes a block, a hole takes nothing."""
    changed: float = 0.0
    """Unix time of the newest change of anything in it; a rename is a change of what is renamed."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.bytes + other.bytes, max(self.changed, other.changed))


class Meter:
    """Adds up disk usage. A file that has several names counts where it is met first; links are not followed."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    def path(self, path: str | os.PathLike[str], with_content: bool = True) -> Usage:
        """What a path takes, with all below it or without. What vanishes, or may not be read, counts nothing."""
        try:
            state = os.lstat(path)
        except OSError:
            return Usage()
        usage, key = Usage(state.st_blocks * 512, state.st_ctime), (state.st_dev, state.st_ino)
        if state.st_nlink > 1:
            usage = Usage() if key in self._seen else usage
            self._seen.add(key)
        if with_content and stat.S_ISDIR(state.st_mode):
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                for entry in entries:
                    usage += self.path(entry)
        return usage


def shortage(root: Path, needed_bytes: int) -> str | None:
    """What to tell a user for whose files below `root`, which need not exist yet, there is no room; None if there is.

    One sentence: what is needed, what is free, where, and what helps.
    """
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free >= needed_bytes:
        return None
    message = f"{root} needs about {decimal(needed_bytes)} and its disk has {decimal(free)} free"
    return f"{message}; `harness gc` shows what can be deleted, or put the study on another disk"
