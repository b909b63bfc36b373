"""The tracking run that stands for a whole grid: its state, study file, report and summary.

A report of what the command line changes (`--set`, `--only`) has a tracking run of its own, beside the grid's: neither
replaces the other's numbers.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.code.checkout import diff
from harness.masking import masked
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.study.schema import folder_ending
from harness.tracking import ledger as ledgers
from harness.tracking.artefacts import send_file, send_folder
from harness.tracking.ledger import GridLedger, Report
from harness.tracking.mlflow_store import LONGEST_NAME, LONGEST_TAG, Store, common_tags
from harness.tracking.points import clean

if TYPE_CHECKING:
    from harness.study.schema import Study

REPORT = "mlflow_report"
"""What a tracking run is to show of the newest report: the file's name up to the variant's ending and `.json`; written
by whoever wrote the report, sent by the mirror."""


def ask_for_report(
    study: Study, root: Path, summary: Mapping[str, float], tables: Mapping[str, Any], report: Path | None
) -> None:
    """Have these metrics, tables ({"columns": names, "data": rows}) and files shown for the study as it was asked for:
    on the grid's run, or on that of the variant.
    """
    folder = os.path.relpath(report, root) if report else ""  # both move with the study
    at, variant = int(time.time() * 1000), [masked(text) for text in study.variant]
    request = Report(at, dict(summary), dict(tables), folder, variant)
    ledgers.save(root / f"{REPORT}{folder_ending(study.variant)}.json", request)


def unshown(root: Path, ledger: GridLedger) -> dict[Path, int]:
    """The files that ask for a report which is not shown yet, and when they were written, in ns."""
    written = {path: path.stat().st_mtime_ns for path in sorted(root.glob(f"{REPORT}*.json"))}
    return {path: at for path, at in written.items() if at != ledger.reports.get(path.name)}


def state_of_grid(root: Path, runs: Sequence[Run]) -> str:
    """RUNNING while anybody has a run, KILLED when runs were left in the middle; runs not begun were not asked for."""
    snapshot = Snapshot(root, runs)
    states = {status.state for run in runs if (status := snapshot.current(run.id)).attempt}
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
        """The study file, byte for byte unless it holds a password, and what was changed in the code, once."""
        if self.ledger.described:
            return
        if self.study.path.exists():
            send_file(self.client, self.store.parent, self.study.path)
        if changes := diff():
            self.client.log_text(self.store.parent, masked(changes), "git.diff")
        self.ledger.described = True

    def show_status(self, status: str) -> None:
        """Show this state, in MLflow's words."""
        if status != self.ledger.status:
            self.store.show_status(self.store.parent, status)
            self.ledger.status = status

    def send_reports(self, root: Path) -> Counter[str]:
        """Those that are not shown yet."""
        sent: Counter[str] = Counter()
        for path, written_at in unshown(root, self.ledger).items():
            report = ledgers.read(path, Report)
            run_id = self._find_or_create(path, report) if report.variant else self.store.parent
            sent += self._send_report(run_id, report, root)
            if report.variant:
                self.store.show_status(run_id, "FINISHED")
            self.ledger.reports[path.name] = written_at
        return sent

    def _find_or_create(self, path: Path, report: Report) -> str:
        """Id of the tracking run of a variant."""
        key = {"report_of": self.store.parent, "variant": path.stem.removeprefix(REPORT).strip(".")}
        changed = "; ".join(report.variant)[:LONGEST_TAG]
        tags = common_tags(self.study) | {"profile": str(self.study.profile), "changed": changed}
        title = ", ".join([self.study.label, *report.variant])[:LONGEST_NAME]
        return self.store.find_or_create(key, title, tags)[0]

    def _send_report(self, run_id: str, report: Report, root: Path) -> Counter[str]:
        """The numbers that are not the ones shown already, the tables and the files."""
        from mlflow.entities import Metric

        shown = self.client.get_run(run_id).data.metrics if report.summary else {}
        numbers = {clean(name): value for name, value in report.summary.items()}
        new = [Metric(name, value, report.at, 0) for name, value in numbers.items() if shown.get(name) != value]
        if new:
            self.client.log_batch(run_id, metrics=new)
        # `log_table` would append to the tables of an earlier report.
        files = {f"tables/{name}.json": json.dumps(table) for name, table in report.tables.items()}
        for file, text in files.items():
            self.client.log_text(run_id, text, file)
        if files:  # as artefacts that MLflow's pages show as tables
            shown_as_tables = [{"path": file, "type": "table"} for file in files]
            self.client.set_tag(run_id, "mlflow.loggedArtifacts", json.dumps(shown_as_tables))
        folder = root / report.folder
        has_files = bool(report.folder) and folder.is_dir()
        if has_files:
            send_folder(self.client, run_id, folder, "report")
        return Counter(summary=int(bool(new)), tables=len(files), report=int(has_files))
