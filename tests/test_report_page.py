"""The report in a browser: complete, quiet, narrow, and all of it within reach of a keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import trained_once
from harness.report.search.write import write_search
from harness.report.write import write_report
from reported import REPORTS, SHIPPED, SHIPPED_SEARCHES, material_of, records_of, study_of, unfinished
from search_findings import better, four
from synthetic import draw_samples

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
NARROW, WIDE = {"width": 390, "height": 844}, {"width": 1400, "height": 1000}
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
FOCUSABLE = "a[href], button, summary, select, input:enabled, [tabindex='0']"

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def tabs(browser) -> list:
    """Two pages to `load` reports in, as a page of its own for each test costs more than the report in it."""
    return [browser.new_page(), browser.new_page()]


def load(tab, report: Path, viewport: dict[str, int], scheme: str = "light") -> None:
    """As in a new page: nothing outlives the document but what is set here, as reports store nothing."""
    tab.set_viewport_size(viewport)
    tab.emulate_media(color_scheme=scheme)
    tab.goto(report.as_uri())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with hostile names and captions and runs that failed."""

    def build(home: Path) -> None:
        study = study_of(home, ["img_img_loss", "paired_contrast", SCRIPT, "a_name_without_end_" * 12])
        records = records_of(study)
        samples = draw_samples(home / "run", [SCRIPT, "two pears"], seed=0)
        records[4] = unfinished(records[4], "diverged", f"Diverged: {SCRIPT}")
        records = [replace(records[0], folder=samples), *records[1:]]
        write_report(material_of(study, records), home / "report")

    return trained_once("page", build, tmp_path_factory.mktemp("page")) / "report" / "report.html"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a search, with trials that measured nothing."""

    def build(home: Path) -> None:
        write_search(replace(four(home), comparison=better()), home / "report")

    return trained_once("search-page", build, tmp_path_factory.mktemp("search")) / "report" / "report.html"


@pytest.fixture(params=["built", "searched", *SHIPPED, *SHIPPED_SEARCHES])
def report(request: pytest.FixtureRequest, built: Path, searched: Path) -> Path:
    made = {"built": built, "searched": searched}
    return made.get(request.param) or REPORTS / request.param / "report.html"


@pytest.fixture
def section(report: Path) -> str:
    """The part of the page that has its largest table in sight: cells of a grid, trials of a search."""
    return "#trials" if (report.parent / "search.json").exists() else "#cells"


@pytest.fixture
def opened(tabs: list, report: Path) -> Iterator:
    """The report at the width of a phone; fails if the page complained, asked for anything or spoke up."""
    page, heard = tabs[0], []
    listeners = {
        "console": lambda message: heard.append(message.text),
        "pageerror": lambda error: heard.append(str(error)),
        "requestfailed": lambda request: heard.append(request.url[:80]),
        "dialog": lambda dialog: (heard.append(dialog.message), dialog.dismiss()),
        "request": lambda request: heard.append(request.url) if request.url[:5] not in ("file:", "data:") else None,
    }
    for event, listener in listeners.items():
        page.on(event, listener)
    load(page, report, NARROW)
    yield page
    page.goto("about:blank")
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    assert heard == []


def test_every_picture_is_there(opened):
    widths = opened.evaluate(
        "[...document.querySelectorAll('img:not(.viewer img)')].map(image => image.complete && image.naturalWidth)"
    )
    drawings = opened.evaluate(
        "[...document.querySelectorAll('svg.drawing')].map(one => one.getBoundingClientRect().width)"
    )
    assert len(widths) + len(drawings) >= 3 and all(widths) and all(drawings)
    assert opened.evaluate("[...document.querySelectorAll('svg.drawing')].every(one => one.ariaLabel.length > 20)")
    assert all(
        opened.evaluate("[...document.querySelectorAll('img:not(.viewer img)')].map(image => image.alt.length > 20)")
    )


def test_the_page_never_scrolls_sideways(opened):
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    for viewport in (NARROW, {"width": 800, "height": 1000}, WIDE):
        opened.set_viewport_size(viewport)
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth"), viewport
        assert opened.evaluate(
            "[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, caption'))"
            ".every(one => one.getBoundingClientRect().right <= innerWidth + 1)"
        ), viewport


def test_everything_that_acts_is_reached_by_tab(opened):
    wanted = opened.evaluate(
        f"""() => {{
        const all = [...document.querySelectorAll("{FOCUSABLE}")].filter(one => one.checkVisibility());
        all.forEach((one, place) => one.dataset.place = place);
        return all.length;
    }}"""
    )
    reached = set()
    for _ in range(wanted + 5):
        opened.keyboard.press("Tab")
        reached.add(opened.evaluate("document.activeElement.dataset.place"))
    assert reached >= {str(place) for place in range(wanted)}


def test_the_first_tab_leads_to_the_answer(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "answer"


def keys(section: str, column: int) -> str:
    """What the first table of a section is sorted by in a column; null where nothing was measured."""
    rows = f"[...document.querySelector('{section} tbody').rows]"
    return f"{rows}.map(row => Number(row.cells[{column}].dataset.key ?? NaN)).map(key => isNaN(key) ? null : key)"


def test_every_number_of_a_table_is_sorted_by_keyboard(opened, section):
    """What is missing stays last, whichever way the rest is sorted."""
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    headers = opened.locator(f"{section} table").first.locator("th[scope=col]")
    numbers = [place for place in range(headers.count()) if headers.nth(place).get_attribute("class") == "number"]
    sorted_by = 0
    for place in numbers:
        found = opened.evaluate(keys(section, place))
        known, missing = [key for key in found if key is not None], [key for key in found if key is None]
        if len(known) < 2:  # d_z under two seeds
            continue
        sorted_by += 1
        headers.nth(place).locator("button").focus()
        for key, state, turned in (("Enter", "ascending", False), ("Space", "descending", True)):
            opened.keyboard.press(key)
            assert headers.nth(place).get_attribute("aria-sort") == state
            assert opened.evaluate(keys(section, place)) == [*sorted(known, reverse=turned), *missing]
    assert sorted_by >= 3


def test_every_button_says_what_it_does(opened):
    assert all(opened.evaluate("[...document.querySelectorAll('button')].map(one => one.textContent.trim() !== '')"))


def test_a_link_to_a_run_unfolds_the_table_of_runs(opened, section):
    opened.evaluate("document.querySelectorAll('#cells details').forEach(one => one.open = true)")
    links = opened.locator("#cells a[href^='#run-']")
    assert (links.count() > 0) == (section == "#cells")
    for link in links.all()[:1]:
        row = opened.locator(str(link.get_attribute("href")))
        assert not row.is_visible()
        link.press("Enter")
        row.wait_for(state="visible")


PARTS = {
    "#cells": ("#answer", "#effects table", "#cells table", "#runs", "#provenance", "nav a"),
    "#trials": (
        "#answer",
        "#weights table",
        "#comparison table",
        "#search :is(img, svg)",
        "#trials table",
        "#method",
        "nav a",
    ),
}


def test_without_scripts_the_page_is_complete(browser, report, section):
    context = browser.new_context(java_script_enabled=False, viewport=NARROW)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("button").count() == 0
    for name in PARTS[section]:
        assert page.locator(name).first.is_visible(), name
    for summary in page.locator("#runs summary").all()[-1:]:
        summary.click()
        assert page.locator("#run-1").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page(tabs, report, scheme):
    """Contrast of 4.5 to 1 (WCAG AA) for the text of the answer and of its verdicts."""
    page = tabs[0]
    load(page, report, WIDE, scheme)
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) == (scheme == "dark")
    found = page.evaluate(
        "[...document.querySelectorAll('p, li, h1, h2, a, .mark, td, th')]"
        ".filter(one => one.checkVisibility() && !one.closest('#caveats')).map(one => getComputedStyle(one).color)"
    )
    for colour in set(found):
        light, dark = sorted((luminance(colour), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour


def luminance(colour: str) -> float:
    """Of `rgb(r, g, b)`, relative to white."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
