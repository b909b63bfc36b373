"""What files and folders take on disk, as the disk counts it, and whether what is about to be written fits."""

from __future__ import annotations

import contextlib
import os
import shutil
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

    def entry(self, entry: os.DirEntry[str]) -> Usage:
        """A directory entry with all below it. What vanishes meanwhile, or may not be read, counts nothing."""
        found = Usage()
        with contextlib.suppress(OSError):
            found = self._own(entry.stat(follow_symlinks=False))
            if entry.is_dir(follow_symlinks=False):
                found += self._inside(entry.path)
        return found

    def path(self, path: str | os.PathLike[str]) -> Usage:
        """As `entry`, of a path; nothing where there is none."""
        found = Usage()
        with contextlib.suppress(OSError):
            found = self._own(os.lstat(path))
            if not os.path.islink(path) and os.path.isdir(path):
                found += self._inside(path)
        return found

    def own(self, path: str | os.PathLike[str]) -> Usage:
        """What a folder takes without all that is in it."""
        with contextlib.suppress(OSError):
            return self._own(os.lstat(path))
        return Usage()

    def _inside(self, path: str | os.PathLike[str]) -> Usage:
        found = Usage()
        with os.scandir(path) as entries:
            for entry in entries:
                found += self.entry(entry)
        return found

    def _own(self, stat: os.stat_result) -> Usage:
        if stat.st_nlink > 1:
            key = stat.st_dev, stat.st_ino
            if key in self._seen:
                return Usage()
            self._seen.add(key)
        return Usage(stat.st_blocks * 512, stat.st_ctime)


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
