"""The samples that a run has drawn, as images with their captions."""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from pathlib import Path

from PIL import Image

from harness import given
from harness.errors import HarnessError, RecordError, nearest
from harness.files import read
from harness.report.figures.sheet import NO_CAPTION, opened, steps_of
from harness.runs.record import RunRecord
from harness.study.plan import Plan
from harness.text import one_line, shortened

_SHOWN = 128
"""Pixels a side at which a notebook shows an image."""


@dataclass(frozen=True)
class _Column:
    """Of captions.json; what else stands there is of no matter here."""

    caption: str | None


@dataclass(frozen=True, eq=False)
class Samples:
    """What one run has drawn at one step: an image for each caption, with the latent that all runs share for it."""

    cell: str
    seed: int
    step: int
    steps: tuple[int, ...]
    """All steps at which the run has drawn samples, the first one first."""
    captions: tuple[str, ...]
    """One for each image; "no caption" for an image from a pseudo text feature."""
    sheet: Image.Image
    """The images side by side as the run has saved them: R x (number * R) pixels, RGB."""
    real_sheet: Image.Image | None
    """Real held-out images of the same captions, white for a caption of no image; None where they are not there."""

    @cached_property
    def images(self) -> tuple[Image.Image, ...]:
        """The generated images, R x R pixels each, RGB."""
        return _tiles(self.sheet)

    @cached_property
    def real(self) -> tuple[Image.Image, ...]:
        """The real images, as `images`; empty where they are not there."""
        return _tiles(self.real_sheet) if self.real_sheet else ()

    def _repr_html_(self) -> str:
        about = f"{self.cell}, seed {self.seed}, step {self.step}"
        tiles = "".join(_figure(*each) for each in zip(self.images, self.captions, strict=True))
        return f"<div>{_text(about)}<div>{tiles}</div></div>"

    def __repr__(self) -> str:
        side = f"{self.sheet.height} x {self.sheet.height} pixels"
        return f"<{len(self.images)} samples of {self.cell}, seed {self.seed}, step {self.step}: {side}>"


def read_samples(plan: Plan, cell: str, seed: int, step: int | None) -> Samples:
    """The samples of one run, at its last step where none is named. Raises HarnessError."""
    given.check("cell", cell, str, "the name of a cell")
    given.check("seed", seed, Integral, "a whole number")
    given.check_number("step", step, is_whole=True)
    planned = plan.cell(cell)
    runs = {run.seed: run for run in plan.runs_of(planned)}
    if seed not in runs:
        seeds = shortened([str(each) for each in runs], 20)
        raise HarnessError(
            f"{planned.name}: no seed {seed!r}{nearest(str(seed), map(str, runs)) or ';'} its seeds are {seeds}"
        )
    record = next(each for each in plan.snapshot().records if each.run.id == runs[seed].id)
    steps = steps_of(record)
    about = f"{planned.name} seed {seed}"
    if not steps:
        why = f"no samples in {record.folder / 'samples'}" if record.folder.name else "it has not begun"
        fix = f"train it with {plan.study.command('run-grid')}" if record.status.state != "done" else "run it again"
        raise HarnessError(f"{about} is {record.status.state}: {why}; {fix}")
    chosen = max(steps) if step is None else step
    if chosen not in steps:
        there = ", ".join(map(str, sorted(steps)))
        raise HarnessError(f"{about}: no samples at step {chosen!r}; they were drawn at {there}")
    return _read(record, planned.name, chosen, steps)


def _read(record: RunRecord, cell: str, step: int, steps: dict[int, Path]) -> Samples:
    folder = record.folder / "samples"
    columns = read(folder / "captions.json", tuple[_Column, ...], "move the run's folder away to run again") or ()
    sheet, real = opened(steps[step]), opened(folder / "real.png")
    if sheet is None:
        raise RecordError(f"{steps[step]}: is no picture that can be shown; delete it")
    if not columns or sheet.width != sheet.height * len(columns):
        size = f"{sheet.width} x {sheet.height} pixels"
        raise RecordError(f"{steps[step]}: has {size}, which are not {len(columns)} images side by side; delete it")
    captions = tuple(NO_CAPTION if each.caption is None else each.caption for each in columns)
    fits = real is not None and real.width == real.height * len(columns)
    every = tuple(sorted(steps))
    return Samples(cell, record.run.seed, step, every, captions, sheet, real if fits else None)


def _tiles(sheet: Image.Image) -> tuple[Image.Image, ...]:
    side = sheet.height
    return tuple(sheet.crop((left, 0, left + side, side)) for left in range(0, sheet.width, side))


def _text(text: str) -> str:
    return html.escape(one_line(text))


def _figure(image: Image.Image, caption: str) -> str:
    file = io.BytesIO()
    image.save(file, format="PNG")
    source = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    pixels = "image-rendering: pixelated; " if image.height < _SHOWN else ""
    return (
        f'<figure style="display: inline-block; vertical-align: top; margin: 4px; width: {_SHOWN}px">'
        f'<img src="{source}" alt="" style="{pixels}width: {_SHOWN}px; height: {_SHOWN}px">'
        f'<figcaption style="font-size: 85%">{_text(caption)}</figcaption></figure>'
    )
