"""Drawings of a report in a browser: what a mark says, by pointer and by keyboard; chosen and hidden cells."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.report import wording
from harness.report.document.drawing import drawing
from harness.report.write import write_report
from reported import IDEAS, material_of, records_of, study_of
from test_report_page import CHROMIUM, SCRIPT, WIDE, browser, load, tabs  # noqa: F401

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
MARKS = "#answer svg .mark[aria-label]"
ALL = f"[...document.querySelectorAll('{MARKS}')]"
UNIT = "lr 5 %"
"""A name in which a page parts no number from its unit."""
NAMES = (*IDEAS[:2], UNIT, SCRIPT)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    study = study_of(tmp_path_factory.mktemp("study"), NAMES)
    return material_of(study, records_of(study))


@pytest.fixture(scope="module")
def folder(material, tmp_path_factory) -> Path:
    return write_report(material, tmp_path_factory.mktemp("marks") / "report").parent


@pytest.fixture
def page(tabs, folder: Path) -> Iterator:  # noqa: F811
    load(tabs[0], folder / "report.html", WIDE)
    yield tabs[0]
    tabs[0].goto("about:blank")


def effect(page, cell: str):
    return page.locator(f'#answer svg .mark[aria-label][data-cell="{cell}"]').first


def said(material, cell: str) -> str:
    result = material.analysis.headlines[0]
    estimate = next(effect.estimate for effect in result.effects if effect.toggle == cell)
    assert estimate.value is not None and estimate.low is not None and len(estimate.by_seed) == 3
    text = wording.whole(result.metric, cell, estimate)
    parts = [wording.signed(result.metric, value) for value in (estimate.value, *estimate.by_seed)]
    assert all(part in text for part in parts) and wording.brackets(result.metric, estimate.low, estimate.high) in text
    return text.replace("; ", "\n")


@pytest.mark.parametrize("way", ["pointer", "focus"])
@pytest.mark.parametrize("cell", ["transform_w", SCRIPT])
def test_a_mark_says_its_value_interval_and_seeds(page, material, way, cell) -> None:
    cell = " ".join(cell.split())
    mark = page.locator(MARKS)
    place = page.evaluate(f"cell => {ALL}.findIndex(one => one.dataset.cell === cell)", cell)
    mark.nth(place).hover() if way == "pointer" else mark.nth(place).focus()
    tip = page.locator(".tip")
    assert tip.is_visible() and tip.inner_text() == said(material, cell)
    box = tip.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= WIDE["width"] and box["y"] >= 0
    if way == "pointer":
        page.mouse.move(2, 2)
    else:
        page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_an_interval_says_what_its_mark_says(page, material) -> None:
    cap = page.locator('#answer svg .mark:not([aria-label])[data-cell="transform_w"] path').first
    cap.dispatch_event("pointerover", {"bubbles": True, "clientX": 300, "clientY": 300})
    assert page.locator(".tip").inner_text() == said(material, "transform_w")


def test_arrow_keys_go_from_mark_to_mark(page) -> None:
    here = "document.activeElement.getAttribute('aria-label')"
    labels = page.evaluate(f"{ALL}.map(one => one.ariaLabel)")
    page.locator(MARKS).first.focus()
    page.keyboard.press("ArrowDown")
    assert page.evaluate(here) == labels[1]
    page.keyboard.press("End")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(here) == labels[-1]
    page.keyboard.press("Home")
    assert page.evaluate(here) == labels[0]
    stops = page.evaluate("document.querySelectorAll('#answer svg [tabindex=\"0\"]').length")
    assert stops == 1, "Tab leaves a drawing at once"


def test_a_chosen_cell_stands_out_in_every_drawing_and_table(page) -> None:
    effect(page, "transform_w").focus()
    page.keyboard.press("Enter")
    found = page.evaluate("[...document.querySelectorAll('.chosen')].map(one => [one.tagName, one.dataset.cell])")
    assert {cell for _, cell in found} == {"transform_w"} and {name for name, _ in found} >= {"g", "TR"}
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map(one => one.dataset.cell)"
    assert set(page.evaluate(pressed)) == {"transform_w"}
    pale = "getComputedStyle(document.querySelector('#answer svg .mark[aria-label][data-cell=\"{}\"]')).opacity"
    assert page.evaluate(pale.format("transform_w")) == "1" and page.evaluate(pale.format("img_img_loss")) == "0.2"
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelectorAll('.chosen, .choosing, [aria-pressed=true]').length") == 0


def test_a_name_is_one_in_drawings_and_tables(page, material) -> None:
    names = {" ".join(name.split()) for name in (*NAMES, *(cell.cell for cell in material.analysis.cells))}
    for kind in ("svg", "table"):
        own = page.evaluate(f"[...document.querySelectorAll('{kind} [data-cell]')].map(one => one.dataset.cell)")
        assert UNIT in own and set(own) <= names


@pytest.mark.parametrize(("attribute", "value"), [("cell", "transform_w"), ("metric", "clip_score"), ("seed", "1")])
def test_what_is_hidden_is_hidden_everywhere(page, attribute, value) -> None:
    every = f"[...document.querySelectorAll('[data-{attribute}=\"{value}\"]')]"
    assert page.evaluate(f"{every}.length") > 5
    page.locator("nav .shown summary").focus()
    page.keyboard.press("Enter")
    title = {"cell": "transform_w", "metric": "CLIP score, points", "seed": "seed 1"}[attribute]
    box = page.get_by_role("checkbox", name=title, exact=True)
    box.focus()
    page.keyboard.press("Space")
    assert page.evaluate(f"{every}.every(one => !one.getClientRects().length)")
    others = (
        f"[...document.querySelectorAll('[data-{attribute}]')].filter(one => one.dataset.{attribute} !== '{value}')"
    )
    assert page.evaluate(f"{others}.some(one => one.getClientRects().length)")
    page.keyboard.press("Space")
    assert page.evaluate(f"{every}.some(one => one.getClientRects().length)")


def hide(page, *names: str) -> None:
    page.locator("nav .shown summary").click()
    for name in names:
        page.get_by_role("checkbox", name=name, exact=True).uncheck()


def test_what_is_hidden_is_named_in_no_sentence(page) -> None:
    """Lists close up, a sentence about it goes, and all comes back as it was."""
    answer = page.locator("#answer")
    before = answer.inner_text()
    assert "transform_w improves" in before and "transform_w lowers it" in before
    hide(page, "transform_w", "full")
    told = answer.inner_text()
    for name in ("transform_w", "Everything on", "Best means: full"):
        assert name in before or name.startswith("Best")
        assert not re.search(rf"\b{name}\b(?!-)", told.replace("full-minus-transform_w", "")), name
    torn = re.compile(r", (?:and|;|\.)|; ;|^; |: \.|\band \.", re.MULTILINE)  # some sentences have a comma before and
    assert len(torn.findall(told)) <= len(torn.findall(before))
    assert page.locator("[role=status]").first.inner_text().startswith("Hidden: transform_w, full.")
    for name in ("full", "transform_w"):
        page.get_by_role("checkbox", name=name, exact=True).check()
    assert answer.inner_text() == before
    assert page.locator("[role=status]").first.inner_text() == "Nothing is hidden."


def test_of_a_list_the_rest_stays_with_its_verb(page) -> None:
    lead = page.locator("#answer .lead")
    names = page.evaluate(
        "[...document.querySelector('#answer .lead .names:has(> :nth-child(2))').children].map(one => one.textContent)"
    )
    several = lead.inner_text()
    hide(page, names[0])
    assert names[0] not in lead.inner_text() and lead.inner_text() != several
    if len(names) == 2:
        assert re.search(rf"{re.escape(names[1])} (has|improves|makes|changes)", lead.inner_text())


def test_a_cell_is_highlighted_by_keyboard_and_its_state_is_told(page) -> None:
    page.locator("nav .shown summary").click()
    button = page.get_by_role("button", name="highlight transform_w", exact=True)
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true" and page.locator("tr.chosen").count() > 2
    assert "Highlighted: transform_w." in page.locator("[role=status]").first.inner_text()


LINES = "[...document.querySelectorAll('.plot .mark[data-seed]')]"


def heights(page, cell: str) -> list[float]:
    """Of the points of a cell's first curve, down from the upper edge."""
    path = page.locator(f'.plot .mark[data-seed="0"][data-cell="{cell}"] path').last.get_attribute("d")
    return [float(point.split(" ")[1]) for point in re.split("[ML]", path)[1:]]


def test_curves_of_seeds_on_either_axis(page, material) -> None:
    """Steps are in proportion to differences on one axis, and to ratios on the other."""
    values = [point.values["metrics/fd_emoji"] for point in material.records[0].points[1:]]
    boxes = page.locator(".curves")
    assert page.evaluate(f"{LINES}.length") == len(material.records)
    for axis, scale in (("logarithmic", math.log), ("linear", float)):
        boxes.get_by_label("Axis").select_option(axis)
        drawn, wanted = heights(page, "origin"), [scale(value) for value in values]
        shares = [(drawn[0] - each) / (drawn[0] - drawn[-1]) for each in drawn]
        assert shares == pytest.approx([(wanted[0] - each) / (wanted[0] - wanted[-1]) for each in wanted], abs=0.01)
    assert len(heights(page, "origin")) == 4
    boxes.get_by_label("from the start").check()
    assert len(heights(page, "origin")) == 5


def test_a_curve_is_reached_by_keyboard_and_says_whose_it_is(page) -> None:
    page.locator(".plot .mark[tabindex='0']").focus()
    page.keyboard.press("End")
    assert "mean" in page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("Home")
    assert re.match(r".+, seed \d: [\d.]+ at 20 thousand", page.locator(".tip").inner_text())


def test_hidden_seeds_and_cells_have_no_curve_and_give_way(page) -> None:
    chosen = page.locator(".curves").get_by_label("Second cell").input_value()
    count = page.evaluate(f"{LINES}.length")
    hide(page, chosen, "seed 1")
    left = page.evaluate(f"{LINES}.map(one => [one.dataset.cell, one.dataset.seed])")
    assert len(left) == (count // 3 - 1) * 2 and not [1 for cell, seed in left if cell == chosen or seed == "1"]
    assert page.locator(".curves").get_by_label("Second cell").input_value() not in (chosen, "origin")


def test_without_scripts_a_mark_has_a_title(browser, folder, material) -> None:  # noqa: F811
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto((folder / "report.html").as_uri())
    titles = page.locator("#answer svg .mark > title").all_text_contents()
    assert said(material, "transform_w").replace("\n", "; ") in titles
    assert page.locator(".shown, .tip, .plot").count() == 0
    context.close()


def test_only_what_draws_becomes_part_of_a_page(tmp_path) -> None:
    (tmp_path / "f.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="alert(1)">\n'
        '<script>alert(1)</script><g id="a" onclick="alert(2)" style="fill: #fff"><title>x &lt;b&gt;</title>'
        '<use xlink:href="http://example.org/#b"/><use xlink:href="#a"/><image href="x"/><a href="javascript:1"/>'
        '<image xlink:href="http://example.org/x.png"/><image xlink:href="data:image/svg+xml;base64,AA=="/>'
        "</g></svg>"
    )
    made = drawing(tmp_path / "f.svg", '"><script>')
    assert not re.search(
        r"script>|alert|example|svg.xml|<a\b|style=|width=|(?<!use )href=\"[^#]|<image [^/]",
        made.replace("&gt;&lt;script&gt;", ""),
    )
    assert 'id="f-a"' in made and 'href="#f-a"' in made and 'fill="#fff"' in made and "x &lt;b&gt;" in made
