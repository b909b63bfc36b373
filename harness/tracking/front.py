"""What MLflow's pages show of a grid at first sight: the answer as notes, and a view of the table of its runs.

A note is of several grids and of people: each grid has a part of its own in it, and leaves all else as it is.
"""

from __future__ import annotations

import base64
import json
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from harness.databases import CHECK_ADDRESS
from harness.errors import HarnessError
from harness.masking import masked
from harness.tracking.mlflow_store import LONGEST_TAG, find_experiment
from harness.tracking.points import clean

if TYPE_CHECKING:
    from harness.study.schema import Study
    from harness.tracking.ledger import Report

NOTE = "mlflow.note.content"
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""Of an experiment: not one of language models, whose pages MLflow would open else."""
_VIEW = "mlflow.sharedViewState."
_LEFT_OUT = "*The rest does not fit here: it is in the grid's report, among the artefacts of its run.*"
_OF_ONE_GRID = 2000
"""Characters of the note of an experiment, which several grids share."""
_NARROWEST, _PER_LETTER, _AROUND = 90, 8, 40
"""Pixels of a column."""
_REST: dict[str, Any] = {
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    **{"runsExpanded": {}, "runsPinned": [], "runsHidden": [], "runsVisibilityMap": {}, "groupsExpanded": {}},
    **{"runsHiddenMode": "FIRST_10_RUNS", "autoRefreshEnabled": True, "hideEmptyCharts": True, "groupBy": None},
}
"""What a view leaves as it is. Older versions of MLflow miss what is not there."""


def shortened_note(parts: Sequence[str], room: int = LONGEST_TAG) -> str:
    """The first parts, as many as there is room for, and that there are more; empty if not even the first one fits."""
    whole = "\n\n".join(parts)
    if len(whole) <= room:
        return whole
    shown = list(parts[:-1])
    while shown and len("\n\n".join([*shown, _LEFT_OUT])) > room:
        shown.pop()
    return "\n\n".join([*shown, _LEFT_OUT]) if shown else ""


def with_part(note: str, study: Study, parts: Sequence[str]) -> str:
    """The note of an experiment with the part of this grid put in the place of its earlier one, or at the end."""
    begin, end = (f"<!-- {word} of {quote(study.label)} -->" for word in ("answer", "end"))
    found = re.search(rf"{re.escape(begin)}.*?{re.escape(end)}", note, re.DOTALL)
    before, after = (note[: found.start()], note[found.end() :]) if found else (f"{note.rstrip()}\n\n".lstrip(), "")
    room = min(_OF_ONE_GRID, LONGEST_TAG - len(before + begin + end + after) - 4)
    # The first words show while the note is folded.
    text = shortened_note([f"**{study.label}**: {parts[0]}", *parts[1:]] if parts else [], room)
    return f"{before}{begin}\n\n{text}\n\n{end}{after}" if text else note


def view_tag(study: Study) -> str:
    """The experiment's tag that has the view of this grid."""
    return f"{_VIEW}{view_key(study)}"


def view_key(study: Study) -> str:
    return clean(study.label).replace("/", "_")


def view_state(study: Study, parent: str, report: Report) -> dict[str, Any]:
    """The runs of the grid, the best first: how each ended, its headline metrics, and which ideas are on."""
    metrics = {f"metrics.`{clean(name)}`": clean(name) for name, _ in report.headlines}
    columns = {"tags.`outcome`": "outcome", **metrics}
    columns |= {f"params.`{clean(name)}`": clean(name) for name in report.parameters or study.ideas}
    widths = {key: max(_NARROWEST, _AROUND + _PER_LETTER * len(name)) for key, name in columns.items()}
    first = next(iter(metrics), "attributes.start_time")
    return {
        **_REST,
        "searchFilter": f"tags.`mlflow.parentRunId` = '{parent}'",
        "orderByKey": first,
        "orderByAsc": [better for _, better in report.headlines[:1]] == ["lower"],
        "selectedColumns": list(columns),
        "columnOrder": list(columns),
        "columnWidths": widths,
    }


def view_text(study: Study, state: Mapping[str, Any]) -> str:
    """The value of the tag: a view by name, and for versions of MLflow that know no names the state itself.

    Empty where the ideas are so many that it does not fit.
    """
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    now = int(time.time() * 1000)
    named = {"name": study.label, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    texts = (json.dumps({**named, **state}), json.dumps(named))
    return next((text for text in texts if len(text) <= LONGEST_TAG), "")


def runs_page(address: str, study: Study, uri: str) -> str:
    """The address of MLflow's page of the study's runs at a server; of all experiments where it has nothing yet.
    Without the login that an address may hold.

    `uri`: the store that the server shows. Raises what MLflow raises, and HarnessError for a deleted experiment.
    """
    from mlflow import MlflowClient

    parts = urlsplit(address)
    # A browser would log in with *** in the place of the password.
    server = masked(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()).rstrip("/")
    experiment = find_experiment(MlflowClient(address), study, uri)
    if experiment is None:
        return server
    if not experiment.experiment_id:
        problem = "there is no MLflow server at this address (its answer is not MLflow's)"
        raise HarnessError(f"MLflow at {masked(address)}: {problem}; {CHECK_ADDRESS}")
    view = f"&viewStateShareKey={quote(view_key(study))}" if view_tag(study) in experiment.tags else ""
    return f"{server}/#/experiments/{experiment.experiment_id}/runs?workflowType=machine_learning{view}"
