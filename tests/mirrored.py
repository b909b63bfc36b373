"""A study and its MLflow store, for the tests of the mirror."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from fakes import make_run, point
from harness.design.kinds import DesignConfig
from harness.runs import lease
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.settings import Settings
from harness.study.resources import Resources
from harness.study.schema import Study, Tracking
from harness.tracking.ledger import Report
from harness.tracking.mirror import Mirror, tracking_uri
from harness.tracking.mlflow_store import prepare_database, set_environment
from harness.tracking.parent_run import ask_for_report
from harness.tracking.study_sync import StudySync

set_environment()


@cache
def empty_store() -> Path:
    """A SQLite store with its tables, which take seconds to make."""
    path = Path(tempfile.mkdtemp(prefix="mlflow-")) / "mlflow.db"
    prepare_database(f"sqlite:///{path}")
    return path


def connect(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def make_study(folder: Path) -> Study:
    """A study in `folder`, its store ready."""
    shutil.copy(empty_store(), folder / "mlflow.db")
    return bare_study(folder)


def bare_study(folder: Path) -> Study:
    """A study in `folder`."""
    (folder / "ablations.yaml").write_text("study: emoji\n")
    return Study(
        name="emoji",
        path=folder / "ablations.yaml",
        profile=None,
        settings=Settings(),
        toggles=(),
        design=DesignConfig(),
        baseline="origin",
        resources=Resources(),
        tracking=Tracking(),
        text="study: emoji\n",
    )


def make_folder(study: Study, cell: str = "origin", seed: int = 0, steps: int = 0) -> tuple[Run, RunFolder]:
    """A run that has begun and written points 1 to `steps`."""
    run = make_run(cell, seed)
    folder = RunFolder(study.root / run.id)
    folder.create(run)
    folder.update(state="running", attempt=1, started=time.time(), step=steps, total_steps=10)
    for step in range(1, steps + 1):
        folder.append(point(step))
    return run, folder


@contextmanager
def held(folder: RunFolder) -> Iterator[None]:
    """A scheduler has the run meanwhile."""
    claim = lease.Claim(folder.path)
    assert claim.take()
    yield
    claim.drop()


def finish(mirror: Mirror, summary: dict[str, float], tables: dict[str, Any], folder: Path | None) -> None:
    """What a grid does at its end: write a report, here one of these numbers and tables, and send it."""
    ask_for_report(mirror.study, mirror.root, Report(summary=summary, tables=tables), folder)
    mirror.catch_up()


def sending(study: Study, *runs: Run) -> StudySync:
    """What a mirror sends with, opened anew as after a crash."""
    return StudySync(study, study.root, runs, tracking_uri(study))


def client(study: Study) -> Any:
    return connect(tracking_uri(study))


def children(study: Study) -> dict[str, Any]:
    """Tracking runs by name, the grid's own left out."""
    experiment = client(study).get_experiment_by_name("emoji").experiment_id
    runs = client(study).search_runs([experiment])
    return {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}


def parent(study: Study) -> Any:
    experiment = client(study).get_experiment_by_name("emoji").experiment_id
    (found,) = client(study).search_runs([experiment], "tags.grid = 'emoji'")
    return found


def history(study: Study, name: str, metric: str = "generator/total") -> list[tuple[int, float]]:
    found = client(study).get_metric_history(children(study)[name].info.run_id, metric)
    return sorted((each.step, each.value) for each in found)


def artefacts(study: Study, run_id: str, below: str | None = None) -> set[str]:
    return {Path(each.path).name for each in client(study).list_artifacts(run_id, below)}


def expected(steps: int) -> list[tuple[int, float]]:
    return [(step * 16, float(step)) for step in range(1, steps + 1)]
