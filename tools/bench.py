"""`make bench`: seconds per training step, where they go, and what the machine's convolutions could do in that time.

Real data, real encoders, the shipped study's sizes and three fixed ones. Everything is measured in one process. A step
alternates with itself, which shows how far two equal things differ here (A/A), and with its textbook form
(`tools.textbook`, always fp32), so that other load slows all alike. docs/running.md says how to read the table.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from harness.models import toggles
from harness.models.precision import rounded_products
from harness.settings import Settings
from harness.study.load import load_study
from harness.training.cost import convolution_ceiling, gflops_per_step
from harness.training.setup import Prepared, prepare
from harness.training.trainer import Trainer, frozen
from tools.textbook import textbook

PARTS = {
    "data": "data",
    "G": "G",
    "D": "D",
    "encoders": "enc.",
    "regularisers": "reg.",
    "optimiser": "opt.",
    "other": "other",
}  # fmt: skip
T = TypeVar("T")
DRAWN_AT: Literal[64] = 64
"""Pixels of the images of the data; a larger case is shown enlarged ones, so that no large data set is prepared."""

LEGEND = """A/A: the step against itself, so far may equal things differ. textbook: times faster than the textbook form.
ceiling: share of it that is used. batch: seconds to make one. Then shares of the step's time."""


class Precision(StrEnum):
    """As `train.precision`."""

    fp32 = "fp32"
    tf32 = "tf32"
    bf16 = "bf16"


@dataclass(frozen=True)
class Case:
    """A size and a set of toggles."""

    name: str
    settings: Settings
    reference: bool = False  # timed against its textbook form too


@dataclass(frozen=True)
class Timing:
    """Seconds per step, of its textbook form, of each part and of a batch, and the arithmetic of a step."""

    step: float
    again: float  # the step against itself, in turn: the ratio of two equal things
    textbook: float | None
    parts: dict[str, float]
    batch: float  # made alone; on a GPU the next one is made while a step runs
    gflop: float


def main(
    study: Path = Path("ablations.yaml"),
    steps: int = 3,
    threads: int = 0,
    precision: Precision = Precision.fp32,
    only: str = "",
    into: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Print the table. threads 0: all cores. only: cases whose name holds this. json: a file for the figures."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(threads or torch.get_num_threads())
    console = Console(width=None if sys.stdout.isatty() else 120)  # a pipe has no width that could cut columns
    ceiling = convolution_ceiling(device, precision.value)
    console.print(
        f"{device}, {torch.get_num_threads()} threads, {precision}; convolution ceiling {ceiling:.0f} GFLOP/s"
    )
    columns = "case", "s/step", "A/A", "textbook", "GFLOP", "ceiling", "batch", *PARTS.values()
    table, timings = Table(*columns, box=None, padding=(0, 1, 0, 0)), dict[str, Timing]()
    for case in cases(study, device):
        if only not in case.name:
            continue
        print(f"measuring {case.name}", file=sys.stderr)  # minutes pass before the table
        settings = replace(case.settings, train=replace(case.settings.train, precision=precision.value))
        timing = timings[case.name] = measure_step(prepared(settings, device), steps, case.reference)
        table.add_row(case.name, *_row(timing, ceiling))
    console.print(table)
    console.print(LEGEND)
    if into:
        machine = {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}
        machine |= {"gpu": torch.cuda.get_device_name()} if device == "cuda" else {}
        measured = {name: asdict(timing) for name, timing in timings.items()}
        facts = machine | {"precision": precision.value, "ceiling_gflop_per_s": ceiling, "cases": measured}
        into.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _row(timing: Timing, ceiling: float) -> list[str]:
    share = timing.gflop / timing.step / ceiling
    faster = f"{timing.textbook / timing.step:.2f}x" if timing.textbook else ""
    figures = [f"{timing.step:.3f}", f"{timing.again:.2f}", faster, f"{timing.gflop:.1f}", f"{share:.0%}"]
    return [*figures, f"{timing.batch:.4f}", *(f"{timing.parts[part] / timing.step:.0%}" for part in PARTS)]


def cases(study: Path, device: str = "cpu") -> list[Case]:
    """Origin and full at the sizes of the quick and standard profiles, and the origin at three reference sizes.

    At 256 px a processor is given few channels and a small batch, which take seconds and a gigabyte.
    """
    chosen = []
    for profile in ("quick", "standard"):
        settings = load_study(study, profile).settings
        chosen.append(Case(f"{profile} origin", settings))
        chosen.append(Case(f"{profile} full", toggles.apply(settings, toggles.TOGGLES)))
    quick = load_study(study, "quick").settings
    chosen.append(Case("(a) 32 px", _reference(quick, 32, 2048, 128), reference=True))
    chosen.append(Case("(b) 64 px", _reference(quick, 64, 4096, 256), reference=True))
    widths = Settings().generator
    base, most, batch = (widths.channel_base, widths.channel_max, 16) if device == "cuda" else (4096, 256, 4)
    chosen.append(Case("(c) 256 px", _reference(quick, 256, base, most, batch), reference=True))
    return chosen


def _reference(settings: Settings, resolution: Literal[32, 64, 256], base: int, most: int, batch: int = 16) -> Settings:
    """The published widths (z = w = 512, 8 mapping layers) at a resolution."""
    default = Settings()
    return replace(
        settings,
        data=replace(settings.data, resolution=resolution),
        generator=replace(default.generator, channel_base=base, channel_max=most),
        discriminator=replace(default.discriminator, channel_base=base, channel_max=most),
        train=replace(default.train, batch=batch),
    )


class Enlarged:
    """Images [M,3,R,R] of which rows are taken, as if they were of `factor` times the size."""

    def __init__(self, images: Any, factor: int) -> None:
        self.images, self.factor = images, factor

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return cast(NDArray[np.uint8], self.images[rows].repeat(self.factor, 2).repeat(self.factor, 3))


def prepared(settings: Settings, device: str) -> Prepared:
    """What the case's trainer needs; the images of a large size are enlarged when they are read."""
    pixels = settings.data.resolution
    if pixels <= DRAWN_AT:
        return prepare(settings, device)
    drawn = prepare(replace(settings, data=replace(settings.data, resolution=DRAWN_AT)), device)
    corpus, factor = drawn.corpus, pixels // DRAWN_AT
    dataset = replace(corpus.dataset, images=cast(Any, Enlarged(corpus.dataset.images, factor)))
    return replace(drawn, settings=settings, corpus=replace(corpus, dataset=dataset))


def measure_step(prepared: Prepared, steps: int, reference: bool) -> Timing:
    """Median over `steps` rounds of whole steps, regularisers at their share, and the parts by themselves."""
    trainer = prepared.trainer(0)
    with rounded_products(trainer.settings.train.precision == "tf32"):
        for step in range(2):
            trainer.step(step)
        rounds = [_round(trainer, 2 + 3 * place, reference) for place in range(steps)]
        first, second, written_out = (list(each) for each in zip(*rounds, strict=True))
        ours = [pair for both in zip(first, second, strict=True) for pair in both]
        data, main, regularisers = (statistics.median(part) for part in zip(*ours, strict=True))
        parts = {"data": data, **_parts(trainer, steps), "regularisers": regularisers}
        batch = _median(lambda: trainer.read(1).on(trainer.device), steps)
    whole = data + main + regularisers
    parts["other"] = whole - sum(parts.values())
    again = statistics.median(map(sum, first)) / statistics.median(map(sum, second))
    slow = statistics.median(map(sum, written_out)) if reference else None
    return Timing(whole, again, slow, parts, batch, gflops_per_step(prepared.trainer(0)))


Seconds = tuple[float, float, float]
"""Of the batch, of the step without regularisers, and of the regularisers at their share."""


def _round(trainer: Trainer, step: int, reference: bool) -> tuple[Seconds, Seconds, Seconds]:
    """The step, its textbook form, and the step again; every other round begins with the second."""
    first = _step(trainer, step)
    written_out = (0.0, 0.0, 0.0)
    if reference:
        with textbook():
            written_out = _step(trainer, step + 1)
    second = _step(trainer, step + 2)
    return (first, second, written_out) if step % 2 else (second, first, written_out)


def _step(trainer: Trainer, step: int) -> Seconds:
    train = trainer.settings.train
    data, batch = _timed(lambda: trainer.batch(step))  # on a GPU it was begun before: this is what is waited for
    main = _seconds(lambda: (trainer.d_step(batch, step), trainer.g_step(batch, step), trainer.average(step)))
    regularisers = 0.0
    if train.r1_gamma:
        regularisers += _seconds(lambda: trainer.r1_step(batch, step)) / train.r1_interval
    if train.pl_weight:
        regularisers += _seconds(lambda: trainer.path_step(batch, step)) / train.pl_interval
    return data, main, regularisers


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
    return _timed(part)[0]


def _timed(part: Callable[[], T]) -> tuple[float, T]:
    """Seconds that it takes, and what it gives."""
    _settle()
    start = time.perf_counter()
    result = part()
    _settle()
    return time.perf_counter() - start, result


def _settle() -> None:
    """Waits for what the GPU was given before."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    typer.run(main)
