"""What MLflow shows of a grid at first sight, and what earlier versions have sent. The server is a fake."""

from __future__ import annotations

import base64
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fake_mlflow import Row, Server, served
from fakes import make_run
from harness.runs.folders import RunFolder
from harness.runs.record import Point, Result, Run
from harness.study.schema import Study, StudyToggle
from harness.tracking import ledger as ledgers
from harness.tracking.front import NOTE, shortened_note, with_part
from harness.tracking.ledger import Report
from harness.tracking.mirror import Mirror, missing, sync
from harness.tracking.parent_run import ask_for_report
from mirrored import bare_study, sending

IDEAS = ("mix_logits", "transform_w")
VIEW = "mlflow.sharedViewState.emoji"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return replace(bare_study(tmp_path), toggles=tuple(map(StudyToggle, IDEAS)))


@pytest.fixture
def server() -> Iterator[Server]:
    with served(made := Server()):
        yield made


def finished(study: Study, *toggles: str) -> Run:
    """A run that was measured twice on its way, the last time as its result."""
    run = replace(make_run("+".join(toggles) or "origin"), toggles=toggles)
    folder = RunFolder(study.root / run.id)
    folder.create(run)
    for step, value in ((5, 0.5), (10, 0.25)):
        folder.append(Point(step, step * 0.016, 1.7e9 + step, {"metrics/kid": value, "loss": value}))
    folder.finish(Result({"kid": 0.25}, {}, {"seconds": 12.5, "s_per_kimg": 1e9 / 3}))
    folder.update(state="done", attempt=1, step=10)
    return run


def report(study: Study, *note: str, folder: Path | None = None) -> None:
    headlines = [("kid", "lower"), ("clip_score", "higher")]
    ask_for_report(study, study.root, Report(note=list(note), headlines=headlines, summary={"n": 1.0}), folder)


def test_a_metric_is_one_curve_and_costs_are_tags(study: Study, server: Server) -> None:
    sync(study, study.root, [finished(study)])
    (row,) = server.children()
    assert row.points() == [("kid", 80), ("kid", 160), ("loss", 80), ("loss", 160)]
    assert (row.tags["cost.seconds"], row.tags["cost.s_per_kimg"]) == ("12.5", "3.33333e+08")


def test_each_idea_is_a_parameter_also_of_runs_that_were_sent_before(
    study: Study, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    runs = [finished(study), finished(study, "mix_logits"), finished(study, *IDEAS)]
    sync(replace(study, toggles=study.toggles[:1]), study.root, runs)
    assert sync(study, study.root, runs) == {"parameters": 3}
    shown = [[row.params[idea] for idea in IDEAS] for row in server.children()]
    assert shown == [["0", "0"], ["1", "0"], ["1", "1"]]
    other = replace(study, toggles=(*study.toggles, StudyToggle("new")))
    sync(other, study.root, [replace(runs[0], toggles=("mix_logits",)), *runs[1:]])
    assert server.children()[0].params["mix_logits"] == "0" and "new" in server.children()[0].params
    assert "origin/seed0: MLflow keeps a parameter as it was first sent" in caplog.text


def test_a_grid_and_sync_rename_what_the_study_calls_otherwise_and_ask_of_no_other_run(
    study: Study, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """As when the reference of a factor changes: its level is another one, and the reference's runs are a cell's."""
    runs = [finished(study), finished(study, "mix_logits"), finished(study, "transform_w")]
    sync(study, study.root, runs)
    today = [replace(runs[0], cell="mix_logits", toggles=("mix_logits",)), replace(runs[1], cell="origin", toggles=())]
    today.append(runs[2])
    assert not missing(study, study.root, runs) and missing(study, study.root, today)
    before = len(server.calls)
    Mirror(study, study.root, today).catch_up()
    calls = Counter(server.calls[before:])
    assert (calls["log_batch"], calls["set_terminated"], calls["get_run"]) == (2, 2, 3), calls
    keys = ("mlflow.runName", "cell", "toggles")
    named = [("mix_logits/seed0", "mix_logits", "mix_logits"), ("origin/seed0", "origin", "")]
    assert [tuple(row.tags[key] for key in keys) for row in server.children()[:2]] == named
    for name in ("mix_logits", "origin"):
        assert f"{name}/seed0: MLflow keeps a parameter as it was first sent" in caplog.text
    twice = [*today, replace(today[0], cell="trial-007")]
    assert not missing(study, study.root, today) and not missing(study, study.root, twice)
    assert sync(study, study.root, runs) == {"renamed runs": 2}
    # An earlier version has not noted what it sent: it is read from beside the runs.
    ledger = study.root / ledgers.NAME
    ledger.write_text(json.dumps(json.loads(ledger.read_text()) | {"called": {}}))
    assert missing(study, study.root, runs)
    before = len(server.calls)
    Mirror(study, study.root, runs).catch_up()
    assert set(server.calls[before:]) == {"get_experiment_by_name", "get_run"}
    assert not missing(study, study.root, runs)


def test_a_name_tells_what_set_has_changed_in_the_run(study: Study, server: Server) -> None:
    changed = ("train.kimg=0.16", "design.seeds=3", "train.kimg=0.2", f"data.path={'x' * 60}")
    sync(replace(study, overrides=changed), study.root, [finished(study)])
    assert [row.name for row in server.children()] == [f"origin/seed0, data.path={'x' * 37}…, train.kimg=0.2"]


def test_the_view_has_the_ideas_and_the_headline_metrics_best_first(study: Study, server: Server) -> None:
    run = finished(study)
    sync(study, study.root, [run])
    early = json.loads(server.experiment[VIEW])
    assert early["orderByKey"] == "attributes.start_time" and "params.`mix_logits`" in early["selectedColumns"]
    report(study, "so it is")
    sync(study, study.root, [run])
    view = json.loads(server.experiment[VIEW])
    (parent,) = (name for name, row in server.runs.items() if "grid" in row.tags)
    wanted = ["tags.`outcome`", "metrics.`kid`", "metrics.`clip_score`", "params.`mix_logits`", "params.`transform_w`"]
    assert view["selectedColumns"] == wanted and (view["orderByKey"], view["orderByAsc"]) == ("metrics.`kid`", True)
    assert view["searchFilter"] == f"tags.`mlflow.parentRunId` = '{parent}'" and view["name"] == "emoji"
    assert server.experiment["mlflow.experimentKind"] == "custom_model_development"
    packed = json.loads(zlib.decompress(base64.b64decode(view["state"].removeprefix("deflate;"))))
    assert packed["selectedColumns"] == wanted
    before = len(server.calls)
    sync(study, study.root, [run])
    assert "set_experiment_tag" not in server.calls[before:]


def test_a_view_of_very_many_ideas_is_packed(study: Study, server: Server) -> None:
    many = replace(study, toggles=tuple(StudyToggle(f"my_own_idea_{number}") for number in range(60)))
    sync(many, study.root, [finished(many)])
    assert len(server.experiment[VIEW]) <= 5000
    assert set(json.loads(server.experiment[VIEW])) == {"name", "createdAt", "updatedAt", "state"}


def test_the_answer_is_there_while_the_grid_goes_on_and_the_files_at_its_end(study: Study, server: Server) -> None:
    run = finished(study)
    (study.reports).mkdir(parents=True)
    (study.reports / "report.md").write_text("whole")
    report(study, "so it is so far", folder=study.reports)
    mirror = sending(study, run)
    mirror.send(running=True)
    (parent,) = server.parents()
    assert parent.tags[NOTE] == "so it is so far" and "**emoji**: so it is so far" in server.experiment[NOTE]
    assert "report/report.md" not in parent.files and parent.metrics == []
    report(study, "so it is", folder=study.reports)
    assert mirror.send(running=False)["report"] == 1
    assert parent.tags[NOTE] == "so it is" and "so far" not in server.experiment[NOTE]


def test_what_people_and_other_grids_have_written_stays(study: Study, server: Server) -> None:
    server.experiment[NOTE] = "Ask Ada before you delete this.\n"
    other = replace(study, profile="long")
    for each, text in ((study, "first"), (other, "second"), (study, "third")):
        report(each, text)
        sync(each, each.root, [finished(each)])
    server.experiment[NOTE] += "\n\nAda has left."
    report(other, "fourth", "| much | more |")
    sync(other, other.root, [finished(other)])
    note = server.experiment[NOTE]
    assert note.startswith("Ask Ada before you delete this.\n") and note.endswith("\n\nAda has left.")
    assert "**emoji**: third" in note and "**emoji-long**: fourth\n\n| much | more |" in note
    assert "first" not in note and "second" not in note


def test_a_report_of_a_variant_is_noted_on_its_own_run_alone(study: Study, server: Server) -> None:
    variant = replace(study, overrides=("train.kimg=1",))
    report(variant, "shorter")
    sync(variant, variant.root, [finished(study)])
    notes = [row.tags.get(NOTE) for row in server.parents()]
    assert sorted(map(str, notes)) == ["None", "shorter"] and NOTE not in server.experiment


def test_a_long_answer_loses_its_end_and_says_so(study: Study) -> None:
    parts = ["the verdict", "x" * 3000, "y" * 3000]
    short = shortened_note(parts)
    assert short.startswith("the verdict\n\nxxx") and "y" not in short.replace("by", "").split("\n")[2]
    assert short.endswith("among the artefacts of its run.*") and len(short) <= 5000
    assert "does not fit" in with_part("", study, parts) and len(with_part("", study, parts)) <= 2200
    full = "z" * 4990
    assert with_part(full, study, parts) == full, "no room is left, so nothing is lost"


def as_sent_by_earlier_versions(server: Server, row: Row, ledger: Path | None) -> None:
    """The end of each curve under a name of its own, costs as metrics, no parameter for an idea."""
    from mlflow.entities import Metric

    renamed = [Metric(f"metrics/{it.key}", it.value, it.timestamp, it.step) for it in row.metrics if it.key == "kid"]
    rest = [metric for metric in row.metrics if metric.key != "kid"]
    row.metrics[:] = [*rest, *renamed, Metric("kid", 0.25, 1, 160), Metric("cost/seconds", 12.5, 1, 160)]
    for idea in IDEAS:
        del row.params[idea]
    if ledger is None:
        return
    written: dict[str, Any] = json.loads(ledger.read_text())
    del written["ideas"]
    written["steps"] = {"loss": 160, "metrics/kid": 160, "kid": 160, "cost/seconds": 160}
    ledger.write_text(json.dumps(written))


@pytest.mark.parametrize("is_lost", [False, True])
def test_an_old_store_gets_what_is_new_and_nothing_twice(study: Study, server: Server, is_lost: bool) -> None:
    run = finished(study, "mix_logits")
    folder = study.root / run.id
    sync(study, study.root, [run])
    (row,) = server.children()
    as_sent_by_earlier_versions(server, row, None if is_lost else folder / ledgers.NAME)
    if is_lost:
        (folder / ledgers.NAME).unlink()
    before = row.points()
    sync(study, study.root, [run])
    assert server.children() == [row] and row.points() == before
    assert [row.params[idea] for idea in IDEAS] == ["1", "0"]
    text = (folder / "metrics.jsonl").read_text()
    (folder / "metrics.jsonl").write_text(text.replace('"loss"', '"other"'))  # all is read again
    RunFolder(folder).update(attempt=2)
    sync(study, study.root, [run])
    assert [point for point in row.points() if point[0] != "other"] == before
