"""What a study calls its runs in MLflow. No name is in a run's id: those of toggles and levels can change, and change
places, long after the run was trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.masking import masked
from harness.runs.identity import read_by_who_trains
from harness.runs.record import Run
from harness.study.variant import changes
from harness.tracking.ledger import GridLedger
from harness.tracking.mlflow_store import LONGEST_NAME, LONGEST_TAG

if TYPE_CHECKING:
    from harness.study.schema import Study

LONGEST_CHANGE = 48
"""Characters of one changed setting in the name of a run."""
_BY_SET = "+"


def name_tags(run: Run, study: Study) -> dict[str, str]:
    """The tags of its names: `origin/seed0` with the settings of it that the command line has changed, the cell, and
    the toggles.
    """
    changed = [
        text if len(text) <= LONGEST_CHANGE else f"{text[: LONGEST_CHANGE - 1]}…"
        for text in map(masked, _changes_of(run, study))
    ]
    title = masked(", ".join([f"{run.cell}/seed{run.seed}", *changed]))[:LONGEST_NAME]
    return {"mlflow.runName": title, "cell": run.cell, "toggles": ", ".join(run.toggles)[:LONGEST_TAG]}


def called(run: Run, study: Study) -> str:
    """A hash of what these tags, and the ideas as parameters, are made from, with a mark where `--set` is in the name:
    asked of each run whenever a grid ends.
    """
    text = json.dumps([run.cell, run.toggles, study.ideas])
    return hashlib.sha256(text.encode()).hexdigest()[:12] + _BY_SET * bool(_changes_of(run, study))


def renamed(runs: Sequence[Run], study: Study, ledger: GridLedger) -> list[str]:
    """Ids of the runs that were delivered under other names than they have today.

    `--set` renames no run that the study itself has as well: a call with it and one without would do so in turn.
    """
    # Of trials with the same weights one run is there, which has the name of the first.
    first = {run.id: called(run, study) for run in reversed(runs) if run.id in ledger.delivered}
    return [
        run_id for run_id, name in first.items() if ledger.called.get(run_id) not in (name, name.removesuffix(_BY_SET))
    ]


def _changes_of(run: Run, study: Study) -> list[str]:
    overrides = changes(study.overrides, bool(study.searched_cell))
    return [text for text in overrides if _sets(text, read_by_who_trains(run.settings))]


def _sets(override: str, settings: Iterable[str]) -> bool:
    """Whether `KEY=VALUE` is of one of these settings, or of the group that it stands in."""
    key = override.partition("=")[0]
    return any(name == key or name.startswith(f"{key}.") for name in settings)
