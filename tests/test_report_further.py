"""What only some designs bring into a report: attribution, unreplicated contrasts, the control, aliases."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from harness.report.document.markdown import markdown
from harness.report.inputs import ReportInputs
from harness.report.write import build
from harness.runs.record import RunRecord
from reported import material_of, records_of, study_of

THREE = ("one", "two", "three")
SHIFTS = {"one": -0.4, "two": 0.1, "three": 0.0}


def moved(cell) -> float:
    return sum(SHIFTS[name] for name in cell)


def full(seeds: int) -> ReportInputs:
    study = study_of(Path("nowhere"), THREE, kind="full", seeds=seeds)
    return material_of(study, records_of(study, moved))


def section(material: ReportInputs, title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", markdown(build(material)), re.MULTILINE | re.DOTALL)
    assert found, title
    return found[1]


def test_attribution_shares_out_what_full_gains() -> None:
    material = full(3)
    result = material.analysis.of("fd_emoji")
    shares = section(material, "Attribution")
    for name, share in result.attribution.items():
        assert re.search(rf"\| {name} +\| +{'−' if share.value < 0 else '.'}{abs(share.value):.1f}", shares), name
    factors = [1 + share.value / 100 for share in result.attribution.values()]
    whole = result.cell("full").estimate.value
    assert abs(factors[0] * factors[1] * factors[2] - (1 + whole / 100)) < 1e-9


def test_one_seed_of_a_factorial_shows_which_contrasts_stand_out() -> None:
    rows = section(full(1), "Contrasts without replication").splitlines()
    assert any(re.match(r"\| one +\|.*\| among all +\|", row) for row in rows)
    assert any(re.match(r"\| one:three +\|.*\| no +\|", row) for row in rows)


def test_the_control_is_told_in_the_answer_and_below_the_cells() -> None:
    study = study_of(Path("nowhere"), THREE, kind="full", seeds=3)
    records = records_of(study, moved)
    origin = next(record for record in records if record.run.cell == "origin")
    more = [_under(origin, seed) for seed in (3, 4)]
    text = markdown(build(material_of(study, [*records, *more])))
    assert "8 cells under 3 seeds, origin under 2 more as a control; 26 runs: 26 done." in text
    assert "Control: origin under seeds 3 and 4 against origin itself: " in text


def _under(record: RunRecord, seed: int) -> RunRecord:
    assert record.result
    metrics = {name: value * (1 + 0.01 * seed) for name, value in record.result.metrics.items()}
    return replace(record, run=replace(record.run, seed=seed), result=replace(record.result, metrics=metrics))
