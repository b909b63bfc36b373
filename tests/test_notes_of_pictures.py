"""How images were read that are not plain is counted and told, by all that read images."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data import decode as decoding
from harness.data.decode import FIRST_OF_SEVERAL, NO_PROFILE
from harness.data.listing import Listing
from harness.data.prepare import prepare
from harness.errors import DataError
from harness.metrics import folders
from harness.settings import DataConfig, HeldOutConfig
from test_shown import REFUSED

HALF = HeldOutConfig(share=0.3)
DRAW = np.random.default_rng(0)


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "images"
    made.mkdir()
    for number in range(24):
        picture = Image.fromarray(DRAW.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        (made / f"{number:02d}.txt").write_text(f"picture {number}\n")
        if number < 2:
            picture.save(made / f"{number:02d}.gif", save_all=True, append_images=[picture.rotate(90)])
        else:
            picture.save(made / f"{number:02d}.png", icc_profile=b"damaged" if number == 2 else None)
    return made


def test_preparing_tells_once_and_when_asked_how_many_images_are_not_plain(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = DataConfig(source="folder", path=str(folder(tmp_path)), resolution=8)
    for describe in (False, True, False):
        again = bool(caplog.messages)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            _, index = prepare(config, tmp_path / "cache", describe)
        assert index.notes == {FIRST_OF_SEVERAL: 2, NO_PROFILE: 1}
        if again and not describe:
            assert not caplog.messages, "not by every command"
            continue
        assert f"2 of 24 images of {config.path}: {FIRST_OF_SEVERAL}" in caplog.text
        assert f"1 of 24 images of {config.path}: {NO_PROFILE}" in caplog.text


def test_pictures_of_a_folder_carry_their_notes(tmp_path: Path) -> None:
    found = list(folders.read_images(folders.find_images(folder(tmp_path))))
    assert [picture.notes for picture in found] == [(FIRST_OF_SEVERAL,)] * 2 + [(NO_PROFILE,)] + [()] * 21


def test_an_image_that_is_refused_is_a_bad_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = folder(tmp_path)
    (made / "more.tif").write_bytes(REFUSED["signed"][0])
    (made / "more.txt").write_text("signed\n")
    config = DataConfig(source="folder", path=str(made), resolution=8, held_out=HALF)
    with pytest.raises(DataError, match=r"more\.tif: holds signed or 32-bit numbers.*save it with 8 bits a channel"):
        prepare(config, tmp_path / "cache")
    skipping = DataConfig(source="folder", path=str(made), resolution=8, held_out=HALF, on_bad_image="skip")
    kept, index = prepare(skipping, tmp_path / "cache")
    assert index.images == 24 and "signed or 32-bit numbers" in (kept / "bad.txt").read_text()


def test_what_was_prepared_by_another_rule_is_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = DataConfig(source="folder", path=str(folder(tmp_path)), resolution=8)
    before = Listing(config).hash, prepare(config, tmp_path / "cache")[1].fingerprint
    monkeypatch.setattr("harness.data.listing.PIXEL_RULE", decoding.PIXEL_RULE + "+")
    after = Listing(config).hash, prepare(config, tmp_path / "cache")[1].fingerprint
    assert before[0] != after[0] and before[1] != after[1]
    assert decoding.PIXEL_RULE != "on-white,{fit},lanczos/2", "the rule before colours were brought to sRGB"
