"""Two sets of images that overlap are refused or told, and so are copies within one; captions are assigned once."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.cli import main
from harness.data.sources.record import LeftOut
from harness.errors import DataError
from harness.metrics import folders
from harness.metrics.folders import read_captions

WORDS = ("--resnet", "embedded:resnet-measure")


def draw(folder: Path, shades: range, suffix: str = "png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for shade in shades:
        rng = np.random.default_rng(shade)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{shade}.{suffix}")
    return folder


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any, str]]:
    def measure(real: Path, fake: Path, *words: str) -> tuple[int, Any, str]:
        line = ["harness", "evaluate", "--real", str(real), "--fake", str(fake), *WORDS, "--json", *words]
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        code = int(ended.value.code or 0)
        return code, json.loads(said.out) if said.out else None, " ".join(said.err.split())

    return measure


class TestFiles:
    @pytest.mark.parametrize("outer", ["real", "fake"])
    def test_a_folder_within_the_other_is_refused(self, outer: str, measure: Any, tmp_path: Path) -> None:
        whole, part = draw(tmp_path / "all", range(6)), draw(tmp_path / "all" / "part", range(10, 16))
        code, found, err = measure(*((whole, part) if outer == "real" else (part, whole)))
        assert (code, found) == (2, None)
        assert "6 of" in err and "generated images are also among" in err and "neither inside the other" in err

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_links_to_some_of_the_others_files_are_refused(self, link: Any, measure: Any, tmp_path: Path) -> None:
        real, fake = draw(tmp_path / "real", range(6)), draw(tmp_path / "fake", range(10, 16))
        link(real / "3.png", fake / "x.png")
        code, _, err = measure(real, fake)
        assert code == 2 and "1 of 7 generated images" in err and "x.png" in err

    def test_one_folder_under_two_names_is_told(self, measure: Any, tmp_path: Path) -> None:
        real = draw(tmp_path / "real", range(6))
        (tmp_path / "other").symlink_to(real)
        code, found, err = measure(real, tmp_path / "other")
        assert code == 0 and "are the same files" in err
        assert found["metrics"]["fd_emoji"] == pytest.approx(0, abs=1e-6)


class TestContent:
    def test_copies_in_the_other_set_are_counted_whatever_their_format(self, measure: Any, tmp_path: Path) -> None:
        real, fake = draw(tmp_path / "real", range(6)), draw(tmp_path / "fake", range(10, 16))
        draw(fake, range(2), "bmp")
        code, _, err = measure(real, fake)
        assert code == 0 and "2 of 8 generated images are also real ones, pixel by pixel" in err

    def test_copies_within_a_set_are_counted(self, measure: Any, tmp_path: Path) -> None:
        real, fake = draw(tmp_path / "real", range(6)), draw(tmp_path / "fake", range(10, 16))
        for name in ("a", "b"):
            (fake / f"{name}.png").write_bytes((fake / "12.png").read_bytes())
        err = measure(real, fake)[2]
        assert "2 of 8 generated images are copies of others" in err and "real ones" not in err

    def test_one_copy_of_each_kind(self, measure: Any, tmp_path: Path) -> None:
        real, fake = draw(tmp_path / "real", range(6)), draw(tmp_path / "fake", range(10, 16))
        (fake / "a.png").write_bytes((fake / "12.png").read_bytes())
        (fake / "b.png").write_bytes((real / "1.png").read_bytes())
        err = measure(real, fake)[2]
        assert "1 of 8 generated images is a copy of another, such as" in err
        assert "1 of 8 generated images is also a real one, pixel by pixel" in err
        err = measure(fake, fake)[2]
        assert "the kernel distance 0 or less" in err and "1 of 8 real images is a copy of another" in err

    def test_sets_apart_are_silent(self, measure: Any, tmp_path: Path) -> None:
        code, _, err = measure(draw(tmp_path / "real", range(6)), draw(tmp_path / "fake", range(10, 16)))
        assert code == 0 and re.fullmatch(
            r"measured on the processor Fréchet distance \(emoji\): biased upward.*bias\.", err
        )

    def test_a_size_of_its_own_is_no_copy(self, tmp_path: Path) -> None:
        for name, size in (("a", (4, 8)), ("b", (8, 4))):
            Image.new("RGB", size, (1, 2, 3)).save(tmp_path / f"{name}.png")
        one, other = folders.read_images([tmp_path / "a.png", tmp_path / "b.png"])
        assert one.content != other.content
        assert not list(folders.copies({tmp_path / "a.png": one.content}, {tmp_path / "b.png": other.content}))

    def test_what_is_passed_over_is_told(self, measure: Any, tmp_path: Path) -> None:
        real, fake = draw(tmp_path / "real", range(6)), draw(tmp_path / "fake", range(10, 16))
        (real / "x.heic").write_bytes(b"x"), (fake / "bare").write_bytes(b"x"), (fake / "._1.png").write_bytes(b"x")
        (fake / "more").symlink_to(real)
        err = measure(real, fake)[2]
        for part in ("1 file ending in .heic", "1 file without a suffix", "1 hidden image", "1 linked folder"):
            assert part in err


class TestCaptions:
    KEYS = ("a/0.png", "a/1.JPG")
    OTHERS = (("./a/0.png", "a//1.JPG"), ("a\\0.png", "a\\1.JPG"), ("a/0.PNG", "a/1.jpg"))

    def assigned(self, tmp_path: Path, name: str, text: str) -> list[str]:
        images = [draw(tmp_path / "img" / "a", range(1)) / "0.png"]
        (tmp_path / "img" / "a" / "1.JPG").write_bytes(images[0].read_bytes())
        (tmp_path / name).write_text(text)
        return read_captions(tmp_path / name, tmp_path / "img", folders.find_images(tmp_path / "img"))

    @pytest.mark.parametrize("keys", [KEYS, *OTHERS])
    def test_a_key_may_be_written_in_other_ways(self, keys: tuple[str, str], tmp_path: Path) -> None:
        one, two = keys
        assert self.assigned(tmp_path, "c.tsv", f"{one}\tred\n{two}\tblue\n") == ["red", "blue"]
        assert self.assigned(tmp_path, "c.json", json.dumps({one: "red", two: "blue"})) == ["red", "blue"]

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("c.json", '{"a/0.png": "x", "a/0.png": "y", "a/1.JPG": "z"}', "has the key 'a/0.png' twice, with 'x' and"),
            ("c.json", '{"a/0.png": "x", "./a/0.png": "y", "a/1.JPG": "z"}', "'./a/0.png' has a caption already"),
            ("c.tsv", "a/0.png\tx\na\\0.png\ty\na/1.JPG\tz\n", "c.tsv:2: .* has a caption already"),
            ("c.json", '{"a/0.png": "x", "a/1.JPG": NaN}', "must be an object of texts"),
            ("c.json", '{"a/0.png": "x", "a/1.JPG": null}', "must be an object of texts"),
            ("c.tsv", "a/0.png\tx\n", "no caption for 'a/1.JPG'"),
        ],
    )
    def test_a_caption_too_many_or_missing_is_refused(self, name: str, text: str, told: str, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=told):
            self.assigned(tmp_path, name, text)

    def test_a_folder_of_texts_is_searched_as_that_of_a_data_set_is(self, tmp_path: Path) -> None:
        images = draw(tmp_path / "img", range(3))
        (tmp_path / "t").mkdir()
        for name in ("0.TXT", "1.png.txt", "two.txt"):
            (tmp_path / "t" / name).write_text(name)
        with pytest.raises(DataError, match=r"2\.txt: no such file; every generated image needs its caption"):
            read_captions(tmp_path / "t", images, folders.find_images(images))
        (tmp_path / "t" / "2.txt").write_text("2.txt")
        found = read_captions(tmp_path / "t", images, folders.find_images(images), left_out := LeftOut())
        assert found == ["0.TXT", "1.png.txt", "2.txt"]
        assert left_out.lines()[0].endswith("without an image of its name, left out: two.txt")

    def test_marks_around_a_caption_are_told(self, tmp_path: Path) -> None:
        images = draw(tmp_path / "img", range(2))
        (tmp_path / "c.tsv").write_text('0.png\t"a sign"\n1.png\ta "sign"\n')
        found = read_captions(tmp_path / "c.tsv", images, folders.find_images(images), left_out := LeftOut())
        assert found == ['"a sign"', 'a "sign"']
        assert left_out.lines() == (f"1 caption in quotation marks, taken with them: {tmp_path}/c.tsv: 0.png",)

    def test_accents(self, tmp_path: Path) -> None:
        Image.new("RGB", (8, 8)).save(tmp_path / unicodedata.normalize("NFD", "é.png"))
        key = unicodedata.normalize("NFC", "é.png")
        (tmp_path / "c.json").write_text(json.dumps({key: "nan"}))
        images = [path for path in tmp_path.iterdir() if path.suffix == ".png"]
        assert read_captions(tmp_path / "c.json", tmp_path, images, left_out := LeftOut()) == ["nan"]
        assert left_out.lines()[0].startswith("1 caption reading 'nan'")
