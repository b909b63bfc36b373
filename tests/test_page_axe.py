"""Pages before axe-core, which finds what readers with other eyes, hands and machines would miss."""

from __future__ import annotations

from importlib.resources import files

import pytest

from test_report_page import CHROMIUM, WIDE, browser, built, load, searched  # noqa: F401

pytest.importorskip("axe_playwright_python", reason="axe-playwright-python, which brings axe-core, is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed")
# What cannot be judged counts as well, but for text that is scrolled out of sight, a single sign long or in a drawing.
FOUND = """async () => {
  const unseen = ["bgOverlap", "elmPartiallyObscured", "shortTextContent", "imgNode"];
  const {violations, incomplete} = await axe.run(document);
  const doubts = incomplete.flatMap((rule) => rule.nodes.map((node) => [rule.id, node])).filter(([, node]) =>
    !node.any.some((check) => unseen.includes(check.data?.messageKey)));
  return [...violations.flatMap((rule) => rule.nodes.map((node) => [rule.id, node])), ...doubts]
    .map(([id, node]) => `${id}: ${node.target} ${node.failureSummary}`);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["built", "searched"])
def test_axe_finds_nothing(browser, request, which, scheme) -> None:  # noqa: F811
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    load(page, request.getfixturevalue(which), WIDE, scheme)
    # Glyphs hold no text, and the shade that a table scrolls under would leave contrast undecided.
    page.evaluate("document.querySelectorAll('svg.drawing :is(use, path, defs)').forEach(one => one.remove())")
    page.add_style_tag(content=".scroll { background: none !important } nav { position: static !important }")
    page.evaluate("document.querySelector('.shown')?.setAttribute('open', '')")
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    assert page.evaluate(FOUND) == []
    context.close()
