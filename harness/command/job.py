"""What a script finds in its folder: the copy of its code, its job, and the prompts that it is to make images of.

<run>/script/job.json      {"run", "cell", "seed", "toggles", "args", "folder", "prompts", "samples", "metrics",
                            "snapshots", "resolution", "study", "resume"}; HARNESS_JOB names it
          prompts.jsonl    {"index", "caption", "seed"} a line: those that are measured, then those of the sample grid
          samples/         one image for each line, and samples/STEP/ for measuring on the way
          metrics.jsonl    {"step", "total", NAME: number} a line, by the script
          code/            the files of command.code; the script's current folder
          usage.json       what it has taken so far, see `harness.command.usage`; by us
          ended.json       the same, once it has ended well, and is not started again; by us
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.command.words import program
from harness.data.dataset import Dataset
from harness.errors import DataError
from harness.files import write_json, write_text
from harness.metrics.definitions import NO_CAPTIONS
from harness.metrics.manifest import Manifest
from harness.runs.record import Run
from harness.scheduler.attempt import SCRIPT_JOB
from harness.training.samples import GridColumns

_SEEDS = 2**31
"""Seeds of prompts are below it: some libraries take no larger ones."""


@dataclass(frozen=True)
class Job:
    """The folder of one run's script."""

    run: Run
    folder: Path
    study: Path

    @property
    def file(self) -> Path:
        return self.folder / SCRIPT_JOB.name

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def ended(self) -> Path:
        return self.folder / "ended.json"

    @property
    def usage(self) -> Path:
        return self.folder / "usage.json"

    @property
    def code(self) -> Path:
        return self.folder / "code"

    def words(self) -> list[str]:
        """The program and its arguments."""
        run = self.run
        places = {"seed": str(run.seed), "cell": run.cell, "folder": str(self.folder), "study": str(self.study)}
        return program(run.settings.command, {**places, "job": str(self.file)})

    def write(self, captions: list[str]) -> None:
        """All that the script is given; what it has left there itself stays. Raises DataError."""
        run, command = self.run, self.run.settings.command
        resume = self.file.exists()
        if not self.samples.is_dir():  # nor a file or a broken link that the script has put there
            self.samples.unlink(missing_ok=True)
            self.samples.mkdir(parents=True)
        for name, text in run.source.items():
            path = self.code / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
            path.chmod(0o755 if text.startswith("#!") else 0o644)
        first = run.settings.metrics.seed
        rows = ({"index": at, "caption": text, "seed": (first + at) % _SEEDS} for at, text in enumerate(captions))
        write_text(self.folder / "prompts.jsonl", "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
        about: dict[str, Any] = {"run": run.id, "cell": run.cell, "seed": run.seed, "toggles": list(run.toggles)}
        about |= {"args": dict(command.args), "snapshots": command.snapshots, "resume": resume}
        about |= {"resolution": run.settings.data.resolution, "folder": str(self.folder), "study": str(self.study)}
        about |= {"prompts": str(self.folder / "prompts.jsonl"), "samples": str(self.samples)}
        write_json(self.file, {**about, "metrics": str(self.metrics)}, durable=True)


def job_of(run: Run, folder: Path) -> Job:
    """The job of the run in `folder`, which is <study>/runs/LABEL/ID or <study>/runs/LABEL/anew/ID."""
    # A study may be called `runs` too: then LABEL is not the place, nor is what holds "anew", of `run-grid --retrain`.
    above = (place for label, place in pairwise(folder.parents) if (run.study, label.name) != ("runs", "anew"))
    study = next((place.parent for place in above if place.name == "runs"), folder.parent)
    return Job(run, (folder / SCRIPT_JOB).parent, study)


def captions_asked(dataset: Dataset, manifest: Manifest, columns: GridColumns) -> list[str]:
    """Of the manifest's samples in their order, then of the columns that have one. Raises DataError without any."""
    if manifest.of_distances == NO_CAPTIONS:
        fix = "name a file of captions in metrics.captions"
        raise DataError(f"no image has a caption, so there is nothing to ask a script for; {fix}")
    pairs = zip(manifest.images.tolist(), manifest.captions.tolist(), strict=True)
    asked = [manifest.given[which] if image < 0 else dataset.captions[image][which] for image, which in pairs]
    return [*asked, *(caption for caption in columns.captions if caption is not None)]
