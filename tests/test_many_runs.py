"""Thousands of runs: what is read, parsed and printed grows no faster than they do, and not at all where it can."""

from __future__ import annotations

import cProfile
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from harness.cli import tables
from harness.cli.select import run_rows
from harness.executors.executor import WorkerState
from harness.executors.job import JobFolder
from harness.finding import Finding
from harness.grid.submit import Submission
from harness.planning.reasons import by_other_code, reasons
from harness.report.document.html import html
from harness.report.document.markdown import markdown
from harness.report.write import build
from harness.runs import snapshot as snapshots
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Run, Status
from harness.scheduler.ownership import Ownership
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from reported import material_of, records_of, study_of, unfinished
from searched import name_for_content
from tools.many_runs import write_runs

STUDY = """
study: many
data: {resolution: 8}
train: {kimg: 4, batch: 100, snapshots: 4}
toggles: [img_img_loss, transform_w, paired_contrast]
"""
CELLS = 8


@pytest.fixture(autouse=True)
def without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    name_for_content(monkeypatch)


def plan_of(folder: Path, seeds: int) -> Plan:
    """All eight cells under these seeds."""
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(STUDY + f"design: {{kind: full, seeds: {seeds}}}\n")
    return make_plan(load_study(folder / "study.yaml", None, ()))


def finished(folder: Path, seeds: int) -> Plan:
    plan = plan_of(folder, seeds)
    write_runs(plan, points=1)
    return plan


def status(plan: Plan) -> list[dict[str, Any]]:
    snapshot = plan.snapshot()
    rows, why = run_rows(plan, snapshot), reasons(plan, snapshot)
    tables.status(plan.study.name, rows, by_other_code(why))
    return rows


def calls(work: Callable[[], object]) -> int:
    """How many functions it calls."""
    profile = cProfile.Profile()
    profile.runcall(work)
    return sum(entry.callcount for entry in profile.getstats())


def test_the_settings_of_a_cell_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = finished(tmp_path, 5)
    parsed: list[str] = []
    real = snapshots.parse_run
    monkeypatch.setattr(snapshots, "parse_run", lambda text, where: parsed.append(where) or real(text, where))
    assert plan.snapshot().records == plan.snapshot().records and len(parsed) == 2 * CELLS
    snapshot = plan.snapshot()
    made = [snapshot.engine(run.id) for run in plan.runs]
    assert len(parsed) == 3 * CELLS and len(set(made)) == 1 and made[0] is not None


def test_all_that_stands_before_the_settings_is_read_for_each_run() -> None:
    """run.json has its keys sorted."""
    before = {each.name for each in fields(Run) if each.name < "settings"}
    assert {each.name for each in fields(snapshots._Head)} == before


def test_twice_the_runs_cost_at_most_twice_the_calls(tmp_path: Path) -> None:
    for work in (status, lambda plan: plan_of(plan.study.path.parent, len(plan.study.design.seeds))):
        few, many = (finished(tmp_path / f"{work.__name__}{seeds}".strip("<>"), seeds) for seeds in (40, 80))
        work(few)  # imports and what is cached
        assert calls(lambda: work(many)) < 2.1 * calls(lambda: work(few))  # noqa: B023


def test_losses_are_read_and_not_held(tmp_path: Path) -> None:
    plan = finished(tmp_path, 1)
    (few,) = {len(record.points) for record in plan.snapshot().records}
    folder = RunFolder(plan.study.root / plan.runs[0].id)
    folder.append(Point(9, 9.0, 1.0, {"generator/total": 1.0}))
    folder.append(Point(9, 9.0, 1.0, {"script/accuracy": 1.0}))
    assert len(plan.snapshot().records[0].points) == few + 1 == 6
    (folder.path / "metrics.jsonl").write_text('{"step": 1}\n')
    assert plan.snapshot().records[0].status.state == "failed", "what is damaged is told, whatever it holds"


def test_a_report_of_many_runs_lists_what_went_wrong_and_no_thousand_rows(tmp_path: Path) -> None:
    study = study_of(tmp_path, kind="full", seeds=63)
    records = records_of(study)
    records[5] = unfinished(records[5], "failed", "RuntimeError: no room")
    assert len(records) == 1008
    document = build(material_of(study, records))
    page, text = html(document, tmp_path), markdown(document)
    for written in (page, text):
        assert "62 of 63" in written and "no room" in written and "runs.csv" in written
        assert records[7].run.id not in written
    assert page.count("<tr") < 300 and "#run-1" not in page, "no link leads to a row that is not there"
    assert html(build(material_of(study, records[:990])), tmp_path).count("<tr") > 990


def test_of_many_runs_each_cell_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = finished(tmp_path, 40)
    failed = [run for run in plan.runs if run.cell == "transform_w"]
    for run in failed:
        error = f"trace of {run.seed}\nRuntimeError: out of paper" if run.seed else "ValueError: another"
        RunFolder(plan.study.root / run.id).put(Status("failed", failure="error", error=error, attempt=1))
    status(plan)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 40 and not any(run.id in line for line in lines[:CELLS] for run in plan.runs)
    assert [line.split() for line in lines if line.split()[:1] == ["transform_w"]] == [
        ["transform_w", "40", "40", "failed", "0%"]
    ]
    text = "\n".join(lines)
    assert text.count("out of paper") == 1 and text.count("ValueError: another") == 1
    assert "the same of 38 more: transform_w/2, " in text and "many: 280 done, 40 failed" in text
    assert "--json has all" in text
    assert Counter(row["state"] for row in run_rows(plan)) == {"done": 280, "failed": 40}


def test_a_grid_that_begins_makes_no_folders_and_parses_what_cells_share_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(tmp_path, 5)
    fresh = Ownership(plan.study.root, 60, {})
    assert all(fresh.enter(run) for run in plan.runs) and not plan.study.root.exists()
    assert fresh.take(plan.runs[0].id) and [path.name for path in plan.study.root.iterdir()] == [plan.runs[0].id]
    fresh.drop_all()
    write_runs(plan_of(tmp_path / "again", 5), points=1)
    plan, parsed, real = plan_of(tmp_path / "again", 5), [], snapshots.parse_run
    monkeypatch.setattr(snapshots, "parse_run", lambda text, where: parsed.append(where) or real(text, where))
    owned = Ownership(plan.study.root, 60, {})
    assert not any(owned.enter(run) for run in plan.runs) and len(parsed) == CELLS


class Engine:
    """One that has any worker wait, and counts what it is asked."""

    name, look_s, outlives_caller = "slurm", 30.0, True

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    def check(self) -> list[Finding]:
        self.asked["check"] += 1
        return []

    def submit(self, job: JobFolder, workers: int) -> tuple[str, ...]:
        self.asked["submit"] += 1
        return tuple(f"7_{number}" for number in range(workers))

    def look(self, ids: Sequence[str]) -> dict[str, WorkerState]:
        self.asked["look"] += 1
        return {each: WorkerState("waiting") for each in ids}


def test_however_many_runs_they_are_submitted_once_and_no_folder_is_made_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.grid.submit.make_ready", lambda *_: None)
    monkeypatch.setattr("harness.executors.job.copy_code", lambda folder: None)
    counts = {}
    for seeds in (1, 40, 80):
        plan, engine = plan_of(tmp_path / str(seeds), seeds), Engine()
        monkeypatch.setattr("harness.executors.live.make_executor", lambda resources, places, its=engine: its)
        grid = Submission(plan, engine, detach=True)  # type: ignore[arg-type]
        counts[seeds] = calls(lambda: grid.train(plan.runs, plan.runs, nullcontext()))  # noqa: B023
        assert [path.name for path in plan.study.root.iterdir()] == [".jobs"]
        assert engine.asked == {"check": 1, "submit": 1}
        grid.train(plan.runs, plan.runs, nullcontext())
        assert engine.asked == {"check": 1, "submit": 1, "look": 1}, "the same command joins those that are there"
    assert counts[80] < 2.1 * counts[40]
