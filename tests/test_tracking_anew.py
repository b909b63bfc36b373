"""A run that was trained anew is another run on the tracking server, and the earlier one says so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fake_mlflow import Server, served
from fakes import point
from harness.code.engine import Engine
from harness.runs.folders import RunFolder
from harness.runs.record import Run, State
from harness.study.load import load_study
from harness.study.schema import Study, Tracking
from harness.tracking.front import NOTE
from harness.tracking.ledger import Report
from harness.tracking.mirror import sync
from harness.tracking.mlflow_store import SOURCE_TAG
from harness.tracking.parent_run import ask_for_report
from mirrored import bare_study, make_folder
from reported import study_of


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_of(tmp_path)


def trained(study: Study, steps: int, engine: Engine, state: State = "done") -> tuple[Run, RunFolder]:
    """The run with a new folder, in the place of an earlier one."""
    shutil.rmtree(study.root, ignore_errors=True)
    run, folder = make_folder(study, "origin", 0, steps)
    folder.made_by(engine)
    folder.update(state=state, step=steps)
    return run, folder


def of_an_earlier_version(folder: RunFolder, server: Server) -> None:
    """As it was before a training noted when it was begun, its ledger lost."""
    text = json.loads((folder.path / "run.json").read_text())
    del text["begun"]
    (folder.path / "run.json").write_text(json.dumps(text))
    (folder.path / "mlflow.json").unlink()
    for row in server.children():
        row.tags.pop("begun", None)


@pytest.mark.parametrize("engine", [Engine("b", "m"), Engine("a", "n"), Engine("a", "m")])
def test_each_training_of_a_run_has_its_own_tracking_run(study: Study, engine: Engine) -> None:
    """By code that trains otherwise, or measures otherwise, or after `harness rm` by the same; and by the first again.

    The current one alone is not replaced, also where the ledger was lost.
    """
    server = Server()
    with served(server):
        for number, (made_by, steps) in enumerate([(Engine("a", "m"), 2), (engine, 3), (Engine("a", "m"), 4)], 1):
            run, folder = trained(study, steps, made_by, "running" if number == 1 else "done")
            began = folder.run().begun
            folder.update(attempt=2, started=began + 100)  # it went on: the start is that of the training
            for _ in range(2):
                sync(study, study.root, [run])
                (folder.path / "mlflow.json").unlink()
            rows = server.children()
            assert ["replaced_by" in row.tags for row in rows] == [True] * (number - 1) + [False]
            assert [row.status for row in rows[:-1]] == ["KILLED", "FINISHED"][: number - 1]
            assert {step for _, step in rows[-1].points()} == {16 * step for step in range(1, steps + 1)}
            assert rows[-1].tags["engine.measuring"] == made_by.measuring
            assert rows[-1].started == int(began * 1000)


def test_a_run_that_begins_again_in_its_folder_is_another_one_by_other_code_alone(study: Study) -> None:
    server = Server()
    with served(server):
        run, folder = trained(study, 3, Engine("a", "m"), "failed")
        for engine, rows in ((Engine("a", "m"), 1), (Engine("b", "m"), 2)):
            sync(study, study.root, [run])
            folder.rewind(-1)
            folder.made_by(engine)
            folder.append(replace(point(1), values={"generator/total": 9.0}))
            folder.update(state="running")
            sync(study, study.root, [run])
            assert len(server.children()) == rows
    first, second = server.children()
    assert "replaced_by" in first.tags and len(first.points()) == 7  # one with a newer value beside it
    assert [metric.value for metric in second.metrics] == [9.0]


def test_what_an_earlier_version_has_sent_is_found_again_until_the_run_is_trained_anew(study: Study) -> None:
    server = Server()
    with served(server):
        run, folder = trained(study, 2, Engine("a", "m"))
        sync(study, study.root, [run])
        of_an_earlier_version(folder, server)
        server.children()[0].tags["replaced_by"] = "one that was deleted"
        sync(study, study.root, [run])
        (row,) = server.children()
        assert "replaced_by" not in row.tags and len(row.points()) == 4
        folder.made_by(Engine("a+b", "m"), goes_on=True)
        folder.update(state="done")
        sync(study, study.root, [run])
        assert len(server.children()) == 1
        run, folder = trained(study, 2, Engine("a+b", "m"))
        sync(study, study.root, [run])
        first, second = server.children()
        assert "replaced_by" in first.tags and "replaced_by" not in second.tags


def test_of_two_studies_of_one_name_the_one_sent_last_is_shown(tmp_path: Path) -> None:
    studies = []
    for name, value in (("first", 1.0), ("second", 2.0)):
        (tmp_path / name).mkdir()
        studies.append(replace(bare_study(tmp_path / name), tracking=Tracking(uri="http://localhost:1")))
        ask_for_report(studies[-1], studies[-1].root, Report(summary={"x": value}, note=[name]), None)
    server = Server()
    with served(server):
        for study in (*studies, studies[0]):
            sync(study, study.root, [])
    (row,) = server.parents()
    assert (row.tags[SOURCE_TAG], row.tags[NOTE]) == (str(studies[0].path), "first")
    assert max(row.metrics, key=lambda metric: metric.timestamp).value == 1.0


def test_the_study_file_on_the_server_is_the_one_that_was_read(tmp_path: Path) -> None:
    """Whatever lies at its path by now; an edited one takes the place of the earlier, and each is sent once."""
    study, server = replace(bare_study(tmp_path), tracking=Tracking(uri="http://localhost:1")), Server()
    edited = "study: emoji # \u00e9dited\r\n"
    with served(server):
        for text in (study.text, edited, study.text):
            study.path.write_bytes(text.encode())
            read = replace(study, text=load_study(study.path).text)
            study.path.unlink()
            sync(read, study.root, [])
            (row,) = server.parents()
            assert row.files["/ablations.yaml"] == text.encode()
        row.files["/ablations.yaml"] = b"as it was sent"
        sync(read, study.root, [])
    assert row.files["/ablations.yaml"] == b"as it was sent"
