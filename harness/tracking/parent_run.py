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

from harness.masking import masked
from harness.runs.record import Run, State
from harness.runs.snapshot import Snapshot
from harness.study.variants import ending
from harness.tracking import ledger as ledgers
from harness.tracking.ledger import GridLedger, Report
from harness.tracking.mlflow_store import Store, common_tags, first_run
from harness.tracking.provenance import diff
from harness.tracking.run_sync import BATCH, chunks, clean

if TYPE_CHECKING:
    from harness.study.schema import Study

REPORT = "mlflow_report"
"""What a tracking run is to show of the newest report: the file's name up to the variant's ending and `.json`; written
by whoever wrote the report, sent by the mirror."""
_LONGEST_TAG, _LONGEST_NAME = 5000, 250
ENDED = frozenset({"FINISHED", "FAILED", "KILLED"})


def ask_for_report(
    study: Study, root: Path, summary: Mapping[str, float], tables: Mapping[str, Any], report: Path | None
) -> None:
    """Have these metrics, tables ({"columns": names, "data": rows}) and files shown for the study as it was asked for:
    on the grid's run, or on that of the variant.
    """
    folder = os.path.relpath(report, root) if report else ""  # both move with the study
    at = int(time.time() * 1000)
    asked = Report(at, dict(summary), dict(tables), folder, [masked(text) for text in study.variant])
    ledgers.save(root / f"{REPORT}{ending(study.variant)}.json", asked)


def unshown(root: Path, known: GridLedger) -> dict[Path, int]:
    """The files that ask for a report which is not shown yet, and when they were written, in ns."""
    written = {path: os.stat(path).st_mtime_ns for path in sorted(root.glob(f"{REPORT}*.json"))}
    return {path: mark for path, mark in written.items() if mark != known.reports.get(path.name)}


def state_of_grid(root: Path, runs: Sequence[Run]) -> str:
    """RUNNING while anybody has a run, KILLED when runs were left in the middle; runs not begun were not asked for."""
    snapshot = Snapshot(root, runs)
    statuses = [snapshot.current(run.id) for run in runs]
    states: set[State] = {status.state for status in statuses if status.attempt}
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

    def send_reports(self, root: Path) -> Counter[str]:
        """Those that are not shown yet."""
        sent: Counter[str] = Counter()
        for path, mark in unshown(root, self.ledger).items():
            report = ledgers.read(path, Report)
            run = self._run_of(path.name, report)
            sent += Counter(
                summary=self._send_summary(run, report.summary, report.at),
                tables=self._send_tables(run, report.tables),
                report=self._send_folder(run, root / report.folder if report.folder else None),
            )
            if run != self.store.parent:
                self.client.set_terminated(run, "FINISHED")
            self.ledger.reports[path.name] = mark
        return sent

    def _run_of(self, name: str, report: Report) -> str:
        """Id of the tracking run that shows the report: the grid's, or the variant's, which is found or made."""
        if not report.variant:
            return self.store.parent
        tags = {"report_of": self.store.parent, "variant": name.removeprefix(REPORT).removesuffix(".json").strip(".")}
        found = first_run(self.client, self.store.experiment_id, tags)
        if not found:
            changed = "; ".join(report.variant)[:_LONGEST_TAG]
            more = common_tags(self.study) | {"profile": str(self.study.profile), "changed": changed}
            title = ", ".join([self.study.label, *report.variant])[:_LONGEST_NAME]
            made = self.client.create_run(self.store.experiment_id, run_name=title, tags=more | tags)
            found = str(made.info.run_id)
        return found

    def _send_summary(self, run: str, summary: Mapping[str, float], at: int) -> int:
        """The numbers that are not the ones shown already."""
        from mlflow.entities import Metric

        shown = self.client.get_run(run).data.metrics if summary else {}
        named = {clean(name): value for name, value in summary.items()}
        new = [Metric(name, value, at, 0) for name, value in named.items() if shown.get(name) != value]
        for some in chunks(new, BATCH["metrics"]):
            self.client.log_batch(run, metrics=some)
        return bool(new)

    def _send_tables(self, run: str, tables: Mapping[str, Any]) -> int:
        """As artefacts that MLflow's pages show as tables; `log_table` would append to those of an earlier report."""
        for name, table in tables.items():
            self.client.log_text(run, json.dumps(table), f"tables/{name}.json")
        shown = [{"path": f"tables/{name}.json", "type": "table"} for name in tables]
        if shown:
            self.client.set_tag(run, "mlflow.loggedArtifacts", json.dumps(shown))
        return len(tables)

    def _send_folder(self, run: str, folder: Path | None) -> int:
        if folder is None or not folder.is_dir():
            return 0
        self.client.log_artifacts(run, str(folder), "report")
        return 1
