"""report.html while a grid trains: after each run that ends, as its cost allows, and never to the grid's harm."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adding import CLEAR, Trained, planned
from harness.errors import HarnessError
from harness.grid import whole_seeds
from harness.grid.outcome import gather, is_reported
from harness.runs.record import Status
from harness.scheduler.scheduler import Scheduler
from harness.study.plan import Plan


def test_a_plan_can_be_sent_to_the_process_that_writes_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(tmp_path)
    made.remarks(made.cells[1])  # leaves behind what cannot be sent
    Trained(CLEAR)(made, made.runs, Scheduler(made.study.root, (), print, 0), None)
    priorities: list[int] = []
    monkeypatch.setattr(whole_seeds.os, "nice", priorities.append)
    sent: Plan = pickle.loads(pickle.dumps(replace(made)))
    place = made.study.reports
    place.mkdir(parents=True)
    (place / "report.md").write_text("of before")
    assert whole_seeds.write_kindly(sent) >= 0 and priorities == [whole_seeds.NICE]
    page = (place / "report.html").read_text(encoding="utf-8")
    count = len(made.runs)
    assert f"{count} of {count} runs" in page and "<svg" in page
    assert (place / "runs.csv").read_text(encoding="utf-8").count("done") == count
    assert (place / "report.md").read_text() == "of before" and not (place / "figures").exists()
    assert not is_reported(gather(made)), "the whole report is still to be written"


class _Answering:
    """In the place of the fork server: the process has ended at once, and says `answer`."""

    def __init__(self, answer: tuple[object, float]) -> None:
        self.answer, self.begun = answer, 0

    def Pipe(self, duplex: bool) -> tuple[Any, Any]:
        return SimpleNamespace(recv=lambda: self.answer, close=bool), SimpleNamespace(close=bool)

    def Process(self, **_: Any) -> Any:
        self.begun += 1
        return SimpleNamespace(start=bool, is_alive=bool, join=bool)


def test_the_report_follows_each_run_that_ends_and_its_failure_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made = planned(tmp_path)
    server = _Answering((None, 3.0))
    now = [0.0]
    monkeypatch.setattr(whole_seeds, "CONTEXT", server)
    monkeypatch.setattr(whole_seeds, "time", SimpleNamespace(monotonic=lambda: now[0]))
    reports = whole_seeds.ReportInBetween()
    tick = whole_seeds.showing(whole_seeds.WholeSeeds(made, {}), reports)(SimpleNamespace(tick=bool, say=bool))
    statuses = {run.id: Status() for run in made.runs}

    def at(second: float, *, ended: int) -> int:
        now[0] = second
        tick(statuses | {run.id: Status("done") for run in made.runs[:ended]})
        return server.begun

    assert at(0, ended=1) == 0 and at(100, ended=1) == 0, "what had ended before is no news"
    assert at(101, ended=2) == 1
    assert at(102, ended=3) == 1, "3 s of a processor are a tenth of 30"
    assert at(130, ended=3) == 1 and at(132, ended=3) == 2, "but it is not forgotten"
    assert at(133, ended=3) == 2 and at(200, ended=3) == 2, "without news there is nothing to write"
    server.answer = (HarnessError("measured in two ways"), 0.0)
    assert at(300, ended=4) == 3 and at(301, ended=4) == 3 and at(340, ended=5) == 4 and at(341, ended=5) == 4
    assert [record.message for record in caplog.records if "measured in two ways" in record.message] == [
        "report.html is not written anew for now, while the runs go on: measured in two ways"
    ]
    assert at(500, ended=len(made.runs)) == 4, "the end of the grid writes the whole report"
