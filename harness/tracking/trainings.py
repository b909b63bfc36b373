"""Which tracking run is of which training: one run may be trained several times, each time with numbers of its own.

Its folder is then another one, whose run.json says when it was begun, and so does a tag of the tracking run. What an
earlier version has made says nothing of it on either side, and is told by the code that made it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from harness.code.engine import UNKNOWN
from harness.runs.record import Run
from harness.tracking.mlflow_store import ENDED, Store, query

if TYPE_CHECKING:
    from mlflow.entities import Run as TrackingRun

BEGUN, REPLACED_BY = "begun", "replaced_by"
"""Tags: when its training began, and the tracking run that has taken its place."""
MOST = 1000
"""Trainings of one run that are looked through; MLflow gives the newest first."""


def find_or_create(store: Store, run: Run, began: int, name: str, tags: dict[str, str]) -> tuple[str, bool]:
    """Id of the tracking run of this training, and whether it is new; any other one of the run says it is replaced.

    `run`: as its folder has it. `began`: unix time in ms, for one whose run.json does not say it.
    """
    of_run = {"fingerprint": run.id, "mlflow.parentRunId": store.parent}
    there = [] if store.is_new else store.client.search_runs([store.experiment_id], query(of_run), max_results=MOST)
    mark = _mark(run)
    ours = [found for found in there if {name: found.data.tags.get(name, "") for name in mark} == mark]
    if ours:
        run_id = str(ours[0].info.run_id)
    else:
        began = int(run.begun * 1000) or began
        given = {**tags, **of_run, **{name: value for name, value in mark.items() if value}}
        run_id = str(store.client.create_run(store.experiment_id, began, given, name).info.run_id)
    _show_replaced(store, there, run_id)
    return run_id, not ours


def _mark(run: Run) -> dict[str, str]:
    """The tags by which the tracking run of this training is told from others of the run; an empty one is not there."""
    if run.begun:
        return {BEGUN: datetime.fromtimestamp(run.begun, UTC).isoformat()}
    engine = run.engine
    code = {"engine.training": engine.training, "engine.measuring": engine.measuring}
    return {BEGUN: "", **(code if engine != UNKNOWN else {})}


def _show_replaced(store: Store, there: Iterable[TrackingRun], current: str) -> None:
    for found in there:
        run_id, is_told = str(found.info.run_id), REPLACED_BY in found.data.tags
        if run_id == current:
            if is_told:
                store.client.delete_tag(run_id, REPLACED_BY)
            continue
        if not is_told:
            store.client.set_tag(run_id, REPLACED_BY, current)
        if found.info.status not in ENDED:
            store.show_status(run_id, "KILLED")
