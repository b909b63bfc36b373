"""Where the runs of a plan stand, and which run a user means. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import RecordError, SpecError
from harness.runs.folders import RunFolder, damaged
from harness.runs.lease import holder, live_status
from harness.runs.record import Run
from harness.settings import Settings
from harness.study.overlay import nearest
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study


def run_rows(plan: Plan) -> list[dict[str, Any]]:
    """One JSON object a run, in the plan's order.

    {"id", "cell", "seed", "state", "step", "total_steps", "kimg": thousands of images seen, "images_per_s", "attempt",
     "held_by": HOST:PID of the scheduler that has it or "", "failure": class of what went wrong or "",
     "error": its last lines or "", "folder"}
    """
    settings = {cell.name: cell.settings for cell in plan.cells}
    return [_row(run, settings[run.cell], plan.study.root / run.id) for run in plan.runs]


def _row(run: Run, settings: Settings, folder: Path) -> dict[str, Any]:
    try:
        status = live_status(folder, RunFolder(folder).status())
    except RecordError as error:
        status = damaged(error)
    has = holder(folder)
    return {
        "id": run.id,
        "cell": run.cell,
        "seed": run.seed,
        "state": status.state,
        "step": status.step,
        "total_steps": status.total_steps or settings.total_steps,
        "kimg": status.step * settings.train.batch / 1000,
        "images_per_s": status.images_per_s,
        "attempt": status.attempt,
        "held_by": str(has) if has else "",
        "failure": status.failure,
        "error": status.error,
        "folder": str(folder),
    }


def find_run(study: Study, text: str) -> Path:
    """The folder of the run that `text` means: the beginning of an id, or CELL/SEED. Raises SpecError."""
    plan = make_plan(study)
    name, slash, seed = text.rpartition("/")
    if slash:
        found = [run for run in plan.runs_of(plan.cell(name)) if str(run.seed) == seed]
    else:
        found = [run for run in plan.runs if run.id.startswith(text)]
    if len(found) != 1:
        known = [run.id for run in plan.runs] + [f"{run.cell}/{run.seed}" for run in plan.runs]
        fix = "name a run folder, a run id or CELL/SEED; `harness plan` lists them"
        raise SpecError(f"{text!r} means {len(found) or 'no'} runs of {study.path}{nearest(text, known)}; {fix}")
    folder = study.root / found[0].id
    if not (folder / "run.json").exists():
        raise SpecError(
            f"{text}: this run has not started; `harness run-grid {study.path} --only {found[0].cell}` trains it"
        )
    return folder
