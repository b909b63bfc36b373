"""`make bench`: seconds per training step, where they go, and what the machine's convolutions could do in that time.

Real data, real encoders, the shipped study's sizes and two fixed ones. Everything is measured in one process, and the
step alternates with its textbook form (`tools.textbook`, always fp32), so that other load slows both alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.table import Table

from harness.models import toggles
from harness.settings import Settings
from harness.study.load import load_study
from harness.training.cost import gflops_per_step
from harness.training.setup import Prepared, prepare
from harness.training.trainer import Trainer, frozen
from tools.textbook import textbook

PARTS = {"G": "G", "D": "D", "encoders": "enc.", "regularisers": "reg.", "optimiser": "opt.", "other": "other"}


@dataclass(frozen=True)
class Case:
    """A size and a set of toggles."""

    name: str
    settings: Settings
    reference: bool = False  # timed against its textbook form too


@dataclass(frozen=True)
class Timing:
    """Seconds per step, of its textbook form and of each part, and the arithmetic of a step."""

    step: float
    textbook: float | None
    parts: dict[str, float]
    gflop: float


def main(study: Path = Path("ablations.yaml"), steps: int = 3, threads: int = 0, bf16: bool = False) -> None:
    """Print the table. `threads` 0: all cores."""
    precision: Literal["fp32", "bf16"] = "bf16" if bf16 else "fp32"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads or torch.get_num_threads())
    console = Console()
    ceiling = convolution_ceiling(device, torch.bfloat16 if bf16 else torch.float32)
    console.print(
        f"{device}, {torch.get_num_threads()} threads, {precision}; convolution ceiling {ceiling:.0f} GFLOP/s"
    )
    table = Table("case", "s/step", "textbook", "GFLOP", "ceiling", *PARTS.values(), box=None, padding=(0, 1, 0, 0))
    for case in cases(study):
        settings = replace(case.settings, train=replace(case.settings.train, precision=precision))
        timing = measure_step(prepare(settings, device), steps, case.reference)
        shares = [f"{timing.parts[part] / timing.step:.0%}" for part in PARTS]
        share = timing.gflop / timing.step / ceiling
        faster = f"{timing.textbook / timing.step:.2f}x" if timing.textbook else ""
        table.add_row(case.name, f"{timing.step:.3f}", faster, f"{timing.gflop:.1f}", f"{share:.0%}", *shares)
    console.print(table)
    console.print("textbook: times faster than the same step written out in fp32; ceiling: share of it that is used")


def cases(study: Path) -> list[Case]:
    """Origin and full at the sizes of the quick and standard profiles, and the origin at the two reference sizes."""
    chosen = []
    for profile in ("quick", "standard"):
        settings = load_study(study, profile).settings
        chosen.append(Case(f"{profile} origin", settings))
        chosen.append(Case(f"{profile} full", toggles.apply(settings, toggles.TOGGLES)))
    quick = load_study(study, "quick").settings
    chosen.append(Case("(a) 32 px", _reference(quick, 32, 2048, 128), reference=True))
    chosen.append(Case("(b) 64 px", _reference(quick, 64, 4096, 256), reference=True))
    return chosen


def _reference(settings: Settings, resolution: Literal[32, 64], base: int, most: int) -> Settings:
    """The published widths (z = w = 512, 8 mapping layers, batch 16) at a small resolution."""
    default = Settings()
    return replace(
        settings,
        data=replace(settings.data, resolution=resolution),
        generator=replace(default.generator, channel_base=base, channel_max=most),
        discriminator=replace(default.discriminator, channel_base=base, channel_max=most),
        train=default.train,
    )


def convolution_ceiling(device: str, dtype: torch.dtype) -> float:
    """GFLOP/s of a large 3x3 convolution, forward: the best of several sizes and repeats."""
    return max(_convolution(device, dtype, channels, size) for channels, size in ((128, 32), (256, 16), (256, 32)))


def _convolution(device: str, dtype: torch.dtype, channels: int, size: int) -> float:
    x = torch.randn(16, channels, size, size, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    seconds = min(_seconds(lambda: F.conv2d(x, weight, padding=1)) for _ in range(10))
    return 2 * 16 * size**2 * channels**2 * 9 / seconds / 1e9


def measure_step(prepared: Prepared, steps: int, reference: bool) -> Timing:
    """Median over `steps` whole steps, regularisers at their share, and the parts by themselves."""
    trainer = prepared.trainer(0)
    for step in range(2):
        trainer.step(step)
    ours, written_out = [], []
    for _ in range(steps):
        ours.append(_step(trainer))
        if reference:
            with textbook():
                written_out.append(sum(_step(trainer)))
    main, regularisers = (statistics.median(part) for part in zip(*ours, strict=True))
    parts = _parts(trainer, steps) | {"regularisers": regularisers}
    parts["other"] = main + regularisers - sum(parts.values())
    slow = statistics.median(written_out) if reference else None
    return Timing(main + regularisers, slow, parts, gflops_per_step(prepared.trainer(0)))


def _step(trainer: Trainer) -> tuple[float, float]:
    """Seconds of one step without regularisers, and of the regularisers at their share."""
    train, batch = trainer.settings.train, trainer.batch(1)
    main = _seconds(lambda: (trainer.d_step(batch, 1), trainer.g_step(batch, 1), trainer.average(1)))
    regularisers = 0.0
    if train.r1_gamma:
        regularisers += _seconds(lambda: trainer.r1_step(batch, 1)) / train.r1_interval
    if train.pl_weight:
        regularisers += _seconds(lambda: trainer.path_step(batch, 1)) / train.pl_interval
    return main, regularisers


def _parts(trainer: Trainer, steps: int) -> dict[str, float]:
    """Seconds of each part of a discriminator and a generator step, run alone."""
    batch = trainer.batch(1)
    with torch.no_grad():
        images = trainer.imagine(batch, 1, "generator")
    leaves = {name: image.clone().requires_grad_(True) for name, image in images.items()}

    def generator() -> None:
        with torch.no_grad():
            trainer.imagine(batch, 1, "discriminator")
        sum(image.sum() for image in trainer.imagine(batch, 1, "generator").values()).backward()  # type: ignore[union-attr]

    def discriminator() -> None:
        sum(it.b.sum() + it.f_txt.sum() for it in trainer.judge({**images, "r": batch.real}, 1, "").values()).backward()  # type: ignore[union-attr]
        with frozen(trainer.networks.discriminator):
            sum(it.b.sum() + it.f_txt.sum() for it in trainer.judge(leaves, 1, "").values()).backward()  # type: ignore[union-attr]

    def encoders() -> None:
        sum(feature.sum() for feature in trainer.guide(leaves, 1).values()).backward()  # type: ignore[union-attr]

    def optimiser() -> None:
        for each in trainer.optimizers.values():
            each.step()
        trainer.average(1)

    parts: dict[str, Callable[[], object]] = {
        "G": generator,
        "D": discriminator,
        "encoders": encoders,
        "optimiser": optimiser,
    }
    return {name: _median(part, steps) for name, part in parts.items()}


def _median(part: Callable[[], object], repeats: int) -> float:
    part()  # the first time allocates memory and chooses kernels
    return statistics.median(_seconds(part) for _ in range(repeats))


def _seconds(part: Callable[[], object]) -> float:
    start = time.perf_counter()
    part()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    typer.run(main)
