"""Held-out pictures that are copies of others in another size or quality are told, and only those."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data.packed import Index
from harness.data.pictures import count_lookalikes, thumbnails
from harness.data.prepare import prepare
from harness.settings import DataConfig, HeldOutConfig


def scene(number: int, contrast: float = 1.0) -> Image.Image:
    """Smooth patches of random colours, 32 px."""
    colours = np.random.default_rng(number).integers(0, 256, (4, 4, 3))
    patches = (128 + (colours - 128) * contrast).astype(np.uint8)
    return Image.fromarray(patches).resize((32, 32), Image.Resampling.BICUBIC)


def put(folder: Path, numbers: range, save: Callable[[Image.Image, str], Any], contrast: float = 1.0) -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        save(scene(number, contrast), f"{folder}/{folder.name}{number:03d}")
        (folder / f"{folder.name}{number:03d}.txt").write_text(f"scene {number}")
    return folder


def png(picture: Image.Image, path: str) -> None:
    picture.save(f"{path}.png")


def apart(root: Path, save: Callable[[Image.Image, str], Any], shared: int = 4, contrast: float = 1.0) -> Index:
    """20 to train on; of 20 held out, as `save` stores them, some are of the same scenes."""
    put(root / "a", range(20), png, contrast)
    put(root / "h", range(20 - shared, 40 - shared), save, contrast)
    held = HeldOutConfig(path=str(root / "h"))
    return prepare(DataConfig(source="folder", path=str(root / "a"), held_out=held, resolution=16), root / "cache")[1]


COPIES: dict[str, Callable[[Image.Image, str], Any]] = {
    "JPEG 95": lambda picture, path: picture.save(f"{path}.jpg", quality=95),
    "JPEG 60": lambda picture, path: picture.save(f"{path}.jpg", quality=60),
    "WebP": lambda picture, path: picture.save(f"{path}.webp", quality=80),
    "GIF": lambda picture, path: picture.save(f"{path}.gif"),
    "twice the size": lambda picture, path: png(picture.resize((64, 64), Image.Resampling.BICUBIC), path),
    "of large pixels": lambda picture, path: png(picture.resize((96, 96), Image.Resampling.NEAREST), path),
    "a little brighter": lambda picture, path: png(picture.point(lambda level: min(level + 1, 255)), path),
}


@pytest.mark.parametrize("save", COPIES.values(), ids=COPIES)
def test_copies_in_another_size_or_quality_are_told(
    save: Callable[[Image.Image, str], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "harness"):
        index = apart(tmp_path, save)
    assert (index.images, index.held_out, index.held_out_too, index.alike) == (40, 20, 0, 4)
    held, trained = index.alike_such_as
    assert held.removeprefix("held-out/h") == trained.removeprefix("a") and 16 <= int(trained[1:]) < 20
    assert "4 of 20 held-out pictures look nearly like ones to train on, such as 'held-out/h0" in caplog.text


CHANGED: dict[str, Callable[[Image.Image, str], Any]] = {
    "another": lambda picture, path: png(Image.fromarray(255 - np.asarray(picture)), path),
    "much brighter": lambda picture, path: png(picture.point(lambda level: min(level + 8, 255)), path),
    "other colours": lambda picture, path: png(Image.merge("RGB", picture.split()[::-1]), path),
    "the same": png,
}


@pytest.mark.parametrize("save", CHANGED.values(), ids=CHANGED)
def test_other_pictures_and_equal_ones_are_not(save: Callable[[Image.Image, str], Any], tmp_path: Path) -> None:
    index = apart(tmp_path, save)
    assert (index.alike, index.alike_such_as) == (0, ()) and index.held_out_too == (4 if save is png else 0)


def test_plain_pictures_are_not(tmp_path: Path) -> None:
    assert apart(tmp_path, COPIES["JPEG 95"], contrast=0.05).alike == 0


@pytest.mark.parametrize(("shared", "told"), [(2, 0), (3, 3)])
def test_less_than_one_in_twenty_is_not(shared: int, told: int, tmp_path: Path) -> None:
    put(tmp_path / "a", range(20), png)
    put(tmp_path / "h", range(20 - shared, 80 - shared), COPIES["JPEG 95"])
    held = HeldOutConfig(path=str(tmp_path / "h"))
    config = DataConfig(source="folder", path=str(tmp_path / "a"), held_out=held, resolution=16)
    assert prepare(config, tmp_path / "cache")[1].alike == told


def test_both_kinds_in_one_folder(tmp_path: Path) -> None:
    """The split is by names, so that copies under other names fall on either side."""
    put(tmp_path / "all" / "x", range(300), png)
    put(tmp_path / "all" / "y", range(300), COPIES["JPEG 95"])
    config = DataConfig(source="folder", path=str(tmp_path / "all"), resolution=16)
    folder, index = prepare(config, tmp_path / "cache")
    assert index.held_out * 0.7 < index.alike < index.held_out  # of ten copies of held-out pictures nine are trained on
    assert not list(folder.glob("small-*"))  # they are not kept


def test_counting_agrees_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    pictures = np.concatenate(
        [rng.integers(0, 256, (300, 3, 8, 8)), rng.integers(0, 256, (40, 1, 1, 1)) * np.ones((40, 3, 8, 8))]
    )
    pictures[151:201] = pictures[:50] + rng.integers(-4, 5, (50, 3, 8, 8))
    small = pictures.clip(0, 255).astype(np.uint8)
    ones, others = list(range(0, 340, 2)), list(range(1, 340, 2))
    weights = np.array([[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]])
    looks = np.einsum("cd,ndhw->nchw", weights, small.astype(float))
    expected = set()
    for one in ones:
        for other in others:
            bright, *coloured = (looks[one] - looks[other]) ** 2
            plain = min(looks[one][0].std(), looks[other][0].std()) < 20
            if not plain and bright.mean() <= 4 and np.mean(coloured) <= 25:
                expected.add(one)
    count, (one, other) = count_lookalikes(small, ones, others)
    assert count == len(expected) >= 20 and one in expected and other in others
    assert count_lookalikes(small, ones, []) == count_lookalikes(small, [], others) == (0, (0, 0))


def test_small_pictures_are_means_of_blocks() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    small = thumbnails(pixels)
    assert small.shape == (2, 3, 8, 8)
    assert small[1, 2, 3, 4] == round(float(pixels[1, 2, 12:16, 16:20].mean()))
    assert np.array_equal(thumbnails(pixels[:, :, ::4, ::4]), pixels[:, :, ::4, ::4])
