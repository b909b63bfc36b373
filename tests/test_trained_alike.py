"""A finished run records what proves that another one trained alike: a digest of the weights that it came to.

And what is made of such a proof: the two are one cell.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from designs import FOUR, cells_of, table_of
from executed import RUN, execute, install
from harness.analysis.analyse import analyse
from harness.analysis.export import as_json
from harness.analysis.looks import Looks
from harness.report import caveats
from harness.runs.folders import RunFolder
from harness.training import checkpoint


def test_the_digest_is_of_the_weights_and_of_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch.setattr)
    assert execute(tmp_path / "one" / RUN.id) == 0 == execute(tmp_path / "other" / RUN.id)
    folders = [RunFolder(tmp_path / name / RUN.id) for name in ("one", "other")]
    one, other = (folder.result() for folder in folders)
    assert one is not None and other is not None
    assert len(one.weights) == 64 and one.weights == other.weights
    stored, meta = checkpoint.read_tensors(folders[0].path / "generator.safetensors")
    assert meta["run"] == RUN.id and checkpoint.digest(stored, {}) == one.weights
    name = next(name for name, tensor in stored.items() if tensor.is_floating_point())
    nudged = {**stored, name: torch.nextafter(stored[name], stored[name] + 1)}
    assert checkpoint.digest(nudged, {}) != one.weights


def test_a_result_of_an_earlier_version_has_none_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"metrics": {"fd": 1.0}, "cards": {"fd": {}}, "cost": {}}')
    found = RunFolder(tmp_path).result()
    assert found is not None and found.weights == ""


@pytest.mark.parametrize("looks", [None, Looks(3, 8)])
@pytest.mark.parametrize("seed", range(4))
def test_a_cell_that_trained_as_the_baseline_makes_no_other_verdict_harder(looks: Looks | None, seed: int) -> None:
    cells = cells_of("one-at-a-time")
    rng = np.random.default_rng(seed)
    values = 60 + rng.normal(size=(5, len(cells))) * (1, 1, 1, 1, 4) + np.array([0.0, 9.0, -7.0, 0.1, 0.0])
    plain = table_of(cells, values)
    one_more = table_of([*cells, ("e",)], np.column_stack([values, values[:, 0]]), toggles=(*FOUR, "e"))
    one_more = replace(one_more, trained=tuple((str(cell % 5), "") for _ in range(5) for cell in range(6)))
    margins = {"clip_score": 1.0}
    before, after = (analyse(each, "origin", margins, looks=looks) for each in (plain, one_more))
    told = before.of("clip_score"), after.of("clip_score")
    was, now = ({effect.toggle: effect.estimate for effect in result.effects} for result in told)
    assert now.pop("e").is_alike and not any(each.is_alike for each in now.values())
    assert [each.estimate.is_alike for each in told[1].cells if each.estimate] == [False] * 4 + [True]
    for toggle, estimate in now.items():
        for name in ("low", "high", "p", "p_holm", "p_equivalent"):
            assert getattr(estimate, name) == pytest.approx(getattr(was[toggle], name), rel=1e-9), (toggle, name)
        for name in ("verdict", "decided_after", "uneven"):
            assert getattr(estimate, name) == getattr(was[toggle], name), (toggle, name)
    said = as_json(after)["metrics"]["clip_score"]
    assert said["holm"] == {"effects": 4, "cells": 4, "interactions": 0}
    assert {"better", "worse"} & {each["verdict"] for each in said["effects"]}
    near = [replace(it, estimate=replace(it.estimate, p=0.04, verdict="inconclusive")) for it in told[1].effects[:1]]
    caveat, *_ = caveats._on_metric(replace(told[1], effects=(*near, *told[1].effects[1:])), None)
    assert "Holm's correction for 4 comparisons leaves" in caveat[-1]
