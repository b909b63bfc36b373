"""What is read of a folder of images and of the captions beside them: what is refused, and what is read otherwise."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.data.sources.record import LeftOut
from harness.errors import DataError
from harness.metrics import folders
from harness.metrics.folders import read_captions
from test_evaluate import draw, keys


class TestStrictness:
    def test_several_captions_are_too_many(self, tmp_path: Path) -> None:
        draw(tmp_path, 0)
        images = folders.find_images(tmp_path)
        for image in images:
            image.with_suffix(".txt").write_text("one\n\n")
        assert read_captions(tmp_path, tmp_path, images) == ["one"] * len(images)
        images[1].with_suffix(".txt").write_text("one\ntwo\n")
        with pytest.raises(DataError, match=rf"{images[1].stem}\.txt: holds 2 captions; leave the one"):
            read_captions(tmp_path, tmp_path, images)

    def test_a_caption_ends_where_lines_of_any_system_do(self, tmp_path: Path) -> None:
        draw(tmp_path, 0)
        images = folders.find_images(tmp_path)
        for image in images:
            image.with_suffix(".txt").write_text("a cat\u2028on a\x85mat\r\n", encoding="utf-8")
        assert read_captions(tmp_path, tmp_path, images) == ["a cat\u2028on a\x85mat"] * len(images)

    def test_a_link_to_nothing_is_named_and_a_folder_is_no_image(self, tmp_path: Path) -> None:
        draw(tmp_path, 0)
        (tmp_path / "folder.png").mkdir()
        (tmp_path / "gone.png").symlink_to("/nowhere")
        images = folders.find_images(tmp_path)
        assert tmp_path / "gone.png" in images and tmp_path / "folder.png" not in images
        with pytest.raises(DataError, match=r"gone\.png: .*No such file"):
            list(folders.read_images(images))

    def test_what_is_no_regular_file_is_not_read(self, tmp_path: Path) -> None:
        draw(tmp_path, 0)
        images = folders.find_images(tmp_path)
        os.mkfifo(tmp_path / "pipe.png")
        (tmp_path / "zipped.png").write_bytes(b"PK\x03\x04 and more")
        for name, said in (("pipe", "is no regular file"), ("zipped", "is a zip archive, not an image; unpack it")):
            with pytest.raises(DataError, match=rf"{name}\.png: {said}"):
                list(folders.read_images([tmp_path / f"{name}.png"]))
        images[0].with_suffix(".txt").mkdir()
        with pytest.raises(DataError, match=rf"{images[0].stem}\.txt: is no regular file; every generated image needs"):
            read_captions(tmp_path, tmp_path, images)
        os.mkfifo(tmp_path / "captions.tsv")
        with pytest.raises(DataError, match=r"captions\.tsv: is no regular file"):
            read_captions(tmp_path / "captions.tsv", tmp_path, images)

    def test_half_a_character_of_a_caption_is_read_as_a_question_mark_and_told(self, tmp_path: Path) -> None:
        draw(tmp_path, 0)
        images, told = folders.find_images(tmp_path), LeftOut()
        given = dict.fromkeys(keys(tmp_path), "a bird") | {"01.png": "a \ud83d b"}
        (tmp_path / "c.json").write_text(json.dumps(given))
        assert read_captions(tmp_path / "c.json", tmp_path, images, told).count("a ? b") == 1
        (line,) = told.lines()
        assert line.startswith("1 caption with half a character") and line.endswith("01.png")

    def test_an_image_too_narrow_for_any_network_is_refused_with_its_size(self, tmp_path: Path) -> None:
        for width in (6 * 32, 6 * 32 + 1):
            Image.new("RGB", (width, 6)).save(tmp_path / f"{width}.png")
        assert len(list(folders.read_images([tmp_path / "192.png"]))) == 1
        with pytest.raises(DataError, match=r"193\.png: 193 x 6 pixels; the longer side may be 32 times"):
            list(folders.read_images([tmp_path / "193.png"]))


class TestReading:
    def test_rgb_on_white_in_the_order_of_names(self, tmp_path: Path) -> None:
        clear = Image.new("RGBA", (4, 6), (255, 0, 0, 0))
        clear.putpixel((0, 0), (10, 20, 30, 255))
        clear.save(tmp_path / "b.png")
        Image.new("L", (3, 3), 7).save(tmp_path / "a.PNG")
        (tmp_path / ".hidden.png").write_bytes(b"")
        (tmp_path / "notes.txt").write_text("no image")
        grey, seen = folders.read_images(folders.find_images(tmp_path))
        assert grey.pixels.shape == (3, 3, 3) and np.all(grey.pixels == 7)
        assert seen.pixels.shape == (3, 6, 4)
        assert tuple(seen.pixels[:, 0, 0]) == (10, 20, 30) and np.all(seen.pixels[:, 1:] == 255)

    def test_16_bits_become_8_and_floats_are_refused(self, tmp_path: Path) -> None:
        Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(tmp_path / "deep.png")
        [deep] = folders.read_images([tmp_path / "deep.png"])
        assert np.all(deep.pixels == 40_000 >> 8)
        Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
        with pytest.raises(DataError, match=r"float\.tif: holds floating-point pixels.*save it with 8 bits"):
            list(folders.read_images([tmp_path / "float.tif"]))

    def test_many_images_keep_their_order(self, tmp_path: Path) -> None:
        for value in range(150):
            Image.new("RGB", (2, 2), (value, 0, 0)).save(tmp_path / f"{value:03d}.png")
        assert [int(p.pixels[0, 0, 0]) for p in folders.read_images(folders.find_images(tmp_path))] == list(range(150))
