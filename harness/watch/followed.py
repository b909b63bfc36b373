"""A study whose runs are watched, from their folders alone: whoever trains them, here or elsewhere, writes those.

States and times left are those of the live table of a grid. A look reads the statuses that changed, and of the few runs
that are shown at length what else changed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import HarnessError, RecordError
from harness.executors.job import job_folders
from harness.runs.folders import damaged, read_status
from harness.runs.lease import live_status
from harness.runs.record import FINAL, Run, Status
from harness.scheduler.live import SIGNS, rank
from harness.scheduler.time_left import Smoothed, grid_seconds_left, run_seconds_left
from harness.study import looks
from harness.study.plan import Plan, make_plan
from harness.study.schema import Study
from harness.text import duration, quantity
from harness.watch.run_files import RunFiles, Signature, signature

MOST_SHOWN = 24
"""Runs that are shown at length: those under way, then those that ended last."""
ASK_S = 5.0
"""Seconds between two looks at whether whoever has a run still lives, and at jobs."""
REPORT_FILES = {
    *("report.html", "runs.csv", "cells.csv", "effects.csv", "interactions.csv", "trends.csv", "tables.tex"),
    *("analysis.json", "study.json", "tables/paper.tex", "figures/matrix.svg"),
}
"""What may be read of a study's report."""


@dataclass(frozen=True)
class Shown:
    """A run that is shown at length."""

    run: Run
    status: Status
    left: float | None
    """Seconds, smoothed."""
    files: RunFiles


class FollowedStudy:
    """What is known of the runs of a study by now; `look` brings it up to date."""

    def __init__(self, study: Study) -> None:
        """Raises HarnessError for a study that cannot be planned."""
        self.study = study
        self.plan: Plan = make_plan(study)
        self.statuses: dict[str, Status] = {}
        self.shown: list[Shown] = []
        self.left: float | None = None
        """Seconds until the last run ends, smoothed."""
        self.jobs: list[str] = []
        self._files: dict[str, RunFiles] = {}
        self._signatures: dict[str, Signature | None] = {}
        self._read: dict[str, Status] = {}
        self._smoothed = Smoothed()
        self._asked: dict[str, float] = {}
        self._looks = signature(self._looks_file)
        self._problem = ""

    @property
    def _looks_file(self) -> Path:
        return self.study.root / looks.NAME

    @property
    def runs(self) -> Sequence[Run]:
        return self.plan.runs

    def look(self) -> None:
        """Read what changed since the last look."""
        if (now := signature(self._looks_file)) != self._looks:
            self._looks = now
            self._plan_again()
        for run in self.runs:
            self._look_at(run)
        ordered = sorted(self.runs, key=lambda run: rank(self.statuses[run.id]))
        begun = [run for run in ordered if self.statuses[run.id].attempt or self.statuses[run.id].state != "pending"]
        kept = {run.id: self._files.get(run.id) or RunFiles(self.study.root / run.id) for run in begun[:MOST_SHOWN]}
        self._files = kept
        for files in kept.values():
            files.look()
        running = sum(status.state == "running" for status in self.statuses.values())
        self.left = self._smoothed("", grid_seconds_left(self.runs, self.statuses, running) if running else None)
        self.shown = [self._shown(run) for run in begun[:MOST_SHOWN]]
        if self._is_due("jobs"):
            self.jobs = list(self._jobs())

    def _plan_again(self) -> None:
        """More seeds may have been asked for. What cannot be planned by now is watched as it was."""
        try:
            self.plan, self._problem = make_plan(self.study), ""
        except HarnessError as error:
            self._problem = f"not planned again: {error}"

    def _look_at(self, run: Run) -> None:
        folder = f"{self.study.root}/{run.id}"
        now = signature(f"{folder}/status.json")
        is_new = run.id not in self._read or now != self._signatures.get(run.id)
        if is_new:
            self._signatures[run.id] = now
            try:
                self._read[run.id] = read_status(folder) if now else Status()
            except RecordError as error:
                self._read[run.id] = damaged(error)
        status = self._read[run.id]
        if is_new or (status.state == "running" and self._is_due(run.id)):
            self.statuses[run.id] = live_status(Path(folder), status)

    def _is_due(self, what: str) -> bool:
        now = time.monotonic()
        if now - self._asked.get(what, -ASK_S) < ASK_S:
            return False
        self._asked[what] = now
        return True

    def _shown(self, run: Run) -> Shown:
        status = self.statuses[run.id]
        left = run_seconds_left(run, status) if status.state == "running" else None
        return Shown(run, status, self._smoothed(run.id, left), self._files[run.id])

    def _jobs(self) -> Iterator[str]:
        """The jobs whose workers take runs, as their folders tell of them: no engine is asked."""
        for folder in job_folders(self.study.root):
            try:
                if not folder.is_over:
                    job = folder.read()
                    began = len(folder.workers())
                    asked = "" if job.resources.executor == "folder" else f" of {job.workers}"
                    yield f"job {folder.number} on {job.resources.executor}: workers that have begun: {began}{asked}"
            except (HarnessError, OSError) as error:
                yield f"job {folder.number}: {error}"

    @property
    def counts(self) -> str:
        """`2 running, 3 done, 11 pending`, those that are measured apart."""
        words = Counter(self.statuses[run.id].word for run in self.runs)
        order = ("running", "measuring", *(state for state in SIGNS if state != "running"))
        return ", ".join(f"{words[word]:,} {word}" for word in order if words[word])

    @property
    def ended(self) -> int:
        return sum(self.statuses[run.id].state in FINAL for run in self.runs)

    @property
    def sentence(self) -> str:
        """Where the study stands."""
        if all(status == Status() for status in self.statuses.values()):
            return f"No run has begun yet. {self.study.command('run-grid')} trains {self._count}."
        left = f"; about {duration(self.left)} left" if self.left else ""
        return f"{self.ended:,} of {self._count} ended: {self.counts}{left}."

    @property
    def _count(self) -> str:
        return quantity(len(self.runs), "run")

    @property
    def remarks(self) -> list[str]:
        """What else there is to say."""
        try:
            added = looks.in_words(self.plan.study, self.runs)
        except HarnessError as error:
            added = str(error)
        return [each for each in (added, *self.jobs, self._problem) if each]

    def folder(self, run_id: str) -> Path | None:
        """Of a run of the plan; None for any other name."""
        return self.study.root / run_id if run_id in self.statuses else None

    @property
    def seeds(self) -> list[int]:
        return sorted({run.seed for run in self.runs})

    @property
    def drawn(self) -> list[Shown]:
        """The runs with samples, in the order of the plan, so that rows stay where they are."""
        places = {run.id: place for place, run in enumerate(self.runs)}
        found = [one for one in self.shown if one.files.samples]
        return sorted(found, key=lambda one: places[one.run.id])

    @property
    def with_real(self) -> list[Shown]:
        """The first run that has the real images of the samples, if one has."""
        return [one for one in self.drawn if one.files.real][:1]

    @property
    def states(self) -> Mapping[str, Mapping[int, str]]:
        """Cell -> seed -> state in a word."""
        found: dict[str, dict[int, str]] = {}
        for run in self.runs:
            found.setdefault(run.cell, {})[run.seed] = self.statuses[run.id].word
        return found
