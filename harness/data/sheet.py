"""A contact sheet: some images of a prepared data set, each above its captions."""

from __future__ import annotations

import textwrap
from pathlib import Path

import numpy as np

from harness.data.dataset import Dataset
from harness.rng import numpy_generator

_COLUMNS, _INCHES = 6, 1.9
_LINE, _LINES = 26, 4


def contact_sheet(dataset: Dataset, path: Path, count: int, seed: int) -> None:
    """Writes a PNG of `count` images drawn by `seed`; held-out ones have a coloured frame."""
    from matplotlib.figure import Figure

    count = min(count, len(dataset.captions))
    chosen = np.sort(numpy_generator(seed, "contact sheet").permutation(len(dataset.captions))[:count])
    held, rows = set(dataset.held_out.tolist()), -(-count // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _INCHES, rows * (_INCHES + 0.5)), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, image in zip(axes, chosen.tolist(), strict=False):
        axis.imshow(dataset.images[image].transpose(1, 2, 0), interpolation="nearest")
        title = axis.set_title(_caption(dataset.captions[image]), fontsize=7, y=-0.02, va="top")
        title.set_parse_math(False)
        if image in held:
            title.set_color("tab:blue")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def _caption(captions: tuple[str, ...]) -> str:
    more = f" (+{len(captions) - 1})" if len(captions) > 1 else ""
    return "\n".join(textwrap.wrap(captions[0] + more, _LINE, max_lines=_LINES, placeholder=" ..."))
