"""Code that a study or a run brings, for users who want none of it run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import SpecError
from harness.runs.record import Run
from harness.study.schema import Study


def without_code(study: Study) -> Study:
    """The study. Raises SpecError where it has code of its own: files of ideas, or a script in the trainer's place."""
    command = study.settings.command
    is_script = command.run or any("command.run" in toggle.patch for toggle in study.toggles)
    _refuse(study.path, [*study.code.files, *(command.code or ("command.run",) if is_script else ())])
    return study


def refuse_code_of_run(run: Run, folder: Path) -> None:
    """Raises SpecError for a run in `folder` that carries code."""
    _refuse(folder, run.source)


def _refuse(place: Path, files: Iterable[str]) -> None:
    if named := ", ".join(files):
        text = f"brings code of its own ({named}), which --no-code refuses"
        raise SpecError(f"{place}: {text}; read it, and leave --no-code out if it may run")
