"""Reports of what the command line changes, in MLflow: none takes the place of another's numbers. A fake server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fake_mlflow import Crash, Row, Server, served
from harness.study.schema import Study
from harness.tracking.ledger import Report
from harness.tracking.mirror import Mirror, missing, sync
from harness.tracking.parent_run import ask_for_report
from mirrored import bare_study, finish, make_folder

VARIANTS = [
    {"overrides": ("train.kimg=1",)},
    {"overrides": ("train.kimg=2",)},
    {"only": ("full",)},
    {"overrides": ("train.kimg=1",), "only": ("full",)},
    {"overrides": ("data.source='it''s \"here\"'",)},
]


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return bare_study(tmp_path)


@pytest.fixture
def server() -> Iterator[Server]:
    with served(made := Server()):
        yield made


def report(study: Study, run, value: float) -> None:
    """A grid that is over writes its report."""
    study.reports.mkdir(parents=True, exist_ok=True)
    (study.reports / "report.md").write_text(str(value))
    finish(Mirror(study, study.root, [run]), {"fd/full": value}, {"cells": {"columns": [], "data": []}}, study.reports)


def numbers(row: Row) -> list[float]:
    return [metric.value for metric in row.metrics]


@pytest.mark.parametrize("change", VARIANTS)
@pytest.mark.parametrize("plain_first", [True, False])
def test_a_variant_leaves_the_numbers_of_the_plain_study(study, server, change, plain_first) -> None:
    run, folder = make_folder(study)
    folder.update(state="done")
    variant = replace(study, **change)
    for one, value in ((study, 1.0), (variant, 2.0)) if plain_first else ((variant, 2.0), (study, 1.0)):
        report(one, run, value)
    plain, other = server.parents()
    assert (plain.name, other.name) == (study.label, variant.title)
    assert numbers(plain) == [1.0] and numbers(other) == [2.0]
    assert plain.files["report/report.md"] == b"1.0" and other.files["report/report.md"] == b"2.0"
    assert "mlflow.loggedArtifacts" in other.tags and other.status == "FINISHED"
    assert other.tags["changed"] == "; ".join(variant.variant) and "grid" not in other.tags
    assert [child.tags["mlflow.parentRunId"] for child in server.children()] == ["run0"]
    assert not missing(study, study.root, [run]) and sync(study, study.root, [run]) == {}


def test_each_variant_has_one_run_whatever_the_order_of_its_changes(study, server) -> None:
    run, folder = make_folder(study)
    folder.update(state="done")
    for value, change in enumerate([*VARIANTS, *VARIANTS], 1):
        report(replace(study, **change), run, float(value))
    assert len(server.parents()) == 1 + len(VARIANTS)
    assert [numbers(row) for row in server.parents()[1:]] == [[n, n + 5.0] for n in range(1, 6)]
    report(replace(study, overrides=("loss.tau=1", "train.kimg=3")), run, 7.0)
    report(replace(study, overrides=("train.kimg=3", "loss.tau=1")), run, 8.0)
    assert numbers(server.parents()[-1]) == [7.0, 8.0]
    report(replace(study, overrides=("resources.slots=1",)), run, 9.0)
    assert numbers(server.parents()[0]) == [9.0], "what changes no number is no variant"


def test_reports_of_several_wait_for_a_server_that_is_away(study, server) -> None:
    run, folder = make_folder(study)
    folder.update(state="done")
    sync(study, study.root, [run])
    variant = replace(study, only=("full",))
    for name in ("create_run", "log_batch"):
        ask_for_report(variant, study.root, Report(summary={"fd/full": 2.0}), None)
        server.fail(name, "after")
        with pytest.raises(Crash):
            sync(variant, study.root, [run])
    server.crash = None
    report(study, run, 1.0)
    assert [numbers(row)[-1:] for row in server.parents()] == [[1.0], [2.0]], "and none is made twice"


def test_no_password_reaches_the_name_or_the_tags(study, server) -> None:
    run, folder = make_folder(study)
    folder.update(state="done")
    variant = replace(study, overrides=("data.source=https://me:pa55word@host/x",))
    report(variant, run, 1.0)
    other = server.parents()[1]
    assert "***" in other.name and "pa55word" not in str([other.name, other.tags])
    assert "pa55word" not in variant.reports.name + str([path.name for path in study.root.iterdir()])
    assert not any("pa55word" in path.read_text() for path in study.root.glob("mlflow*.json"))
