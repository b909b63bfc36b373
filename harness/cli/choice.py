"""Which runs a user means who wants them deleted. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.errors import SpecError
from harness.runs.record import STATES
from harness.storage.folders import Kept
from harness.study.overlay import nearest
from harness.study.plan import Plan

SHOWN = (*STATES, "damaged")
"""The states of a run that has a folder."""


@dataclass(frozen=True)
class Wanted:
    """What a command line names."""

    words: tuple[str, ...] = ()
    """Each an id, the beginning of one, CELL/SEED or CELL."""
    unplanned: bool = False
    """All runs that the plan does not hold."""
    states: tuple[str, ...] = ()
    """Only runs in these states."""


def choose(plan: Plan, runs: Sequence[Kept], wanted: Wanted) -> tuple[Kept, ...]:
    """The chosen ones of `runs`, in their order. Raises SpecError for a word that means none of them, or two things."""
    if not (wanted.words or wanted.unplanned or wanted.states):
        raise SpecError("which runs? name ids, CELL/SEED or CELL, or say --unplanned or --state failed")
    for state in wanted.states:
        if state not in SHOWN:
            raise SpecError(f"no state {state!r}{nearest(state, SHOWN) or ';'} allowed: {', '.join(SHOWN)}")
    ids = {name for word in wanted.words for name in _meant(plan, runs, word)}
    ids |= {kept.run.id for kept in runs if wanted.unplanned and not kept.planned}
    every = not (wanted.words or wanted.unplanned)
    return tuple(
        kept for kept in runs if (every or kept.run.id in ids) and (not wanted.states or kept.state in wanted.states)
    )


def _meant(plan: Plan, runs: Sequence[Kept], word: str) -> set[str]:
    """Ids of the runs that a word means; a cell means its runs of the plan, those of earlier settings go by id."""
    begins = [kept.run.id for kept in runs if word and kept.run.id.startswith(word)]
    of_cell = {run.id for run in plan.runs if word in (run.cell, f"{run.cell}/{run.seed}")}
    if len(begins) > 1 or (begins and of_cell):
        both = [*begins, *(["a cell"] if of_cell else [])]
        raise SpecError(f"{word!r} means {', '.join(both)}; write more of it")
    if begins:
        return {*begins}
    found = of_cell & {kept.run.id for kept in runs}
    if not found:
        raise SpecError(_none(plan, runs, word, planned=bool(of_cell)))
    return found


def _none(plan: Plan, runs: Iterable[Kept], word: str, planned: bool) -> str:
    earlier = [kept.run.id for kept in runs if word in (kept.run.cell, kept.label)]
    if earlier:
        return f"{word!r} is on disk with earlier settings alone; name the id: {', '.join(earlier)}"
    twin = next((cell.same_as for cell in plan.cells if cell.name == word and cell.same_as), None)
    if twin:
        return f"{word!r} has the runs of {twin!r}, whose settings are the same; name that cell"
    if planned:
        return f"{word!r} has no folder in {plan.study.root}: there is nothing to delete"
    known = [name for kept in runs for name in (kept.run.id, kept.label, kept.run.cell)]
    return f"{word!r} means no run in {plan.study.root}{nearest(word, known)}; `harness ls` lists them"
