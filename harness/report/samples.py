"""Samples of all runs for the viewer of the page: the same captions and latents by cell, seed and step."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from harness.report.document.model import Sample, Viewer
from harness.report.figures.sheet import opened, sample_captions, steps_of
from harness.runs.record import RunRecord
from harness.text import quantity

MOST_BYTES = 1_200_000
"""Of all pictures of a page together."""
LOSSLESS = 32
"""The largest side of an image that is kept exactly; larger ones are compressed with loss."""
LARGEST = 256
"""The largest side; larger images are made smaller."""
REAL = "real images"


def viewer(records: Sequence[RunRecord]) -> Viewer | None:
    """As many samples as MOST_BYTES hold: the last step of every cell's first seed, of its other seeds, then earlier
    steps. None where no run has drawn samples."""
    captions = sample_captions(records)
    rows = list(_rows(records)) if captions else []
    samples: list[Sample] = []
    size, largest = 0, 0
    for cell, seed, step, path in rows:
        picture = opened(path)
        if picture is None or picture.height * len(captions) > picture.width:
            continue
        largest = max(largest, picture.height)
        data = _encoded(picture, len(captions))
        size += len(data)
        if size > MOST_BYTES and samples:
            break
        samples.append(Sample(cell, seed, step, data))
    if not samples:
        return None
    notes = [f"{quantity(len(samples), 'picture')} of {len(rows)} are part of this page; all are in the runs' folders."]
    if len(samples) == len(rows):
        notes = []
    if largest > LOSSLESS:
        notes.append(f"Compressed with loss, as they have more than {LOSSLESS} pixels a side.")
    if largest > LARGEST:
        notes.append(f"Made smaller, to {LARGEST} pixels a side.")
    return Viewer(captions, tuple(samples), " ".join(notes))


def _rows(records: Sequence[RunRecord]) -> Iterator[tuple[str, int | None, int | None, Path]]:
    """(cell, seed, step, file) of every row of samples, the most important first; real images before all."""
    drawn = [record for record in records if record.folder != Path()]
    real = next(filter(Path.exists, (record.folder / "samples" / "real.png" for record in drawn)), None)
    if real:
        yield REAL, None, None, real
    by_cell: dict[str, list[tuple[bool, int, int, Path]]] = {}
    for record in sorted(drawn, key=lambda record: record.run.seed):
        steps = steps_of(record)
        own = by_cell.setdefault(record.run.cell, [])
        own += [(step != max(steps), record.run.seed, -step, path) for step, path in steps.items()]
    ranked = [(rank, cell, row) for cell, own in by_cell.items() for rank, row in enumerate(sorted(own))]
    places = {cell: place for place, cell in enumerate(dict.fromkeys(record.run.cell for record in records))}
    for _, cell, (_, seed, step, path) in sorted(ranked, key=lambda each: (each[0], places[each[1]])):
        yield cell, seed, -step, path


def _encoded(row: Image.Image, columns: int) -> bytes:
    """The first images of a row side by side, as WebP."""
    side = row.height
    row = row.crop((0, 0, side * columns, side))
    if side > LARGEST:
        row = row.resize((LARGEST * columns, LARGEST), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    row.save(file, format="WEBP", lossless=side <= LOSSLESS, quality=85)
    return file.getvalue()
