"""The MLflow side of a grid: its experiment and the parent of its runs. MLflow is imported on use."""

from __future__ import annotations

import functools
import getpass
import logging
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files
from harness.code.checkout import code
from harness.databases import quiet_libraries, sqlite_file
from harness.errors import HarnessError
from harness.masking import masked
from harness.tracking.address import artifacts, experiment_of, follow, is_server, recorded_uri
from harness.tracking.ledger import GridLedger

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

    from harness.study.schema import Study

_log = logging.getLogger(__name__)
GRID_TAG = "grid"
SENT_TAG = "sent_at"
"""On the grid's run: when something was sent last, in ms."""
_MLFLOWS_OWN = "0"
"""Id of the experiment `Default`, which MLflow makes together with a database."""
_BRING_BACK = "bring it back: {}; or give the study another tracking.experiment"
_ALL, PAGE = 3, 1000
"""MLflow's `ViewType.ALL`, and the runs of one answer."""
SOURCE_TAG = "mlflow.source.name"
"""The study file, by its full path."""
LONGEST_NAME, LONGEST_PARAM, LONGEST_TAG, LONGEST_DIGEST = 250, 6000, 5000, 36
"""Characters that MLflow takes."""
ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Unless the user says otherwise. MLflow's own 120 s times 7 retries would hold up the end of a grid, and it repeats a
request whose answer was lost, such as one that makes a run, without a look at what the first one did."""

_UNSAFE = "pragma synchronous = off; pragma journal_mode = memory"


@dataclass(frozen=True)
class Store:
    """An open tracking store."""

    client: MlflowClient
    uri: str
    """As it is remembered: see `recorded_uri`."""
    experiment_id: str
    parent: str = ""
    """Id of the run that stands for the grid."""
    is_new: bool = False
    """The parent was just made: it has no runs yet."""
    sent_at: int = 0
    """When something was sent last, as the parent says."""

    def find_or_create(self, key: dict[str, str], name: str, tags: dict[str, str]) -> tuple[str, bool]:
        """Id of the newest run with the tags `key`, or of a new one, and whether it is new.

        It is looked for, so that an answer lost on the way makes no second run.
        """
        runs = [] if self.is_new else self.client.search_runs([self.experiment_id], query(key), max_results=1)
        if runs:
            return str(runs[0].info.run_id), False
        return str(self.client.create_run(self.experiment_id, tags={**tags, **key}, run_name=name).info.run_id), True

    def children(self) -> set[str]:
        """Ids of all runs of the grid, also of those that were deleted and not purged."""
        found, token = set(), ""
        while True:
            key = query({"mlflow.parentRunId": self.parent})
            page = self.client.search_runs([self.experiment_id], key, _ALL, PAGE, page_token=token or None)
            found |= {str(run.info.run_id) for run in page}
            if not (token := str(page.token or "")):
                return found

    def show_status(self, run_id: str, status: str, ended: int | None = None) -> None:
        """Show a state in MLflow's words. `ended`: unix time in ms; None: now."""
        if status in ENDED:
            self.client.set_terminated(run_id, status, ended)
        else:
            self.client.update_run(run_id, status)


def set_environment() -> None:
    """How MLflow behaves here; it reads some of this when it is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Whatever the user says: what is noted as sent has to be there, not in a queue of this process.
    os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"


def _connect(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    quiet_libraries()
    if not is_server(uri):
        prepare_database(uri)
    return MlflowClient(uri)


def prepare_database(uri: str) -> None:
    """Raise what is wrong with it at once: MLflow would ask it for an hour, ever more rarely. A new file of SQLite gets
    its tables whole or not at all: where MLflow's many steps end in the middle, it cannot open what they leave.
    """
    from sqlalchemy import create_engine, event, make_url, text
    from sqlalchemy.pool import NullPool

    file = sqlite_file(uri)
    with create_engine(uri, poolclass=NullPool).connect() as connection:
        connection.execute(text("pragma schema_version" if file else "select 1"))
    if file is None or file.stat().st_size:
        return
    file = file.resolve()  # not the link to it
    from mlflow.store.db import utils

    if not hasattr(utils, "_initialize_tables"):  # of another version of MLflow, which makes them itself when used
        return
    with files.alone(file.parent, file.name) as lock:
        if file.stat().st_size:  # another process has made it meanwhile
            return
        files.remove_leftovers(file.parent, file.name)
        with files.replacing(file, durable=True) as temporary:
            engine = create_engine(make_url(uri).set(database=str(temporary)), poolclass=NullPool)
            # What is thrown away if it is not whole need not be on the disk at each step, which takes a minute.
            event.listen(engine, "connect", lambda database, _: database.executescript(_UNSAFE))
            utils._initialize_tables(engine)
        Path(lock.lock_file).unlink(missing_ok=True)  # who waits for it sees the file, as who comes later does


def open_store(study: Study, ledger: GridLedger, uri: str) -> Store:
    """Find or make the study's experiment and the grid's parent run. Raises what MLflow raises."""
    if message := follow(study, uri):
        _log.warning("%s", message)
    if (file := sqlite_file(uri)) and file.is_relative_to(study.path.parent.resolve()):
        file.parent.mkdir(parents=True, exist_ok=True)
    client = _connect(uri)
    found = find_experiment(client, study, uri)
    known = _known_parent(client, study, uri, ledger, found.experiment_id if found else "")
    if known is None and found and found.experiment_id == _MLFLOWS_OWN and not is_server(uri):
        problem = f"{found.name!r} is MLflow's own, whose files go to the folder in which MLflow was used first"
        fix = "name another, whose files are beside the study"
        raise HarnessError(f"{study.placed('tracking.experiment')}: {problem}; {fix}")
    experiment = found.experiment_id if found else _make_experiment(client, study, uri)
    store = Store(client, recorded_uri(study, uri), experiment)
    if known is not None:
        sent_at = known.data.tags.get(SENT_TAG, "")
        store = replace(store, parent=ledger.parent, sent_at=int(sent_at) if sent_at.isdigit() else 0)
    else:
        key, tags = {GRID_TAG: study.label}, common_tags(study) | {"profile": str(study.profile)}
        parent, is_new = store.find_or_create(key, study.label, tags)
        store = replace(store, parent=parent, is_new=is_new)
    if not store.is_new:
        _tell_of_another_study(store, study, uri, known, ledger)
    return store


def _known_parent(client: MlflowClient, study: Study, uri: str, ledger: GridLedger, experiment: str) -> Run | None:
    """The grid's run to which the ledger leads; None where it leads to none, or to one of another experiment, which is
    another place.

    `experiment`: id of the study's experiment, empty if there is none of its name. Raises HarnessError where the run
    was deleted or the experiment renamed: all would be there twice.
    """
    known = find_run(client, ledger.parent) if ledger.uri == recorded_uri(study, uri) and ledger.parent else None
    if known is None:
        return None
    name, place = experiment_of(study), known.info.experiment_id
    if place != experiment:
        if ledger.experiment != name:
            return None
        now = client.get_experiment(place).name
        back = _command(uri, "experiments", "rename", "--experiment-id", place, "--new-name", name)
        message = f"the experiment {name!r} was renamed in MLflow to {now!r}; give it its old name: {back}"
        raise HarnessError(f"{message}; or give the study this tracking.experiment")
    if known.info.lifecycle_stage == "deleted":
        restore = _command(uri, "runs", "restore", "--run-id", ledger.parent)
        raise HarnessError(f"the run of the grid {study.label!r} was deleted in MLflow; {_BRING_BACK.format(restore)}")
    return known


def _tell_of_another_study(store: Store, study: Study, uri: str, known: Run | None, ledger: GridLedger) -> None:
    """The grid's run says from where it was sent last. From another folder, it may be another study of this name.

    `known`: the run, if this study's ledger has led to it. Of what the other has replaced the ledger is emptied.
    """
    there = (known or store.client.get_run(store.parent)).data.tags.get(SOURCE_TAG, "")
    if not there or Path(there).parent.resolve() == study.path.parent.resolve():
        return
    ledger.described, ledger.study_file = False, ""
    file = sqlite_file(uri)
    is_own = file is not None and file.is_relative_to(study.path.parent.resolve())
    if is_own or (known is not None and not Path(there).exists()):  # the study was moved, or copied with its store
        return
    ledger.reports, ledger.notes, ledger.view = {}, {}, {}
    replaced = f"MLflow's grid {study.label!r} was sent from {there} before: its report, note and view are replaced"
    fix = "if that is another study, give this one another `study:` or `tracking.experiment`"
    _log.warning("%s by those of %s; %s", replaced, masked(str(study.path)), fix)


_code = functools.cache(code)
"""As this process loaded it."""


def common_tags(study: Study) -> dict[str, str]:
    """Who ran what code on which study, under MLflow's reserved names."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user need not have a name
        user = "unknown"
    commit = {"mlflow.source.git.commit": _code()["commit"]} if _code()["commit"] else {}
    return {
        "mlflow.user": user,
        SOURCE_TAG: masked(str(study.path)),
        "mlflow.source.type": "LOCAL",
        "git.dirty": str(bool(_code()["dirty"])).lower(),
        **commit,
    }


def query(tags: dict[str, str]) -> str:
    """For runs with these tags."""
    return " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())


def find_experiment(client: MlflowClient, study: Study, uri: str) -> Experiment | None:
    """The study's, by its name; None if there is none. Raises HarnessError where it was deleted."""
    found = client.get_experiment_by_name(experiment_of(study))
    if found is not None and found.lifecycle_stage == "deleted":
        restore = _command(uri, "experiments", "restore", "-x", found.experiment_id)
        raise HarnessError(f"the experiment {found.name!r} was deleted in MLflow; {_BRING_BACK.format(restore)}")
    return found


def _make_experiment(client: MlflowClient, study: Study, uri: str) -> str:
    """The experiment's id. Artefacts of a local store lie beside the study; a server has a place of its own."""
    from mlflow.exceptions import MlflowException

    name, beside = experiment_of(study), None if is_server(uri) else artifacts(study).as_uri()
    try:
        return str(client.create_experiment(name, artifact_location=beside))
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        return str(client.get_experiment_by_name(name).experiment_id)


def _command(uri: str, *words: str) -> str:
    """A line of MLflow's own command at this store."""
    return f"MLFLOW_TRACKING_URI={shlex.quote(masked(uri))} {shlex.join(['mlflow', *words])}"


def find_run(client: MlflowClient, run_id: str) -> Run | None:
    """The tracking run of this id, also one that was deleted; None if there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
