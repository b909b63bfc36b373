"""A contact sheet: some images of a prepared data set, each above its captions."""

from __future__ import annotations

import logging
import textwrap
import unicodedata
from pathlib import Path

import numpy as np

from harness import fonts
from harness.data.dataset import Dataset
from harness.rng import numpy_generator

_COLUMNS, _INCHES = 6, 1.9
_LINE, _LINES = 26, 4
"""Letters of a line of a caption, half as many where letters are wide, and most lines."""
_NO_CAPTION = "no caption"
_log = logging.getLogger("harness")


def contact_sheet(dataset: Dataset, path: Path, count: int, seed: int) -> None:
    """Writes a PNG of `count` images drawn by `seed`; held-out ones have a coloured frame."""
    from matplotlib.figure import Figure

    count = min(count, len(dataset.captions))
    chosen = np.sort(numpy_generator(seed, "contact sheet").permutation(len(dataset.captions))[:count])
    held, rows = set(dataset.held_out.tolist()), -(-count // _COLUMNS)
    figure = Figure(figsize=(_COLUMNS * _INCHES, rows * (_INCHES + 0.5)))
    figure.subplots_adjust(left=0.01, right=0.99, top=1 - 0.05 / rows, bottom=0.5 / (_INCHES + 0.5) / rows, hspace=0.36)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for axis, image in zip(axes, chosen.tolist(), strict=False):
        axis.imshow(dataset.images[image].transpose(1, 2, 0), interpolation="nearest")
        first, *others = dataset.captions[image] or (_NO_CAPTION,)
        text = fonts.drawable(first) + (f" (+{len(others)})" if others else "")
        wide = any(unicodedata.east_asian_width(letter) in "WF" for letter in text)
        lines = textwrap.wrap(text, _LINE // 2 if wide else _LINE, max_lines=_LINES, placeholder=" ...")
        axis.text(
            0.5, -0.03, "\n".join(lines), transform=axis.transAxes, ha="center", va="top", fontsize=7,
            color="tab:blue" if image in held else "black", parse_math=False, family=list(fonts.families(text)),
            style="normal" if dataset.captions[image] else "italic",
        )  # fmt: skip
    figure.savefig(path, dpi=150)
    captions = [dataset.captions[image][0] for image in chosen.tolist() if dataset.captions[image]]
    if lacking := [each for each in captions if fonts.missing(each)]:
        state = f"{len(lacking)} of {len(captions)} captions have letters that no font here has, given in brackets"
        _log.info(f"{state}: {fonts.drawable(lacking[0]):.60}; install a font that has them, such as Noto Sans CJK")
