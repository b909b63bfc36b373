"""Nothing that lies beside the images, and no caption, is left out without being counted or refused."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import layouts
from counted import captions, draw, records
from harness.data.decode import opaque
from harness.data.image_files import IMAGE_FORMATS, IMAGE_SUFFIXES
from harness.data.listing import Listing
from harness.data.prepare import prepare
from harness.data.reading import stamps_below
from harness.data.sources.matching import count_missing_parts
from harness.data.sources.record import LeftOut
from harness.errors import DataError
from harness.metrics.folders import find_images, read_captions
from harness.settings import DataConfig


def folder(root: Path) -> DataConfig:
    return DataConfig(source="folder", path=str(root))


class TestFormats:
    @pytest.mark.parametrize(
        ("suffix", "kind"),
        [("avif", "AVIF"), ("jfif", "JPEG"), ("jpe", "JPEG"), ("JP2", "JPEG2000"), ("tga", "TGA"), ("dds", "DDS"),
         ("ico", "ICO"), ("pcx", "PCX"), ("qoi", "QOI"), ("apng", "PNG"), ("sgi", "SGI"), ("pgm", "PPM"),
         ("pnm", "PPM"), ("PNG", "PNG"), ("icns", "ICNS"), ("dib", "DIB"), ("j2k", "JPEG2000")],
    )  # fmt: skip
    def test_what_pillow_reads_is_an_image(self, suffix: str, kind: str, tmp_path: Path) -> None:
        size = (32, 32)
        picture = Image.new("RGBA" if kind in ("ICO", "QOI") else "RGB", size, (200, 40, 90))
        picture.save(tmp_path / f"a.{suffix}", kind)
        (tmp_path / "a.txt").write_text("a field")
        [record] = records(folder(tmp_path))
        assert (record.key, record.captions) == ("a", ("a field",))
        assert opaque(record.read()).mode == "RGB"

    def test_no_format_is_handed_to_another_program_or_unknown_to_pillow(self) -> None:
        Image.init()
        own = Image.registered_extensions()
        assert {own[suffix] for suffix in IMAGE_SUFFIXES} - {"MPO"} == set(IMAGE_FORMATS) <= set(Image.OPEN)
        assert not {"EPS", "PDF", "WMF", "MPEG", "HDF5", "GRIB", "BUFR"} & set(IMAGE_FORMATS)

    def test_heic_is_read_where_its_plugin_is_installed(self, tmp_path: Path) -> None:
        (tmp_path / "plugins").mkdir()
        plugin = """
            from PIL import Image, PngImagePlugin
            def register_heif_opener():
                Image.register_open("HEIF", lambda stream, name: PngImagePlugin.PngImageFile(skipped(stream), name),
                                    lambda start: start[:4] == b"heic")
            def skipped(stream):
                import io
                return io.BytesIO(stream.read()[4:])
        """
        (tmp_path / "plugins" / "pillow_heif.py").write_text(textwrap.dedent(plugin))
        (tmp_path / "a.HEIC").write_bytes(b"heic" + draw(tmp_path / "plugins" / "x.png").read_bytes())
        code = f"""
            import sys
            sys.path += [{str(tmp_path / "plugins")!r}]
            from harness.settings import DataConfig
            from harness.data.decode import decode
            from harness.data.sources import open_source
            record, *_ = open_source(DataConfig(source="folder", path={str(tmp_path)!r})).records()
            print(record.key, decode(record.read(), DataConfig(resolution=8))[:, 0, 0].tolist())
        """
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
        assert done.stdout == "a [7, 40, 90]\n", done.stderr


class TestFolder:
    def test_all_that_is_passed_over_is_counted(self, tmp_path: Path) -> None:
        for name in ("a.png", ".b.png", "._a.png", ".git/c.png", "deep/.cache/d.png"):
            draw(tmp_path / name)
        for name in ("a.txt", "none.txt", "x.svg", "y.SVG", "z.eps", "bare", "Thumbs.db", ".DS_Store"):
            (tmp_path / name).write_text("words")
        found = records(folder(tmp_path))
        assert captions(found) == {"a": ("words",)}
        assert sorted(found.left_out) == [
            "1 file ending in .db, left out: Thumbs.db",
            "1 file ending in .eps, left out: z.eps",
            "1 file without a suffix, left out: bare",
            "1 text without an image of its name, left out: none.txt",
            *sorted(line for line in found.left_out if line.startswith("2 ")),
        ]
        twos = " | ".join(line.partition(":")[0] for line in found.left_out if line.startswith("2 "))
        assert all(part in twos for part in ("hidden folders", "hidden images", "files ending in .svg"))

    def test_preparing_tells_it_once_and_when_it_changes_and_when_asked(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(6):
            draw(tmp_path / "data" / f"{number}.png", number).with_suffix(".txt").write_text(f"a {number}")
        (tmp_path / "data" / "late.heic").write_bytes(b"x")
        config = replace(folder(tmp_path / "data"), resolution=8)
        for describe in (False, True, False):
            again = bool(caplog.messages)
            caplog.clear()
            with caplog.at_level(logging.INFO, "harness"):
                prepare(config, tmp_path / "cache", describe)
            assert ("1 file ending in .heic, left out: late.heic" in caplog.text) == (describe or not again)
        (tmp_path / "data" / "later.heic").write_bytes(b"x")
        with caplog.at_level(logging.INFO, "harness"):
            prepare(config, tmp_path / "cache")
        assert "2 files ending in .heic, left out: such as late.heic" in caplog.text

    def test_held_out_data_of_its_own_is_told_too(self, tmp_path: Path) -> None:
        for side in ("train", "val"):
            draw(tmp_path / side / "a.png").with_suffix(".txt").write_text("a")
        (tmp_path / "val" / "b.pdf").write_bytes(b"x")
        held = replace(DataConfig().held_out, path=str(tmp_path / "val"))
        told = Listing(replace(folder(tmp_path / "train"), held_out=held)).left_out
        assert told == ("data.held_out: 1 file ending in .pdf, left out: b.pdf",)

    @pytest.mark.parametrize(
        ("image", "text"),
        [("IMG.JPG", "IMG.TXT"), ("a.jpg", "a.jpg.txt"), ("A.PNG", "A.png.txt"), ("a.jpg", "a.JPG.TXT"),
         (unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.txt")),
         (unicodedata.normalize("NFC", "é.png"), unicodedata.normalize("NFD", "é.png.txt"))],
    )  # fmt: skip
    def test_captions_are_found_however_their_name_is_written(self, image: str, text: str, tmp_path: Path) -> None:
        draw(tmp_path / image)
        (tmp_path / text).write_text("there")
        [record] = records(folder(tmp_path))
        assert record.captions == ("there",) and not record.fault

    def test_a_text_is_never_another_images(self, tmp_path: Path) -> None:
        draw(tmp_path / "a.png"), draw(tmp_path / "a.png.png")
        (tmp_path / "a.png.txt").write_text("of a.png.png")
        found = {record.key: record for record in records(folder(tmp_path))}
        assert found["a.png"].captions == ("of a.png.png",) and found["a"].captions == ()
        (tmp_path / "a.txt").write_text("of a.png")
        assert captions(records(folder(tmp_path))) == {"a": ("of a.png",), "a.png": ("of a.png.png",)}

    @pytest.mark.parametrize("other", ["img_1.txt", "IMG_1.caption", "IMG_1.json", "IMG-1.txt"])
    def test_a_missing_caption_names_the_text_and_what_is_nearly_it(self, other: str, tmp_path: Path) -> None:
        draw(tmp_path / "IMG_1.png")
        (tmp_path / other).write_text("x")
        [record] = records(folder(tmp_path))
        assert record.no_caption == f"no caption: IMG_1.txt is not there; there is {other}"

    def test_an_empty_text_is_named(self, tmp_path: Path) -> None:
        draw(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text(" \n")
        assert records(folder(tmp_path))[0].no_caption == "no caption: a.txt is empty"

    def test_two_texts_that_fit_equally_are_named_and_none_is_taken(self, tmp_path: Path) -> None:
        draw(tmp_path / "a.png")
        for name in ("a.TXT", "a.png.txt"):
            (tmp_path / name).write_text(name)
        [record] = records(folder(tmp_path))
        assert record.captions == () and "a.TXT and a.png.txt" in record.no_caption

    def test_without_images_the_message_says_what_is_there(self, tmp_path: Path) -> None:
        (tmp_path / "a.heic").write_bytes(b"x")
        layouts.refused(folder(tmp_path), r"holds no captioned image; .*1 file ending in \.heic")

    @pytest.mark.parametrize("word", ["nan", "None", "NULL"])
    def test_words_that_programs_write_for_nothing_are_told(self, word: str, tmp_path: Path) -> None:
        draw(tmp_path / "a.png").with_suffix(".txt").write_text(word)
        [line] = records(folder(tmp_path)).left_out
        assert line.startswith(f"1 caption reading {word!r}")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.pictures(tmp_path / "sub")
    images, scan = find_images(layouts.pictures(tmp_path)), os.scandir

    def refuse(path: Any) -> Any:  # also to those who may read everything
        if os.fspath(path) == str(tmp_path / "sub"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    hub = DataConfig(source="huggingface", path=str(tmp_path))
    for read in (
        lambda: records(folder(tmp_path)),
        lambda: records(hub),
        lambda: list(stamps_below(tmp_path)),
        lambda: find_images(tmp_path),
        lambda: read_captions(tmp_path, tmp_path, images),
    ):
        told = r"sub: the folder cannot be read \(Permission denied\); allow it to be read, or name a folder without it"
        with pytest.raises(DataError, match=told):
            read()


class TestOthers:
    def test_coco_counts_images_it_does_not_list_and_names_those_without_captions(self, tmp_path: Path) -> None:
        config = layouts.coco(tmp_path)
        draw(tmp_path / "images" / "extra.png")
        text = Path(config.path).read_text().replace('"images": [', '"images": [{"id": 1, "file_name": "extra2.png"}, ')
        draw(tmp_path / "images" / "extra2.png")
        Path(config.path).write_text(text)
        found = records(config)
        assert [record.no_caption[:27] for record in found if not record.captions] == ["no caption: no annotation i"]
        assert found.left_out[0].startswith("1 image ") and "extra.png" in found.left_out[0]

    @pytest.mark.parametrize("name", ["images", "annotations", "file_name", "caption"])
    def test_coco_with_a_key_twice_is_refused(self, name: str, tmp_path: Path) -> None:
        config = layouts.coco(tmp_path)
        text = Path(config.path).read_text()
        Path(config.path).write_text(text.replace(f'"{name}": ', f'"{name}": "x", "{name}": ', 1))
        layouts.refused(config, rf"captions\.json: an object has the key '{name}' twice")

    @pytest.mark.parametrize(
        ("names", "told"),
        [
            (["s-00000.tar", "s-00002.tar"], ("1 part missing by the numbers of the others: s-00001.tar",)),
            (["s-1.tar", "s-5.tar"], ("3 parts missing by the numbers of the others: such as s-2.tar",)),
            (["a-00001-of-00003.x"], ("2 parts missing by the numbers of the others: such as a-00000-of-00003.x",)),
            (["s-000.tar", "s-001.tar", "t-005.tar"], ()),
            (["a-00000-of-00002.x", "a-00001-of-00002.x"], ()),
        ],
    )
    def test_missing_numbers_are_counted(self, names: list[str], told: tuple[str, ...]) -> None:
        count_missing_parts(names, left_out := LeftOut())
        assert left_out.lines() == told

    def test_tars_count_what_is_no_sample_and_name_what_lacks_a_caption(self, tmp_path: Path) -> None:
        config = layouts.LAYOUTS["tars in a folder"](tmp_path)
        (tmp_path / "shards-001.tar").unlink()
        (tmp_path / "00000_stats.json").write_text("{}")
        picture = layouts.SAMPLES[layouts.ONE][0]
        members = {"lone.txt": b"x", "a.png": picture, "b.jpg": picture, "b.mask.png": picture, "b.txt": b"words"}
        layouts.tar(tmp_path / "more.tar", members)
        found = records(config)
        told = " | ".join(found.left_out)
        for part in ("1 file ending in .json", "1 part missing", "1 sample of .txt without an image", "b.mask.png"):
            assert part in told
        [bad] = [record for record in found if not record.captions]
        assert bad.no_caption == "no caption: a.txt and .json are not in the tar, which has a.png"

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ('{"caption": "x", "caption": "y"}', r"a\.tar: a\.json: an object has the key 'caption' twice"),
            ('{"caption": "x", "Caption": "y"}', r"a\.tar: a \.json member has 2 columns called 'caption'"),
            ('{"caption": NaN}', r"a\.tar: a\.json: a caption must be text"),
        ],
    )
    def test_a_member_of_a_tar_that_would_lose_a_caption_is_refused(self, text: str, told: str, tmp_path: Path) -> None:
        picture = layouts.SAMPLES[layouts.ONE][0]
        layouts.tar(tmp_path / "a.tar", {"a.png": picture, "a.json": text.encode()})
        layouts.refused(DataConfig(source="webdataset", path=str(tmp_path / "a.tar")), told)

    @pytest.mark.parametrize(("suffix", "text"), [("txt", b""), ("txt", b"\n"), ("json", b""), ("json", b" \n")])
    def test_a_text_that_is_empty_is_no_caption_of_its_image_alone(
        self, suffix: str, text: bytes, tmp_path: Path
    ) -> None:
        picture = layouts.SAMPLES[layouts.ONE][0]
        texts = {f"b.{suffix}": b'{"caption": "x"}' if suffix == "json" else b"x", f"a.{suffix}": text}
        path = layouts.tar(tmp_path / "a.tar", {"a.png": picture, "b.png": picture, **texts})
        found = records(DataConfig(source="webdataset", path=str(path)))
        assert [(each.key, each.captions) for each in found] == [("a", ()), ("b", ("x",))]
        assert found[0].no_caption == f"no caption: a.{suffix} is empty"

    @pytest.mark.parametrize("start", ["BZh", "PK\x03\x04"])
    def test_a_caption_may_begin_as_an_archive_does(self, start: str, tmp_path: Path) -> None:
        members = {"a.png": layouts.SAMPLES[layouts.ONE][0], "a.txt": f"{start} is a word".encode()}
        (record,) = records(DataConfig(source="webdataset", path=str(layouts.tar(tmp_path / "a.tar", members))))
        assert record.captions == (f"{start} is a word",)

    def test_one_tar_of_several_is_told_once(self, tmp_path: Path) -> None:
        path = layouts.tar(tmp_path / "s-00001-of-00004.tar", layouts.sample(layouts.ONE))
        told = records(DataConfig(source="webdataset", path=str(path))).left_out
        assert told == ("3 parts missing by the numbers of the others: such as s-00000-of-00004.tar",)

    def test_a_zip_counts_what_is_no_image_and_refuses_a_pair_twice(self, tmp_path: Path) -> None:
        picture = layouts.SAMPLES[layouts.ONE][0]
        entries = {"a.png": picture, "a.PNG.txt": b"x", "__MACOSX/._a.png": b"", "n.md": b"", "lone.txt": b"y"}
        found = records(layouts.zipped(tmp_path / "z.zip", entries))
        assert captions(found) == {"a": ("x",)} and len(found.left_out) == 3
        twice = '{"captions": [["a.png", "x"], ["a.png", "y"]]}'
        layouts.refused(
            layouts.zipped(tmp_path / "y.zip", {"a.png": picture, "dataset.json": twice}), r"'a\.png' is listed twice"
        )

    def test_captions_of_dataset_json_beside_texts_are_counted(self, tmp_path: Path) -> None:
        picture = layouts.SAMPLES[layouts.ONE][0]
        entries = {"a.png": picture, "a.txt": b"x", "dataset.json": '{"captions": [["a.png", "another"]]}'}
        found = records(layouts.zipped(tmp_path / "z.zip", entries))
        assert captions(found) == {"a": ("x",)}
        assert found.left_out == (
            "1 caption listed in dataset.json, as there are .txt entries, left out: dataset.json",
        )

    def test_twemoji_counts_pictures_without_a_name(self) -> None:
        assert "without a name" in records(DataConfig()).left_out[0]


def image_folder(change: Callable[[Path], object], root: Path) -> DataConfig:
    config = layouts.image_folder(root)
    change(root / "train")
    return config


class TestHub:
    def test_images_that_the_metadata_do_not_name_and_other_splits_are_counted(self, tmp_path: Path) -> None:
        config = image_folder(lambda train: draw(train / "extra.png"), tmp_path)
        (tmp_path / "test").mkdir()
        draw(tmp_path / "test" / "a.png")
        (tmp_path / "test" / "metadata.jsonl").write_text('{"file_name": "a.png", "caption": ["x"]}\n')
        told = " | ".join(records(config).left_out)
        assert "extra.png" in told and "1 row of the split 'test'" in told

    def test_metadata_whose_quotes_take_in_a_row_are_refused(self, tmp_path: Path) -> None:
        config = image_folder(lambda train: (train / "metadata.jsonl").unlink(), tmp_path)
        one, two, *_ = layouts.SAMPLES
        (tmp_path / "train" / "metadata.csv").write_text(f'file_name,caption\n{one}.png,"Wel\n{two}.png,come"\n')
        layouts.refused(config, rf"takes in the row of {two}\.png")

    def test_a_missing_part_is_counted(self, tmp_path: Path) -> None:
        for number in (0, 2):
            layouts.parquet(tmp_path / f"train-0000{number}-of-00003.parquet", layouts.embedded()[number::3])
        told = records(DataConfig(source="huggingface", path=str(tmp_path))).left_out
        assert told == ("1 part missing by the numbers of the others: train-00001-of-00003.parquet",)
