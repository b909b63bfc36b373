"""How the report looks in a browser: what is wider than the page, headers, dark mode, units that stay with numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from test_report_page import CHROMIUM, browser, built, load, searched, tabs  # noqa: F401

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


@pytest.fixture(params=["built", "searched"])
def page_of(request, tabs, built: Path, searched: Path) -> Callable:  # noqa: F811
    """Opens one of the reports: width and scheme -> page. At most two at a time."""
    unused = list(tabs)

    def show(width: int = 1440, scheme: str = "light"):
        page = unused.pop()
        load(page, {"built": built, "searched": searched}[request.param], {"width": width, "height": 700}, scheme)
        page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        page.wait_for_timeout(100)
        return page

    return show


BOXES = """() => [...document.querySelectorAll('.scroll')].map((box) => ({
  wider: box.scrollWidth > box.clientWidth + 1,
  told: getComputedStyle(box, '::before').content.includes('scroll sideways'),
}))"""


@pytest.mark.parametrize("width", [390, 900, 1440, 1920])
def test_a_line_stands_over_every_table_that_is_wider_than_the_page_and_no_other(page_of, width) -> None:
    boxes = page_of(width).evaluate(BOXES)
    assert boxes and all(box["told"] == box["wider"] for box in boxes)
    assert width > 390 or any(box["wider"] for box in boxes)


@pytest.mark.parametrize("width", [390, 900, 1280, 1440, 1920])
def test_letters_of_drawings_do_not_shrink_and_no_desktop_cuts_them(page_of, width) -> None:
    drawn = page_of(width).evaluate(
        "[...document.querySelectorAll('.card > .drawing:not(.plot)')]"
        ".map(one => [one.getBoundingClientRect().width, one.parentElement.clientWidth])"
    )
    assert drawn and min(whole for whole, _ in drawn) >= 600, "drawings are made for 704 px"
    assert width < 900 or all(whole <= seen + 1 for whole, seen in drawn)


def test_the_line_follows_the_size_of_the_window(page_of) -> None:
    page = page_of(390)
    before = sum(box["told"] for box in page.evaluate(BOXES))
    page.set_viewport_size({"width": 1920, "height": 700})
    page.wait_for_timeout(100)
    boxes = page.evaluate(BOXES)
    assert sum(box["told"] for box in boxes) < before and all(box["told"] == box["wider"] for box in boxes)


def test_headers_and_first_columns_stay_in_sight(page_of) -> None:
    found = page_of(390).evaluate("""() => [...document.querySelectorAll('.scroll:has(table)')].map((box) => {
      box.style.maxHeight = '90px';
      box.scrollTop = 60;
      box.scrollLeft = 50;
      const place = (one) => one.getBoundingClientRect(), at = place(box);
      const [head, first] = [place(box.querySelector('thead th')), place(box.querySelector('tbody th'))];
      return {down: box.scrollTop, along: box.scrollLeft, top: head.top - at.top, left: first.left - at.left};
    })""")
    scrolled = [one for one in found if one["down"] >= 40]
    assert scrolled and all(abs(one["top"]) < 1.5 for one in scrolled)
    aside = [one for one in found if one["along"] >= 20]
    assert aside and all(abs(one["left"]) < 1.5 for one in aside)


def test_in_the_dark_drawings_are_dark_and_photographs_keep_their_colours(page_of, tmp_path) -> None:
    page, light = page_of(1440, "dark"), page_of(1440, "light")
    drawn = ".card > :is(img, svg)"
    assert page.locator(drawn).count() >= 3
    for place in range(page.locator(drawn).count()):
        shares = []
        for shown in (page, light):
            shown.locator(drawn).nth(place).screenshot(path=tmp_path / "card.png")
            with Image.open(tmp_path / "card.png") as picture:
                grey = np.asarray(picture.convert("L"))
            shares.append(float((grey > 200).mean()))
        assert shares[0] < 0.3 < 0.4 < shares[1], f"picture {place}: {shares} of it is bright"


def test_colours_of_samples_are_the_same_in_the_dark(tabs, built, tmp_path) -> None:  # noqa: F811
    tiles = []
    for scheme in ("light", "dark"):
        load(tabs[0], built, {"width": 1440, "height": 700}, scheme)
        tabs[0].locator("svg.photographs").screenshot(path=tmp_path / "sheet.png")
        with Image.open(tmp_path / "sheet.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
        vivid = pixels[np.ptp(pixels, axis=1) > 90].astype(int)
        tiles.append(set((vivid @ (1 << 16, 1 << 8, 1)).tolist()))
    assert tiles[0] and len(tiles[0] & tiles[1]) > 0.8 * len(tiles[0])


def test_no_number_is_parted_from_its_unit(page_of) -> None:
    text = page_of().evaluate("document.querySelector('main').textContent")
    assert not re.findall(r"\d (?:%|px|kimg)(?![\w])|\d ± \d|\d to −?\d", text)
    assert "\N{NO-BREAK SPACE}" in text
