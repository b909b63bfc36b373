"""How a script has ended, and what it has left where nothing of it belongs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import NoReturn

import psutil

from harness.command.files import MADE
from harness.exit_codes import DIVERGED, STOPPED
from harness.processes import signal_name, way_it_ended
from harness.scheduler.failures import POLICIES, SCRIPT_ERROR, Failure, of_exit, of_text
from harness.scheduler.processes import JOB

Files = Mapping[Path, tuple[int, int]]
"""Path -> time of change and size."""
_LAST_LINES = 20
"""Of its output, which are searched for what went wrong."""
_LAST_BYTES = 1_000_000
_LONGEST = 500
_ABSENT = re.compile(r"No such file or directory: '(?!/)")
"""Of a file that was named by a relative path."""
MOST_FILES = 20_000
"""That are looked at for changes."""


def begin_line(log: Path) -> None:
    """End the line that a script has left without an end in its output, so that what we print is not part of it."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            print(flush=True)


def last_lines(log: Path, begin: int, remarks: Container[str]) -> list[str]:
    """The last lines with text that a script has printed, from byte `begin` of the log on, without `remarks` of ours.

    Of a line too long to show, the beginning.
    """
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - _LAST_BYTES))
        text = file.read().decode("utf-8", "replace")
    lines = (line.strip() for line in text.splitlines())
    return [line[:_LONGEST] for line in lines if line and line not in remarks][-_LAST_LINES:]


def end_badly(code: int, log: Path, lines: list[str], memory_was_short: bool) -> NoReturn:
    """End this process as the script has ended, by an exit code that the scheduler knows, the reason in the log.

    `lines` are the last that it has printed.
    """
    begin_line(log)
    if code == DIVERGED:
        print(f"the script says that it has diverged (exit code {DIVERGED})", flush=True)
        sys.exit(DIVERGED)
    last = lines[-1] if lines else "it has printed nothing"
    cause = way_it_ended(code)
    if _ABSENT.search(last):
        last += "; the script runs in a copy of the files of command.code: name other files by {study} or as /..."
    if STOPPED < code < STOPPED + signal.NSIG:  # as a shell tells of a program that a signal has ended
        code = STOPPED - code
        cause += f", as after {signal_name(-code)}"
        cause += ", without having been asked to stop" * (-code == signal.SIGTERM)
    print(f"{SCRIPT_ERROR}{cause}: {last}", file=sys.stderr, flush=True)
    failure = failure_of(code, lines, memory_was_short)
    if not POLICIES[failure].exit_code:
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)  # which the scheduler takes as it would take the script's own
    sys.exit(POLICIES[failure].exit_code)


def failure_of(code: int, lines: list[str], memory_was_short: bool) -> Failure:
    """The class of a failed script by its exit code, minus the signal that ended it, and the last lines it printed."""
    failure: Failure = "code" if code > 0 else of_exit(code, memory_was_short)
    if failure != "code":
        return failure
    return "out_of_memory" if lines and "memoryerror" in lines[-1].lower() else of_text("\n".join(lines))


def changes(before: Files, after: Files, folder: Path) -> list[str]:
    """The files below `folder` that a script may have written meanwhile; none where there are too many to tell."""
    if len(before) >= MOST_FILES:
        return []
    changed = [path for path, state in after.items() if before.get(path) != state]
    return sorted(str(path.relative_to(folder)) for path in {*changed} - (others_files(changed) if changed else set()))


def others_files(paths: Iterable[Path]) -> set[Path]:
    """Those of the files that a process has open for writing, and no script is: they are its, as of `run-grid > log`.

    Asked once a script has ended with all that it has started. Of processes of other users and machines none is known.
    """
    asked, found = {str(path.resolve()): path for path in paths}, set[Path]()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            written = [file.path for file in process.open_files() if getattr(file, "mode", "w") != "r"]
            if (own := asked.keys() & set(written)) and JOB not in process.environ():
                found |= {asked[path] for path in own}
    return found


def files_below(folder: Path) -> Files:
    """Path -> time of change and size, of the files beside a study that no run of ours writes; MOST_FILES of them."""
    found: dict[Path, tuple[int, int]] = {}
    waiting = [folder]
    while waiting and len(found) < MOST_FILES:
        with contextlib.suppress(OSError):
            for entry in os.scandir(waiting.pop()):
                if entry.name.startswith((".", "mlflow.db")) or entry.name in MADE | {"__pycache__"}:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    state = entry.stat()
                    found[Path(entry.path)] = (state.st_mtime_ns, state.st_size)
    return found
