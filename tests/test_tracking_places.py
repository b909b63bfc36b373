"""Names, runs and places of MLflow: what it does not take, another experiment, two studies of one name."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from fake_mlflow import Client, Server, served
from harness.errors import HarnessError
from harness.runs.record import Point
from harness.study.schema import Study, Tracking
from harness.tracking import ledger as ledgers
from harness.tracking.address import follow, tracking_uri
from harness.tracking.front import runs_page
from harness.tracking.mirror import missing, sync, unsent
from harness.tracking.points import clean
from mirrored import (
    artefacts,
    bare_study,
    children,
    client,
    empty_store,
    expected,
    history,
    make_folder,
    make_study,
    parent,
)

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return make_study(tmp_path)


ODD = {
    "a//b": "a_/b",
    "a/": "a_",
    "/a": "_a",
    "/": "_",
    "//": "__",
    "a/.": "a/_",
    "x/../y": "x/__/y",
    "..": "__",
    "./...": "_/...",
    ".a/b.": ".a/b.",
    "a=1/b": "a_1/b",
    "a/b c:-": "a/b c:-",
}


def test_odd_names_reach_mlflow_as_names_that_it_takes(study: Study) -> None:
    from mlflow.utils.validation import _validate_metric_name, _validate_tag_name

    assert {name: clean(name) for name in ODD} == ODD
    for name in (*ODD.values(), clean("a/" * 200), clean("a//" * 100), clean(f"{'x' * 248}/.y")):
        _validate_metric_name(name)
        _validate_tag_name(name)
        assert len(name) <= 250 and clean(name) == name
    run, folder = make_folder(study, steps=2)
    folder.append(Point(3, 0.048, 1.7e9, {f"script/{name}": 1.0 for name in ("a//b", "a/", "a/.", "x/../y")}))
    folder.update(state="done")
    assert sync(study, study.root, [run])["points"] == 8
    found = children(study)["origin/seed0"]
    assert {"script/a_/b", "script/a_", "script/a/_", "script/x/__/y"} <= set(found.data.metrics)
    assert found.info.status == "FINISHED"


def test_odd_names_that_an_earlier_version_has_noted_reach_mlflow_too(study: Study) -> None:
    run, folder = make_folder(study, steps=1)
    sync(study, study.root, [run])
    notes = folder.path / "mlflow.json"
    before = notes.read_text()
    assert '"pending": []' in before
    notes.write_text(before.replace('"pending": []', '"pending": [["script/a//b", 2.5, 1700000000000, 16]]'))
    sync(study, study.root, [run])
    assert history(study, "origin/seed0", "script/a_/b") == [(16, 2.5)]


def test_another_experiment_is_another_place_that_gets_everything(study: Study) -> None:
    (run, folder), (gone, _) = make_folder(study, steps=3), make_folder(study, "full", steps=1)
    folder.update(state="done")
    sync(study, study.root, [run, gone])
    paper = replace(study, tracking=Tracking(experiment="paper"))
    assert missing(paper, study.root, [run])
    assert [each.cell for each in unsent(study, study.root, [run])] == []
    assert sync(paper, study.root, [run]) == {"runs": 1, "points": 6}
    assert [each.cell for each in unsent(paper, study.root, [run])] == ["full"]
    there = client(study).get_experiment_by_name("paper").experiment_id
    runs = {each.info.run_name: each for each in client(study).search_runs([there])}
    assert set(runs) == {"emoji", "origin/seed0"}
    assert runs["origin/seed0"].data.tags["mlflow.parentRunId"] == runs["emoji"].info.run_id
    assert sync(paper, study.root, [run]) == {}
    # And back: what was there stays, once.
    assert sync(study, study.root, [run, gone]) == {}
    assert history(study, "origin/seed0") == expected(3)


def test_a_grid_that_was_deleted_or_renamed_in_mlflow_is_not_sent_a_second_time(study: Study) -> None:
    run, folder = make_folder(study, steps=3)
    folder.update(state="done")
    sync(study, study.root, [run])
    grid, mlflow = parent(study).info, client(study)
    at = f"MLFLOW_TRACKING_URI={tracking_uri(study)} mlflow"

    def refused() -> str:
        with pytest.raises(HarnessError) as told:
            sync(study, study.root, [run])
        assert len(mlflow.search_experiments()) == 2, "MLflow's own and the study's"
        return str(told.value)

    mlflow.delete_run(grid.run_id)
    told = (
        f"the run of the grid 'emoji' was deleted in MLflow; bring it back: {at} runs restore --run-id {grid.run_id};"
    )
    assert told in refused()
    mlflow.restore_run(grid.run_id)
    mlflow.rename_experiment(grid.experiment_id, "a b")
    back = f"{at} experiments rename --experiment-id {grid.experiment_id} --new-name emoji; or give the study this"
    assert f"the experiment 'emoji' was renamed in MLflow to 'a b'; give it its old name: {back}" in refused()
    followed = replace(study, tracking=Tracking(experiment="a b"))
    assert not any(sync(followed, study.root, [run]).values())
    assert len(mlflow.search_runs([grid.experiment_id])) == 2
    mlflow.delete_experiment(grid.experiment_id)
    for ask in (sync, lambda *_: runs_page(tracking_uri(study), followed, tracking_uri(study))):
        with pytest.raises(
            HarnessError, match=r"the experiment 'a b' was deleted in MLflow; bring it back: .* restore"
        ):
            ask(followed, study.root, [run])


def test_mlflows_own_experiment_has_its_files_elsewhere_and_is_refused_but_where_a_study_is_in_it(study: Study) -> None:
    own = replace(study, tracking=Tracking(experiment="Default"))
    run, _ = make_folder(own, steps=1)
    with pytest.raises(HarnessError, match=r"ablations\.yaml: tracking\.experiment: 'Default' is MLflow's own.*; name"):
        sync(own, own.root, [run])
    earlier = client(own).create_run("0").info.run_id
    ledgers.save(own.root / ledgers.NAME, ledgers.GridLedger("sqlite:///mlflow.db", earlier, experiment="Default"))
    assert sync(own, own.root, [run])["runs"] == 1


def test_two_studies_of_one_name_in_one_store_are_told(
    study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Tracking(uri=f"sqlite:///{tmp_path}/shared.db")
    shutil.copy(empty_store(), tmp_path / "shared.db")
    one, other = (folder_of(tmp_path / name, shared) for name in ("one", "other"))
    run, _ = make_folder(one, steps=1)
    second, _ = make_folder(other, "full", steps=1)
    for each, its in ((one, run), (one, run), (other, second), (other, second), (one, run)):
        sync(each, each.root, [its])
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2, "each time that the other has sent in between"
    for text, mine, before in zip(told, (other, one), (one, other), strict=True):
        assert f"was sent from {before.path} before" in text and f"those of {mine.path}" in text
        assert "give this one another `study:` or `tracking.experiment`" in text


def test_a_study_that_was_moved_or_copied_is_no_other_one(
    study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = Tracking(uri=f"sqlite:///{tmp_path}/shared.db")
    shutil.copy(empty_store(), tmp_path / "shared.db")
    one = folder_of(tmp_path / "one", shared)
    run, _ = make_folder(one, steps=1)
    sync(one, one.root, [run])
    client(one).set_tag(parent(one).info.run_id, "mlflow.source.name", str(tmp_path / "earlier" / "ablations.yaml"))
    sync(one, one.root, [run])
    assert "was sent from" not in caplog.text
    assert parent(one).data.tags["mlflow.source.name"] == str(one.path)


def test_a_study_beside_the_store_leaves_the_artefacts_of_another_one_where_they_are(tmp_path: Path) -> None:
    """That one lies elsewhere and was not moved; a copy of a study with its store has copies of its artefacts."""
    beside = folder_of(tmp_path / "p", Tracking())
    uri = f"sqlite:///{tmp_path}/p/mlflow.db"
    (tmp_path / "p" / "old").mkdir()
    old = replace(bare_study(tmp_path / "p" / "old"), tracking=Tracking(uri=uri))
    (its, folder), (run, _) = make_folder(old, steps=1), make_folder(beside, "full", steps=1)
    (folder.path / "log.txt").write_text("its own")
    folder.update(state="done")
    sync(old, old.root, [its])
    sync(beside, beside.root, [run])
    sync(old, old.root, [its])
    for found in children(beside).values():
        assert found.info.artifact_uri.startswith(f"file://{tmp_path}/p/old/mlartifacts/emoji/")
    assert artefacts(beside, children(beside)["origin/seed0"].info.run_id) >= {"log.txt"}
    shutil.copytree(tmp_path / "p" / "old" / "mlartifacts", tmp_path / "p" / "mlartifacts")
    assert f"in {tmp_path}/p/mlartifacts from now on" in follow(beside, uri) and follow(beside, uri) == ""


def folder_of(folder: Path, tracking: Tracking) -> Study:
    folder.mkdir()
    return replace(make_study(folder), tracking=tracking)


def test_a_run_that_mlflow_does_not_take_is_told_each_time_and_ends_there(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server()
    bad, folder = make_folder(study, "origin", 0, steps=2)
    good, _ = make_folder(study, "origin", 1, steps=2)
    folder.update(state="done")
    refuse, take = MlflowException("it is odd", INVALID_PARAMETER_VALUE), Client.log_batch

    def log_batch(client: Client, run_id: str, **sent: Any) -> None:
        if sent.get("metrics") and server.runs[run_id].tags["seed"] == "0":
            raise refuse
        take(client, run_id, **sent)

    monkeypatch.setattr(Client, "log_batch", log_batch)
    for _ in range(2):
        with (
            served(server),
            pytest.raises(HarnessError, match="all else was sent; MLflow does not take origin seed 0: it is odd"),
        ):
            sync(study, study.root, [bad, good])
        assert missing(study, study.root, [bad, good])
    states = {child.tags["seed"]: (child.status, child.tags["outcome"]) for child in server.children()}
    assert states["0"] == ("FINISHED", "done")
    assert [len(child.metrics) for child in server.children()] == [0, 4]
    monkeypatch.setattr(Client, "log_batch", take)
    with served(server):
        sync(study, study.root, [bad, good])
    assert [len(child.metrics) for child in server.children()] == [4, 4]
