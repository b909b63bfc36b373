"""Runs that start from the weights of another: real trainings of a few steps, in processes of their own."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import harness
from conftest import trained_once
from harness.errors import HarnessError
from harness.files import read_json
from harness.runs import initial
from harness.training.checkpoint import GENERATOR, write_tensors
from test_grid import STUDY, start
from test_grid import harness as command

ONE = STUDY.replace("toggles: [paired_contrast, resnet_guided]", "toggles: [separate_features, transform_w]")
WARM = ONE + "init: origin/0\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the origin's finished run, and a second study of the same name that starts from it."""
    return trained_once("warm", train, tmp_path_factory.mktemp("warm"))


def train(folder: Path) -> None:
    (folder / "study.yaml").write_text(ONE)
    done = command(folder, "run-grid", "study.yaml", "--only", "origin")
    assert done.returncode == 0, done.stderr
    (folder / "warm.yaml").write_text(WARM)
    done = command(folder, "run-grid", "warm.yaml")
    assert done.returncode == 0, done.stderr


def folders(folder: Path, warm: bool) -> dict[str, Path]:
    """Cell -> the folder of its run, of those that start from other weights or of those that do not."""
    runs = [read_json(path) | {"at": path.parent} for path in (folder / "runs" / "tiny").glob("*/run.json")]
    return {run["cell"]: run["at"] for run in runs if bool(run["settings"]["init"]["generator"]) is warm}


def measured(folder: Path, step: int) -> dict[str, float]:
    points = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    values = {name: value for point in points if point["step"] == step for name, value in point["values"].items()}
    return {name: value for name, value in values.items() if name.startswith("metrics/")}


def test_step_0_measures_what_the_earlier_run_measured_at_its_end(trained: Path) -> None:
    first, warm = folders(trained, warm=False), folders(trained, warm=True)
    assert first.keys() == {"origin"} and warm.keys() == {"origin", "separate_features", "transform_w"}
    end = measured(first["origin"], 30)
    assert len(end) > 4
    assert measured(warm["origin"], 0) == end  # to the last digit
    # A second head changes nothing of G; other styles do, and less than first weights would.
    assert measured(warm["separate_features"], 0) == end
    assert measured(warm["transform_w"], 0) != end


def test_the_log_says_what_became_of_the_layers(trained: Path) -> None:
    logs = {cell: (path / "log.txt").read_text() for cell, path in folders(trained, warm=True).items()}
    assert "discriminator: a copy of head_txt, so that f_img = f_txt: head_img" in logs["separate_features"]
    assert (
        "generator: fitted to the styles" in logs["transform_w"] and "of their variance is kept" in logs["transform_w"]
    )
    assert "starts from" in logs["origin"] and "fitted" not in logs["origin"] and "own" not in logs["origin"]


def test_adam_is_fresh_and_the_id_is_of_the_content(trained: Path) -> None:
    first, warm = folders(trained, warm=False)["origin"], folders(trained, warm=True)["origin"]
    assert first.name != warm.name
    prints = read_json(warm / "run.json")["fingerprints"]
    assert {name for name in prints if name.startswith("init.")} == {f"init.{name}" for name in initial.NETWORKS}
    states = [load_file(path / "checkpoint" / "000000030.safetensors") for path in (first, warm)]
    assert all(int(state["adam/generator/0/step"]) == int(states[0]["adam/generator/0/step"]) for state in states)


def test_the_report_says_what_the_runs_started_from(trained: Path) -> None:
    done = command(trained, "report", "warm.yaml")
    assert done.returncode == 0, done.stderr
    text = " ".join((trained / "reports" / "tiny" / "report.md").read_text().split())
    assert "Every run starts from the weights of origin/0, with a fresh optimiser" in text
    assert "intervals tell nothing" not in text, "there are none under one seed"
    assert re.search(r": before training it is [\d.]+ for origin, but: transform_w [\d.]+\. The weights of init", text)
    assert "origin before training, with the weights of init" in text and "untrained generator" not in text


def test_asked_again_nothing_is_left_to_do(trained: Path) -> None:
    done = command(trained, "run-grid", "warm.yaml")
    assert done.returncode == 0 and "nothing to do" in done.stderr + done.stdout


def test_plan_says_which_layers_are_new_in_which_cell(trained: Path) -> None:
    told = command(trained, "plan", "warm.yaml", "--json")
    assert told.returncode == 0, told.stderr
    first = json.loads(told.stdout)["first_weights"]
    assert not first["origin"]["generator"]["new"] and not first["origin"]["generator"]["adapted"]
    assert list(first["separate_features"]["discriminator"]["adapted"]) == ["head_img"]
    assert all(".style" in name for name in first["transform_w"]["generator"]["adapted"])
    text = " ".join(command(trained, "plan", "warm.yaml").stdout.split())
    whole = "the generator, the discriminator and the averaged generator"
    assert f"init: origin: every layer of {whole} starts from it" in text and "head_img" in text
    assert harness.first_weights(harness.plan(harness.load(trained / "study.yaml")).plan) == {}


@pytest.mark.parametrize("kill", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_killed_and_asked_again_ends_with_the_same_bytes(trained: Path, tmp_path: Path, kill: signal.Signals) -> None:
    shutil.copytree(trained, tmp_path / "again", symlinks=True)
    folder = tmp_path / "again"
    cell = folders(folder, warm=True)["transform_w"]
    before = load_file(cell / "checkpoint" / "000000030.safetensors")
    shutil.rmtree(cell)
    process = start(folder, "run-grid", "warm.yaml", "--only", "transform_w")
    deadline = time.time() + 60
    while not (cell / "metrics.jsonl").exists() and time.time() < deadline:
        time.sleep(0.01)
    process.send_signal(kill)
    process.wait(60)
    done = command(folder, "run-grid", "warm.yaml", "--only", "transform_w")
    assert done.returncode == 0, done.stderr
    after = load_file(cell / "checkpoint" / "000000030.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


def plan(folder: Path, init: str) -> Any:
    study = ONE + f"init: {init}\n"
    (folder / "other.yaml").write_text(study)
    return harness.plan(harness.load(folder / "other.yaml")).plan


def ids(plan: Any) -> list[str]:
    return [run.id for run in plan.runs]


def test_one_source_has_many_names(trained: Path) -> None:
    first = folders(trained, warm=False)["origin"]
    state = first / "checkpoint" / "000000030.safetensors"
    plans = [
        ids(plan(trained, name)) for name in ("origin/0", first.name, str(first), f"runs/tiny/{first.name}", str(state))
    ]
    assert plans.count(plans[0]) == len(plans)
    generator = f"runs/tiny/{first.name}/generator.safetensors"
    alone = plan(trained, generator)
    assert ids(alone) != plans[0]
    layers = harness.first_weights(alone)["origin"]
    assert layers.keys() == {"generator", "averaged"} and not layers["generator"]["new"]


def test_a_file_that_is_not_ours_has_the_hash_of_its_bytes(trained: Path) -> None:
    first = folders(trained, warm=False)["origin"]
    tensors = load_file(first / "generator.safetensors")
    save_file(tensors, trained / "plain.safetensors")
    one = ids(plan(trained, "plain.safetensors"))
    tensors["constant"] = tensors["constant"] + 1
    save_file(tensors, trained / "plain.safetensors")
    assert ids(plan(trained, "plain.safetensors")) != one


def test_files_of_other_programs_may_note_anything(trained: Path) -> None:
    """As most programs do: {"format": "pt"}. What we would take for a hash of ours has to be one."""
    first = folders(trained, warm=False)["origin"]
    tensors = load_file(first / "generator.safetensors")
    save_file(tensors, trained / "other.safetensors", {"format": "pt"})
    layers = harness.first_weights(plan(trained, "other.safetensors"))["origin"]
    assert layers["averaged"]["taken"] and not layers["averaged"]["new"] and not layers["averaged"]["unused"]
    save_file(tensors, trained / "other.safetensors", {"sha256": "0" * 64})
    with pytest.raises(HarnessError, match="its content is not what was written"):
        harness.first_weights(plan(trained, "other.safetensors"))
    content = (first / "generator.safetensors").read_bytes()
    (trained / "other.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(HarnessError, match=r"other\.safetensors"):
        harness.first_weights(plan(trained, "other.safetensors"))


def test_a_file_of_which_nothing_fits_is_refused(trained: Path) -> None:
    """It was once a beginning like any other, of which every layer is new."""
    strange = trained / "strange.safetensors"
    for tensors, holds in (({"a": torch.zeros(2)}, "its layers are a"), ({}, "it holds no weights")):
        save_file(tensors, strange)
        with pytest.raises(HarnessError, match=rf"init: .*strange.*: nothing of it fits the generator or .*: {holds}"):
            harness.first_weights(plan(trained, "strange.safetensors"))


@pytest.mark.parametrize(
    ("noted", "words"),
    [
        ('{"nope": 3}', "its generator has settings that this version does not know: nope"),
        ("no JSON", "what it notes of its generator cannot be read"),
        ("3", "what it notes of its generator cannot be read"),
    ],
)
def test_a_file_of_a_later_version_is_refused(trained: Path, noted: str, words: str) -> None:
    tensors = load_file(folders(trained, warm=False)["origin"] / "generator.safetensors")
    write_tensors(trained / "later.safetensors", tensors, {GENERATOR: noted, "run": "x"})
    with pytest.raises(HarnessError, match=rf"init\.generator: .*later\.safetensors: {words}"):
        harness.first_weights(plan(trained, "later.safetensors"))


@pytest.mark.parametrize("head", [b'{"__metadata__": 3}', b"[" * 100_000, b"{", b"3", b"\xff\xfe"])
def test_damaged_heads_are_refused(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(len(head).to_bytes(8, "little") + head)
    try:
        source = initial.find(str(path), tmp_path)
    except HarnessError as error:
        assert "is no safetensors file" in str(error)
    else:  # it can be refused only where its tensors are read
        assert not source.is_hashed


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("runs", "is no run's folder, as it has no run.json"),
        ("nowhere.safetensors", "there is no such file; write a file"),
        ("origin/7", "has no finished run of that cell and seed"),
        ("nobody/0", "has no finished run of that cell and seed"),
        ("study.yaml", "is no safetensors file, or a part of one; `harness import`"),
        ("{discriminator: GENERATOR}", "the file has no such network"),
        ("{generater: origin/0}", "unknown setting"),
        ("3", "must be"),
    ],
)
def test_what_cannot_be_a_beginning_is_refused(trained: Path, init: str, words: str) -> None:
    generator = folders(trained, warm=False)["origin"] / "generator.safetensors"
    (trained / "bad.yaml").write_text(ONE + f"init: {init.replace('GENERATOR', str(generator))}\n")
    done = command(trained, "plan", "bad.yaml")
    assert done.returncode == 2 and words in " ".join(done.stderr.split()) and "Traceback" not in done.stderr


def test_a_damaged_source_is_refused(trained: Path, tmp_path: Path) -> None:
    # In a copy, as a refused run leaves a folder, which other tests would take for one that was trained.
    folder = copied(trained, tmp_path)
    first = folders(folder, warm=False)["origin"]
    damaged = tmp_path / "checkpoint.safetensors"
    shutil.copy(first / "checkpoint" / "000000030.safetensors", damaged)
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    (folder / "damaged.yaml").write_text(ONE + f"init: {damaged}\n")
    done = command(folder, "run-grid", "damaged.yaml", "--only", "origin", "--set", "train.kimg=0.08")
    assert done.returncode in (2, 3) and "its content is not what was written" in done.stderr + done.stdout


def test_gc_keeps_the_state_that_others_start_from(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "again", symlinks=True)
    folder = tmp_path / "again"
    state = folders(folder, warm=False)["origin"] / "checkpoint"
    done = command(folder, "gc", "warm.yaml", "--yes")
    assert done.returncode == 0, done.stderr
    assert list(state.glob("*.safetensors"))
    assert "its training state is kept" in done.stderr + done.stdout


def copied(trained: Path, tmp_path: Path) -> Path:
    """A copy whose runs were planned in it: otherwise they would still find their source in the folder where they were
    trained, which may be another test process's."""
    folder = tmp_path / "again"
    shutil.copytree(trained, folder, symlinks=True)
    for path in (folder / "runs" / "tiny").glob("*/run.json"):
        path.write_text(re.sub(r'"[^"]*(?=/runs/tiny/)', f'"{folder}', path.read_text()))
    return folder


def test_what_was_found_travels_with_the_run(trained: Path, tmp_path: Path) -> None:
    """A second run of that cell and seed, which makes the name ambiguous, does not matter to a run that is planned."""
    folder = copied(trained, tmp_path)
    (run, *_) = harness.plan(harness.load(folder / "warm.yaml")).plan.runs
    first = folders(folder, warm=False)["origin"]
    other = first.with_name("0" * 12)
    shutil.copytree(first, other)
    (other / "run.json").write_text((other / "run.json").read_text().replace(first.name, other.name))
    with pytest.raises(HarnessError, match=r"runs .* are of that cell and seed"):
        harness.plan(harness.load(folder / "warm.yaml"))
    assert {source.path.parent.parent for source in initial.of_run(run).values()} == {first}


def test_runs_are_trained_anew_and_searched_from_the_same_weights(trained: Path, tmp_path: Path) -> None:
    """Both have folders elsewhere than the study's runs, in which CELL/SEED and ids name nothing."""
    folder = copied(trained, tmp_path)
    cell = folders(folder, warm=True)["origin"]
    before = load_file(cell / "checkpoint" / "000000030.safetensors")
    record = read_json(cell / "run.json")
    record["engine"]["training"] = "0" * 12  # of other code
    (cell / "run.json").write_text(json.dumps(record, sort_keys=True))
    done = command(folder, "run-grid", "warm.yaml", "--retrain", "--only", "origin")
    assert done.returncode == 0 and "1 of 1 runs were replaced" in done.stderr, done.stderr
    after = load_file(cell / "checkpoint" / "000000030.safetensors")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    done = command(folder, "tune", "warm.yaml", "--trials", "1", "--cell", "origin")
    assert done.returncode == 0, done.stderr
    logs = [path.read_text() for path in (folder / "runs" / "tiny.tune-origin").glob("*/log.txt")]
    assert logs and all(str(folders(folder, warm=False)["origin"]) in log for log in logs)


def test_a_source_is_kept_by_any_study_and_missed_only_by_runs_that_have_not_begun(
    trained: Path, tmp_path: Path
) -> None:
    folder = copied(trained, tmp_path)
    source = folders(folder, warm=False)["origin"]
    before = ids(harness.plan(harness.load(folder / "warm.yaml")).plan)
    done = command(folder, "gc", "study.yaml", "--yes")  # in which nothing starts from anything
    assert done.returncode == 0 and list((source / "checkpoint").glob("*.safetensors")), done.stderr
    done = command(folder, "rm", "study.yaml", "origin/0", "--yes")
    assert done.returncode == 0 and not source.exists()
    assert "separate_features/0" in done.stderr and "start from its weights" in done.stderr
    for name in ("plan", "status", "ls", "report", "run-grid"):
        done = command(folder, name, "warm.yaml")
        assert done.returncode == 0, done.stderr
        assert "runs that have started from it stay" in " ".join(done.stderr.split())
    assert ids(harness.plan(harness.load(folder / "warm.yaml")).plan) == before
    done = command(folder, "run-grid", "warm.yaml", "--set", "design.seeds=2")
    assert done.returncode == 2 and "cannot start: its weights are gone" in " ".join(done.stderr.split())


def test_a_state_by_its_path_has_the_settings_of_its_run(trained: Path) -> None:
    first = folders(trained, warm=False)["origin"]
    by_path = initial.find(str(first / "checkpoint" / "000000030.safetensors"), trained)
    assert by_path.settings is not None and by_path == initial.find(first.name, first.parent)


@pytest.mark.parametrize("empty", ["init:", 'init: ""', "init: null"])
def test_init_with_nothing_behind_it_is_none(trained: Path, empty: str) -> None:
    (trained / "profiles.yaml").write_text(WARM + f"profiles:\n  cold:\n    {empty}\n")
    assert not any(vars(harness.load(trained / "profiles.yaml", "cold").settings.init).values())
    overrides = [empty.replace(": ", "=").replace(":", "=")]
    assert not any(vars(harness.load(trained / "warm.yaml", overrides=overrides).settings.init).values())


def test_a_toggle_may_name_one_source_for_all_networks(trained: Path) -> None:
    text = ONE.replace("toggles: [separate_features, transform_w]", "toggles: [{warm: {init: origin/0}}]")
    (trained / "toggle.yaml").write_text(text)
    runs = {run.cell: run for run in harness.plan(harness.load(trained / "toggle.yaml")).plan.runs}
    assert runs["origin"].id == folders(trained, warm=False)["origin"].name
    assert runs["warm"].id == folders(trained, warm=True)["origin"].name
