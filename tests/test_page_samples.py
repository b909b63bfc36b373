"""The viewer of samples in a browser: two cells, a caption, a seed and a step; and which samples a page can hold."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.report import samples
from harness.report.write import write_report
from reported import IDEAS, material_of, records_of, study_of
from synthetic import draw_samples
from test_report_page import CHROMIUM, SCRIPT, WIDE, browser, load, tabs  # noqa: F401

CAPTIONS = [SCRIPT, "two pears", "a bus"]
STEPS = (500, 1000)


def sampled(home: Path, side: int = 16):
    """Records of three cells under two seeds, with samples of two steps."""
    study = study_of(home, IDEAS[:2], "one-at-a-time", seeds=2)
    records = []
    for place, record in enumerate(records_of(study)):
        folder = draw_samples(home / record.run.id, CAPTIONS, seed=place, step=STEPS[0], side=side)
        pixels = np.random.default_rng(100 + place).integers(0, 256, (side, side * len(CAPTIONS), 3), np.uint8)
        Image.fromarray(pixels).save(folder / "samples" / f"{STEPS[1]:09d}.png")
        records.append(replace(record, folder=folder))
    return study, records


def test_every_sample_is_there_and_exact_where_all_fit(tmp_path) -> None:
    _, records = sampled(tmp_path)
    view = samples.viewer(records)
    assert view is not None and view.captions == tuple(CAPTIONS) and view.note == ""
    assert view.samples[0].cell == samples.REAL and len(view.samples) == 1 + len(records) * len(STEPS)
    for sample in view.samples[1:]:
        [record] = [it for it in records if (it.run.cell, it.run.seed) == (sample.cell, sample.seed)]
        with Image.open(record.folder / "samples" / f"{sample.step:09d}.png") as picture:
            assert (pixels_of(sample.picture) == np.asarray(picture)).all()


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_of_more_than_a_page_holds_every_cell_has_its_last_step_first(tmp_path, monkeypatch) -> None:
    _, records = sampled(tmp_path)
    whole = samples.viewer(records)
    sizes = [len(sample.picture) for sample in whole.samples]
    monkeypatch.setattr(samples, "MOST_BYTES", sum(sizes[:6]))
    view = samples.viewer(records)
    assert view.note.startswith("6 pictures of 13 are part of this page")
    kept = [(sample.cell, sample.seed, sample.step) for sample in view.samples[1:]]
    cells = [record.run.cell for record in records[::2]]
    assert kept[:3] == [(cell, 0, STEPS[1]) for cell in cells] and kept[3:] == [
        (cell, 1, STEPS[1]) for cell in cells[:2]
    ]


def test_large_images_are_compressed_and_that_is_told(tmp_path) -> None:
    _, records = sampled(tmp_path, side=40)
    view = samples.viewer(records)
    assert "Compressed with loss" in view.note and pixels_of(view.samples[0].picture).shape == (40, 120, 3)


def test_damaged_and_absent_samples_are_passed_over(tmp_path) -> None:
    _, records = sampled(tmp_path)
    (records[0].folder / "samples" / f"{STEPS[1]:09d}.png").write_bytes(b"no image")
    (records[1].folder / "samples" / f"{STEPS[1]:09d}.png").unlink()
    assert len(samples.viewer(records).samples) == 1 + len(records) * len(STEPS) - 2
    assert samples.viewer([replace(record, folder=Path()) for record in records]) is None


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("viewer")
    study, records = sampled(home)
    return write_report(material_of(study, records), home / "report").parent / "report.html", records


@pytest.fixture
def page(tabs, made) -> Iterator:  # noqa: F811
    load(tabs[0], made[0], WIDE)
    yield tabs[0]
    tabs[0].goto("about:blank")


PIXELS = """async (place) => {
  const canvas = document.querySelectorAll('.viewer canvas')[place];
  await new Promise((done) => setTimeout(done, 50));
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  return JSON.stringify([canvas.width, getComputedStyle(canvas).imageRendering, canvas.ariaLabel, [...data]]);
}"""


def shown(page, place: int):
    side, rendering, label, data = json.loads(page.evaluate(PIXELS, place))
    assert rendering == "pixelated"
    return label, np.array(data, np.uint8).reshape(side, side, 4)[..., :3]


def drawn(records, cell: str, seed: int, step: int, caption: int) -> np.ndarray:
    [record] = [record for record in records if (record.run.cell, record.run.seed) == (cell, seed)]
    with Image.open(record.folder / "samples" / f"{step:09d}.png") as picture:
        return np.asarray(picture)[:, caption * 16 : (caption + 1) * 16]


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_two_cells_a_caption_a_seed_and_a_step_show_both_samples(page, made) -> None:
    records, cells = made[1], [record.run.cell for record in made[1][::2]]
    for place, cell in enumerate(cells[:2]):
        assert (shown(page, place)[1] == drawn(records, cell, 0, STEPS[1], 0)).all()
    choose = {"Caption": "2", "Left": cells[2], "Right": cells[0], "Seed": "1", "Step": str(STEPS[0])}
    for label, value in choose.items():
        page.locator(".viewer").get_by_label(label, exact=True).select_option(value)
    for place, cell in enumerate((cells[2], cells[0])):
        label, pixels = shown(page, place)
        assert (pixels == drawn(records, cell, 1, STEPS[0], 2)).all()
        assert label == f"{cell}, seed 1, step {STEPS[0]}: {CAPTIONS[2]}"


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_one_over_the_other_is_cut_by_the_slider_with_the_keyboard_alone(page) -> None:
    page.locator(".viewer input[type=checkbox]").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    clip = "document.querySelectorAll('.viewer canvas')[1].style.clipPath"
    assert page.evaluate(clip) == "inset(0px 0px 0px 100%)"
    page.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 0px 0px 99%)"
    boxes = page.evaluate(
        "[...document.querySelectorAll('.viewer canvas')].map(one => one.getBoundingClientRect().left)"
    )
    assert boxes[0] == boxes[1]


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_a_hidden_cell_cannot_be_chosen(page, made) -> None:
    cell = made[1][2].run.cell
    page.locator("nav .shown summary").click()
    page.get_by_role("checkbox", name=cell, exact=True).uncheck()
    assert page.locator(f".shown label:has-text('{samples.REAL}')").count() == 0, "it is no cell"
    shown = f"[...document.querySelectorAll('.viewer option')].filter(one => one.value === '{cell}')"
    assert page.evaluate(f"{shown}.length") == 2
    assert page.evaluate(f"{shown}.every(one => getComputedStyle(one).display === 'none')")


@pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
def test_without_scripts_the_viewer_is_not_there(browser, made) -> None:  # noqa: F811
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto(made[0].as_uri())
    assert page.locator(".viewer").count() == 1 and not page.locator(".viewer").is_visible()
    context.close()
