"""The mirror dies at every call to MLflow, before, amid and after it; whatever happened, each thing is there once."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from PIL import Image

from fake_mlflow import Crash, How, Server, served
from fakes import point
from fuzz import examples
from harness.runs.folders import RunFolder
from harness.runs.record import Result, Run
from harness.study.schema import Study
from harness.tracking import mirror
from harness.tracking.ledger import Report
from harness.tracking.parent_run import ask_for_report
from mirrored import bare_study, make_folder, sending

HOW: tuple[How, ...] = ("before", "half", "after")


def write_again(folder: RunFolder, kept: int, until: int, attempt: int) -> None:
    """A resumed run writes its points after `kept` again, each attempt by a clock of its own and, as on a GPU, with
    slightly other values."""
    folder.rewind(kept)
    for step in range(kept + 1, until + 1):
        made = point(step)
        values = {name: value + 1e-6 * attempt for name, value in made.values.items()}
        folder.append(replace(made, time=made.time - 1000 * attempt, values=values))


def draw(folder: RunFolder, step: int) -> None:
    (folder.path / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(folder.path / "samples" / f"{step:09d}.png")


def check(server: Server, folder: RunFolder, grids: int) -> None:
    """Everything is there once, and of each step the newest point is the one that the folder has."""
    (child,), (parent,) = server.children(), server.parents()
    points = {(name, 16 * each.step): value for each in folder.points() for name, value in each.values.items()}
    final = {("kid", 160): 0.25} if child.status == "FINISHED" else {}
    assert max(Counter((each.key, each.step, each.value) for each in child.metrics).values(), default=1) == 1
    newest = sorted(child.metrics, key=lambda each: each.timestamp)
    assert {(each.key, each.step): each.value for each in newest} == points | final
    images = [name for name in child.files if "+step+" in name]
    assert Counter(int(name.split("+")[2]) for name in images) == {16 * step: 2 for step in range(grids)}
    assert len(child.inputs) == 1 and child.params["data.source"] == "twemoji"
    assert "/ablations.yaml" in parent.files


def story(study: Study, folder: RunFolder) -> Iterator[bool]:
    """What happens to a run until it is done; after each part all is delivered, `True` while the grid runs."""
    draw(folder, 0)
    write_again(folder, 0, 3, 1)
    yield True
    draw(folder, 1)
    write_again(folder, 2, 6, 2)
    yield True
    write_again(folder, 0, 10, 3)
    folder.finish(Result({"kid": 0.25}, {}, {"seconds": 1.0}))
    folder.update(state="done", step=10)
    tables = {"cells": {"columns": [], "data": []}}
    report = Report(summary={"kid_mean": 0.5}, tables=tables, note=["so it is"], headlines=[("kid", "lower")])
    ask_for_report(study, study.root, report, None)
    yield False


def live_through(study: Study) -> tuple[Run, RunFolder, int]:
    """Tell the story, after each crash on from what is on disk; returns the run and the number of crashes."""
    run, folder = make_folder(study)
    crashes = 0
    for running in story(study, folder):
        while True:
            try:
                sending(study, run).send(running)
                break
            except Crash:
                crashes += 1
                step = len(folder.points())
                write_again(folder, step // 2, step, 4)
                folder.update()  # as each attempt does
                (folder.path / "samples" / "000000000.png").touch()
    return run, folder, crashes


def calls_of_the_story(folder: Path) -> int:
    folder.mkdir()
    with served(server := Server()):
        live_through(bare_study(folder))
    return len(server.calls)


@pytest.mark.parametrize("value", [0.25, 0.5])
def test_nothing_is_asked_of_a_curve_that_ends_as_it_was_sent(tmp_path: Path, value: float) -> None:
    with served(server := Server()):
        study = bare_study(tmp_path)
        run, folder = make_folder(study, steps=4)
        folder.append(replace(point(5), values={"metrics/kid": 0.25}))
        folder.finish(Result({"kid": value}, {}, {"seconds": 1.0}))
        folder.update(state="done", step=5)
        sending(study, run).send(running=False)
    assert [each.value for each in server.children()[0].metrics if each.key == "kid"] == [*dict.fromkeys((0.25, value))]
    assert server.calls.count("get_metric_history") == (value != 0.25), "thousands of runs would be asked about"


@pytest.mark.parametrize("how", HOW)
def test_a_crash_at_every_call(tmp_path: Path, how: How) -> None:
    total = calls_of_the_story(tmp_path / "whole")
    assert total > 20
    for number in range(total):
        folder = tmp_path / str(number)
        folder.mkdir()
        study, server = bare_study(folder), Server()
        server.fail(number, how)
        with served(server):
            run, run_folder, crashes = live_through(study)
        assert crashes == 1
        check(server, run_folder, grids=2)
        (parent,) = server.parents()
        assert parent.points() == [("kid_mean", 0)] and parent.status == "FINISHED"
        assert not mirror.missing(study, study.root, [run])


def test_a_request_that_arrives_late_is_a_repetition(tmp_path: Path) -> None:
    """After a time-out the same metrics are sent before what a resumed run wrote meanwhile: stores drop repetitions."""
    study, server = bare_study(tmp_path), Server()
    run, folder = make_folder(study, steps=3)
    with served(server):
        sending(study, run).send()
        folder.append(point(4))
        server.fail("log_batch", "before")
        with pytest.raises(Crash):
            sending(study, run).send()
        write_again(folder, 2, 4, 1)
        sending(study, run).send()
    (child,) = server.children()
    totals = [metric for metric in child.metrics if metric.key == "generator/total"]
    assert [metric.value for metric in totals] == [1.0, 2.0, 3.0, 4.0, 3 + 1e-6, 4 + 1e-6]
    assert totals[3].timestamp == int(point(4).time * 1000)


class Life(RuleBasedStateMachine):
    """Any order of writing, resuming, delivering, dying and losing the notes."""

    @initialize()
    def begin(self) -> None:
        self.path = Path(tempfile.mkdtemp())
        self.server, self.study = Server(), bare_study(self.path)
        self.run_, self.folder = make_folder(self.study)
        self.written, self.reached, self.attempt = 0, 0, 0

    @rule(steps=st.integers(1, 4))
    def train(self, steps: int) -> None:
        self.written += steps
        self.reached = max(self.reached, self.written)
        write_again(self.folder, self.written - steps, self.written, self.attempt)

    @rule(share=st.floats(0, 1))
    def resume(self, share: float) -> None:
        self.written = int(self.written * share)
        self.folder.rewind(self.written)
        self.attempt += 1

    @rule()
    def draw(self) -> None:
        draw(self.folder, 0)

    @rule()
    def deliver(self) -> None:
        with served(self.server):
            sending(self.study, self.run_).send(running=True)

    @rule(calls=st.integers(0, 25), how=st.sampled_from(HOW))
    def die(self, calls: int, how: How) -> None:
        self.server.fail(calls, how)
        with suppress(Crash):
            self.deliver()
        self.server.crash = None

    @precondition(lambda self: (self.folder.path / "mlflow.json").exists())
    @rule(of_the_grid=st.booleans())
    def lose_notes(self, of_the_grid: bool) -> None:
        (self.folder.path / "mlflow.json").unlink()
        if of_the_grid:
            (self.study.root / "mlflow.json").unlink()

    def teardown(self) -> None:
        if not hasattr(self, "path"):
            return
        write_again(self.folder, self.written, self.reached, self.attempt)
        draw(self.folder, 0)
        self.deliver()
        check(self.server, self.folder, grids=1)
        shutil.rmtree(self.path)


pytest.mark.fuzz(Life.TestCase)
Life.TestCase.settings = settings(max_examples=examples(30), stateful_step_count=15, deadline=None)
test_any_life = Life.TestCase
