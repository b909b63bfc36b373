"""Writes finished runs of a study without training, to see what many runs cost: python -m tools.many_runs STUDY.

Their numbers are made up: ideas with known effects, seeds that share a level, and learning curves. The folders have
every small file that a trained run leaves, so that `status`, `report`, `ls`, `gc` and `sync` read what they read after
a grid. The study must have no runs yet.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.code.engine import today
from harness.errors import SpecError
from harness.files import write_json
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result, Run, Status
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan

SNAPSHOTS = 5
ROLES = {"fd_emoji": "headline", "clip_score": "headline", "kid_emoji": "further", "recall": "further"}
CARD = {"n": 1000, "n_real": 3529, "d": 256, "captions": "train", "extractor": "embedded:resnet-measure"}
CARD |= {"extractor_fingerprint": "0f" * 8, "resize": "8-bit RGB, antialiased", "manifest": "ab" * 8}
LOSSES = ("generator/total", "generator/adversarial", "discriminator/total", "discriminator/adversarial")
EFFECTS = {"img_img_loss": -0.12, "paired_contrast": -0.06, "transform_w": 0.04, "resnet_guided": -0.3}
"""On the log distance; of every other idea 0.02."""


def write_runs(plan: Plan, points: int = 130) -> None:
    """Every run of the plan, done, with this many points of losses."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16 * 16, 3), dtype=np.uint8))
    steps = [
        Point(step, step / 30, 1.8e9 + step, dict.fromkeys(LOSSES, 1 / (1 + step))) for step in range(1, points + 1)
    ]
    losses = "".join(map(_line, steps))
    captions = json.dumps([{"caption": f"picture {number}", "image_id": number} for number in range(16)])
    engine = asdict(today())
    of_cell: dict[str, dict[str, Any]] = {}
    for run in plan.runs:
        folder = RunFolder(plan.study.root / run.id)
        (folder.path / "samples").mkdir(parents=True)
        alike = of_cell.setdefault(run.cell, asdict(run))
        write_json(folder.path / "run.json", alike | {"id": run.id, "seed": run.seed, "engine": engine})
        _write_results(folder, run, losses)
        for name in (f"{run.settings.total_steps:09d}.png", "real.png"):
            picture.save(folder.path / "samples" / name)
        (folder.path / "samples" / "captions.json").write_text(captions)


def _write_results(folder: RunFolder, run: Run, losses: str) -> None:
    rng = np.random.default_rng(int(run.id, 16))
    level = np.random.default_rng(run.seed).normal(0, 0.08)
    end = level + sum(EFFECTS.get(name, 0.02) for name in run.toggles) + rng.normal(0, 0.03)
    total = run.settings.total_steps
    curve = [_snapshot(end, share, total) for share in np.linspace(0, 1, SNAPSHOTS)]
    (folder.path / "metrics.jsonl").write_text(_line(curve[0]) + losses + "".join(map(_line, curve[1:])))
    metrics = {name.removeprefix("metrics/"): value for name, value in curve[-1].values.items()}
    cost = {"s_per_kimg": 7.2 + 0.1 * len(run.toggles), "seconds": 118.0, "peak_memory_training_mb": 650.0}
    cards = {name: CARD | {"role": role} for name, role in ROLES.items()}
    result = Result(metrics, cards, cost, hashlib.sha256(run.id.encode()).hexdigest())
    write_json(folder.path / "result.json", asdict(result))  # as RunFolder.finish, which waits for the disk
    folder.put(Status("done", step=total, total_steps=total, attempt=1, seconds=120.0, images_per_s=200.0))
    (folder.path / "log.txt").write_text("made up\n")


def _snapshot(end: float, share: float, total: int) -> Point:
    """The measurements after this share of the training of a run whose log distance ends at `end`."""
    distance = float(25 * np.exp(end + 2.5 * (1 - share) ** 2))
    values = {
        "fd_emoji": distance,
        "kid_emoji": 0.01 * distance,
        "clip_score": 60 - 0.2 * distance,
        "recall": 5 / distance,
    }
    return Point(
        int(share * total), share * 16, 1.8e9 + share, {f"metrics/{name}": value for name, value in values.items()}
    )


def _line(point: Point) -> str:
    return json.dumps(asdict(point), sort_keys=True) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    plan = make_plan(load_study(options.study, None, options.set))
    if plan.study.root.exists():
        raise SpecError(f"{plan.study.root}: is there already; made-up runs need a folder of their own")
    write_runs(plan)
    print(f"{plan.study.root}: {len(plan.runs)} runs")


if __name__ == "__main__":
    main()
