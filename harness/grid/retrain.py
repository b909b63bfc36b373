"""Runs that other code has made, trained anew beside their old folders, which stay until the new run has a result.

<root>/anew/<run id>/       the new run: a folder as any other
<root>/anew/<run id>.old/   the old one, in the moment in which the new one takes its place

No torch here.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from harness.code.engine import today
from harness.errors import HarnessError, RecordError
from harness.files import alone
from harness.runs.folders import RunFolder, engines, statuses
from harness.runs.lease import holder
from harness.runs.record import Run, State
from harness.scheduler.ownership import SETTLED

FOLDER = "anew"
_OLD = ".old"


def outdated(root: Path, runs: Sequence[Run]) -> list[Run]:
    """Those that have a result, or have begun, by other code than today's or by code that is not known."""
    states, made, now = statuses(root, runs), engines(root, runs), today()
    begun = (run for run in runs if states[run.id].state in SETTLED or states[run.id].step)
    return [run for run in begun if run.id in made and made[run.id] != now]


@contextmanager
def turn(root: Path) -> Iterator[Path]:
    """The folder in which runs are trained anew, for one call at a time. Raises HarnessError while another has it."""
    try:
        with alone(root, FOLDER, 0):
            yield root / FOLDER
    except Timeout as error:
        raise HarnessError(f"{root}: another call trains runs of this study anew; wait until it has ended") from error


def clear(root: Path, runs: Sequence[Run]) -> None:
    """Forget what was begun anew by code that is not today's either. To be called in `turn`."""
    made, now = engines(root / FOLDER, runs), today()
    for run in runs:
        folder = root / FOLDER / run.id
        begun = RunFolder(folder).status().step if folder.is_dir() else 0
        if (begun or _has_result(folder)) and made.get(run.id) != now and holder(folder) is None:
            shutil.rmtree(folder)


def replace(root: Path, runs: Sequence[Run]) -> list[Run]:
    """Let each new run that has a result take the place of the old one; those that did. To be called in `turn`."""
    return [run for run in runs if _is_whole(root / FOLDER / run.id) and _put(root, run.id)]


def settle(root: Path) -> None:
    """Bring to an end what a call that was killed has left half done, unless another call is at it."""
    if not (root / FOLDER).is_dir():
        return
    with contextlib.suppress(Timeout), alone(root, FOLDER, 0):
        for old in (root / FOLDER).glob(f"*{_OLD}"):
            _finish(root, old.name.removesuffix(_OLD))
        with contextlib.suppress(OSError):
            (root / FOLDER).rmdir()  # where nothing is left in it


def _put(root: Path, name: str) -> bool:
    new, now, old = root / FOLDER / name, root / name, root / FOLDER / (name + _OLD)
    if holder(now) or holder(new):
        return False
    if now.exists():
        now.rename(old)
    new.rename(now)
    if old.exists():
        shutil.rmtree(old)
    return True


def _finish(root: Path, name: str) -> None:
    """From wherever `_put` was when its process died."""
    new, now, old = root / FOLDER / name, root / name, root / FOLDER / (name + _OLD)
    if not now.exists():
        (new if _is_whole(new) else old).rename(now)
    if old.exists():
        shutil.rmtree(old)


def _is_whole(folder: Path) -> bool:
    """Whether the run there has ended with a result, that it diverged included."""
    with contextlib.suppress(RecordError):
        state: State = RunFolder(folder).status().state if folder.is_dir() else "pending"
        return state == "diverged" or (state == "done" and _has_result(folder))
    return False


def _has_result(folder: Path) -> bool:
    return (folder / "result.json").exists()
