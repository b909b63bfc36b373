"""All figures: hostile text stays text, and the same input gives the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from figured import (
    FD,
    HOSTILE,
    SCORE,
    analysis,
    factorial,
    plain,
    result,
    texts,
)
from harness.analysis.results import Lenth
from harness.report.figures import curves, forest, half_normal, interactions, sheet, style, tradeoff
from synthetic import draw_samples, study_like

FORMATS = (".svg", ".pdf", ".png")


def every(folder: Path, toggles: tuple[str, str], samples: Path) -> list[str]:
    """All figures of a small study whose toggles and captions have these names."""
    rng = np.random.default_rng(0)
    cells = {on: {seed: float(rng.uniform(3, 4)) for seed in range(2)} for on in factorial(toggles)}
    made = result(FD, toggles, cells)
    score = result(SCORE, toggles, {on: {s: 50 - v for s, v in each.items()} for on, each in cells.items()})
    found = analysis(toggles, made, score)
    drawn = study_like({cell.cell: 1.0 for cell in made.cells}, seeds=2)
    drawn[0] = replace(drawn[0], folder=samples)
    lenth = Lenth(toggles, (0.5, -0.2), 0.01, 0.02, 0.03)
    draw: dict[str, Callable[[Path], Any]] = {
        "forest": lambda stem: forest.draw(found, stem),
        "interactions": lambda stem: interactions.draw(found, stem),
        "curves": lambda stem: curves.draw(found, drawn, made, stem),
        "tradeoff": lambda stem: tradeoff.draw(found, {cell.cell: 5.0 for cell in made.cells}, stem),
        "half_normal": lambda stem: half_normal.draw(replace(made, lenth=lenth), stem),
        "sheet": lambda stem: sheet.draw(drawn, stem),
    }
    assert all(one(folder / name) for name, one in draw.items())
    return list(draw)


@pytest.mark.parametrize("toggles", [(HOSTILE[0], HOSTILE[2]), (HOSTILE[1], HOSTILE[3])])
def test_hostile_names_and_captions_stay_text(toggles, tmp_path):
    samples = draw_samples(tmp_path / "run", HOSTILE, seed=0)
    for name in every(tmp_path, toggles, samples):
        svg = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
        assert tags <= {"svg", "metadata", "RDF", "Work", "type", "format", "creator", "Agent", "title",
                        "defs", "style", "g", "path", "use", "clipPath", "rect", "image"}  # fmt: skip
        assert "<script" not in svg and "http" not in svg.split("</metadata>")[1].replace("http://www.w3.org/", "")
    said = texts(tmp_path / "sheet.svg")
    assert "$x^2$" in said and "=cmd()" in said and "a b��" in said


def test_same_input_same_bytes_in_another_process(tmp_path, every_format):
    samples = draw_samples(tmp_path / "run", ["one", "two"], seed=0)
    program = "import sys; from pathlib import Path; from test_figures_alike import every; "
    program += "every(Path(sys.argv[1]), ('a', 'b'), Path(sys.argv[2]))"
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    every(here, ("a", "b"), samples)
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program, str(there), str(samples)], check=True, env=environment, timeout=240)
    files = sorted(path.name for path in here.iterdir())
    assert len(files) == 6 * len(FORMATS) and {Path(name).suffix for name in files} == set(FORMATS)
    for name in files:
        content = (here / name).read_bytes()
        assert content == (there / name).read_bytes(), name
        assert b"CreationDate" not in content and b"<dc:date>" not in content


def test_every_figure_is_as_wide_as_a_column(tmp_path, every_format):
    forest.draw(plain(), tmp_path / "f")
    with Image.open(tmp_path / "f.png") as picture:
        assert picture.width == round(style.WIDTH * 300)
