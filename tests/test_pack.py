"""`harness pack`: what is in the zip, and that it opens where neither data nor networks are."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.data import dataset as data
from harness.data import features
from harness.errors import HarnessError, MissingWeights
from harness.files import write_json
from harness.grid.prepare import refuse_absent
from harness.runs.folders import RunFolder
from harness.runs.lease import Claim
from harness.storage import pack as packing
from harness.study.load import load_study
from harness.study.plan import Plan, make_plan
from harness.training.samples import generate
from hostile import untouched, write_images
from packs import STUDY, away, content, finish, home, run, told, train
from things import FakeEncoder

__all__ = ["away", "home"]


def test_it_opens_without_data_and_networks_and_says_the_same(home: Path, away: Any, tmp_path: Path) -> None:
    before = told("status", "study.yaml"), told("plan", "study.yaml")
    report = content(home / "reports")
    run("sample", "full/1", "a cat", "--study", "study.yaml", "--out", str(tmp_path / "before.png"))
    assert run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip")) == f"{tmp_path / 'mine.zip'}\n"
    folder = away(tmp_path / "mine.zip")
    assert (told("status", "study.yaml"), told("plan", "study.yaml")) == before
    assert {row["state"] for row in before[0]["runs"]} == {"done"}
    (folder / "reports").rename(tmp_path / "packed reports")
    run("report", "study.yaml")
    assert content(folder / "reports") == report == content(tmp_path / "packed reports")
    run("sample", "full/1", "a cat", "--study", "study.yaml", "--out", str(tmp_path / "after.png"))
    assert (tmp_path / "after.png").read_bytes() == (tmp_path / "before.png").read_bytes()
    assert not (tmp_path / "cache of away").exists()


def test_training_there_names_what_is_missing_and_where_it_belongs(home: Path, away: Any, tmp_path: Path) -> None:
    run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip"))
    folder = away(tmp_path / "mine.zip")
    for command in ("run-grid", "tune"):
        with untouched(folder):
            message = run(command, "study.yaml", code=2)
        assert f"data.path: there is no {folder / 'images'}; mount or restore it, or write where it is" in message
        assert "status, report, sample and plan work" in message
    (folder / "image").mkdir()
    assert "images; did you mean 'image'? mount or restore it" in run("run-grid", "study.yaml", code=2)


def check(plan: Plan) -> None:
    cells = {cell.name: plan.runs_of(cell)[0].fingerprints for cell in plan.cells}
    refuse_absent(plan.study, plan.cells, cells)


def test_the_same_data_there_can_be_trained_on_and_other_data_is_refused(home: Path, away: Any, tmp_path: Path) -> None:
    run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip"))
    folder = away(tmp_path / "mine.zip")
    write_images(folder / "images", 40)
    plan = make_plan(load_study(folder / "study.yaml"))
    check(plan)
    (folder / "images" / "07.txt").write_text("another caption\n")
    assert make_plan(plan.study).runs == plan.runs
    with pytest.raises(HarnessError, match=r"data: not what .* pack were trained with; .* delete .*pack\.json"):
        check(plan)
    (folder / "runs" / "tiny" / "pack.json").unlink()
    assert not {each.id for each in make_plan(plan.study).runs} & {each.id for each in plan.runs}


def test_weights_and_captions_in_files_are_told_too(home: Path, away: Any, tmp_path: Path) -> None:
    more = {"clip": "open_clip:RN50@weights/clip.pt", "resnet": "timm:resnet18@weights/resnet.safetensors"}
    text = STUDY.replace("embedded:clip-guide", more["clip"]).replace("embedded:resnet-measure", more["resnet"])
    text = text.replace("samples: 32", "samples: 32, captions: ask.txt").replace("[mix_logits", "[near, mix_logits")
    (home / "study.yaml").write_text(f"code: my_ideas.py\n{text}")
    (home / "my_ideas.py").write_text(
        "from harness.ideas import *\nf_own = feature('timm:resnet18@weights/own.safetensors', size=32)\n"
        "@term('generator', reads=('f_own',))\ndef near(step): ...\n"
    )
    (home / "weights").mkdir()
    (home / "weights" / "own.safetensors").write_bytes(b"own")
    (home / "weights" / "clip.pt").write_bytes(b"clip")
    (home / "weights" / "resnet.safetensors").write_bytes(b"resnet")
    (home / "ask.txt").write_text("a red heart\na cat\n")
    before = told("plan", "study.yaml")
    run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip"))
    folder = away(tmp_path / "mine.zip")
    assert told("plan", "study.yaml") == before
    message = run("run-grid", "study.yaml", code=2)
    assert f"there is no {folder / 'images'}" in message and f"metrics.captions: {folder / 'ask.txt'}" in message
    write_images(folder / "images", 40)
    (folder / "ask.txt").write_text("a red heart\na cat\n")
    message = run("run-grid", "study.yaml", code=2)
    assert all(
        str(folder / "weights" / name) in message for name in ("clip.pt", "resnet.safetensors", "own.safetensors")
    )


def test_equal_studies_give_equal_bytes_wherever_they_lie(home: Path, away: Any, tmp_path: Path) -> None:
    run("pack", "study.yaml", "-o", str(tmp_path / "one.zip"))
    for path in home.rglob("*"):
        os.utime(path, (1e9, 1e9))
    run("pack", "study.yaml", "-o", str(tmp_path / "two.zip"))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    away(tmp_path / "one.zip")
    run("pack", "study.yaml", "-o", str(tmp_path / "three.zip"))
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "three.zip").read_bytes()


def test_what_is_in_it(home: Path, tmp_path: Path) -> None:
    root = home / "runs" / "tiny"
    first = sorted(path for path in root.iterdir() if path.is_dir())[0]
    write_json(root / "mlflow.json", {})
    write_json(first / "mlflow.json", {})
    (home / "mlflow.db").write_text("database")
    secret = tmp_path / "secret.txt"
    secret.write_text("not yours")
    (first / "samples" / "link.png").symlink_to(secret)
    (root / "linked").symlink_to(tmp_path)
    (first / "notes.doc").write_text("mine")
    (root / "anew").mkdir()  # as a retraining leaves it that has ended
    made = harness.pack(harness.load("study.yaml"), tmp_path / "mine.zip")
    with zipfile.ZipFile(tmp_path / "mine.zip") as archive:
        names = archive.namelist()
        assert {name.split("/")[0] for name in names} == {"study.yaml", "runs", "reports"}
        assert all(b"not yours" not in archive.read(name) for name in names)
        kinds = {name.split("/", 3)[3] for name in names if name.count("/") > 2 and name.startswith("runs")}
        assert archive.read("study.yaml") == (home / "study.yaml").read_bytes()
    records = {"run.json", "status.json", "metrics.jsonl", "result.json", "log.txt", "generator.safetensors"}
    assert kinds == records | {"samples/captions.json", "samples/real.png", "samples/000000010.png"}
    assert (made.runs, made.generators, made.reports, made.running) == (8, 8, 1, ())
    assert made.left_out == {"training state": 8, "link": 2, "other file": 1}
    assert made.bytes == (tmp_path / "mine.zip").stat().st_size
    (root / "anew" / first.name).mkdir()
    assert harness.pack(harness.load("study.yaml"), tmp_path / "mine.zip").left_out["unfinished retraining"] == 1


@pytest.mark.parametrize("name", ["trials", "claim"])
def test_reports_of_a_study_that_is_called_as_a_file_of_this_machine_are_in_it(
    home: Path, tmp_path: Path, name: str
) -> None:
    (home / "study.yaml").write_text(STUDY.replace("study: tiny", f"study: {name}"))
    for place in ("runs", "reports"):
        (home / place / "tiny").rename(home / place / name)
    (home / "reports" / name / ".report.tmp").mkdir()
    (home / "runs" / name / "trials").mkdir()
    before = content(home / "reports")
    made = harness.pack(harness.load("study.yaml"), tmp_path / "mine.zip")
    opened = harness.unpack(made.path, tmp_path / "theirs").folder
    assert (made.runs, made.reports) == (8, 1) and "other file" not in made.left_out
    assert content(opened / "reports") == before and not (opened / "reports" / name / ".report.tmp").exists()


def test_without_generators(home: Path, away: Any, tmp_path: Path) -> None:
    report = content(home / "reports")
    run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip"), "--no-weights")
    folder = away(tmp_path / "mine.zip")
    assert not list(folder.rglob("*.safetensors"))
    message = run("sample", "full/0", "a cat", "--study", "study.yaml", code=2)
    assert "packed without generators (--no-weights)" in message
    run("report", "study.yaml")
    assert content(folder / "reports") == report


def test_a_search_is_in_it(home: Path, tmp_path: Path) -> None:
    root = home / "runs" / "tiny.tune-full"
    plan = make_plan(load_study(home / "study.yaml"))
    RunFolder(root / plan.runs[0].id).create(plan.runs[0])
    (root / "optuna.log").write_text('{"op_code": 0}\n')
    (root / "place").write_text("0" * 32)
    (home / "reports" / "tiny.tune-full").mkdir()
    (home / "reports" / "tiny.tune-full" / "search.json").write_text("{}")
    (home / "reports" / "tiny-other").mkdir()
    (home / "reports" / "tiny-other" / "report.md").write_text("of another study")
    made = harness.pack(harness.load("study.yaml"), tmp_path / "mine.zip")
    with zipfile.ZipFile(made.path) as archive:
        names = set(archive.namelist())
    assert {f"runs/tiny.tune-full/{name}" for name in ("optuna.log", "place", f"{plan.runs[0].id}/run.json")} <= names
    assert "reports/tiny.tune-full/search.json" in names and not any("tiny-other" in name for name in names)


def test_runs_that_go_on_are_told_by_their_names_in_the_plan(home: Path, tmp_path: Path) -> None:
    plan = make_plan(load_study(home / "study.yaml"))
    folder = RunFolder(plan.study.root / plan.runs[0].id)
    written = folder.path / "run.json"
    written.write_text(json.dumps(json.loads(written.read_text()) | {"cell": "noise=1"}))
    folder.update(state="running")
    claim = Claim(folder.path)
    assert claim.take()
    try:
        made = harness.pack(plan.study, tmp_path / "mine.zip")
    finally:
        claim.drop()
    assert made.running == ("origin/0",)
    with zipfile.ZipFile(made.path) as archive:
        assert not any(name.endswith("claim") for name in archive.namelist())


def test_a_run_that_ends_while_it_is_packed_is_in_it_as_it_was_before(
    home: Path, away: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(load_study(home / "study.yaml"))
    folder = RunFolder(plan.study.root / plan.runs[0].id)
    result, listed = folder.result(), packing._reports
    assert result is not None
    (folder.path / "result.json").unlink()
    folder.update(state="running")

    def ends(*arguments: Any) -> None:
        folder.finish(result)
        folder.update(state="done")
        listed(*arguments)

    monkeypatch.setattr(packing, "_reports", ends)
    harness.pack(plan.study, tmp_path / "mine.zip")
    away(tmp_path / "mine.zip")
    states = {row["id"]: (row["state"], row["error"]) for row in told("status", "study.yaml")["runs"]}
    assert states.pop(plan.runs[0].id) == ("interrupted", "")
    assert set(states.values()) == {("done", "")}


def test_it_is_written_whole_or_not_at_all(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out" / "mine.zip"
    harness.pack(harness.load("study.yaml"), out)
    before, opened = out.read_bytes(), zipfile.ZipFile.open

    def full(self: zipfile.ZipFile, name: Any, mode: str = "r", **options: Any) -> Any:
        if len(self.namelist()) > 20:
            raise OSError(28, "No space left on device")
        return opened(self, name, mode, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(zipfile.ZipFile, "open", full)
    with pytest.raises(OSError, match="No space left"):
        harness.pack(harness.load("study.yaml"), out)
    assert out.read_bytes() == before and [path.name for path in out.parent.iterdir()] == ["mine.zip"]


@pytest.mark.parametrize(
    ("name", "damage", "what"),
    [
        ("run.json", "cut", "cannot be used"),
        ("result.json", "link", "is a link, which"),
        (packing.GENERATOR, "cut", "is no whole file of weights; put"),
        (packing.GENERATOR, "other", "belongs to run"),
    ],
)
def test_a_run_that_would_not_be_whole_in_it_is_refused(home: Path, name: str, damage: str, what: str) -> None:
    plan = make_plan(load_study(home / "study.yaml"))
    path, other = (plan.study.root / each.id / name for each in plan.runs[:2])
    content = {"cut": path.read_bytes()[:100], "other": other.read_bytes()}
    path.unlink()
    path.symlink_to(other) if damage == "link" else path.write_bytes(content[damage])
    with pytest.raises(HarnessError, match=f"{path}: {what}"):
        harness.pack(plan.study, home / "mine.zip")
    assert not (home / "mine.zip").exists()


@pytest.mark.parametrize("there", ["thesis.txt", "images", "study.yaml", "tiny.zip", "link.zip", "cut.zip"])
def test_nothing_but_an_earlier_pack_is_replaced(home: Path, there: str) -> None:
    (home / "thesis.txt").write_text("years of work")
    (home / "link.zip").symlink_to("nowhere")
    with zipfile.ZipFile("tiny.zip", "w") as data:  # without -o the pack would have that name
        data.writestr("mine/pack.json", "{}")
        data.writestr("1.png", b"an image")
    (home / "cut.zip").write_bytes((home / "tiny.zip").read_bytes()[:-4])
    other = f"{Path(there).stem}-pack.zip"
    with untouched(home), pytest.raises(HarnessError, match=f"{there}: is there and is no earlier pack.*-o .*{other}"):
        harness.pack(harness.load("study.yaml"), None if there == "tiny.zip" else home / there)


def test_names_that_windows_cannot_make_are_packed_and_told(home: Path, away: Any, tmp_path: Path) -> None:
    (home / "study.yaml").rename(home / "con: a?.yaml")
    made = harness.pack(harness.load("con: a?.yaml"), tmp_path / "mine.zip")
    assert made.not_for_windows == ("con: a?.yaml",)
    away(made.path)
    assert {row["state"] for row in told("status", "con: a?.yaml")["runs"]} == {"done"}


def test_captions_of_the_sheet_are_drawn_without_the_clip(
    home: Path, away: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "open_clip:RN50@clip.pt"
    (home / "study.yaml").write_text(STUDY.replace("embedded:clip-guide", name))
    (home / "clip.pt").write_bytes(b"clip")
    plan = make_plan(load_study(home / "study.yaml"))
    first, located = plan.runs[0], plan.runs[0].settings.encoders.clip
    with monkeypatch.context() as patch:
        patch.setattr("harness.data.features.load_clip", lambda name, device: FakeEncoder(name, 128))
        dataset = data.load(first.settings.data, tmp_path / "cache", first.fingerprints["data"])
        features.clip_text(dataset, located)
        folder = finish(plan.study.root, first, 9.0)
        rows = [{"caption": dataset.captions[image][0], "image_id": image} for image in (3, 8, 20)]
        (folder / "samples" / "captions.json").write_text(json.dumps([*rows, {"caption": "given", "image_id": None}]))
        patch.setattr("harness.training.samples.load_clip", lambda name, device: FakeEncoder(name, 128))
        before = generate(folder, ["caption 8", "caption 3"])
    made = harness.pack(plan.study, tmp_path / "mine.zip")
    assert made.networks == (name,)
    away_home = away(made.path)
    there = away_home / "runs" / "tiny" / first.id
    assert generate(there, ["caption 8", "caption 3"]).equal(before)
    with pytest.raises(
        MissingWeights,
        match=rf"no file {away_home}/clip\.pt.*\n.*the pack has these prompts: .*'caption 3', 'caption 8'",
    ):
        generate(there, ["caption 8", "a cat"])


def test_weights_that_runs_start_from_are_told(home: Path, away: Any, tmp_path: Path) -> None:
    other = make_plan(load_study(home / "study.yaml")).runs[0]
    weights = home / "start.safetensors"
    weights.write_bytes((home / "runs" / "tiny" / other.id / "generator.safetensors").read_bytes())
    (home / "study.yaml").write_text(f"{STUDY}init: {{generator: start.safetensors, averaged: start.safetensors}}\n")
    train(home)
    before = told("plan", "study.yaml")
    assert before["first_weights"]["transform_w"]["generator"]["taken"]
    run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip"))
    folder = away(tmp_path / "mine.zip")
    assert told("plan", "study.yaml") == before
    assert run("gc", "study.yaml") == "nothing to delete\n"
    write_images(folder / "images", 40)
    assert "Fréchet distance" in run("run-grid", "study.yaml")  # all is done, so nothing of it is needed
