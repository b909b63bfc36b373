"""What a process of the fork server is asked to do, named without loading torch: the real code is imported there."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.ideas.syntax import ideas_of
from harness.runs.folders import RunFolder
from harness.runs.lease import ClaimCheck
from harness.runs.record import Run
from harness.scheduler.failures import POLICIES, of_error
from harness.scheduler.slots import Slot
from harness.terminal.console import note

HEAVY = ("harness.training.session", "harness.training.rehearsal", "harness.command.session", "open_clip", "timm")
"""The modules that the fork server imports beforehand: all of ours that a run needs, as files may change while a
grid is under way, and half a program of each version fails. The encoders load the last two only when they are used."""
LONG_S = 60.0
"""After so long a reader wonders whether a trial ends at all."""


def execute(folder: Path, slot: Slot, claim: ClaimCheck) -> None:
    """Train and measure the run in `folder`, by its own script if it has one."""
    if RunFolder(folder).run().settings.command.run:
        from harness.command.session import execute as run
    else:
        from harness.training.session import execute as run
    run(folder, slot, claim)


def rehearse(run: Run, slot: Slot) -> str:
    """Take one training step of a run and throw it away; what a reader should know of it. Raises what that raises.

    HarnessError where the machine has no room for the step, or a device fails.
    """
    os.environ.update(slot.environment)
    faulthandler.enable()  # says in which line of own code a library crashes
    from harness.training.rehearsal import rehearse as try_step

    done = threading.Event()
    threading.Thread(target=_watch, args=(run, threading.get_ident(), done), daemon=True).start()
    try:
        return try_step(run, slot)
    except Exception as error:
        failure = of_error(error)
        if isinstance(error, HarnessError) or failure == "code":
            raise
        own = [each for each in traceback.extract_tb(error.__traceback__) if each.filename in run.source]
        place = f"{own[-1].filename}:{own[-1].lineno}: " if own else ""
        text = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise HarnessError(f"{place}a step was tried: {text}; {POLICIES[failure].advice}") from None
    finally:
        done.set()


def _watch(run: Run, thread: int, done: threading.Event) -> None:
    """Says, each time that a trial has been in own code for long, in which line of it: it may never end."""
    while not done.wait(LONG_S):
        stack = traceback.extract_stack(sys._current_frames().get(thread))
        if own := [each for each in stack if each.filename in run.source]:
            note(f"{run.cell}: a step is still tried, in {own[-1].filename}:{own[-1].lineno}; Ctrl-C ends it")


def sizes_mb(runs: Sequence[Run]) -> dict[str, float]:
    """Cell -> MiB of one checkpoint and the final generator of its runs; `runs` are one a cell."""
    from harness.training.cost import state_mb

    return {run.cell: state_mb(run) for run in runs}


def first_weights(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, Any]]]:
    """Cell -> network -> what becomes of its layers where `init` names weights; `runs` are one a cell.

    The study's own code is not run: its layers are told as new ones, and its discriminator as a new one altogether.
    """
    from harness.training.cost import empty_networks
    from harness.training.warm_start import compare

    outcomes = {}
    for run in runs:
        networks = compare(empty_networks(run), run)
        for idea in (each for each in ideas_of(run.source, run.code_files) if each.name in run.settings.ideas):
            outcome = networks.get(idea.player or "discriminator")
            if outcome is None:
                continue
            if idea.kind == "discriminator":
                outcome.unused += sorted({*outcome.taken, *outcome.adapted})
                outcome.taken, outcome.adapted, outcome.new = [], {}, [idea.name]
            elif idea.kind == "layer":
                outcome.new.append(idea.name)
        outcomes[run.cell] = {name: asdict(each) for name, each in networks.items()}
    return outcomes


def measure_scale(run: Run, slot: Slot, path: Path) -> None:
    """Prepare data and features, and write what real images score to `path`: the ceiling and floor of every table."""
    os.environ.update(slot.environment)
    if run.settings.command.run:
        from harness.command.session import measure_scale as measure
    else:
        from harness.training.session import measure_scale as measure
    measure(run, slot, path)
