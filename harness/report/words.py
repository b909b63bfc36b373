"""The section that says what the report's words stand for: one word for one thing, others once. No torch here."""

from __future__ import annotations

from collections.abc import Iterator

from harness.report.document.document import Code, Section, Strong, Text, bullets
from harness.report.material import Material


def words(material: Material) -> Section:
    """Those that this report uses."""
    return Section("Words", (bullets(list(_told(material))),), "words")


def _told(material: Material) -> Iterator[Text]:
    analysis = material.analysis
    cells = {cell.cell for cell in analysis.cells}
    yield _word("idea", "a change that is tried out: one of the ", Code("toggles"), " of the study file")
    yield _word("cell", "a set of ideas that are on, also called a variant; each is trained once a seed")
    if "origin" in cells:
        yield _word("origin", "the cell with every idea off")
    if "full" in cells:
        yield _word("full", "the cell with every idea on; ", Code("full-minus-x"), " has every idea on but x")
    yield _word("baseline", "the cell that all others are compared with: here ", Code(analysis.baseline))
    yield _word("improved", "in how many seeds the difference points to the better side, also called wins")
    if any(result.interactions for result in analysis.metrics):
        yield _word("interaction", "whether two ideas are stronger together, weaker together or just add up (additive)")
    yield _word("equivalent", "the change is surely smaller than the margin that the study file sets")
    yield _word("inconclusive", "too uncertain to say; this does not mean that there is no effect")
    for result in analysis.metrics:
        yield _word(result.metric.title, "called ", Code(result.metric.name), " in the CSV and JSON files")


def _word(word: str, *meaning: str | Code) -> Text:
    return (Strong(word), ": ", *meaning)
