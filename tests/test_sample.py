"""Images from the generator's file: only from the one that was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fakes import make_run
from harness.errors import RecordError, SpecError
from harness.models.config import GeneratorConfig
from harness.models.encoders.load import load_clip
from harness.models.generator import Generator
from harness.runs import initial
from harness.runs.folders import RunFolder
from harness.settings import Settings
from harness.training.checkpoint import write_tensors
from harness.training.samples import generate, sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished run whose generator has drawn weights."""
    base = Settings(generator=GeneratorConfig(z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=8))
    data, encoders = replace(base.data, resolution=16), replace(base.encoders, clip="embedded:clip-guide")
    settings = replace(base, data=data, encoders=encoders)
    run = replace(make_run("origin"), settings=settings)
    RunFolder(tmp_path).create(run)
    generator = Generator(settings.generator, 16, load_clip("embedded:clip-guide").dim)
    for parameter in generator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    write_tensors(tmp_path / "generator.safetensors", generator.state_dict(), {"run": run.id})
    return tmp_path


def test_a_prompt_with_half_a_character_is_refused(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"the prompt 'a \\ud83d cat' holds half a character"):
        generate(folder, ["a dog", "a \ud83d cat"])


def test_a_file_without_a_hash_gives_the_same_images(folder: Path) -> None:
    before, path = generate(folder, ["a cat"]), folder / "generator.safetensors"
    save_file(load_file(path), path)
    assert before.std() > 0 and generate(folder, ["a cat"]).equal(before)


def test_settings_edited_by_hand_are_refused_by_name(folder: Path) -> None:
    path = folder / "run.json"
    path.write_text(path.read_text().replace('"z_dim": 8', '"z_dim": "eight"'))
    with pytest.raises(RecordError, match=r"run\.json: cannot be used \(settings\.generator\.z_dim: "):
        generate(folder, ["a cat"])


def test_weights_of_another_run_are_nobodys_picture_and_nobodys_beginning(folder: Path) -> None:
    path, state = folder / "generator.safetensors", folder / "checkpoint" / "000000010.safetensors"
    assert initial.find(str(path), folder).path == path
    state.parent.mkdir()
    (folder / "result.json").touch()
    for each in (path, state):
        write_tensors(each, load_file(path), {"run": "efb60298f656", "step": "10"})
    told = r"belongs to run 'efb60298f656', not '\w+'; put back the file"
    with pytest.raises(RecordError, match=f"{path}: {told}"):
        generate(folder, ["a cat"])
    for file, named in ((path, path), (state, folder)):
        with pytest.raises(RecordError, match=f"{file}: {told}"):
            initial.find(str(named), folder)


@pytest.mark.parametrize("damage", ["flipped", "torn", "other", "empty"])
def test_a_damaged_generator_is_refused_by_name(folder: Path, damage: str) -> None:
    path = folder / "generator.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes({"flipped": content, "torn": content[:-4], "other": b"PK\x03\x04" * 99, "empty": b""}[damage])
    told = "not what was written" if damage == "flipped" else "cannot be read"
    with pytest.raises(RecordError, match=rf"generator\.safetensors: .*{told}.*run it again"):
        generate(folder, ["a cat"])


@pytest.mark.parametrize(("scale", "by"), [(None, 16), (1, 1), (3, 3)])
def test_images_are_enlarged_by_whole_pixels_with_the_real_size_told(folder: Path, scale: int | None, by: int) -> None:
    told = sample(folder, ["a cat", "a dog"], folder / "one.png", scale=scale)
    sample(folder, ["a cat", "a dog"], folder / "small.png", scale=1)
    with Image.open(folder / "one.png") as large, Image.open(folder / "small.png") as small:
        pixels, real = np.asarray(large), np.asarray(small)
    assert real.shape == (16, 32, 3) and (pixels == real.repeat(by, 0).repeat(by, 1)).all()
    assert told.startswith("images of 16 x 16 px") and (f"each pixel shown as {by} x {by}" in told) == (by > 1)
