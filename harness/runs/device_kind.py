"""On which kind of device a run was begun: it goes on there alone.

A processor and a GPU draw other random numbers from the same seed. A run of half of each would be neither, and paired
with no other run of its seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.runs.folders import RunFolder
from harness.runs.lease import holder
from harness.runs.machine import Kind
from harness.runs.record import Run
from harness.text import shortened

IN_WORDS: dict[str, str] = {"cpu": "the processor", "cuda": "a GPU"}


def begun_on(run: Run) -> Kind | None:
    """The kind of device that its training state is from; None where none was noted, as by earlier versions."""
    return next((each.kind for each in reversed(run.machines) if each.kind), None)


def refuse_other_kind(root: Path, runs: Sequence[Run], kind: Kind) -> None:
    """Raises HarnessError that names those of the runs, without a result, that cannot go on on this kind of device.

    Runs that another scheduler has are passed over: they are under way where they belong.
    """
    if other := [run for run in runs if _is_of_another(root / run.id, kind) and holder(root / run.id) is None]:
        names = shortened([f"{run.cell} seed {run.seed}" for run in other])
        raise HarnessError(_message(f"{root}: {names}", kind, " ".join(f"{run.cell}/{run.seed}" for run in other)))


def refuse_to_go_on(folder: Path, run: Run, kind: Kind) -> None:
    """The same of one run, by the process that is about to train it."""
    if _is_of_another(folder, kind):
        raise HarnessError(_message(f"{folder}: {run.cell} seed {run.seed}", kind, f"{run.cell}/{run.seed}"))


def _is_of_another(folder: Path, kind: Kind) -> bool:
    if next((folder / "checkpoint").glob("[0-9]*.safetensors"), None) is None:
        return False  # it begins at step 0, wherever it was before
    return begun_on(RunFolder(folder).run()) not in (None, kind)


def _message(whose: str, kind: Kind, names: str) -> str:
    other: Kind = "cpu" if kind == "cuda" else "cuda"
    problem = f"begun on {IN_WORDS[other]}, which draws other random numbers than {IN_WORDS[kind]}, the device here"
    same = "where a GPU is free" if other == "cuda" else "with CUDA_VISIBLE_DEVICES= (empty)"
    return f"{whose}: {problem}; go on {same}, or begin anew here after `harness rm STUDY {names}`"
