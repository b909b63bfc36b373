"""The files beside a report, the reports beside it, and the tracker, as links. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.report.document.document import Code, FileLink, Section, Text, bullets

if TYPE_CHECKING:
    from harness.study.schema import Study

GRID = ("runs.csv", "cells.csv", "effects.csv", "interactions.csv", "analysis.json", "study.json", "tables.tex")
SEARCH = ("trials.csv", "search.json", "tables.tex")


def files(study: Study, names: Sequence[str]) -> Section:
    """What else there is to read."""
    items: list[Text] = [("In this folder: ", *_row([(name, name) for name in names]))]
    others = [(folder, f"../{folder}/report.html") for folder in _others(study)]
    if others:
        items.append(("Other reports of the study: ", *_row(others)))
    items.append(("Curves, pictures and every number in MLflow: ", Code(f"harness ui {study.path.name}")))
    return Section("Files", (bullets(items),), "files")


def _row(links: Sequence[tuple[str, str]]) -> list[str | FileLink]:
    parts = [part for text, path in links for part in (FileLink(text, path), ", ")]
    return [*parts[:-1], "."]


def _others(study: Study) -> list[str]:
    """Folders of the reports whose names begin as this study's, such as those of its searches."""
    label, own = study.label.removesuffix(study.branch), study.reports
    there = sorted(path.parent for path in own.parent.glob("*/report.html")) if own.parent.is_dir() else []
    return [folder.name for folder in there if folder != own and f"{folder.name}.".startswith(f"{label}.")]
