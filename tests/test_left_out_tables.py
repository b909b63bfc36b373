"""No row, column, caption or file of a table is left out without being counted or refused."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

import layouts
from counted import captions, draw, records
from harness.settings import DataConfig


def table(path: Path, text: str | bytes, count: int = 6) -> DataConfig:
    for number in range(count):
        draw(path.parent / f"p{number}.png", number)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return DataConfig(source="table", path=str(path))


def rows(separator: str, texts: dict[int, str], end: str = "\n") -> str:
    cells = {number: f"thing {number}" for number in range(6)} | texts
    return end.join([f"image{separator}caption", *(f"p{n}.png{separator}{text}" for n, text in cells.items()), ""])


class TestTables:
    def test_a_tsv_without_quoting_keeps_every_row_and_mark(self, tmp_path: Path) -> None:
        found = records(table(tmp_path / "t.tsv", rows("\t", {3: '"Welcome', 4: 'home"', 5: '"all" of it'})))
        marked = {"p3": ('"Welcome',), "p4": ('home"',), "p5": ('"all" of it',)}
        assert captions(found) == {f"p{number}": (f"thing {number}",) for number in range(3)} | marked
        assert "read without quoting" in found.left_out[0]

    def test_marks_that_may_be_the_captions_own_are_counted(self, tmp_path: Path) -> None:
        found = records(table(tmp_path / "t.tsv", rows("\t", {3: '"a sign"', 4: '"a ""b"""'})))
        assert captions(found)["p3"] == ("a sign",) and captions(found)["p4"] == ('a "b"',)
        [line] = found.left_out
        assert line.startswith("1 row with a cell in quotation marks that it does not need") and "line 5" in line
        every = {number: f'"thing {number}"' for number in range(6)}
        assert not records(table(tmp_path / "u.tsv", rows("\t", every))).left_out

    def test_a_tsv_with_quoting_is_read_by_its_quotes(self, tmp_path: Path) -> None:
        found = records(table(tmp_path / "t.tsv", rows("\t", {3: '"a ""b""\tc\nd"'}, end="\r\n")))
        assert captions(found)["p3"] == ('a "b" c d',) and not found.left_out

    @pytest.mark.parametrize("texts", [{3: '"Welcome', 4: 'home"'}, {1: '"Welcome, all', 4: 'home"'}])
    def test_a_csv_whose_quote_takes_in_rows_is_refused(self, texts: dict[int, str], tmp_path: Path) -> None:
        config = table(tmp_path / "t.csv", rows(",", texts))
        layouts.refused(config, rf"t\.csv: line 6: a quotation mark .* takes in the row of p{min(texts) + 1}\.png")

    def test_a_caption_of_several_lines_is_not_refused(self, tmp_path: Path) -> None:
        found = records(table(tmp_path / "t.csv", rows(",", {3: '"first\nsee other.png, second\nthird, last"'})))
        assert captions(found)["p3"] == ("first see other.png, second third, last",)
        (tmp_path / "README").touch()
        draw(tmp_path / "new\nline.png")
        text = rows(",", {3: f'"first\nREADME\n{"long " * 99}"'}) + '"new\nline.png","a\nb"\n'
        found = records(table(tmp_path / "t.csv", text))
        assert captions(found)["p3"][0].startswith("first README long") and captions(found)["new\nline"] == ("a b",)

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("t.csv", rows(",", {3: '"never closed'}), "line 7: .*check quotes"),
            ("t.csv", rows(",", {3: "one,two"}), "line 5 has 3 cells, the header 2"),
            ("t.csv", rows(",", {}).replace("p2.png,thing 2", "p2.png"), "line 4 has 1 cell, "),
            ("t.csv", rows(",", {}).removeprefix("image,caption\n"), "its first line, 'p0.png, thing 0', is a row"),
            ("t.csv", "image,caption,caption\np0.png,a,b\n", "2 columns called 'caption'"),
            ("t.csv", "image,caption,Caption \np0.png,a,b\n", "2 columns called 'caption'.*'caption' and 'Caption '"),
            ("t.tsv", "image\timage\tcaption\np0.png\tp1.png\tb\n", "2 columns called 'image'"),
            ("t.csv", rows(",", {}).encode("utf-16"), "is not UTF-8 but UTF-16; save it as UTF-8"),
            (
                "t.csv",
                rows(",", {}).encode("utf-16-le"),
                "has a byte 0 after 'i', so it is probably UTF-16",
            ),
            ("t.jsonl", '{"image": "p0.png", "caption": ["\\u0000"]}\n', "t.jsonl: line 1: a caption has a byte 0"),
            (
                "t.csv",
                rows(",", {2: "été"}).encode("latin-1"),
                r"p2\.png,' the byte 0xe9 is no utf-8.*; save it as",
            ),
            ("t.jsonl", rows(",", {2: "été"}).encode("latin-1"), "is not UTF-8|no valid JSON"),
            ("t.csv", rows(";", {}), "its cells are separated by ';'"),
            ("t.tsv", rows(",", {}), "its cells are separated by ','"),
            ("t.jsonl", '{"image": "p0.png", "caption": "a", "caption": "b"}\n', "line 1: .*key 'caption' twice"),
            ("t.jsonl", '{"image": "p0.png", "caption": "a", "CAPTION": "b"}\n', "2 columns called 'caption'"),
            ("t.jsonl", '{"image": "p0.png", "caption": "a"}\n{"image": "p1.png", "Caption": "b"}', "2 columns called"),
            ("t.jsonl", '{"image": "p0.png", "caption": NaN}\n', "a caption must be text"),
            ("t.jsonl", '{"image": "p0.png", "caption": "a"}\nbroken\n', "line 2 is no valid JSON"),
        ],
    )
    def test_what_would_lose_text_is_refused(self, name: str, text: str | bytes, told: str, tmp_path: Path) -> None:
        layouts.refused(table(tmp_path / name, text), told)

    def test_rows_that_add_nothing_are_counted(self, tmp_path: Path) -> None:
        text = "\ufeff\r\nimage,caption\r\np0.png,a\r\np0.png,a\r\np0.png,\r\n\r\np1.png,b\r\n"
        found = records(table(tmp_path / "t.csv", text))
        assert captions(found) == {"p0": ("a",), "p1": ("b",)}
        assert [line.partition(":")[0] for line in found.left_out] == [
            "4 images beside those that are named, left out",
            "1 row with a caption that its image has already, left out",
            "1 row without a caption, of an image with other rows, left out",
        ]

    @pytest.mark.parametrize("written", ["img\\a.PNG", "img/a.png", ".\\img\\a.png", " img/a.PNG", "img/a.png  "])
    def test_files_are_found_however_the_table_writes_them(self, written: str, tmp_path: Path) -> None:
        draw(tmp_path / "img" / "a.PNG")
        (tmp_path / "t.csv").write_text(f"image,caption\n{written},x\n")
        [record] = records(DataConfig(source="table", path=str(tmp_path / "t.csv")))
        assert record.key == "img/a" and record.read() == (tmp_path / "img" / "a.PNG").read_bytes()

    def test_accents_of_folder_and_file_may_be_composed_otherwise(self, tmp_path: Path) -> None:
        name = "été/à.png"
        draw(tmp_path / unicodedata.normalize("NFD", name))
        (tmp_path / "t.csv").write_text(f"image,caption\n{unicodedata.normalize('NFC', name)},x\n")
        [record] = records(DataConfig(source="table", path=str(tmp_path / "t.csv")))
        assert record.read() and not record.fault

    @pytest.mark.parametrize(
        ("written", "told"),
        [("A.png", "there is no A.png; there is a.png"), ("x/a.png", "x"), ("IMG/b/a.png", "b; there is img")],
    )
    def test_a_file_that_is_missing_is_named_with_the_nearest(self, written: str, told: str, tmp_path: Path) -> None:
        draw(tmp_path / "a.png")
        draw(tmp_path / "img" / "b" / "c.png")
        (tmp_path / "t.csv").write_text(f"image,caption\n{written},x\n")
        [record] = records(DataConfig(source="table", path=str(tmp_path / "t.csv")))
        assert told in record.fault

    @pytest.mark.parametrize("name", ["https://example.org/a/p0.png", "s3://bucket/p0.png"])
    def test_addresses_are_refused_as_such(self, name: str, tmp_path: Path) -> None:
        layouts.refused(table(tmp_path / "t.csv", f"image,caption\n{name},x\n"), rf"line 2: '{name}' is an address")

    @pytest.mark.parametrize(
        "text", ["['a cat', 'a dog']", '["a cat"]', "['a cat' 'a dog']", "{'en': 'a cat'}", "( 'a cat', )"]
    )
    def test_a_list_that_a_program_wrote_as_text_is_counted(self, text: str, tmp_path: Path) -> None:
        others = ["[a cat]", "'a cat'", "(see 'a cat')", "[1, 2]", "a ['cat']"]
        lines = [{"image": f"p{n}.png", "caption": each} for n, each in enumerate([text, *others])]
        found = records(table(tmp_path / "t.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines)))
        assert captions(found)["p0"] == (text,)
        [line] = found.left_out
        assert line.startswith("1 caption written as a list or object of texts") and line.endswith("line 1")

    def test_empty_captions_of_a_list_are_counted(self, tmp_path: Path) -> None:
        text = '{"image": "p0.png", "caption": ["a", null, " "]}\n{"image": "p1.png", "caption": [null]}\n'
        found = records(table(tmp_path / "t.jsonl", text, 2))
        assert captions(found) == {"p0": ("a",), "p1": ()}
        assert [line.partition(",")[0] for line in found.left_out] == ["2 empty captions of an image with others"]

    def test_equal_columns_of_a_parquet_are_refused(self, tmp_path: Path) -> None:
        import pyarrow
        import pyarrow.parquet

        draw(tmp_path / "a.png")
        columns = [pyarrow.array(["a.png"]), pyarrow.array(["x"]), pyarrow.array(["y"])]
        data = pyarrow.Table.from_arrays(columns, ["image", "caption", "caption"])
        pyarrow.parquet.write_table(data, tmp_path / "t.parquet")
        layouts.refused(DataConfig(source="table", path=str(tmp_path / "t.parquet")), "2 columns called 'caption'")

    def test_one_part_of_several_is_told(self, tmp_path: Path) -> None:
        config = layouts.parquet(tmp_path / "train-00000-of-00003.parquet", layouts.embedded())
        assert records(config).left_out[0].startswith("2 parts of the 3 that")

    def test_marks_that_nobody_sees_are_no_caption(self, tmp_path: Path) -> None:
        unseen = [chr(code) for code in (0x200B, 0xFEFF, 0xAD, 0x2060)]
        found = records(table(tmp_path / "t.csv", rows(",", dict(enumerate([*unseen, "a \ufeffcat", "\U0001f1e9"])))))
        expected = [(), (), (), (), ("a cat",), ("\U0001f1e9",)]
        assert [texts for _, texts in sorted(captions(found).items())] == expected
