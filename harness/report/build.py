"""The material of a report as a document. No torch here."""

from __future__ import annotations

from harness.report import answer, beside, context, effects, interactions, origin, runs, words
from harness.report.document.document import Document, Section
from harness.report.material import Material


def _files(material: Material) -> Section:
    return beside.files(material.study, beside.GRID)


_SECTIONS = (
    effects.effects,
    interactions.interactions,
    interactions.attribution,
    interactions.unreplicated,
    effects.cells,
    context.curves,
    context.samples,
    context.cost,
    context.scale,
    runs.runs,
    words.words,
    origin.measured,
    origin.provenance,
    _files,
)
"""In the order of the report; each may have nothing to say."""


def build(material: Material) -> Document:
    found = (section(material) for section in _SECTIONS)
    return Document(
        title=material.study.title,
        answer=answer.answer(material),
        sections=tuple(section for section in found if section is not None),
    )
