"""The report in a browser: complete, quiet, narrow, and all of it within reach of a keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.write import write_report
from reported import material_of, records_of, study_of, unfinished
from synthetic import draw_samples

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROOT = Path(__file__).parent.parent
CHROMIUM = Path("/usr/bin/chromium")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
SHIPPED = sorted((ROOT / "reports").glob("*/report.html"))
NARROW, WIDE = {"width": 390, "height": 844}, {"width": 1400, "height": 1000}
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
FOCUSABLE = "a[href], button, summary, [tabindex='0']"

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OPTIONS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with hostile names and captions and runs that failed."""
    home = tmp_path_factory.mktemp("page")
    study = study_of(home, ["img_img_loss", "paired_contrast", SCRIPT, "a_name_without_end_" * 12])
    records = records_of(study)
    samples = draw_samples(home / "run", [SCRIPT, "two pears"], seed=0)
    records[4] = unfinished(records[4], "diverged", f"Diverged: {SCRIPT}")
    records = [replace(records[0], folder=samples), *records[1:]]
    return write_report(material_of(study, records), home / "report").parent / "report.html"


@pytest.fixture(params=["built", *(path.parent.name for path in SHIPPED)])
def report(request: pytest.FixtureRequest, built: Path) -> Path:
    return built if request.param == "built" else ROOT / "reports" / request.param / "report.html"


@pytest.fixture
def opened(browser, report: Path) -> Iterator:
    """The report at the width of a phone; fails if the page complained, asked for anything or spoke up."""
    page, heard = browser.new_page(viewport=NARROW), []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("requestfailed", lambda request: heard.append(request.url[:80]))
    page.on("dialog", lambda dialog: (heard.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: heard.append(request.url) if request.url[:5] not in ("file:", "data:") else None)
    page.goto(report.as_uri())
    yield page
    page.close()
    assert heard == []


def test_every_picture_is_there(opened):
    widths = opened.evaluate("[...document.images].map(image => image.complete && image.naturalWidth)")
    assert len(widths) >= 3 and all(widths)
    assert all(opened.evaluate("[...document.images].map(image => image.alt.length > 20)"))


@pytest.mark.parametrize("viewport", [NARROW, {"width": 800, "height": 1000}, WIDE], ids=lambda found: found["width"])
def test_the_page_never_scrolls_sideways(opened, viewport):
    opened.set_viewport_size(viewport)
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.evaluate(
        "[...document.querySelectorAll('main *')].filter(one => !one.closest('.scroll, caption'))"
        ".every(one => one.getBoundingClientRect().right <= innerWidth + 1)"
    )


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


KEYS = "[...document.querySelectorAll('#cells tbody')][0].rows"


def test_a_table_is_sorted_by_keyboard(opened):
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    header = opened.locator("#cells th[scope=col]").nth(1)
    values = f"[...{KEYS}].map(row => row.cells[1].dataset.key).filter(key => key !== undefined).map(Number)"
    before = opened.evaluate(values)
    header.locator("button").focus()
    for key, state, turned in (("Enter", "ascending", False), ("Space", "descending", True)):
        opened.keyboard.press(key)
        assert header.get_attribute("aria-sort") == state
        assert opened.evaluate(values) == sorted(before, reverse=turned)
    assert len(before) >= 2


def test_what_is_missing_is_sorted_last_both_ways(opened):
    opened.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    changes = opened.locator("#cells table").first.locator("th[scope=col]", has_text="change")
    for _ in range(2):
        changes.locator("button").press("Enter")
        last = opened.evaluate(f"[...{KEYS}].at(-1).querySelector('.baseline') !== null")
        assert last


def test_a_link_to_a_run_unfolds_the_table_of_runs(opened):
    opened.evaluate("document.querySelectorAll('#cells details').forEach(one => one.open = true)")
    link = opened.locator("#cells a[href^='#run-']").first
    row = opened.locator(str(link.get_attribute("href")))
    assert not row.is_visible()
    link.press("Enter")
    row.wait_for(state="visible")


def test_without_scripts_the_page_is_complete(browser, report):
    context = browser.new_context(java_script_enabled=False, viewport=NARROW)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("button").count() == 0
    for name in ("#answer", "#effects table", "#cells table", "#runs", "#provenance", "nav a"):
        assert page.locator(name).first.is_visible()
    summary = page.locator("#runs summary").last
    summary.click()
    assert page.locator("#run-1").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_the_page(browser, report, scheme):
    """Contrast of 4.5 to 1 (WCAG AA) for the text of the answer and of its verdicts."""
    page = browser.new_page(viewport=WIDE, color_scheme=scheme)
    page.goto(report.as_uri())
    paper = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert (paper < 0.1) == (scheme == "dark")
    found = page.evaluate(
        "[...document.querySelectorAll('p, li, h1, h2, a, .mark, td, th')]"
        ".filter(one => one.checkVisibility() && !one.closest('#mind')).map(one => getComputedStyle(one).color)"
    )
    for colour in set(found):
        light, dark = sorted((luminance(colour), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, colour
    page.close()


def luminance(colour: str) -> float:
    """Of `rgb(r, g, b)`, relative to white."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
