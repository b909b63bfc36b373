"""What MLflow shows of runs with a study's own code, on a real store."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.runs.folders import RunFolder, parse_run
from harness.runs.record import Result
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.tracking.ledger import Report
from harness.tracking.mirror import sync, unsent
from harness.tracking.parent_run import ask_for_report
from mirrored import children, client, empty_store

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload``")

IDEAS = """
from torch import nn
from harness.ideas import adversarial, feature, layer, term

f_own = feature("embedded:resnet-guide")

@term("discriminator", weight=0.5, reads=("f_own",))
def first(step, *, shift: int = 1, note: str = "short"): ...

@adversarial
def hinge(player, logits): ...

@layer("generator", at=8)
class block(nn.Module): ...
"""
STUDY = """
study: emoji
code: my_ideas.py
data: {source: twemoji, resolution: 16}
toggles: [first, hinge, {wide: {ideas.block.at: 16}}]
design: {kind: one-at-a-time, seeds: 1}
encoders: {clip: "embedded:clip-guide", resnet: "embedded:resnet-guide"}
metrics: {clip: "embedded:clip-measure", resnet: "embedded:resnet-measure", samples: 16}
"""
OWN = {
    "origin": {},
    "first": {"on": "true", "weight": "0.5", "shift": "1", "note": "short"},
    "hinge": {"on": "true"},
    "wide": {"on": "true", "at": "16"},
}
"""Cell -> the settings that its idea has in MLflow."""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setattr("harness.data.dataset.fingerprint", lambda source, resolution: "data")
    shutil.copy(empty_store(), tmp_path / "mlflow.db")
    (tmp_path / "my_ideas.py").write_text(IDEAS)
    (tmp_path / "study.yaml").write_text(STUDY)
    return tmp_path


def sent(place: Path, *overrides: str) -> Plan:
    """All runs of the study as it is now, done and sent."""
    plan = make_plan(load_study(place / "study.yaml", overrides=overrides))
    for run in plan.runs:
        folder = RunFolder(plan.study.root / run.id)
        if not folder.path.exists():
            folder.create(run)
            folder.finish(Result({"kid": 0.25}, {}, {}))
            folder.update(state="done", attempt=1, started=1.7e9)
    sync(plan.study, plan.study.root, plan.runs)
    return plan


def all_of(plan: Plan) -> list[Any]:
    """All tracking runs of cells, also those that share a name."""
    experiment = client(plan.study).get_experiment_by_name("emoji").experiment_id
    return [run for run in client(plan.study).search_runs([experiment]) if "cell" in run.data.tags]


def parameters(place: Path, plan: Plan, cell: str) -> dict[str, str]:
    """Those of ideas."""
    params = children(plan.study)[f"{cell}/seed0"].data.params
    return {name.removeprefix("ideas."): value for name, value in params.items() if name.startswith("ideas.")}


def test_a_run_has_the_settings_of_its_ideas_and_no_others(place: Path) -> None:
    plan = sent(place)
    idea = {"first": "first", "hinge": "hinge", "wide": "block"}
    for cell, settings in OWN.items():
        expected = {f"{idea[cell]}.{key}": value for key, value in settings.items()}
        if cell == "first":
            expected |= {"f_own.network": "embedded:resnet-guide", "f_own.size": "0"}
        shown = children(plan.study)[f"{cell}/seed0"]
        assert parameters(place, plan, cell) == expected
        assert shown.data.tags["toggles"] == ("" if cell == "origin" else cell)
        codes = {key: value for key, value in shown.data.tags.items() if key.startswith("code.")}
        digest = plan.study.code.digest("my_ideas.py")[:16]
        assert codes == ({} if cell == "origin" else {"code.my_ideas.py": digest})
        assert not any("harness.ideas import" in value for value in {**shown.data.params, **shown.data.tags}.values())


def test_another_name_of_an_idea_is_another_run_and_of_a_toggle_the_same(place: Path) -> None:
    sent(place)
    (place / "my_ideas.py").write_text(IDEAS.replace("def first", "def second"))
    (place / "study.yaml").write_text(STUDY.replace("[first", "[second").replace("wide", "broad"))
    plan = sent(place)
    assert parameters(place, plan, "second")["second.weight"] == "0.5"
    assert not any(name.startswith("first") for name in parameters(place, plan, "second"))
    assert parameters(place, plan, "first")["first.weight"] == "0.5", "the earlier run stays what it was"
    # A cell's name is no part of a run: with the code as it was, its run gets the new name.
    (place / "my_ideas.py").write_text(IDEAS)
    (place / "study.yaml").write_text(STUDY.replace("wide", "broad"))
    before = len(all_of(plan))
    plan = sent(place)
    broad = next(run.id for run in plan.runs if run.cell == "broad")
    (renamed,) = (run for run in all_of(plan) if run.data.tags["fingerprint"] == broad)
    tags = renamed.data.tags
    assert (renamed.info.run_name, tags["cell"], tags["toggles"]) == ("broad/seed0", "broad", "broad")
    assert len(all_of(plan)) == before


def test_no_password_and_no_endless_text_is_a_parameter(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-word")
    long = "x" * 7000
    (place / "s3cr3t-word").mkdir()
    data = ("data.source=folder", "data.path=s3cr3t-word")
    plan = sent(place, f"ideas.first.note=s3cr3t-word https://me:pa55word@host/{long}", *data)
    (shown,) = (run for name, run in children(plan.study).items() if name.startswith("first/seed0, data.path=***, "))
    everything = str(
        [
            shown.info.run_name,
            shown.data.params,
            shown.data.tags,
            shown.inputs.dataset_inputs[0].dataset.to_dictionary(),
        ]
    )
    assert "s3cr3t" not in everything and "pa55word" not in everything
    note = shown.data.params["ideas.first.note"]
    assert note.startswith("*** https://me:***@host/xxx") and len(note) <= 6000
    assert f"({len('*** https://me:***@host/') + 7000} characters, SHA-256 " in note
    other = sent(place, f"ideas.first.note=s3cr3t-word https://me:pa55word@host/{long}y", *data)
    notes = {run.data.params["ideas.first.note"] for run in all_of(other) if run.info.run_name == shown.info.run_name}
    assert len(notes) == 2, "what differs behind the cut is still told apart"


def test_no_file_that_mlflow_gets_holds_a_password(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the model the run's settings and code too, which is told, as that model lacks it; the run itself keeps all."""
    token = f"hf_{'aB3' * 11}"
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-word")
    (place / "my_ideas.py").write_text(f"{IDEAS}\nKEY, cls_token = '{token}', None\nBASE = 'db://me:pa55word@host'\n")
    (place / "study.yaml").write_text(f"{STUDY}ideas: {{first: {{note: s3cr3t-word}}}}\n# {token}\n")
    plan = make_plan(load_study(place / "study.yaml"))
    run = next(run for run in plan.runs if run.cell == "first")
    folder = RunFolder(plan.study.root / run.id)
    folder.create(run)
    folder.finish(Result({"kid": 0.25}, {"kid": {"network": "s3cr3t-word"}}, {}))
    folder.update(state="done", attempt=1, started=1.7e9)
    (folder.path / "generator.safetensors").write_bytes(b"\0weights: s3cr3t-word by chance")
    (folder.path / "log.txt").write_text(f"loaded with {token}\n")
    (folder.path / "samples").mkdir()
    (folder.path / "samples" / "captions.json").write_text(f'[{{"caption": "db://me:pa55word@host {token}"}}]')
    report = place / "reports" / "emoji"
    (report / "deep").mkdir(parents=True)
    for name in ("report.md", "deep/table.csv", "deep/none.csv"):
        (report / name).write_text("nothing" if "none" in name else f"1, {token}, s3cr3t-word\n")
    ask_for_report(plan.study, plan.study.root, Report(), report)
    sync(plan.study, plan.study.root, plan.runs)
    sent = {path.name: path.read_bytes() for path in (place / "mlartifacts").rglob("*") if path.is_file()}
    texts = sent.keys() - {"generator.safetensors", "git.diff"}  # which may hold this very test
    assert texts >= {"run.json", "log.txt", "captions.json", "result.json", "study.yaml", "report.md", "table.csv"}
    for name in texts:
        assert not any(each in sent[name] for each in (b"s3cr3t", b"pa55word", token.encode())), name
    assert sent["generator.safetensors"] == (folder.path / "generator.safetensors").read_bytes()
    assert (sent["none.csv"], sent["report.md"]) == (b"nothing", b"1, ***, ***\n")
    told = [record.getMessage() for record in caplog.records if "password" in record.getMessage()]
    assert told == ["my_ideas.py: holds a password or token, which MLflow does not get; models there cannot use it"]
    there = parse_run(sent["run.json"], "run.json")
    assert (
        replace(folder.run(), begun=0.0) == run
        and there.id == run.id
        and "KEY, cls_token = '***', None" in there.source["my_ideas.py"]
    )


def test_another_store_gets_the_settings_of_ideas_and_is_told_what_it_does_not_get(place: Path) -> None:
    plan = sent(place)
    expected = parameters(place, plan, "first")
    (place / "my_ideas.py").write_text(IDEAS.replace("shift: int", "turn: int"))  # the runs with it on are others
    shutil.copy(empty_store(), place / "other.db")
    other = f"tracking.uri=sqlite:///{place}/other.db"
    assert [run.cell for run in unsent(plan.study, plan.study.root, plan.runs)] == []
    moved = make_plan(load_study(place / "study.yaml", overrides=[other]))
    sync(moved.study, moved.study.root, moved.runs)
    assert list(children(moved.study)) == ["origin/seed0"]
    assert {run.cell for run in unsent(moved.study, moved.study.root, moved.runs)} == {"first", "hinge", "wide"}
    assert unsent(plan.study, plan.study.root, moved.runs) == [], "the first store has them"
    (place / "my_ideas.py").write_text(IDEAS)
    moved = make_plan(load_study(place / "study.yaml", overrides=[other]))
    assert sync(moved.study, moved.study.root, moved.runs)["runs"] == 3
    assert parameters(place, moved, "first") == expected
    assert unsent(moved.study, moved.study.root, moved.runs) == []


def test_lost_notes_and_parameters_of_earlier_versions_do_no_harm(place: Path) -> None:
    plan = sent(place)
    mlflow, run = client(plan.study), children(plan.study)["first/seed0"]
    mlflow.log_param(run.info.run_id, "ideas.first.kind", "term")
    for notes in [*plan.study.root.glob("*/mlflow.json"), plan.study.root / "mlflow.json"]:
        notes.unlink()
    assert sync(plan.study, plan.study.root, plan.runs)["runs"] == 0
    assert len(all_of(plan)) == len(plan.runs)
