"""What a report says of runs that start from given weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.report.document.model import plain
from harness.report.made_by import begun_from, differ_at_first
from harness.runs.record import Run
from harness.settings import InitConfig, Settings
from reported import material_of, records_of, study_of


@pytest.mark.parametrize(
    ("baseline", "other", "told"),
    [
        ({"averaged": "x"}, {"averaged": "x"}, True),
        ({"averaged": "x"}, {"averaged": "y"}, False),  # told by name
        ({"discriminator": "x"}, {"discriminator": "x"}, False),  # each seed draws its generator
        ({}, {}, False),
    ],
)
def test_only_cells_that_cannot_take_the_same_weights_are_told_to_begin_behind(
    tmp_path: Path, baseline: dict[str, str], other: dict[str, str], told: bool
) -> None:
    study = study_of(tmp_path)
    records = []
    for it in records_of(study):
        init = InitConfig(**(baseline if it.run.cell == "origin" else other))
        behind = 9.0 if it.run.cell == "transform_w" else 7.0
        first = replace(it.points[0], values={**it.points[0].values, "metrics/fd_emoji": behind})
        settings = replace(it.run.settings, init=init)
        records.append(replace(it, run=replace(it.run, settings=settings), points=(first, *it.points[1:])))
    (result, *_) = material_of(study, records).analysis.headlines
    lines = [plain(line) for line in differ_at_first(result, records, "origin")]
    assert [line.partition(". ")[0] for line in lines] == (
        ["before training it is 7.00 for origin, but: transform_w 9.00"] if told else []
    )


def test_cells_that_start_from_other_weights_are_told_apart() -> None:
    first = Run(
        "0" * 12, "s", "a", 0, (), Settings(init=InitConfig(generator="x", discriminator="x", averaged="x")), {}
    )
    second = Run("1" * 12, "s", "b", 0, (), Settings(init=InitConfig(generator="y")), {})
    third = Run("2" * 12, "s", "c", 0, (), Settings(), {})
    assert list(begun_from([third])) == []
    lines = [plain(line) for line in begun_from([first, second, third])]
    assert lines[0].startswith("Every run of a starts from the weights of x,")
    assert lines[1].startswith("Every run of b starts from the weights of y (generator),")
    assert lines[2].startswith("Not all cells start from the same weights")
    assert not any("intervals tell nothing" in line for line in lines)
    (line,) = map(plain, begun_from([first, replace(first, seed=1)]))
    assert line.endswith("not in these weights: intervals tell nothing of other weights to start from.")
