"""Where the runs of a plan stand, and which runs the words of a command line name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness.errors import SpecError, choices, nearest
from harness.executors.live import workers_by_process
from harness.runs.lease import holder
from harness.runs.record import STATES, Run
from harness.runs.snapshot import Snapshot
from harness.scheduler.time_left import run_seconds_left
from harness.storage.folders import StoredRun
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study

FOLDER_STATES = (*STATES, "damaged")
"""The states of a run that has a folder."""
SHORTEST = 4
"""Characters of the beginning of an id, as with git: fewer are more likely a seed or a slip of the hand."""


def run_rows(plan: Plan, snapshot: Snapshot | None = None) -> list[dict[str, Any]]:
    """One JSON object per run, in the plan's order.

    {"id", "cell", "seed", "state", "measuring": whether a running one is measured now and not trained, "step",
     "total_steps", "kimg": thousands of images seen, or of a script's steps, "images_per_s",
     "seconds_left": of a running one, or null, "scores": headline metric -> its newest value, "attempt",
     "device": of its newest attempt, "sharing": how that shared its GPU or "", "memory_mib": what it held of it,
     "held_by": HOST:PID of the scheduler that has it or "", "worker": which one of a job that is, see
     `workers_by_process`, or null, "failure": class of what went wrong or "",
     "error": its last lines or "", "folder",
     "script_notes": what a script has left that was not used, or not as it is -> how often}
    """
    snapshot, rows = snapshot or plan.snapshot(), []
    workers = workers_by_process(plan.study.root)
    for run in plan.runs:
        status, folder = snapshot.current(run.id), plan.study.root / run.id
        held_by = str(holder(folder) or "")
        rows.append(
            {
                "id": run.id,
                "cell": run.cell,
                "seed": run.seed,
                "state": status.state,
                "measuring": status.measuring and status.state == "running",
                "step": status.step,
                "total_steps": status.total_steps or run.settings.total_steps,
                "kimg": status.step * run.settings.step_size / 1000,
                "images_per_s": status.images_per_s,
                "seconds_left": run_seconds_left(run, status) if status.state == "running" else None,
                "scores": status.scores,
                "attempt": status.attempt,
                "device": status.device,
                "sharing": status.sharing,
                "memory_mib": status.memory_mib,
                "held_by": held_by,
                "worker": workers.get(held_by.partition(",")[0]),
                "failure": status.failure,
                "error": status.error,
                "folder": str(folder),
                "script_notes": status.script_notes,
            }
        )
    return rows


def find_run(study: Study, word: str) -> Path:
    """The folder of the run that `word` names: the beginning of an id, or CELL/SEED. Raises SpecError."""
    plan = make_plan(study)
    cell, slash, seed = word.rpartition("/")
    if slash:
        try:
            runs = [run for run in plan.runs_of(plan.cell(cell)) if str(run.seed) == seed]
        except SpecError as error:
            raise SpecError(f"{word!r} is no folder with a run.json, and there is {error}") from None
    else:
        runs = _by_id(word, plan.runs)
    if len(runs) != 1:
        fix = "name a run folder, a run id or CELL/SEED; `harness plan` lists them"
        raise SpecError(f"{word!r} names {len(runs) or 'no'} runs of {study.path}{_meant(word, plan.runs)} {fix}")
    folder = study.root / runs[0].id
    if not (folder / "run.json").exists():
        train = study.command("run-grid", "--only", runs[0].cell)
        raise SpecError(f"{word}: this run has not started; `{train}` trains it")
    return folder


def choose(
    plan: Plan,
    runs: Sequence[StoredRun],
    words: Sequence[str] = (),
    unplanned: bool = False,
    states: Sequence[str] = (),
) -> tuple[StoredRun, ...]:
    """The runs with a folder that are to be deleted, in their order.

    `words` are each an id, the beginning of one, CELL/SEED or CELL; `unplanned` adds all that the plan does not hold;
    `states` leaves only those in these states. Runs of another study are chosen by their ids alone. Raises SpecError
    for a word that names no run, or two things.
    """
    if not (words or unplanned or states):
        raise SpecError("which runs? name ids, CELL/SEED or CELL, or say --unplanned or --state failed")
    for state in states:
        if state not in FOLDER_STATES:
            raise SpecError(f"no state {state!r}{choices(state, FOLDER_STATES)}")
    ids = {name for word in words for name in _named(plan, runs, word, words)}
    ours = {stored.run.id for stored in runs} - {stored.run.id for stored in of_others(plan, runs)}
    ids |= {stored.run.id for stored in runs if unplanned and not stored.planned} & ours
    if not (words or unplanned):
        ids = ours
    return tuple(stored for stored in runs if stored.run.id in ids and (not states or stored.state in states))


def of_others(plan: Plan, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """Runs of a study of another name in the same folder, which the plan does not hold.

    Name and profile together name the folder: of `emoji` with the profile `quick-lr` and of `emoji-quick` with `lr` it
    is the same.
    """
    return [stored for stored in runs if not stored.planned and stored.run.study != plan.study.name]


def _named(plan: Plan, runs: Sequence[StoredRun], word: str, words: Sequence[str]) -> set[str]:
    """Ids of the runs that one of `words` names: a cell its runs of the plan; those of earlier settings go by id."""
    on_disk = [stored.run for stored in runs]
    begins = [run.id for run in _by_id(word, on_disk, plan.runs)]
    of_cell = {run.id for run in plan.runs if word in (run.cell, f"{run.cell}/{run.seed}")}
    if len(begins) > 1 or (begins and of_cell):
        both = [*begins, *(["a cell"] if of_cell else [])]
        raise SpecError(f"{word!r} can be {', '.join(both)}; write more of it")
    ids = {*begins} or of_cell & {run.id for run in on_disk}
    if not ids:
        raise SpecError(_why_none(plan, runs, word, words, planned=bool(of_cell)))
    return ids


def _by_id(word: str, runs: Sequence[Run], planned: Sequence[Run] = ()) -> list[Run]:
    """The runs whose id is the word, or begins with it where it is no seed."""
    if len(word) < SHORTEST or word in {str(run.seed) for run in (*runs, *planned)}:
        return [run for run in runs if run.id == word]
    return [run for run in runs if run.id.startswith(word)]


def _meant(word: str, runs: Sequence[Run], words: Sequence[str] = ()) -> str:
    """What goes behind `names no run`: what was probably meant, by all `words` where these may name cells."""
    of_seed = {run.cell: f"{run.cell}/{run.seed}" for run in runs if str(run.seed) == word}
    if of_seed:
        likely = next((of_seed[cell] for cell in words if cell in of_seed), next(iter(of_seed.values())))
        return f", as a seed goes with its cell; did you mean {likely!r}?"
    if len(word) < SHORTEST and any(run.id.startswith(word) for run in runs):
        return f"; the beginning of an id has {SHORTEST} characters or more;"
    names = [name for run in runs for name in (run.id, f"{run.cell}/{run.seed}", *([run.cell] if words else []))]
    return nearest(word, names) or ";"


def _why_none(plan: Plan, runs: Iterable[StoredRun], word: str, words: Sequence[str], planned: bool) -> str:
    earlier = [stored.run.id for stored in runs if word in (stored.run.cell, stored.label)]
    if earlier:
        return f"all runs of {word!r} on disk are of earlier settings; name the id: {', '.join(earlier)}"
    twin = next((cell.same_as for cell in plan.cells if cell.name == word and cell.same_as), None)
    if twin:
        return f"{word!r} has the runs of {twin!r}, whose settings are the same; name that cell"
    if planned:
        return f"{word!r} has no folder in {plan.study.root}: there is nothing to delete"
    meant = _meant(word, [*(stored.run for stored in runs), *plan.runs], words)
    return f"{word!r} names no run in {plan.study.root}{meant} `harness ls` lists them"
