"""Made-up run records, for the modules that only read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.runs.record import Point, Result, Run, RunRecord, Status
from harness.settings import Settings

CARD = {"n": 2048, "n_real": 3500, "captions": "train", "extractor": "embedded:resnet-measure"}
CARD |= {"extractor_fingerprint": "0f" * 8, "resize": "antialiased", "manifest": "ab" * 8}


def record(
    cell: str, seed: int, metrics: Mapping[str, float] | None, state: str | None = None, **changes: Any
) -> RunRecord:
    """A run of that cell and seed, done when it has metrics, else pending."""
    toggles = () if cell == "origin" else tuple(cell.split("+"))
    run = Run(f"{cell[:6]}{seed:06d}", "study", cell, seed, toggles, Settings(), {"data": "d" * 16})
    status = Status(state=state or ("done" if metrics else "pending"), seconds=61.0, total_steps=1000)
    result = None
    if metrics:
        result = Result(dict(metrics), {name: dict(CARD) for name in metrics}, {"s_per_kimg": 12.5, "seconds": 61.0})
    return replace(RunRecord(run, status, result), **changes)


def grid(values: Mapping[str, Mapping[int, float]], metric: str = "fd_emoji") -> list[RunRecord]:
    """cell -> seed -> value of one metric."""
    return [record(cell, seed, {metric: value}) for cell, seeds in values.items() for seed, value in seeds.items()]


def study_like(effects: Mapping[str, float], seeds: int = 3, spread: float = 0.05) -> list[RunRecord]:
    """Runs with learning curves whose distance ends `effects[cell]` (a factor) times the origin's."""
    rng = np.random.default_rng(5)
    blocks = rng.normal(0, 0.1, size=seeds)
    found = []
    for cell, factor in effects.items():
        for seed in range(seeds):
            noise = rng.normal(0, spread, size=6)
            curve = [
                60 * np.exp(-2.6 * (1 - np.exp(-2.5 * t)) + np.log(factor) * t + blocks[seed] + noise[i] * 0.5)
                for i, t in enumerate(np.linspace(0, 1, 5))
            ]
            points = tuple(
                Point(i * 250, i * 6.5, 0.0, {f"metrics/{name}": v for name, v in _row(float(value), noise).items()})
                for i, value in enumerate(curve)
            )
            final = {name.removeprefix("metrics/"): value for name, value in points[-1].values.items()}
            found.append(record(cell, seed, final, points=points))
    return found


def _row(distance: float, noise: np.ndarray) -> dict[str, float]:
    score = 70 - 18 * np.log(distance / 3) + 8 * noise[5]
    return {
        "fd_emoji": distance,
        "clip_score": float(np.clip(score, 5, 90)),
        "kid_emoji": distance * 0.01 - 0.03,
        "r_precision": float(np.clip(score / 100, 0, 1)),
        "precision": 0.6 + float(noise[4]),
        "recall": 0.4 - float(noise[4]),
        "clip_score_seen": float(np.clip(score, 5, 90)) + 5,
    }


def draw_samples(folder: Path, captions: list[str], seed: int, step: int = 1000, side: int = 16) -> Path:
    """A folder of samples as a run leaves it."""
    samples = folder / "samples"
    samples.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for name in ("real", f"{step:09d}"):
        pixels = rng.integers(0, 256, size=(side, side * len(captions), 3), dtype=np.uint8)
        Image.fromarray(pixels).save(samples / f"{name}.png")
    rows = [{"caption": caption, "image_id": index} for index, caption in enumerate(captions)]
    (samples / "captions.json").write_text(json.dumps(rows))
    return folder
