"""The MLflow side of a grid: its experiment and the parent of its runs. No torch here; MLflow is imported on use."""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.provenance import code, diff
from harness.records import read_json, write_json

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from harness.study.definition import Study

GRID_TAG = "grid"
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
"""Unless the user says otherwise: MLflow's own 120 s times 7 retries would hold up the end of a grid."""


@dataclass(frozen=True)
class Store:
    """An open tracking store."""

    client: MlflowClient
    uri: str
    experiment_id: str
    parent: str
    """Id of the run that stands for the grid."""


def set_environment() -> None:
    """How MLflow behaves here; it reads some of this when it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _connect(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    return MlflowClient(uri)


def open_store(study: Study, root: Path, uri: str) -> Store:
    """Find or make the study's experiment and the grid's parent run. Raises what MLflow raises."""
    client = _connect(uri)
    experiment = _experiment(client, study, uri)
    known = read_study(root)
    parent = known["parent_run_id"] if known.get("uri") == uri else ""
    if not (parent and _exists(client, parent)):
        parent = _find_parent(client, experiment, study) or _make_parent(client, experiment, study)
        write_study(root, {**known, "uri": uri, "experiment_id": experiment, "parent_run_id": parent, "sent": {}})
    return Store(client, uri, experiment, parent)


def read_study(root: Path) -> dict[str, Any]:
    """The study's mlflow.json: {"uri", "experiment_id", "parent_run_id", "sent", "summary", "report"}, or nothing."""
    path = root / "mlflow.json"
    found: dict[str, Any] = read_json(path) if path.exists() else {}
    return found


def write_study(root: Path, found: dict[str, Any]) -> None:
    root.mkdir(parents=True, exist_ok=True)
    write_json(root / "mlflow.json", found)


def common_tags(study: Study) -> dict[str, str]:
    """Who ran what code on which study, under MLflow's reserved names."""
    origin = code()
    commit = {"mlflow.source.git.commit": origin["commit"]} if origin["commit"] else {}
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": str(study.path),
        "mlflow.source.type": "LOCAL",
        "git.dirty": str(bool(origin["dirty"])).lower(),
        **commit,
    }


def first_run(client: MlflowClient, experiment: str, tags: dict[str, str]) -> str:
    """Id of the newest run with these tags, or nothing: so that an answer lost on the way makes no second run."""
    query = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
    found: Sequence[Any] = client.search_runs([experiment], query, max_results=1)
    return str(found[0].info.run_id) if found else ""


def _experiment(client: MlflowClient, study: Study, uri: str) -> str:
    """The experiment's id. Artefacts of a local store lie beside the study; a server has a place of its own."""
    from mlflow.exceptions import MlflowException

    name = study.tracking.experiment or study.name
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    beside = None if uri.startswith(("http", "databricks")) else (study.path.parent / "mlartifacts" / name).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=beside))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def _find_parent(client: MlflowClient, experiment: str, study: Study) -> str:
    return first_run(client, experiment, {GRID_TAG: study.label})


def _make_parent(client: MlflowClient, experiment: str, study: Study) -> str:
    tags = common_tags(study) | {GRID_TAG: study.label, "profile": str(study.profile)}
    parent = str(client.create_run(experiment, run_name=study.label, tags=tags).info.run_id)
    if study.path.exists():
        client.log_artifact(parent, str(study.path))
    if changes := diff():
        client.log_text(parent, changes, "git.diff")
    return parent


def _exists(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run_id).info.lifecycle_stage) == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        return "unknown"
