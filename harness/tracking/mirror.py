"""MLflow as a mirror of the run folders: fed beside the training, never in its way. No torch here.

The folders are the truth. A thread sends what is new in them; while the server is away it tries again, ever more
rarely, and whatever is missing at the end is sent by `sync` or by the next grid. Nothing here raises into a grid.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from harness.claims import alone
from harness.errors import HarnessError
from harness.records import Run, RunFolder
from harness.tracking.delivery import BATCH, Delivery, chunks, clean
from harness.tracking.mlflow_store import Store, common_tags, open_store, read_study, set_environment, write_study

if TYPE_CHECKING:
    from harness.study.definition import Study

POLL_S = 2.0
LONGEST_WAIT_S = 60.0
_OF_THIS_RUN = frozenset({"INVALID_PARAMETER_VALUE", "INVALID_STATE", "BAD_REQUEST"})
"""Answers that concern one run, such as one deleted in MLflow; all others mean that the server is not well."""
_log = logging.getLogger(__name__)


def tracking_uri(study: Study) -> str:
    """The tracking store: MLFLOW_TRACKING_URI, else the study's `tracking.uri`, else mlflow.db beside the study file.

    Relative SQLite paths are relative to the study file. Raises HarnessError for a folder, which MLflow has given up.
    """
    named = os.environ.get("MLFLOW_TRACKING_URI")
    source = "MLFLOW_TRACKING_URI" if named else f"{study.path}: tracking.uri"
    uri = named or study.tracking.uri or "sqlite:///mlflow.db"
    if urlsplit(uri).scheme in ("", "file"):
        allowed = "sqlite:///mlflow.db, http://HOST:PORT, https://..., or a database URI"
        raise HarnessError(f"{source}: {uri!r} is a folder, which MLflow no longer writes to; allowed: {allowed}")
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{study.path.parent.resolve() / uri.removeprefix('sqlite:///')}"
    return uri


class Mirror:
    """Context manager around a grid: while entered, what the runs write reaches MLflow within seconds."""

    def __init__(self, study: Study, root: Path, runs: Sequence[Run]) -> None:
        self.study, self.root, self.runs = study, root, tuple(runs)
        self.uri = tracking_uri(study)
        set_environment()
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._deliveries: dict[str, Delivery] = {}
        self._refused: set[str] = set()
        self._away = False
        self._shown = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._try(self._parent_status())

    def finish(self, summary: Mapping[str, float], tables: Mapping[str, Any], report: Path | None) -> None:
        """Put the grid's own metrics, its tables and the report folder on the parent run, now or at the next `sync`.

        A table is {"columns": names, "data": rows}.

        To be called after the `with` block, so that the parent run ends as FINISHED, FAILED or KILLED.
        """
        told = {"summary": dict(summary), "tables": dict(tables), "report": str(report) if report else ""}
        found = {**read_study(self.root), **told}
        write_study(self.root, {**found, "sent": {"status": found.get("sent", {}).get("status")}})
        self._try(self._parent_status())

    def deliver(self, parent_status: str | None = None) -> Counter[str]:
        """Send all that is missing, once, and count it by kind. Raises what MLflow raises when it cannot be reached."""
        if self._store is None:
            self._store = open_store(self.study, self.root, self.uri)
            tags = common_tags(self.study)
            self._deliveries = {run.id: Delivery(self._store, self.root / run.id, run, tags) for run in self.runs}
        sent: Counter[str] = Counter()
        for run in self.runs:
            sent += self._deliver_run(run)
        sent += self._deliver_grid(parent_status or self._parent_status())
        return sent

    def _deliver_run(self, run: Run) -> Counter[str]:
        from mlflow.exceptions import MlflowException

        delivery = self._deliveries[run.id]
        if run.id in self._refused:
            return Counter()
        try:
            try:
                return delivery.deliver()
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                delivery.forget()
                return delivery.deliver()
        except MlflowException as error:
            if error.error_code not in _OF_THIS_RUN:
                raise
            self._refused.add(run.id)
            _log.warning("MLflow does not take %s seed %d: %s", run.cell, run.seed, _reason(error))
            return Counter()

    def _deliver_grid(self, status: str) -> Counter[str]:
        """The parent run's state, and the summary and report once there are some."""
        assert self._store is not None
        client, parent, found = self._store.client, self._store.parent, read_study(self.root)
        sent: Counter[str] = Counter()
        if found.get("summary") and not found["sent"].get("summary"):
            self._send_summary(found["summary"])
            found["sent"]["summary"], sent["summary"] = True, 1
        if found.get("tables") and not found["sent"].get("tables"):
            self._send_tables(found["tables"])
            found["sent"]["tables"], sent["tables"] = True, len(found["tables"])
        if found.get("report") and not found["sent"].get("report"):
            client.log_artifacts(parent, found["report"], "report")
            found["sent"]["report"], sent["report"] = True, 1
        if status != (self._shown or found["sent"].get("status")):
            client.update_run(parent, status) if status == "RUNNING" else client.set_terminated(parent, status)
            found["sent"]["status"] = self._shown = status
        if found != read_study(self.root):
            write_study(self.root, found)
        return sent

    def _send_summary(self, summary: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        assert self._store is not None
        at = int(time.time() * 1000)
        metrics = [Metric(clean(name), value, at, 0) for name, value in summary.items()]
        for some in chunks(metrics, BATCH["metrics"]):
            self._store.client.log_batch(self._store.parent, metrics=some)

    def _send_tables(self, tables: Mapping[str, Any]) -> None:
        """As artefacts that MLflow's pages show as tables; `log_table` would append to those of an earlier report."""
        assert self._store is not None
        client, parent = self._store.client, self._store.parent
        for name, table in tables.items():
            client.log_text(parent, json.dumps(table), f"tables/{name}.json")
        shown = [{"path": f"tables/{name}.json", "type": "table"} for name in tables]
        client.set_tag(parent, "mlflow.loggedArtifacts", json.dumps(shown))

    def _parent_status(self) -> str:
        """How the grid stands once nothing runs any more, in MLflow's words; runs not begun were not asked for."""
        states = {RunFolder(self.root / run.id).status().state for run in self.runs}
        if states & {"running", "interrupted"}:
            return "KILLED"
        return "FAILED" if states & {"failed", "diverged"} else "FINISHED"

    def _follow(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            wait = POLL_S if self._try("RUNNING") else min(max(POLL_S, 2 * wait), LONGEST_WAIT_S)

    def _try(self, parent_status: str) -> bool:
        """Deliver; whatever goes wrong is one warning, and the training goes on."""
        try:
            with self._lock:
                self.deliver(parent_status)
        except Exception as error:
            if not self._away:
                _log.warning("MLflow at %s: %s; `harness sync` sends what is missing", self.uri, _reason(error))
                _log.debug("the whole error", exc_info=True)
            self._away = True
            return False
        if self._away:
            _log.warning("MLflow at %s is back and has all that it missed", self.uri)
        self._away = False
        return True


def sync(study: Study, root: Path, runs: Sequence[Run]) -> Counter[str]:
    """Send to MLflow what it missed; the numbers of runs, points, images and files sent.

    Raises HarnessError when the server cannot be reached, or when a running grid is sending already.
    """
    mirror = Mirror(study, root, runs)
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    with alone(root, "mirror"):
        try:
            return mirror.deliver()
        except (MlflowException, RequestException) as error:
            raise HarnessError(f"MLflow at {mirror.uri}: {_reason(error)}; start it and ask again") from error


def _reason(error: Exception) -> str:
    """One short line: MLflow's own quotes the whole chain of connection errors."""
    text = str(error).strip()
    if network := re.search(r"\[Errno -?\d+\] ([^'\"),]+)|timed out", text):
        return f"cannot be reached ({network[1] or network[0]})"
    return (text.splitlines() or [type(error).__name__])[0][:200]
