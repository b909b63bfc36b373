"""The sample sheet: the same caption and latent in each column, real images on top, one row for each cell."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from harness.errors import RecordError
from harness.files import read_bytes, read_json
from harness.report.figures import style
from harness.report.figures.marks import describe
from harness.report.figures.style import LINE, SOFT
from harness.runs.record import RunRecord, state_of

COLUMNS = 10
NO_CAPTION = "no caption"
"""Below the image of a column that has none: it is generated from the image's pseudo text feature."""
MOST = 24
"""Rows of cells; those after them are counted below."""
_SIDE, _GAP, _LABEL = 0.425, 0.03, 0.18
_MARGIN, _KEY_LINE = 0.08, LINE * 1.15
_LARGEST = 1024
_PIXELS = 128
"""The least side of a saved image: smaller ones are enlarged by whole factors, without smoothing."""


@dataclass(frozen=True)
class SheetRow:
    """One row of images under one label."""

    label: str
    note: str
    grid: Path | None
    """A PNG of R x 16R pixels; None: there is nothing to show."""
    cell: str = ""
    """Empty for real images."""


def sample_captions(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """The captions of the sheet's columns, which all runs share; none when no run has drawn samples."""
    return tuple(caption for caption, _ in _columns(records))


def _columns(records: Sequence[RunRecord]) -> list[tuple[str, bool]]:
    """The caption of each column, and whether a real image belongs to it."""
    for record in records:
        try:
            rows = read_json(record.folder / "samples" / "captions.json") if record.folder != Path() else None
        except RecordError:
            continue
        entries = rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else []
        columns = [(entry.get("caption", 0), entry.get("image_id", 0) is not None) for entry in entries]
        if columns and all(isinstance(text, str | None) for text, _ in columns):
            return [(NO_CAPTION if text is None else text, has_image) for text, has_image in columns[:COLUMNS]]
    return []


def draw(records: Sequence[RunRecord], stem: Path) -> bool:
    """The newest samples of each cell's first seed. False when no run has drawn samples."""
    captions = sample_captions(records)
    if not captions:
        return False
    cells = cell_rows(records)
    real = (record.folder / "samples" / "real.png" for record in records if record.folder != Path())
    rows = cells[:MOST]
    if any(has_image for _, has_image in _columns(records)):
        rows = [SheetRow("real images", "held out", next(filter(Path.exists, real), None)), *rows]
    left_out = f"The first {MOST} of {len(cells)} cells." if len(cells) > MOST else ""
    step = _LABEL + _SIDE + _GAP
    head, body = 0.24, len(rows) * step
    # The captions by the numbers of their columns: side by side where all fit.
    half = (style.WIDTH - 2 * _MARGIN) / 2
    columns = 2 if all(style.width_of(style.plain(caption)[:400]) <= half - 0.3 for caption in captions) else 1
    lines, width = -(-len(captions) // columns), (style.WIDTH - 2 * _MARGIN) / columns
    height = head + body + 0.1 + lines * _KEY_LINE + (LINE * 1.5 if left_out else 0.0)
    with style.drawing(stem, height) as figure:
        axis = _inches(figure, 0, height)
        for column in range(len(captions)):
            centre = _MARGIN + column * (_SIDE + _GAP) + _SIDE / 2
            axis.text(centre, 0.16, str(column + 1), ha="center", va="center", weight="bold")
        for place, row in enumerate(rows):
            _row(_inches(figure, head + place * step, step), row, len(captions))
        for place, caption in enumerate(captions):
            column, line = divmod(place, lines)
            left, top = _MARGIN + column * width, head + body + 0.08 + line * _KEY_LINE
            style.written(figure, left + 0.14, top, str(place + 1), weight="bold", ha="right")
            style.written(figure, left + 0.2, top, style.fitted(caption, width - 0.26))
        style.written(figure, _MARGIN, height - LINE * 1.3, left_out, color=SOFT)
    return True


def _inches(figure: Figure, top: float, height: float) -> Axes:
    """A strip of the figure, in inches from its upper left corner."""
    axis = style.placed(figure, (0, top, style.WIDTH, height))
    axis.set(xlim=(0, style.WIDTH), ylim=(height, 0))
    axis.set_axis_off()
    return axis


def cell_rows(records: Sequence[RunRecord]) -> list[SheetRow]:
    """The first seed of each cell, in the order of the records."""
    firsts = {record.run.cell: record for record in sorted(records, key=lambda record: -record.run.seed)}
    rows = []
    for cell in dict.fromkeys(record.run.cell for record in records):
        record = firsts[cell]
        steps = steps_of(record)
        state = state_of(record)
        note = f"seed {record.run.seed}" + ("" if state == "done" else f", {state}")
        if steps and state != "done":
            note += f" at step {max(steps)}"
        rows.append(SheetRow(cell, note, steps[max(steps)] if steps else None, cell))
    return rows


def steps_of(record: RunRecord) -> dict[int, Path]:
    """Step -> file of the samples that the run drew there."""
    drawn = (record.folder / "samples").glob("[0-9]*.png") if record.folder != Path() else ()
    return {int(path.stem): path for path in drawn if re.fullmatch("[0-9]{1,15}", path.stem)}


def opened(grid: Path) -> Image.Image | None:
    """A row of samples; None for what is no such image."""
    try:
        with Image.open(io.BytesIO(read_bytes(grid, "") or b"")) as picture:
            if picture.height > _LARGEST or picture.width > 16 * _LARGEST:
                return None
            return picture.convert("RGB")
    except (RecordError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # what Pillow may raise
        return None


def strip(grid: Path, columns: int) -> Image.Image | None:
    """The first images of a grid with nothing between them, small ones enlarged so that every pixel stays visible.

    None for what is no such image.
    """
    whole = opened(grid)
    if whole is None:
        return None
    side = whole.height
    target = side * max(1, -(-_PIXELS // side)) if side < 2 * _PIXELS else 2 * _PIXELS
    how = Image.Resampling.NEAREST if target >= side else Image.Resampling.LANCZOS
    pitch = round(target * (_SIDE + _GAP) / _SIDE)
    row = Image.new("RGBA", (pitch * (columns - 1) + target, target))
    for column in range(columns):
        tile = whole.crop((column * side, 0, (column + 1) * side, side))
        row.paste(tile.resize((target, target), how), (column * pitch, 0))
    return row


def _row(axis: Axes, row: SheetRow, columns: int) -> None:
    describe(axis, cell=row.cell)  # the whole strip, as an image alone cannot be said to be a cell's
    note = style.width_of(row.note)
    label = style.fitted(row.label, style.WIDTH - 2 * _MARGIN - note - 0.12)
    line = _LABEL * 0.62
    axis.text(_MARGIN, line, label, va="center")
    axis.text(_MARGIN + style.width_of(label) + 0.1, line, row.note, va="center", color=SOFT)
    upper, lower = _LABEL, _LABEL + _SIDE
    right = _MARGIN + columns * (_SIDE + _GAP) - _GAP
    images = strip(row.grid, columns) if row.grid else None
    if images is None:
        axis.fill_between([_MARGIN, right], upper, lower, color=style.EMPTY, linewidth=0)
        axis.text((_MARGIN + right) / 2, (upper + lower) / 2, "no samples", ha="center", va="center", color=SOFT)
    else:
        axis.imshow(images, extent=(_MARGIN, right, lower, upper), interpolation="none", aspect="auto", zorder=2)
