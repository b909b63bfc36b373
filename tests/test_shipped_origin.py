"""`init: embedded:origin-32`: the trained origin that ships with the package, under that name on every machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import harness
from harness.cli import doctor
from harness.errors import HarnessError
from harness.models.encoders import FOLDER
from harness.runs import initial
from harness.runs.initial import ORIGINS
from harness.study.load import load_study
from harness.study.plan import make_plan
from harness.training.checkpoint import read_tensors

ROOT = Path(__file__).parent.parent
NAME = f"embedded:{ORIGINS[0]}"


@pytest.fixture
def study(without_content: Path) -> Path:
    return Path(shutil.copy(ROOT / "ablations.yaml", without_content))


def test_the_file_is_whole_and_says_how_it_was_trained() -> None:
    tensors, meta = read_tensors(FOLDER / f"{ORIGINS[0]}.safetensors")
    assert {name.partition("/")[0] for name in tensors} == {"averaged", "discriminator"}
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    card = json.loads((FOLDER / f"{ORIGINS[0]}.json").read_text())
    kept = json.loads(next(iter(meta.values())))
    assert {f"generator.{key}": value for key, value in kept.items()}.items() <= card["settings"].items()
    assert initial.find(NAME, Path()).fingerprint == card["fingerprint"]


@pytest.mark.slow
def test_its_images_are_as_good_as_it_says(tmp_path: Path) -> None:
    """By the measures of a run that starts from it, before the first step: equal but for rounding to half precision."""
    changed = ["design.include=[origin]", "design.kind=list", "design.seeds=1", "train.kimg=0.064"]
    started = harness.load(shutil.copy(ROOT / "ablations.yaml", tmp_path), profile="warm", overrides=changed)
    harness.run_grid(started)
    curves = started.curves
    told = json.loads((FOLDER / f"{ORIGINS[0]}.json").read_text())["metrics"]
    for metric in ("fd_emoji", "clip_score", "recall"):
        (value,) = curves[(curves.step == 0) & (curves.name == f"metrics/{metric}")].value
        assert value == pytest.approx(told[metric], rel=0.01), metric


def test_every_cell_of_the_profile_takes_all_its_layers(study: Path) -> None:
    layers = harness.first_weights(make_plan(load_study(study, "warm")))
    assert layers.keys() == {cell.name for cell in load_study(study, "warm").layout.cells}
    for cell, networks in layers.items():
        assert networks.keys() == {"generator", "discriminator", "averaged"}
        for found in networks.values():
            assert found["taken"] and not found["new"] and not found["unused"], cell


def test_a_run_notes_the_name_and_not_a_place(study: Path, tmp_path: Path) -> None:
    """So that a worker on another machine takes the file of its own installation."""
    runs = make_plan(load_study(study, "warm")).runs
    assert all(set(run.first_weights.values()) == {NAME} for run in runs)
    source = initial.of_run(runs[0])["generator"]
    assert source.path == FOLDER / f"{ORIGINS[0]}.safetensors" and source.place == NAME
    copy = shutil.copy(source.path, tmp_path / "copy.safetensors")
    by_path = make_plan(load_study(study, "warm", [f"init={copy}"])).runs
    assert by_path[0].fingerprints["init.generator"] == runs[0].fingerprints["init.generator"]
    assert set(by_path[0].first_weights.values()) == {str(copy)}


def test_other_names_are_refused_with_the_nearest(study: Path) -> None:
    with pytest.raises(HarnessError, match=rf"init: embedded:origin32: allowed is {NAME}; did you mean '{NAME}'"):
        make_plan(load_study(study, "warm", ["init=embedded:origin32"]))


def test_doctor_tells_of_a_damaged_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = doctor._origins()
    assert whole.subject == NAME and not whole.fix
    content = bytearray((FOLDER / f"{ORIGINS[0]}.safetensors").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / f"{ORIGINS[0]}.safetensors").write_bytes(content)
    monkeypatch.setattr(initial, "FOLDER", tmp_path)
    (damaged,) = doctor._origins()
    assert damaged.detail == "cannot be used" and "SHA-256" in damaged.fix
    (tmp_path / f"{ORIGINS[0]}.safetensors").unlink()
    (gone,) = doctor._origins()
    assert gone.detail == "cannot be used" and "install the package again" in gone.fix
