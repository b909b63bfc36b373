"""The sample sheet: the same caption and latent down a column, real images on top, one row a cell."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image

from harness.comparison.figures import GREY, INK, drawing
from harness.records import RunRecord, state_of

COLUMNS = 10
# Everything below is in pixels of a drawing at 100 per inch.
_TILE, _GAP, _LABEL, _HEAD, _MARGIN = 96, 8, 170, 74, 10
_INCH = 100
_SHARP = 2  # the saved images are this much finer than the drawing


@dataclass(frozen=True)
class SheetRow:
    """One row of images under one label."""

    label: str
    note: str
    grid: Path | None
    """A PNG of R x 16R pixels; None: there is nothing to show."""


def sample_captions(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The captions of the sheet's columns; none when no run has drawn samples."""
    for record in records:
        path = record.folder / "samples" / "captions.json"
        if record.folder != Path() and path.exists():
            return tuple(entry["caption"] for entry in json.loads(path.read_text(encoding="utf-8")))[:COLUMNS]
    return ()


def sample_sheet(records: Sequence[RunRecord], stem: Path) -> bool:
    """Draws the newest samples of each cell's first seed. False when no run has drawn samples."""
    captions = sample_captions(records)
    if not captions:
        return False
    rows = [_real_row(records), *_cell_rows(records)]
    width = _LABEL + len(captions) * (_TILE + _GAP) + _MARGIN
    height = _HEAD + len(rows) * (_TILE + _GAP) + _MARGIN
    with drawing(stem) as figure:
        figure.set_layout_engine("none")
        figure.set_size_inches(width / _INCH, height / _INCH)
        axis = figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(0, width), ylim=(height, 0))
        axis.set_axis_off()
        for column, caption in enumerate(captions):
            centre = _LABEL + column * (_TILE + _GAP) + _TILE / 2
            axis.text(centre, _HEAD - 6, _wrapped(caption), ha="center", va="bottom", fontsize=7, color=INK)
        for place, row in enumerate(rows):
            _draw_row(axis, row, _HEAD + place * (_TILE + _GAP), len(captions))
    return True


def _wrapped(caption: str) -> str:
    return "\n".join(textwrap.wrap(caption, 17, max_lines=4, placeholder=" …"))


def _real_row(records: Sequence[RunRecord]) -> SheetRow:
    grids = (record.folder / "samples" / "real.png" for record in records if record.folder != Path())
    return SheetRow("real images", "held out", next((path for path in grids if path.exists()), None))


def _cell_rows(records: Sequence[RunRecord]) -> list[SheetRow]:
    firsts: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda record: record.run.seed):
        firsts.setdefault(record.run.cell, record)
    cells = dict.fromkeys(record.run.cell for record in records)
    return [_cell_row(firsts[cell]) for cell in cells]


def _cell_row(record: RunRecord) -> SheetRow:
    found = sorted((record.folder / "samples").glob("[0-9]*.png")) if record.folder != Path() else []
    state = state_of(record)
    note = f"seed {record.run.seed}" + ("" if state == "done" else f", {state}")
    if found and state != "done":
        note += f" at step {int(found[-1].stem)}"
    return SheetRow(record.run.cell, note, found[-1] if found else None)


def _draw_row(axis: Axes, row: SheetRow, top: float, columns: int) -> None:
    middle = top + _TILE / 2
    axis.text(_LABEL - 12, middle - 8, row.label, ha="right", va="center", fontsize=9, color=INK)
    axis.text(_LABEL - 12, middle + 12, row.note, ha="right", va="center", fontsize=7, color=GREY)
    for column in range(columns):
        left = _LABEL + column * (_TILE + _GAP)
        if row.grid is None:
            axis.add_patch(Rectangle((left, top), _TILE, _TILE, facecolor="#f3f3f3", edgecolor="none"))
        else:
            extent = (left, left + _TILE, top + _TILE, top)
            axis.imshow(_tile(row.grid, column), extent=extent, interpolation="none", aspect="auto", zorder=2)


def _tile(grid: Path, column: int) -> Image.Image:
    """One image of a grid, small ones upscaled without smoothing so that every pixel stays visible."""
    with Image.open(grid) as picture:
        side = picture.height
        tile = picture.convert("RGB").crop((column * side, 0, (column + 1) * side, side))
    target = _TILE * _SHARP
    smooth = side > target
    return tile.resize((target, target), Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)
