"""Runs that other code has made, trained anew beside their old folders, which stay until the new run has a result.

<root>/anew/<run id>/       the new run: a folder as any other
<root>/anew/<run id>.old/   the old one, in the moment in which the new one takes its place
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
from harness.runs.folders import RunFolder
from harness.runs.lease import holder
from harness.runs.record import SETTLED, Run
from harness.runs.snapshot import Snapshot
from harness.storage.folders import ANEW

_OLD = ".old"


def outdated(snapshot: Snapshot, runs: Sequence[Run]) -> list[Run]:
    """Those that have a result, or have begun, by other code than today's or by code that is not known."""
    now, found = today(), []
    for run in runs:
        status, engine = snapshot.status(run.id), snapshot.engine(run.id)
        if (status.state in SETTLED or status.step) and engine and not engine.is_today(now):
            found.append(run)
    return found


@contextmanager
def retraining(root: Path) -> Iterator[Path]:
    """The folder in which runs are trained anew, for one call at a time. Raises HarnessError while another has it."""
    try:
        with alone(root, ANEW, 0):
            yield root / ANEW
    except Timeout as error:
        raise HarnessError(f"{root}: another call trains runs of this study anew; wait until it has ended") from error


def clear_outdated(place: Path, runs: Sequence[Run]) -> Snapshot:
    """Forget what was begun anew by code that is not today's either; what is there then. To be called in `retraining`.

    `place` is the folder in which runs are trained anew.
    """
    before, now = Snapshot(place, runs), today()
    for run in runs:
        folder = place / run.id
        begun = before.status(run.id).step or (folder / "result.json").exists()
        engine = before.engine(run.id)
        if begun and not (engine and engine.is_today(now)) and holder(folder) is None:
            shutil.rmtree(folder)
    return Snapshot(place, runs)


def replace_finished(root: Path, runs: Sequence[Run]) -> list[Run]:
    """Let each new run that has a result take the place of the old one; those that did.

    To be called in `retraining`.
    """
    replaced = []
    for run in runs:
        new, present, old = root / ANEW / run.id, root / run.id, root / ANEW / (run.id + _OLD)
        if not _has_ended(root / ANEW, run.id) or holder(present) or holder(new):
            continue
        if present.exists():
            present.rename(old)
        new.rename(present)
        if old.exists():
            shutil.rmtree(old)
        replaced.append(run)
    return replaced


def finish_replacing(root: Path) -> None:
    """Bring to an end what a call that was killed has left half done, unless another call is at it."""
    if not (root / ANEW).is_dir():
        return
    with contextlib.suppress(Timeout), alone(root, ANEW, 0):
        for old in (root / ANEW).glob(f"*{_OLD}"):
            run_id = old.name.removesuffix(_OLD)
            if not (root / run_id).exists():  # killed between the two renames of `replace_finished`
                (root / ANEW / run_id if _has_ended(root / ANEW, run_id) else old).rename(root / run_id)
            if old.exists():
                shutil.rmtree(old)
        with contextlib.suppress(OSError):
            (root / ANEW).rmdir()  # where nothing is left in it


def _has_ended(place: Path, run_id: str) -> bool:
    """Whether the run there has ended with a result, that it diverged included."""
    with contextlib.suppress(RecordError):
        state = RunFolder(place / run_id).status().state
        return state == "diverged" or (state == "done" and (place / run_id / "result.json").exists())
    return False
