"""The tracking run that stands for a whole grid: its state, study file, report and summary. No torch here."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import claims
from harness.masking import masked
from harness.provenance import diff
from harness.records import Run, State
from harness.roster import statuses
from harness.tracking import ledger as ledgers
from harness.tracking.ledger import GridLedger, Report
from harness.tracking.metrics import BATCH, chunks, clean
from harness.tracking.mlflow_store import Store

if TYPE_CHECKING:
    from harness.study.definition import Study

REPORT = "mlflow_report.json"
"""What the tracking run is to show of the newest report; written by whoever wrote the report, sent by the mirror."""
ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


def ask_for_report(root: Path, summary: Mapping[str, float], tables: Mapping[str, Any], report: Path | None) -> None:
    """Have these metrics, tables ({"columns": names, "data": rows}) and files put on the grid's run."""
    folder = os.path.relpath(report, root) if report else ""  # both move with the study
    ledgers.save(root / REPORT, Report(int(time.time() * 1000), dict(summary), dict(tables), folder))


def wanted_report(root: Path) -> int:
    """Which report is to be shown: modification time of the file that asks for it, in ns; 0 if there is none."""
    try:
        return os.stat(root / REPORT).st_mtime_ns
    except FileNotFoundError:
        return 0


def state_of_grid(root: Path, runs: Sequence[Run]) -> str:
    """RUNNING while anybody has a run, KILLED when runs were left in the middle; runs not begun were not asked for."""
    found = [claims.seen(root / name, status) for name, status in statuses(root, runs).items()]
    states: set[State] = {status.state for status in found if status.attempt}
    if "running" in states:
        return "RUNNING"
    if states & {"interrupted", "pending"}:
        return "KILLED"
    return "FAILED" if states & {"failed", "diverged"} else "FINISHED"


class Parent:
    """Sends what concerns the grid as a whole. Its ledger is to be saved afterwards."""

    def __init__(self, store: Store, study: Study, ledger: GridLedger) -> None:
        self.store, self.client, self.study, self.ledger = store, store.client, study, ledger

    def describe(self) -> None:
        """The study file and what was changed in the code, once."""
        if self.ledger.described:
            return
        if self.study.path.exists():
            self._send_study()
        if changes := diff():
            self.client.log_text(self.store.parent, masked(changes), "git.diff")
        self.ledger.described = True

    def _send_study(self) -> None:
        """The study file, byte for byte unless it holds a password."""
        text = self.study.path.read_text(encoding="utf-8", errors="backslashreplace")
        if (shown := masked(text)) == text:
            self.client.log_artifact(self.store.parent, str(self.study.path))
        else:
            self.client.log_text(self.store.parent, shown, self.study.path.name)

    def tell(self, status: str) -> None:
        """Show this state, in MLflow's words."""
        if status == self.ledger.status:
            return
        if status in ENDED:
            self.client.set_terminated(self.store.parent, status)
        else:
            self.client.update_run(self.store.parent, status)
        self.ledger.status = status

    def send_report(self, root: Path) -> Counter[str]:
        """The newest report, unless it is shown already."""
        wanted = wanted_report(root)
        if wanted == self.ledger.report:
            return Counter()
        report = ledgers.read(root / REPORT, Report)
        sent = Counter(
            summary=self._send_summary(report.summary, report.at),
            tables=self._send_tables(report.tables),
            report=self._send_folder(root / report.folder if report.folder else None),
        )
        self.ledger.report = wanted
        return sent

    def _send_summary(self, summary: Mapping[str, float], at: int) -> int:
        """The numbers that are not the ones shown already."""
        from mlflow.entities import Metric

        shown = self.client.get_run(self.store.parent).data.metrics if summary else {}
        named = {clean(name): value for name, value in summary.items()}
        new = [Metric(name, value, at, 0) for name, value in named.items() if shown.get(name) != value]
        for some in chunks(new, BATCH["metrics"]):
            self.client.log_batch(self.store.parent, metrics=some)
        return bool(new)

    def _send_tables(self, tables: Mapping[str, Any]) -> int:
        """As artefacts that MLflow's pages show as tables; `log_table` would append to those of an earlier report."""
        for name, table in tables.items():
            self.client.log_text(self.store.parent, json.dumps(table), f"tables/{name}.json")
        shown = [{"path": f"tables/{name}.json", "type": "table"} for name in tables]
        if shown:
            self.client.set_tag(self.store.parent, "mlflow.loggedArtifacts", json.dumps(shown))
        return len(tables)

    def _send_folder(self, folder: Path | None) -> int:
        if folder is None or not folder.is_dir():
            return 0
        self.client.log_artifacts(self.store.parent, str(folder), "report")
        return 1
