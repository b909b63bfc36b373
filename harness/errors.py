"""What the user did wrong, said so that it can be put right. All else is a fault of ours and keeps its traceback."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class HarnessError(Exception):
    """The user's input cannot be used: the message names the value, what is allowed and the fix. Exit code 2."""


class SpecError(HarnessError):
    """A study file or an override is wrong."""


class DataError(HarnessError):
    """A data set is missing, unreadable or unfit."""


class MissingWeights(HarnessError):
    """The weights of an encoder are not there or cannot be read."""


class RecordError(HarnessError):
    """A run folder is damaged or was written for something else."""


class Diverged(Exception):
    """A loss or gradient is no longer finite. A result, not a fault: the run ends as `diverged`."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'this'?`, or nothing if no name is near."""
    near = get_close_matches(name, list(allowed), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def choices(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'this'? allowed: this, that`, which ends the message about an unknown name."""
    names = list(allowed)
    return f"{nearest(name, names) or ';'} allowed: {', '.join(names)}"


_WITHOUT_A_NAME = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOLCK, errno.EIO, errno.ESTALE)
)
"""What the machine refuses even where the error does not say which file it is about."""
_FIXES = {
    errno.EACCES: "allow it to be read and written, or give another place",
    errno.EPERM: "allow it to be read and written, or give another place",
    errno.EROFS: "give a place that can be written",
    errno.ENOSPC: "make room or give another place",
    errno.EDQUOT: "make room or give another place",
    errno.EMFILE: "let more files be open at once: ulimit -n 4096",
    errno.ENFILE: "let more files be open at once, or end other programs",
    errno.EEXIST: "move away what is there",
    errno.ENOTDIR: "a file stands where a folder is needed; move it away or give another place",
    errno.EISDIR: "a folder stands where a file is needed; move it away or give another place",
    errno.ENAMETOOLONG: "give a place with a shorter name",
    errno.ENOENT: "see that it is there",
    errno.ENOLCK: "the file system gives no locks; use another one",
}
_OTHER_FIX = "see that the disk is there and well, or give another place"


def of_place(error: OSError) -> str:
    """What is wrong with a file or folder and how to put it right; empty where it is not about one."""
    if error.filename is None:
        if error.errno == errno.ENOENT and _is_nowhere():
            return "the current folder is gone; cd into one that is there"
        if error.errno not in _WITHOUT_A_NAME:
            return ""
    if error.errno is None:
        return ""
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    for name in names:
        if told := lost_link(Path(name)):
            return told
    told = f"{' or '.join(names) or 'a file'}: {os.strerror(error.errno)}"
    return f"{told}; {_FIXES.get(error.errno, _OTHER_FIX)}"


def lost_link(path: Path) -> str:
    """What is wrong if a link on the way to `path` leads nowhere; empty if none does."""
    with contextlib.suppress(OSError):  # such as a folder above that may not be looked into
        for each in (path, *path.parents):
            if each.is_symlink() and not each.exists():
                there = os.readlink(each)
                return f"{each}: is a link to {there}, which is not there; mount that disk or remove the link"
    return ""


def _is_nowhere() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False
