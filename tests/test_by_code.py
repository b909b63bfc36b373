"""What is said of runs that other code than today's has trained or measured, by plan, the report and tables."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.from_records import shared_card
from harness.code import engine as engines
from harness.code.engine import UNKNOWN, Engine, today
from harness.metrics.cards import digest
from harness.metrics.definitions import METRICS
from harness.report.data_files import runs_csv
from harness.report.document.markdown import markdown
from harness.report.document.model import plain
from harness.report.made_by import by_code
from harness.report.write import build
from harness.runs.folders import RunFolder
from harness.runs.record import Result, Run
from harness.runs.snapshot import Snapshot
from harness.study.plan import Plan
from kept import harness, plan, plan_in
from reported import material_of, records_of, study_of

__all__ = ["harness", "plan"]
OLD = Engine("0" * 12, "1" * 12)


def made(plan: Plan, run: Run, engine: Engine, state: str = "done") -> None:
    folder = RunFolder(plan.study.root / run.id)
    folder.create(run)
    folder.made_by(engine)
    folder.update(state=state, step=5, total_steps=10, attempt=1)


@pytest.fixture
def flipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the engine look at a copy of the code, and changes that."""
    root = tmp_path / "code"
    for package in ("harness", "models"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(engines._ROOT / package, root / package, ignore=ignored, symlinks=True)
    monkeypatch.setattr(engines, "_ROOT", root)

    def flipped(name: str, old: str, new: str) -> None:
        text = (root / name).read_text()
        assert old in text
        (root / name).write_text(text.replace(old, new, 1))

    return flipped


SIGN = ("models/losses.py", "return -tau * logits", "return tau * logits")
COMMENT = ("models/losses.py", "def contrast(", "# A word about it.\ndef contrast(")
DOCSTRING = ("models/losses.py", '"""The player\'s losses:', '"""Said otherwise, the player\'s losses:')
FORMULA = ("harness/metrics/formulas.py", "apart - 2 * float", "apart - 3 * float")


@pytest.mark.parametrize(
    ("change", "told"),
    [(SIGN, "trained by other code"), (FORMULA, "measured by other code"), (COMMENT, ""), (DOCSTRING, "")],
)
def test_plan_tells_a_changed_formula_and_no_prose(
    plan: Plan, harness: Any, flipped: Any, change: tuple[str, str, str], told: str
) -> None:
    for run in plan.runs[:2]:
        made(plan, run, today())
    flipped(*change)
    made(plan, plan.runs[2], today(), "failed")
    code, out, _ = harness("plan")
    text = " ".join(out.split())
    assert code == 0 and ("by other code" in text) == bool(told)
    if told:
        assert f"{told}: 2 runs (origin seed 0 and origin seed 1); --retrain trains them anew" in text
    document = json.loads(harness("plan", "--json")[1])
    assert [run["why"] for run in document["runs"]] == ["done", "done", "failed", *["new"] * 5]
    assert document["code"]["engine"] == {"training": today().training, "measuring": today().measuring}
    code_of = document["code"]["runs"]
    assert list(code_of) == [run["id"] for run in document["runs"][:3]]
    assert (code_of[plan.runs[0].id] == document["code"]["engine"]) == (not told)


@pytest.mark.parametrize(("change", "told"), [(SIGN, True), (COMMENT, False), (DOCSTRING, False)])
def test_the_report_tells_a_changed_formula_and_no_prose(
    tmp_path: Path, flipped: Any, change: tuple[str, str, str], told: bool
) -> None:
    study = study_of(tmp_path)
    before = [replace(it, run=replace(it.run, engine=today())) for it in records_of(study)]
    flipped(*change)
    text = markdown(build(material_of(study, before)))
    assert ("trained by other code than today" in text) == told and "measured by other" not in text
    if told:
        assert f"{len(before)} runs: trained by other code" in text and "run-grid --retrain" in text


def test_the_report_counts_and_names_runs_of_several_codes(tmp_path: Path) -> None:
    found = records_of(study_of(tmp_path))
    mixed = [
        replace(it, run=replace(it.run, engine={0: OLD, 1: UNKNOWN, 2: OLD.then(today())}.get(place, today())))
        for place, it in enumerate(found)
    ]
    training, measuring = map(plain, by_code(it.run for it in mixed))
    assert training.startswith(
        f"Not all runs were trained by the same code: {len(found) - 3} by today's ({today().training}); "
        "origin seed 0 by 000000000000; origin seed 1 by unknown code; "
        f"origin seed 2 by 000000000000, then {today().training}. A difference may come from the code; "
    )
    assert "measured by the same code" in measuring
    (only,) = map(plain, by_code(replace(it.run, engine=replace(today(), training="x")) for it in found))
    assert f"({'x'}, not {today().training})" in only
    assert by_code(replace(it.run, engine=today()) for it in found) == []
    unknown, _ = map(plain, by_code(it.run for it in found))
    assert "by unknown code" in unknown


def test_runs_begun_by_other_code_are_told_before_they_go_on(plan: Plan, harness: Any) -> None:
    made(plan, plan.runs[3], OLD, "interrupted")
    text = " ".join(harness("plan")[1].split())
    assert "begun by other code: 1 run (mix_logits seed 1); run-grid continues them by today's" in text


def test_run_json_keeps_the_engine_and_earlier_ones_have_none(plan: Plan) -> None:
    run = plan.runs[0]
    made(plan, run, OLD)
    path = plan.study.root / run.id / "run.json"
    assert json.loads(path.read_text())["engine"] == {"training": OLD.training, "measuring": OLD.measuring}
    assert Snapshot(plan.study.root, (run,)).records[0].run.engine == OLD
    assert plan.snapshot().engine(run.id) == OLD
    assert {it.id: it.engine for it in Snapshot(plan.study.root, ()).other_runs}[run.id] == OLD
    told = {name: value for name, value in json.loads(path.read_text()).items() if name != "engine"}
    for text in (json.dumps(told), json.dumps(told, indent=1, sort_keys=True)):
        path.write_text(text)
        assert RunFolder(path.parent).run().engine == UNKNOWN == plan.snapshot().engine(run.id)
    path.write_text("{")
    assert plan.snapshot().engine(run.id) is None


def test_the_engine_is_no_part_of_what_a_run_is(plan: Plan) -> None:
    made(plan, plan.runs[0], OLD)
    folder = RunFolder(plan.study.root / plan.runs[0].id)
    folder.create(plan.runs[0])
    folder.create(replace(plan.runs[0], engine=today()))
    assert folder.run().engine == OLD


def test_numbers_of_several_measuring_codes_stand_in_one_column(tmp_path: Path) -> None:
    """A mix is told rather than refused; what decides how a number is measured is refused as before."""
    metric = METRICS["clip_score"]
    found = []
    for place, record in enumerate(records_of(study_of(tmp_path))[:3]):
        assert record.result
        cards = {name: {**card, "engine": f"e{place % 2}"} for name, card in record.result.cards.items()}
        found.append(replace(record, result=replace(record.result, cards=cards)))
    card = shared_card(found, metric)
    assert card and card["engine"] == "e0, e1"
    assert digest({"n": 1, "engine": "a"}) == digest({"n": 1, "engine": "b"}) != digest({"n": 2, "engine": "a"})


def test_runs_csv_has_both_engines(tmp_path: Path) -> None:
    found = [replace(it, run=replace(it.run, engine=OLD)) for it in records_of(study_of(tmp_path))[:2]]
    rows = list(csv.DictReader(runs_csv(found, ()).splitlines()))
    assert {(row["engine_training"], row["engine_measuring"]) for row in rows} == {(OLD.training, OLD.measuring)}


def test_a_new_code_makes_the_report_anew(plan: Plan, flipped: Any) -> None:
    from harness.grid.outcome import report_key

    before = report_key(plan, plan.snapshot())
    flipped(*COMMENT)
    assert report_key(plan, plan.snapshot()) == before
    flipped(*SIGN)
    assert report_key(plan, plan.snapshot()) != before


def test_result_is_read_with_the_engine_in_its_cards(plan: Plan) -> None:
    folder = RunFolder(plan.study.root / plan.runs[0].id)
    folder.finish(Result({"fd": 1.0}, {"fd": {"n": 3, "engine": "abc"}}, {}))
    assert (found := folder.result()) and found.cards["fd"]["engine"] == "abc"


assert plan_in
