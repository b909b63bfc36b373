"""A run tells where it stands in time, how much memory it took for what, and is measured in batches that fit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

import executed
from harness.data import features
from harness.metrics import evaluate
from harness.metrics import measure as module
from harness.metrics.folders import Picture
from harness.metrics.real_side import real_side
from harness.report.context import COSTS
from harness.runs.folders import RunFolder
from harness.runs.record import Point
from harness.training import cost
from harness.training import session as execute
from runs import F


@pytest.mark.parametrize(
    ("side", "expected"), [(8, 128), (64, 128), (128, 128), (256, 32), (512, 8), (1024, 2), (4096, 1)]
)
def test_images_are_generated_by_pixels(side: int, expected: int) -> None:
    assert features.batch_of(side**2) == expected
    assert expected == 1 or expected * side**2 <= features.BATCH_PIXELS


@pytest.mark.parametrize("size", [1, 3, 7, 128])
def test_batches_cover_all_places_once(size: int) -> None:
    places = [place for part in features.batches(20, size) for place in range(20)[part]]
    assert places == list(range(20))


def test_no_number_depends_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    conditions = draw.normal(size=(40, 6)).astype(np.float32)
    project = torch.from_numpy(draw.normal(size=(3 * 16, 5)).astype(np.float32))
    sizes: list[int] = []

    def generate(latents: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        sizes.append(len(latents))
        mixed = torch.tanh(latents[:, :4, None] * texts[:, None, :4])  # [n,4,4], each image by itself
        return mixed[:, None].expand(-1, 3, -1, -1)

    def encode(images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1)[:, :, None] * project).sum(1)  # row by row, to the bit

    judge: Any = SimpleNamespace(seen=False, name="torch_fidelity:inception-v3-compat")
    manifest: Any = SimpleNamespace(
        images=np.arange(40), samples=30, seed=3, clip=judge, resnet=judge,
        names={name: name for name in ("fd", "kid", "precision", "recall", "clip_score", "r_precision")},
    )  # fmt: skip
    real = draw.normal(size=(30, 5)).astype(np.float32)
    references = module.References(
        (module.ImageNetwork(judge, real, real_side(real), encode),), conditions,
        draw.normal(size=(10, 5)).astype(np.float32), clip=encode,
        guide=cast(Any, SimpleNamespace(image=encode)), device="cpu",
    )  # fmt: skip
    monkeypatch.setattr(module.formulas, "clip_score", lambda images, texts: float(np.abs(images).sum()))
    whole = module.measure(generate, 8, manifest, references)
    assert max(sizes) == 30
    for batch in (1, 7):
        sizes.clear()
        assert module.measure(generate, 8, manifest, replace(references, batch=batch)) == whole
        assert max(sizes) == batch and sum(sizes) == 40


def test_large_images_of_a_folder_are_looked_at_by_few(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    sizes = [(8, 8), (16, 16), (8, 8), (16, 16), (8, 8)]
    pictures = [Picture(draw.integers(0, 256, (3, *size), dtype=np.uint8), b"") for size in sizes]
    seen: list[tuple[int, ...]] = []

    def encode(images: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(images.shape))
        return images.flatten(1)[:, :4]

    [whole] = evaluate._encode(pictures, [encode], "cpu")
    monkeypatch.setattr(features, "BATCH_PIXELS", 2 * 64)
    seen.clear()
    [parts] = evaluate._encode(pictures, [encode], "cpu")
    assert seen == [(2, 3, 8, 8), (1, 3, 8, 8), (1, 3, 16, 16), (1, 3, 16, 16)]
    assert (parts == whole).all() and np.allclose(whole[1], pictures[1].pixels.ravel()[:4] / 127.5 - 1)


PEAKS = """
import os
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import numpy as np, psutil
from harness.training import cost

def fall(forget):
    before = np.ones(2**26, np.uint8)  # 64 MiB, every page of them touched
    del before
    high = cost.peak_memory_mb()
    forget()
    return high - cost.peak_memory_mb()

def ask_the_system():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass

possible = fall(ask_the_system) > 30
forgotten = fall(cost.forget_peak)
low = cost.peak_memory_mb()
held = np.ones(2**25, np.uint8)
high = cost.peak_memory_mb()
print(int(possible), forgotten, high - low, high - psutil.Process().memory_info().rss / 2**20)
"""
"""In a process of its own: in one that has run other tests, freed memory need not go back to the system."""


def test_the_peak_of_memory_is_of_what_came_after_it_was_forgotten() -> None:
    printed = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True).stdout
    possible, forgotten, rise, over = map(float, printed.split())
    assert over >= -1
    if not possible:
        pytest.skip("this system does not forget a process's peak of memory")
    assert forgotten > 30 and rise > 30


def test_peaks_of_earlier_attempts_count() -> None:
    points = [Point(step, 0.1, 1.0, {cost.TRAINING_PEAK: peak}) for step, peak in ((1, 700.0), (2, 300.0))]
    assert cost.largest(points, cost.TRAINING_PEAK) == 700 and cost.largest(points, cost.MEASURING_PEAK) == 0


def test_both_peaks_have_a_column_in_the_report() -> None:
    titles = [COSTS[f"peak_memory_{what}_mb"] for what in ("training", "measuring")]
    assert titles == ["peak MiB, training", "peak MiB, measuring"]


class _Folder:
    """Where statuses go."""

    def __init__(self) -> None:
        self.updates: list[dict[str, Any]] = []
        self.points_written: list[Point] = []

    def update(self, **changes: Any) -> None:
        self.updates.append(changes)

    def append(self, point: Point) -> None:
        self.points_written.append(point)


def session(monkeypatch: pytest.MonkeyPatch, seconds_a_step: float, total: int) -> Any:
    """A run whose steps take that long, by a clock that is moved by hand."""
    now = [1000.0]
    monkeypatch.setattr("harness.training.session.time.perf_counter", lambda: now[0])
    made: Any = object.__new__(execute.Session)

    def step(number: int) -> dict[str, torch.Tensor]:
        now[0] += seconds_a_step
        return {"generator/total": torch.tensor(1.0), "discriminator/total": torch.tensor(2.0)}

    made.folder, made.trainer = _Folder(), SimpleNamespace(step=step)
    made.settings = SimpleNamespace(train=SimpleNamespace(batch=32))
    made.claim, made.team = SimpleNamespace(check=lambda: None), SimpleNamespace(order=lambda *_: None)
    made.signals = SimpleNamespace(wants_checkpoint=lambda: False)
    made.total, made.log_every, made.snapshots = total, max(1, total // execute.LOG_POINTS), ()
    made.clock, made.pause = execute.Clock(0.0), 1e9
    made.lazy, made.done, made.saved, made.logged, made.shown = {}, 0, 0, 0, 16
    made.training_peak = made.held_memory = 0.0
    return made


def test_a_slow_run_tells_where_it_stands_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = session(monkeypatch, seconds_a_step=2.0, total=40_000)
    assert slow.log_every == 400, "thirteen minutes between two points"
    for _ in range(300):
        slow._step()
    told = [0, *(update["step"] for update in slow.folder.updates)]
    assert max(np.diff(told)) * 2.0 <= execute.SILENCE_SECONDS + 2.0 and told[-1] >= 285
    assert all(update["images_per_s"] == pytest.approx(16.0) for update in slow.folder.updates)
    assert slow.folder.updates[0]["last"] == {"G": 1.0, "D": 2.0}
    assert slow.folder.points_written == [], "points stay where their steps put them, whatever the machine"


def test_a_run_shows_its_memory_once_it_has_taken_every_kind_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = session(monkeypatch, seconds_a_step=0.01, total=40_000)
    for _ in range(17):
        quick._step()
    assert [update["step"] for update in quick.folder.updates] == [16]
    assert quick.folder.updates[0]["images_per_s"] == pytest.approx(3200.0), "which lets the next run join its GPU"


def test_the_memory_that_it_holds_is_noted_by_then_and_not_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute.cost, "held_memory_mib", lambda: 1234.0)
    slow = session(monkeypatch, seconds_a_step=40.0, total=40_000)
    for _ in range(18):
        slow._step()
    noted = {update["step"]: update.get("memory_mib") for update in slow.folder.updates}
    assert set(noted) >= {1, 15, 16, 17} and all(noted[step] == (1234.0 if step >= 16 else None) for step in noted)


def test_a_run_records_both_peaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executed.install(monkeypatch.setattr)
    folder = tmp_path / executed.RUN.id
    assert executed.execute(folder) == 0
    result = RunFolder(folder).result()
    assert result is not None
    training, measuring = (result.cost[f"peak_memory_{what}_mb"] for what in ("training", "measuring"))
    assert training > 50 and measuring > 50


def test_a_long_measurement_is_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executed.install(monkeypatch.setattr)
    monkeypatch.setattr(execute, "SILENCE_SECONDS", 0.0)
    seen: list[float] = []

    def measure(generate: Any, *_: Any) -> dict[str, float]:
        z, text = torch.zeros(2, executed.SETTINGS.generator.z_dim), torch.zeros(2, F)
        for _ in range(3):
            generate(z, text)
            seen.append(RunFolder(folder).status().updated)
        return {"fd": 1.0}

    monkeypatch.setattr(execute, "measure", measure)
    folder = tmp_path / executed.RUN.id
    assert executed.execute(folder) == 0
    assert seen == sorted(set(seen)), "each batch is a sign of life"
