"""Deleting below one folder and nowhere else.

Every step goes through descriptors of open folders, opened without following links: a path that is exchanged for a
link meanwhile leads nowhere. A folder is renamed before it is emptied, so that half of it is never taken for a whole.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil

from harness.errors import HarnessError

FORGOTTEN_S = 3600.0
"""A temporary file or folder as old as this is taken for abandoned, unless its process lives."""
_TEMPORARY = re.compile(r"\.gone-.+|\..+\.tmp", re.DOTALL)
_OWNED = re.compile(r".*\.(\d{1,9})-[0-9a-f]+(?:\.tmp)?", re.DOTALL)


def set_aside(root: Path, *names: str) -> str:
    """Rename root/names... within its folder to what nobody takes for anything else; returns the new name.

    `root` itself may be reached through links, nothing below it is. Raises HarnessError for what cannot be deleted,
    such as a link, whatever it points at.
    """
    with _parent(root, names) as (folder, name):
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise HarnessError(f"{root.joinpath(*names)}: a link is left alone; delete it by hand")
        gone = f".gone-{name.removeprefix('.')}.{os.getpid()}-{secrets.token_hex(4)}"
        os.rename(name, gone, src_dir_fd=folder, dst_dir_fd=folder)
    return gone


def purge(root: Path, *names: str) -> None:
    """Delete what was set aside as root/names...; links inside go, what they point at stays.

    Raises as `set_aside`.
    """
    with _parent(root, names) as (folder, name):
        if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one that its process removes or renames when it is done."""
    return _TEMPORARY.fullmatch(name) is not None


def is_abandoned(name: str, changed: float, now: float) -> bool:
    """Whether a temporary that was last changed at that Unix time has been left by a process that is gone.

    Temporaries end in `.PID-RANDOM`. The process may be on another machine: then only its age speaks.
    """
    if now - changed < FORGOTTEN_S:
        return False
    owned = _OWNED.fullmatch(name)
    try:
        return owned is None or psutil.Process(int(owned[1])).create_time() > changed
    except psutil.NoSuchProcess:
        return True


@contextlib.contextmanager
def _parent(root: Path, names: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """A descriptor of the folder that holds root/names..., none of which may be a link, and the last name."""
    try:
        with contextlib.ExitStack() as stack:
            folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, folder)
            for name in map(_component, names[:-1]):
                folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                stack.callback(os.close, folder)
            yield folder, _component(names[-1])
    except OSError as error:
        message = f"{root.joinpath(*names)}: cannot be deleted ({error.strerror or error})"
        raise HarnessError(f"{message}; `harness gc` deletes what was begun") from error


def _component(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"not a name in a folder: {name!r}")
    return name
