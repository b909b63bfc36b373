"""The tracking run that stands for a whole grid: its state, study file, report and summary.

A report of what the command line changes (`--set`, `--only`) has a tracking run of its own, beside the grid's: neither
replaces the other's numbers.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.code.checkout import diff
from harness.masking import masked
from harness.runs.record import Run
from harness.runs.snapshot import Snapshot
from harness.study.variant import folder_ending
from harness.tracking import front
from harness.tracking import ledger as ledgers
from harness.tracking.artefacts import send_file, send_folder
from harness.tracking.ledger import GridLedger, Report
from harness.tracking.mlflow_store import LONGEST_NAME, LONGEST_TAG, SOURCE_TAG, Store, common_tags
from harness.tracking.points import clean

if TYPE_CHECKING:
    from harness.study.schema import Study

REPORT = "mlflow_report"
"""What a tracking run is to show of the newest report: the file's name up to the variant's ending and `.json`; written
by whoever wrote the report, sent by the mirror."""


def ask_for_report(study: Study, root: Path, report: Report, folder: Path | None) -> None:
    """Have its metrics, tables and note and the files in `folder` shown for the study as it was asked for: on the
    grid's run, or on that of the variant.
    """
    at, variant = int(time.time() * 1000), [masked(text) for text in study.variant]
    beside = os.path.relpath(folder, root) if folder else ""  # both move with the study
    request = replace(report, at=at, variant=variant, folder=beside)
    ledgers.save(root / f"{REPORT}{folder_ending(study.variant)}.json", request)


def unshown(root: Path, ledger: GridLedger) -> dict[Path, int]:
    """The files that ask for a report which is not shown yet, and when they were written, in ns."""
    written = {path: path.stat().st_mtime_ns for path in sorted(root.glob(f"{REPORT}*.json"))}
    return {path: at for path, at in written.items() if at != ledger.reports.get(path.name)}


def _of_the_study(root: Path) -> Path:
    """The file that asks for the report of the study as its file has it; if there is none, the newest of a variant."""
    plain = root / f"{REPORT}.json"
    variants = [] if plain.exists() else sorted(root.glob(f"{REPORT}*.json"), key=lambda path: path.stat().st_mtime_ns)
    return variants[-1] if variants else plain


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
        self._variants: dict[str, str] = {}
        """The file that asks for the report of a variant -> its tracking run, which is not looked for twice."""
        self._viewed: int | None = -1
        """When the report that the view is made for was written, in ns; None: there is none yet."""

    def describe(self) -> None:
        """The study file by which this call goes, byte for byte unless it holds a password, in the place of another
        one; what was changed in the code, once.
        """
        text = self.study.text.encode()
        if text and (digest := hashlib.sha256(text).hexdigest()) != self.ledger.study_file:
            with tempfile.TemporaryDirectory() as folder:  # what lies at the path may have been edited since
                path = Path(folder) / self.study.path.name
                path.write_bytes(text)
                send_file(self.client, self.store.parent, path)
            self.ledger.study_file = digest
        if self.ledger.described:
            return
        if changes := diff():
            self.client.log_text(self.store.parent, masked(changes), "git.diff")
        self.client.set_tag(self.store.parent, SOURCE_TAG, masked(str(self.study.path)))
        self.ledger.described = True

    def show_status(self, status: str) -> None:
        """Show this state, in MLflow's words."""
        if status != self.ledger.status:
            self.store.show_status(self.store.parent, status)
            self.ledger.status = status

    def show_view(self, root: Path) -> None:
        """Have MLflow offer the table of the grid's runs by its metrics and ideas, and open the pages of training."""
        path = _of_the_study(root)
        if (written_at := ledgers.changed_at(path)) == self._viewed:
            return
        report = ledgers.read(path, Report)
        state = front.view_state(self.study, self.store.parent, report)
        self._viewed = written_at
        if state == self.ledger.view:
            return
        there = self.client.get_experiment(self.store.experiment_id).tags
        tags = {name: value for name, value in front.KIND.items() if name not in there}
        if text := front.view_text(self.study, state):
            tags[front.view_tag(self.study)] = text
        for name, value in tags.items():
            self.client.set_experiment_tag(self.store.experiment_id, name, value)
        self.ledger.view = state

    def send_notes(self, root: Path) -> None:
        """The answers that are not shown yet. Of the study as its file has it, on its experiment too."""
        for path, written_at in unshown(root, self.ledger).items():
            if written_at == self.ledger.notes.get(path.name):
                continue
            report = ledgers.read(path, Report)
            parts = [masked(part) for part in report.note]
            if text := front.shortened_note(parts):
                self.client.set_tag(self._run_of(path, report), front.NOTE, text)
            if parts and not report.variant:
                before = self.client.get_experiment(self.store.experiment_id).tags.get(front.NOTE, "")
                if (after := front.with_part(before, self.study, parts)) != before:
                    self.client.set_experiment_tag(self.store.experiment_id, front.NOTE, after)
            self.ledger.notes[path.name] = written_at

    def send_reports(self, root: Path) -> Counter[str]:
        """Those that are not shown yet."""
        sent: Counter[str] = Counter()
        for path, written_at in unshown(root, self.ledger).items():
            report = ledgers.read(path, Report)
            run_id = self._run_of(path, report)
            sent["summary"] += self._send_numbers(run_id, path.name, report)
            sent += self._send_report(run_id, report, root)
            if report.variant:
                self.store.show_status(run_id, "FINISHED")
            self.ledger.reports[path.name] = written_at
        return sent

    def _run_of(self, path: Path, report: Report) -> str:
        """Id of the tracking run that shows it: the grid's own, or the one of a variant."""
        if not report.variant:
            return self.store.parent
        if path.name in self._variants:
            return self._variants[path.name]
        key = {"report_of": self.store.parent, "variant": path.stem.removeprefix(REPORT).strip(".")}
        changed = "; ".join(report.variant)[:LONGEST_TAG]
        tags = common_tags(self.study) | {"profile": str(self.study.profile), "changed": changed}
        title = ", ".join([self.study.label, *report.variant])[:LONGEST_NAME]
        self._variants[path.name] = self.store.find_or_create(key, title, tags)[0]
        return self._variants[path.name]

    def _send_numbers(self, run_id: str, file: str, report: Report) -> int:
        """Those that are not shown already, and NaN in the place of those that only the earlier report has: MLflow
        deletes none, and a cell that is gone would stand beside the others. Returns whether there were any."""
        from mlflow.entities import Metric

        numbers = {clean(name): value for name, value in report.summary.items()}
        own, earlier = list(numbers), self.ledger.numbers.get(file, [])
        shown = self.client.get_run(run_id).data.metrics if own or earlier else {}
        numbers |= {name: math.nan for name in earlier if name in shown and name not in numbers}
        now = int(time.time() * 1000)  # MLflow shows the latest, and another study's may be later than the report
        at = {name: now if name in shown else report.at for name in numbers}
        new = [Metric(name, value, at[name], 0) for name, value in numbers.items() if shown.get(name) != value]
        if new:
            self.client.log_batch(run_id, metrics=new)
        self.ledger.numbers[file] = own
        return int(bool(new))

    def _send_report(self, run_id: str, report: Report, root: Path) -> Counter[str]:
        """The tables and the files."""
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
        return Counter(tables=len(files), report=int(has_files))
