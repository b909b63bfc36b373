"""Reports of studies that lack cells, seeds in common or spread: written whole, and each says what it lacks."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.write import write_report
from harness.runs.record import RunRecord
from reported import material_of, records_of, study_of, unfinished

THREE = ("transform_w", "mix_logits", "img_img_loss")


def lost(cell: str, state: str = "failed"):
    def change(records: Sequence[RunRecord]) -> list[RunRecord]:
        return [unfinished(one, state) if one.run.cell == cell else one for one in records]

    return change


def own_seeds(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Every run under a seed of its own."""
    return [replace(one, run=replace(one.run, seed=place)) for place, one in enumerate(records)]


def unused_seeds(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Every cell with its first run's numbers under all seeds."""
    first: dict[str, RunRecord] = {}
    return [replace(one, result=first.setdefault(one.run.cell, one).result) for one in records]


def without_a_metric(records: Sequence[RunRecord]) -> list[RunRecord]:
    """The first run was measured by fewer metrics, as by earlier code."""
    first, *others = records
    assert first.result is not None
    kept = {name: value for name, value in first.result.metrics.items() if name != "fd_emoji"}
    return [replace(first, result=replace(first.result, metrics=kept)), *others]


MISHAPS = {
    "a cell failed": (lost("transform_w"), "transform_w has no result: 3 of 3 runs failed"),
    "a cell diverged": (lost("transform_w", "diverged"), "3 of 3 runs with it diverged"),
    "the baseline is pending": (lost("origin", "pending"), "origin has no result: 3 of 3 runs pending"),
    "all on failed": (lost("full"), "full has no result: 3 of 3 runs failed"),
    "seeds of their own": (own_seeds, "all comparisons are unpaired (Welch's t)"),
    "a metric is missing": (without_a_metric, "Finished runs without a number: origin seed 0"),
    "seeds without effect": (unused_seeds, "the seed seems to be unused"),
}


@pytest.mark.parametrize("kind", ["one-at-a-time", "full"])
@pytest.mark.parametrize("mishap", MISHAPS)
def test_a_report_is_written_and_says_it(tmp_path: Path, kind: str, mishap: str) -> None:
    change, told = MISHAPS[mishap]
    if (mishap, kind) in (("all on failed", "one-at-a-time"), ("a metric is missing", "full")):
        pytest.skip("no such cell, or nothing else than in the other kind")
    if mishap == "a cell diverged" and kind != "one-at-a-time":
        told = "3 of 3 runs diverged"
    study = study_of(tmp_path, THREE, kind)
    folder = write_report(material_of(study, change(records_of(study))), tmp_path / "reports").parent
    for name in ("report.md", "report.html", "analysis.json"):
        text = (folder / name).read_text(encoding="utf-8")
        # Names in sentences are elements of a page.
        assert told in html.unescape(re.sub(r"</?span[^>]*>", "", text)), name
    assert "of 0 seeds" not in (folder / "report.md").read_text(encoding="utf-8")
