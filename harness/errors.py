"""Mistakes of the user, with messages that say what to do. All other exceptions are bugs and keep their traceback."""

from __future__ import annotations

import contextlib
import copyreg
import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class HarnessError(Exception):
    """The user's input cannot be used: the message names the value, what is allowed and the fix. Exit code 2."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A subclass may be made of more than its text, and yet comes whole out of another process.
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore[attr-defined]


class SpecError(HarnessError):
    """A study file or an override is wrong."""


class DataError(HarnessError):
    """A data set is missing, unreadable or unfit."""


class MissingWeights(HarnessError):
    """The weights of an encoder are not there or cannot be read."""


class RecordError(HarnessError):
    """A run folder is damaged or was written for something else."""


class Diverged(Exception):
    """A loss or gradient is no longer finite. A result, not an error: the run ends as `diverged`."""


def nearest(name: str, allowed: Iterable[str], least: float = 0.6) -> str:
    """`; did you mean 'this'?`, or nothing if no name is near. `least`: the share that must be alike."""
    near = get_close_matches(name, list(allowed), n=1, cutoff=least)
    return f"; did you mean {near[0]!r}?" if near else ""


def choices(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'this'? allowed: this, that`, which ends the message about an unknown name."""
    names = list(allowed)
    return f"{nearest(name, names) or ';'} allowed: {', '.join(names)}"


FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of a file for which there is no room, be it on the disk or within a limit."""
_MACHINE_ERRORS = FULL | {errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.EIO, errno.ESTALE}
"""Errors of the machine and its disks, which users can put right even where no file is named."""
_FIXES = {
    errno.EACCES: "make it readable and writable, or use another place",
    errno.EPERM: "make it readable and writable, or use another place",
    errno.EROFS: "use a place that can be written",
    errno.ENOSPC: "make room or use another place",
    errno.EDQUOT: "make room or use another place",
    errno.EFBIG: "use another place, or allow larger files: ulimit -f unlimited",
    errno.EMFILE: "allow more open files: ulimit -n 4096",
    errno.ENFILE: "allow more open files, or end other programs",
    errno.EEXIST: "move away what is there",
    errno.ENOTDIR: "there is a file where a folder is needed; move it away or use another place",
    errno.EISDIR: "there is a folder where a file is needed; move it away or use another place",
    errno.ENAMETOOLONG: "use a place with a shorter name",
    errno.ENOENT: "check that it exists",
    errno.ENOLCK: "the file system has no locks; use another one",
}
_OTHER_FIX = "check that the disk is there and works, or use another place"


def describe_os_error(error: OSError) -> str:
    """What is wrong with a file or folder and what to do; empty for an error that is not about one."""
    if error.filename is None:
        if error.errno == errno.ENOENT:
            try:
                os.getcwd()
            except FileNotFoundError:
                return "the current folder was deleted; cd into another one"
        if error.errno not in _MACHINE_ERRORS:
            return ""
    if error.errno is None:
        return ""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    for name in names:
        if problem := broken_link(Path(name)):
            return problem
    problem = f"{' or '.join(names) or 'a file'}: {os.strerror(error.errno)}"
    return f"{problem}; {_FIXES.get(error.errno, _OTHER_FIX)}"


def broken_link(path: Path) -> str:
    """What is wrong if `path`, or a folder above it, is a link to something that is not there; empty if not."""
    with contextlib.suppress(OSError):  # such as a folder above that may not be read
        for each in (path, *path.parents):
            if each.is_symlink() and not each.exists():
                target = os.readlink(each)
                return f"{each}: is a link to {target}, which is not there; mount that disk or remove the link"
    return ""
