"""Images that two sets share, or that one set holds twice: such a set is smaller than it looks. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.errors import DataError

Contents = Mapping[Path, bytes]
"""Image -> digest of its pixels."""


def same_files(real: Sequence[Path], fake: Sequence[Path]) -> bool:
    """Whether both are the very same files, under whatever names. Raises DataError where only some are in both."""
    files, others = set(map(_identity, real)), set(map(_identity, fake))
    if files == others:
        return True
    both = [path for path in fake if _identity(path) in files]
    if both:
        told = f"{len(both):,} of {len(fake):,} generated images are also among the {len(real):,} real ones"
        raise DataError(f"{told}, such as {both[0]}; keep the folders apart, neither inside the other")
    return False


def _identity(path: Path) -> tuple[int, int] | Path:
    """One file's, whatever links lead to it."""
    try:
        state = os.stat(path)
    except OSError:  # told when it is read
        return path
    return state.st_dev, state.st_ino


def told(real: Contents, fake: Contents) -> Iterator[str]:
    """A line for the copies within either set, and for those of one set in the other."""
    for what, images in (("real", real), ("generated", fake)):
        first: dict[bytes, Path] = {}
        copies = [(path, one) for path, content in images.items() if (one := first.setdefault(content, path)) != path]
        if copies:
            example = f"{copies[0][0]} and {copies[0][1]}"
            yield f"{len(copies):,} of {len(images):,} {what} images are copies of others, such as {example}"
    first = {content: path for path, content in real.items()}
    both = [path for path, content in fake.items() if content in first]
    if both:
        example = f"{both[0]} and {first[fake[both[0]]]}"
        shared = f"{len(both):,} of {len(fake):,} generated images are also real ones, pixel by pixel"
        yield f"{shared}, such as {example}: distances are too small by that"
