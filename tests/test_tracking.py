"""MLflow as a mirror of run folders, on a real SQLite store and a real server."""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from fakes import make_run, point
from harness.errors import HarnessError
from harness.files import write_json
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result
from harness.settings import Settings
from harness.study.schema import Study, Tracking
from harness.tracking import mirror as tracking
from harness.tracking.mirror import Mirror, missing, sync, tracking_uri
from mirrored import (
    artefacts,
    children,
    client,
    empty_store,
    expected,
    finish,
    held,
    history,
    make_folder,
    make_study,
    parent,
    sending,
)
from waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # MLflow sets it: so what it sets is taken back
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr(tracking, "POLL_S", 0.05)
    monkeypatch.setattr(tracking, "SHARE", 1.0)
    return make_study(tmp_path)


def test_a_finished_run_arrives_whole(study: Study) -> None:
    run, folder = make_folder(study, "full", 1, steps=10)
    (folder.path / "samples").mkdir()
    for name in ("real", "000000010"):
        Image.new("RGB", (8, 8)).save(folder.path / "samples" / f"{name}.png")
    (folder.path / "log.txt").write_text("hello")
    (folder.path / "generator.safetensors").write_bytes(b"weights")
    folder.finish(Result({"kid": 0.25}, {"kid": {"samples": 64}}, {"seconds": 3.0}))
    folder.update(state="done")
    assert sync(study, study.root, [run]) == {"runs": 1, "points": 20, "images": 2, "files": 3}

    found = children(study)["full/seed1"]
    assert history(study, "full/seed1") == expected(10)
    assert found.info.status == "FINISHED"
    tags = found.data.tags
    assert (tags["cell"], tags["seed"], tags["fingerprint"], tags["toggles"]) == ("full", "1", run.id, "full")
    assert (tags["outcome"], tags["attempt"], tags["mlflow.parentRunId"]) == ("done", "1", parent(study).info.run_id)
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type", "git.dirty"} <= set(tags)
    assert found.data.params["loss.weights.generator.itd"] == "5.0" and found.data.params["data.source"] == "twemoji"
    assert (found.data.metrics["kid"], found.data.tags["cost.seconds"]) == (0.25, "3")
    (data,) = found.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("twemoji", "d" * 36)
    assert {"result.json", "log.txt", "model", "images", "samples"} <= artefacts(study, found.info.run_id)
    assert "generator.safetensors" in artefacts(study, found.info.run_id, "model/artifacts")
    assert any("step+160" in name for name in artefacts(study, found.info.run_id, "images"))
    assert parent(study).info.status == "FINISHED"
    assert "ablations.yaml" in artefacts(study, parent(study).info.run_id)
    assert (study.path.parent / "mlartifacts" / "emoji").is_dir()


def test_a_second_delivery_adds_nothing(study: Study) -> None:
    run, folder = make_folder(study, steps=5)
    folder.update(state="done")
    sync(study, study.root, [run])
    assert sync(study, study.root, [run]) == {}
    assert history(study, "origin/seed0") == expected(5)


def test_points_arrive_once_although_a_resumed_run_writes_some_again(study: Study) -> None:
    run, folder = make_folder(study, steps=6)
    mirror = sending(study, run)
    assert mirror.send()["points"] == 12
    folder.rewind(4)
    assert not mirror.send()["points"]
    for step in (5, 6, 7, 8):
        folder.append(replace(point(step), time=point(step).time + 99))
    assert mirror.send()["points"] == 4
    folder.rewind(2)
    for step in range(3, 11):
        folder.append(point(step))
    assert sending(study, run).send()["points"] == 4
    assert history(study, "origin/seed0") == expected(10)
    assert history(study, "origin/seed0", "lr") == [(step * 16, 0.5) for step in range(1, 11)]


def test_what_an_attempt_that_goes_back_has_replaced_is_put_right(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    """The last value of each step wins, and so does the result, also by an earlier clock; it is told once."""
    run, folder = make_folder(study, steps=4)
    folder.append(Point(5, 0.08, 1.8e9, {"metrics/kid": 0.5}))
    (folder.path / "samples").mkdir()
    grid = folder.path / "samples" / "000000005.png"
    Image.new("RGB", (8, 8), "red").save(grid)
    mirror = sending(study, run)
    assert mirror.send() == {"runs": 1, "points": 9, "images": 1}
    folder.rewind(2)
    assert not mirror.send()["points"]
    for step in (3, 4):
        folder.append(replace(point(step), time=1.6e9, values={"generator/total": 7.0 + step, "lr": 0.5}))
        assert mirror.send()["points"] == 1
    Image.new("RGB", (8, 8), "blue").save(grid)
    folder.append(Point(5, 0.08, 1.6e9, {"metrics/kid": 0.75}))
    folder.finish(Result({"kid": 0.25}, {"kid": {"samples": 64}}, {}))
    folder.update(state="done", step=5)
    assert mirror.send() == {"points": 1, "images": 1, "files": 1}
    found = children(study)["origin/seed0"]
    assert (found.data.metrics["kid"], found.data.metrics["generator/total"]) == (0.25, 11.0)
    assert history(study, "origin/seed0") == sorted([*expected(4), (48, 10.0), (64, 11.0)])
    assert history(study, "origin/seed0", "lr") == [(step * 16, 0.5) for step in range(1, 5)]
    (image,) = [name for name in artefacts(study, found.info.run_id, "images") if name.endswith(".png")]
    with Image.open(client(study).download_artifacts(found.info.run_id, f"images/{image}")) as shown:
        assert shown.getpixel((0, 0)) == (0, 0, 255)
    (told,) = [text for text in caplog.messages if "from 48 images on were written anew" in text]
    assert told.startswith("origin/seed0: ")


def test_a_line_under_way_waits_for_its_end(study: Study) -> None:
    run, folder = make_folder(study, steps=2)
    mirror = sending(study, run)
    path = folder.path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-10])
    mirror.send()
    assert history(study, "origin/seed0") == expected(1)
    with path.open("a") as file:
        file.write(whole[-10:])
    mirror.send()
    assert history(study, "origin/seed0") == expected(2)


def test_more_points_than_a_call_takes(study: Study) -> None:
    run, folder = make_folder(study)
    for step in range(1, 601):
        folder.append(point(step))
    assert sync(study, study.root, [run])["points"] == 1200
    assert history(study, "origin/seed0") == expected(600)


@pytest.mark.parametrize(
    ("state", "status", "whole"),
    [("failed", "FAILED", "FAILED"), ("diverged", "FAILED", "FAILED"), ("interrupted", "KILLED", "KILLED")],
)
def test_ends_in_mlflows_words(study: Study, state: str, status: str, whole: str) -> None:
    run, folder = make_folder(study)
    folder.update(state=state, error="step 3: it broke")
    sync(study, study.root, [run])
    found = children(study)["origin/seed0"]
    assert (found.info.status, found.data.tags["outcome"]) == (status, state)
    assert found.data.tags["error"] == "step 3: it broke"
    assert parent(study).info.status == whole


def test_a_continued_grid_goes_on_in_the_same_runs(study: Study) -> None:
    run, folder = make_folder(study, steps=3)
    folder.update(state="interrupted")
    with Mirror(study, study.root, [run]):
        pass
    assert children(study)["origin/seed0"].info.status == "KILLED"
    folder.update(state="running", attempt=2)
    with held(folder), Mirror(study, study.root, [run]) as mirror:
        until(lambda: children(study)["origin/seed0"].info.status == "RUNNING")
        until(lambda: parent(study).info.status == "RUNNING")
        folder.append(point(4))
        folder.update(state="done")
    finish(mirror, {"kid_mean": 0.5}, {}, None)
    assert list(children(study)) == ["origin/seed0"]
    assert children(study)["origin/seed0"].data.tags["attempt"] == "2"
    assert history(study, "origin/seed0") == expected(4)
    assert (parent(study).info.status, parent(study).data.metrics) == ("FINISHED", {"kid_mean": 0.5})


def test_a_run_whose_process_is_gone_does_not_run_for_ever(study: Study) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    run, folder = make_folder(study)
    folder.update(pid=process.pid)
    sync(study, study.root, [run])
    assert children(study)["origin/seed0"].info.status == "KILLED"


def test_lost_notes_lead_to_the_same_runs(study: Study) -> None:
    run, folder = make_folder(study, steps=3)
    sync(study, study.root, [run])
    (study.root / "mlflow.json").unlink()
    (folder.path / "mlflow.json").unlink()
    sync(study, study.root, [run])
    assert list(children(study)) == ["origin/seed0"]
    assert history(study, "origin/seed0") == expected(3)


def test_a_new_store_gets_everything(study: Study) -> None:
    run, _ = make_folder(study, steps=3)
    sync(study, study.root, [run])
    (study.path.parent / "mlflow.db").unlink()
    shutil.copy(empty_store(), study.path.parent / "other.db")
    other = replace(study, tracking=Tracking(uri="sqlite:///other.db"))
    assert sync(other, study.root, [run])["points"] == 6
    assert history(other, "origin/seed0") == expected(3)


def test_a_run_deleted_in_mlflow_stays_deleted_and_costs_a_warning(
    study: Study, caplog: pytest.LogCaptureFixture
) -> None:
    gone, folder = make_folder(study, "mix_logits", steps=2)
    other, _ = make_folder(study, "origin", steps=2)
    sync(study, study.root, [gone, other])
    client(study).delete_run(children(study)["mix_logits/seed0"].info.run_id)
    folder.append(point(3))
    mirror = sending(study, gone, other)
    mirror.send()
    mirror.send()
    assert [record.levelno for record in caplog.records].count(logging.WARNING) == 1
    assert "mix_logits seed 0" in caplog.text
    assert list(children(study)) == ["origin/seed0"]


def test_pending_runs_are_not_there_yet(study: Study) -> None:
    run = make_run("origin")
    RunFolder(study.root / run.id).create(run)
    sync(study, study.root, [run])
    assert children(study) == {}


def test_the_report_is_on_the_grid(study: Study) -> None:
    run, folder = make_folder(study)
    folder.update(state="done")
    study.reports.mkdir(parents=True)
    (study.reports / "index.md").write_text("# report")
    mirror = Mirror(study, study.root, [run])
    finish(mirror, {"a": 1.0}, {"cells": {"columns": ["cell", "n"], "data": [["origin", 3]]}}, study.reports)
    assert artefacts(study, parent(study).info.run_id, "report") == {"index.md"}
    assert sync(study, study.root, [run]) == {}


def test_a_number_that_the_report_has_no_more_is_none_on_the_grid(study: Study) -> None:
    run, folder = make_folder(study)
    folder.update(state="done")
    mirror = Mirror(study, study.root, [run])
    finish(mirror, {"noise 1/kid/mean": 1.0, "full/kid/mean": 2.0}, {}, None)
    client(study).log_metric(parent(study).info.run_id, "of somebody", 3.0)
    finish(mirror, {"full/kid/mean": 2.0}, {}, None)
    shown = parent(study).data.metrics
    assert math.isnan(shown.pop("noise 1/kid/mean")) and shown == {"full/kid/mean": 2.0, "of somebody": 3.0}
    assert not missing(study, study.root, [run]) and sync(study, study.root, [run]) == {}
    finish(mirror, {"noise 1/kid/mean": 1.0}, {}, None)
    assert parent(study).data.metrics["noise 1/kid/mean"] == 1.0


def test_which_store(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = study.path.parent
    assert tracking_uri(study) == f"sqlite:///{beside}/mlflow.db"
    named = replace(study, tracking=Tracking(uri="sqlite:///sub/x.db"))
    assert tracking_uri(named) == f"sqlite:///{beside}/sub/x.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tracking_uri(named) == "http://127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(HarnessError, match=r"MLFLOW_TRACKING_URI: './mlruns' is a folder.*sqlite:///"):
        Mirror(study, study.root, [])


def test_the_generator_is_a_model(study: Study) -> None:
    """The model that MLflow loads makes images from captions, without pickles."""
    import mlflow
    import torch
    from safetensors.torch import save_file

    from harness.models.config import GeneratorConfig
    from harness.models.encoders.load import load_clip
    from harness.models.generator import Generator

    small = GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=8)
    base = Settings(generator=small)
    settings = replace(
        base,
        data=replace(base.data, resolution=16),
        encoders=replace(base.encoders, clip="embedded:clip-guide"),
    )
    run = replace(make_run("origin"), settings=settings)
    folder = RunFolder(study.root / run.id)
    folder.create(run)
    folder.update(state="done", attempt=1)
    generator = Generator(small, 16, load_clip("embedded:clip-guide", "cpu").dim)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_file(generator.state_dict(), folder.path / "generator.safetensors")
    sync(study, study.root, [run])
    mlflow.set_tracking_uri(tracking_uri(study))
    model = mlflow.pyfunc.load_model(f"runs:/{children(study)['origin/seed0'].info.run_id}/model")
    images = model.predict(["a red heart", "a cat"])
    assert images.shape == (2, 16, 16, 3) and images.dtype == "uint8"
    assert not list(study.path.parent.rglob("*.pkl"))
    save_file(generator.state_dict(), folder.path / "generator.safetensors", {"run": "another"})
    with pytest.raises(HarnessError, match=r"generator\.safetensors: belongs to run 'another'"):
        sync(study, study.root, [run])


def test_damaged_notes_are_named(study: Study) -> None:
    run, folder = make_folder(study)
    (folder.path / "mlflow.json").write_text("{")
    with pytest.raises(HarnessError, match=r"mlflow\.json"):
        sync(study, study.root, [run])
    write_json(folder.path / "mlflow.json", {"uri": "elsewhere", "unknown": 1})
    sync(study, study.root, [run])
    assert list(children(study)) == ["origin/seed0"]


def test_tables_of_a_later_report_replace_those_of_an_earlier(study: Study, tmp_path: Path) -> None:
    run, folder = make_folder(study)
    folder.update(state="done")
    for count in (2, 3):
        table = {"columns": ["cell", "n"], "data": [["origin", count]]}
        finish(Mirror(study, study.root, [run]), {}, {"cells": table}, None)
    grid = parent(study)
    assert json.loads(grid.data.tags["mlflow.loggedArtifacts"]) == [{"path": "tables/cells.json", "type": "table"}]
    file = client(study).download_artifacts(grid.info.run_id, "tables/cells.json", str(tmp_path))
    # As MLflow reads it for its pages.
    assert pd.read_json(file, orient="split").to_dict("records") == [{"cell": "origin", "n": 3}]
