"""Damaged and hostile data: whatever a file holds, the fault is said as a DataError that names it."""

from __future__ import annotations

import io
import json
import os
import pickle
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import layouts
from fuzz import examples
from harness.data import reading
from harness.data.sources import open_source
from harness.errors import DataError
from harness.settings import DataConfig
from layouts import LAYOUTS, ONE, SAMPLES, read_all, refused

ENCODED = SAMPLES[ONE][0]
SINGLE = {
    "coco": "coco",
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "parquet of paths": "parquet of paths",
    "parquet of images": "parquet of images",
    "tar": "tars by a pattern",
    "zip with texts": "zip with texts",
    "zip with captions": "zip with captions",
}


@pytest.fixture(scope="module", params=SINGLE.values(), ids=SINGLE)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Sound data whose source reads one file."""
    config = LAYOUTS[request.param](tmp_path_factory.mktemp("whole"))
    return replace(config, path=config.path.replace("{000..002}", "000"))


def survives(config: DataConfig, content: bytes) -> None:
    """The file with other content gives records, which can be read or not, or is refused by its name."""
    good = Path(config.path)
    with tempfile.NamedTemporaryFile(dir=good.parent, suffix=good.suffix) as stream:
        stream.write(content)
        stream.flush()
        try:
            records = open_source(replace(config, path=stream.name)).records()
        except DataError as error:
            assert Path(stream.name).name in str(error)
            str(error).encode()
            return
        for each in records:
            each.where.encode()
            try:
                each.read()
            except (DataError, OSError):
                continue


FUZZ = settings(max_examples=examples(25), deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.mark.fuzz
@FUZZ
@given(data=st.data())
def test_a_file_cut_off_anywhere_is_refused_or_read(whole: DataConfig, data: st.DataObject) -> None:
    content = Path(whole.path).read_bytes()
    survives(whole, content[: data.draw(st.integers(0, len(content) - 1))])


@pytest.mark.fuzz
@FUZZ
@given(data=st.data())
def test_a_file_with_other_bytes_anywhere_is_refused_or_read(whole: DataConfig, data: st.DataObject) -> None:
    content = bytearray(Path(whole.path).read_bytes())
    place = st.one_of(
        st.integers(0, len(content) - 1),
        st.integers(0, min(600, len(content) - 1)),
        st.integers(max(0, len(content) - 900), len(content) - 1),
    )
    for where, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), min_size=1, max_size=6)):
        content[where] = value
    survives(whole, bytes(content))


@pytest.mark.fuzz
@FUZZ
@given(content=st.binary(max_size=1200))
def test_a_file_of_anything_is_refused_or_read(whole: DataConfig, content: bytes) -> None:
    survives(whole, content)


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(ONE + ".png"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["images", "annotations", "captions", "id", "file_name", "image_id", "caption", "file", "text"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@pytest.mark.fuzz
@FUZZ
@given(content=NESTED, surrogate=st.booleans())
def test_json_of_any_shape_is_refused_or_read(whole: DataConfig, content: object, surrogate: bool) -> None:
    kind = Path(whole.path).suffix
    text = json.dumps(content, ensure_ascii=surrogate).encode("utf-8", "surrogatepass")
    if kind == ".zip":
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as packed:
            packed.writestr(f"{ONE}.png", ENCODED)
            packed.writestr("dataset.json", text)
        text = stream.getvalue()
    elif kind == ".tar":
        with tempfile.TemporaryDirectory() as folder:
            text = layouts.tar(Path(folder) / "x", {f"{ONE}.png": ENCODED, f"{ONE}.json": text}).read_bytes()
    survives(whole, text)


def test_every_cut_of_a_tar_is_noticed(tmp_path: Path) -> None:
    content = layouts.tar(tmp_path / "t.tar", layouts.sample(ONE)).read_bytes()
    end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    for cut in (*range(512, end + 1, 512), end - 100, end + 100):
        (tmp_path / "t.tar").write_bytes(content[:cut])
        refused(DataConfig(source="webdataset", path=str(tmp_path / "t.tar")), r"t\.tar")


def test_a_damaged_header_in_the_middle_of_a_tar_is_noticed(tmp_path: Path) -> None:
    config = DataConfig(source="webdataset", path=str(layouts.tar(tmp_path / "t.tar", layouts.sample(ONE))))
    content = bytearray((tmp_path / "t.tar").read_bytes())
    content[content.index(b".txt") - 1] ^= 1
    (tmp_path / "t.tar").write_bytes(content)
    refused(config, r"t\.tar is cut off or damaged at byte [\d,]+; write or copy the tar again")


@pytest.mark.parametrize("size", [10**9, -(2**40)])
def test_a_tar_member_of_an_impossible_size_is_named(size: int, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w", format=tarfile.GNU_FORMAT) as packed:
        entry = tarfile.TarInfo("a.png")
        entry.size = size
        packed.fileobj.write(entry.tobuf(tarfile.GNU_FORMAT))
    refused(DataConfig(source="webdataset", path=str(tmp_path)), r"t\.tar: a\.png goes on after the end of the file")


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png"])
def test_names_that_lead_out_are_refused(name: str, tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (tmp_path / "out.png").write_bytes(ENCODED)
    told = {"images": [{"id": 1, "file_name": name}], "annotations": []}
    (root / "c.json").write_text(json.dumps(told))
    refused(DataConfig(source="coco", path=str(root / "c.json"), images=str(root)), r"c\.json: image 1: .*leads out of")
    (root / "t.csv").write_text(f"image,caption\n{name},x\n")
    refused(DataConfig(source="table", path=str(root / "t.csv")), r"t\.csv: line 2: .*out\.png' leads out of")
    layouts.tar(root / "t.tar", {name: ENCODED})
    refused(DataConfig(source="webdataset", path=str(root / "t.tar")), r"t\.tar: .*out\.png leads out of the tar")
    refused(layouts.zipped(root / "z.zip", {name: ENCODED}), r"z\.zip: .*out\.png' leads out of the archive")
    rows = [{"image": {"bytes": None, "path": name}, "caption": "x"}]
    with pytest.raises(DataError, match=r"its path.*leads out of"):
        read_all(layouts.parquet(root / "p.parquet", rows))


@pytest.mark.parametrize("name", ["a\\b.png", "C:/a.png", "a\0b.png"])
def test_zip_names_of_other_systems_are_refused(name: str, tmp_path: Path) -> None:
    config = layouts.zipped(tmp_path / "z.zip", {name.replace("\0", "_"): ENCODED})
    content = Path(config.path).read_bytes().replace(name.replace("\0", "_").encode(), name.encode())
    Path(config.path).write_bytes(content)
    refused(config, r"z\.zip: '.*' leads out of the archive")
    assert [*read_all(layouts.zipped(tmp_path / "z.zip", {"a:b.png": ENCODED, "a:b.txt": "x"}))] == ["a:b"]


def test_a_name_that_is_not_utf8_is_refused_in_words_that_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(ENCODED)
    with pytest.raises(DataError, match=r"the name 'caf\\udce9' is not UTF-8") as caught:
        read_all(DataConfig(source="folder", path=str(tmp_path)))
    str(caught.value).encode()


def test_unicode_names_are_keys_as_they_are(tmp_path: Path) -> None:
    names = ["日本/猫", "ümlaut", "u\u0308mlaut", "a b\u202ec", "😀"]
    for name in names:
        (tmp_path / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(name.encode())
    expected = {name: name.encode() for name in names}
    assert read_all(DataConfig(source="folder", path=str(tmp_path))) == expected
    entries: dict[str, bytes | str] = {f"{name}.png": name.encode() for name in names}
    assert read_all(layouts.zipped(tmp_path / "z.zip", {**entries, "😀.txt": "smile"})) == expected


def test_links_may_lead_to_files_inside_but_not_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    config = layouts.folder(root)
    (tmp_path / "out.png").write_bytes(ENCODED)
    (root / "again.png").symlink_to(root / f"{ONE}.png")
    assert read_all(config)["again"] == ENCODED
    for name, target in (("x.png", tmp_path / "out.png"), (f"{ONE}.txt", "/etc/passwd"), ("sub", tmp_path)):
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(target)
        refused(config, rf"data/{name}: '{name}' leads out of .*data; keep all images inside")
        (root / name).unlink()


def test_links_in_a_circle_and_pipes_are_bad_images_alone(tmp_path: Path) -> None:
    config = layouts.folder(tmp_path)
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    (tmp_path / "circle").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "red\x1b[31m\n.png").write_bytes(b"")
    records = {each.key: each for each in open_source(config).records()}
    assert r"red\x1b[31m\n.png" in records.pop("red\x1b[31m\n").where, "no message colours the terminal"
    assert set(records) == {*SAMPLES, "round", "pipe"}
    with pytest.raises(OSError, match="symbolic links"):
        records["round"].read()
    with pytest.raises(DataError, match="is no regular file"):
        records["pipe"].read()


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"Z", b"S"]
)
def test_tar_members_that_are_no_files_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as packed:
        entry = tarfile.TarInfo("a.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        packed.addfile(entry)
    refused(DataConfig(source="webdataset", path=str(tmp_path / "t.tar")), r"t\.tar: a\.png is a link, a device")


@pytest.mark.parametrize("suffix", ["pyd", "pkl", "PICKLE", "pth", "cls.pkl"])
def test_pickles_are_refused_unread(suffix: str, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

    layouts.tar(tmp_path / "t.tar", {"a.png": ENCODED, f"a.{suffix}": pickle.dumps(Bomb())})
    refused(DataConfig(source="webdataset", path=str(tmp_path)), rf"t\.tar: a\.{suffix} is pickled.*leave it out")
    assert not (tmp_path / "exploded").exists()


def test_one_key_in_two_tars_and_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    config = DataConfig(source="webdataset", path=str(tmp_path))
    for name in ("one.tar", "two.tar"):
        layouts.tar(tmp_path / name, layouts.sample(ONE))
    same = rf"one\.tar: {ONE}\.png and .*two\.tar: {ONE}\.png have the same name '{ONE}'"
    refused(config, rf"{same}; 1 key is in several tars: write them anew, with keys that differ")
    (tmp_path / "two.tar").unlink()
    layouts.tar(tmp_path / "one.tar", {"a.png": b"", "a.PNG": b""})
    refused(config, r"one\.tar: a\.PNG is there twice")
    layouts.tar(tmp_path / "one.tar", {"a.png": b"", "a.jpg": b""})
    refused(config, r"one\.tar: a\.jpg: the sample has another image, a\.png")


@pytest.mark.parametrize("name", ["t.tar.gz", "t.tar"])
def test_compressed_tars_are_refused(name: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / name, "w:gz"):
        pass
    refused(DataConfig(source="webdataset", path=str(tmp_path / name)), rf"{name} is compressed.*decompress it")
    refused(DataConfig(source="webdataset", path=str(tmp_path)), rf"{name} is compressed.*decompress it")


def test_folder_and_zip_refuse_two_images_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "a.jpg").write_bytes(b"")
    refused(DataConfig(source="folder", path=str(tmp_path)), r"a\.(png|jpg) and .*a\.(png|jpg) have the same name 'a'")
    config = layouts.zipped(tmp_path / "z.zip", {"a.png": b"", "a.jpg": b"", "a.txt": "x"})
    refused(config, r"z\.zip: a\.(png|jpg) and .*have the same name 'a'; rename one")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "z.zip", "a") as packed:
        packed.writestr("a.png", b"other")
    refused(config, r"z\.zip: 'a\.png' is there twice")


def test_zip_bombs_are_refused_unread(tmp_path: Path) -> None:
    config = layouts.zipped(tmp_path / "z.zip", {"a.png": ENCODED, "a.txt": bytes(2**22)})
    refused(config, r"z\.zip: 'a\.txt' swells from [\d,]+ to 4,194,304 bytes")
    stream = io.BytesIO()
    Image.new("RGB", (1200, 1200), "white").save(stream, "BMP")  # packs as well as a bomb
    [record] = open_source(layouts.zipped(tmp_path / "z.zip", {"a.bmp": stream.getvalue(), "a.txt": "x"})).records()
    assert record.read() == stream.getvalue()


@pytest.mark.parametrize("source", ["zip", "webdataset", "folder", "parquet"])
def test_images_too_large_are_refused_unread(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_ENCODED", 1000)
    told = r"holds 1,001 bytes; at most 1,000 are read"
    big = os.urandom(1001)
    texts = {"a.png": big, "a.txt": b"x"}
    if source == "zip":
        config = layouts.zipped(tmp_path / "z.zip", texts)
    elif source == "webdataset":
        layouts.tar(tmp_path / "t.tar", texts)
        config = DataConfig(source="webdataset", path=str(tmp_path))
    else:
        (tmp_path / "a.png").write_bytes(big)
        rows = [{"image": big, "caption": "x"}]
        folder = DataConfig(source="folder", path=str(tmp_path))
        config = folder if source == "folder" else layouts.parquet(tmp_path / "p.parquet", rows)
    with pytest.raises(DataError, match=f"^{told}"):
        read_all(config)


def test_encrypted_entries_and_archives_within_archives_are_refused(tmp_path: Path) -> None:
    config = layouts.zipped(tmp_path / "z.zip", {"a.png": ENCODED, "a.txt": "x"})
    content = bytearray(Path(config.path).read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    Path(config.path).write_bytes(content)
    refused(config, r"z\.zip: 'a\.png' is encrypted; write the zip without a password")
    refused(layouts.zipped(tmp_path / "n.zip", {"b.zip": b"PK\3\4"}), r"n\.zip: 'b\.zip' is an archive within")
    nested = {"a.png": Path(config.path).read_bytes(), "a.txt": "x"}
    with pytest.raises(DataError, match="is a zip archive, not an image; unpack it"):
        read_all(layouts.zipped(tmp_path / "m.zip", nested))


def test_an_entry_whose_content_is_not_what_the_zip_says_is_a_bad_image(tmp_path: Path) -> None:
    config = layouts.zipped(tmp_path / "z.zip", {"a.png": b"content", "a.txt": "x"})
    content = Path(config.path).read_bytes()
    (entry,) = open_source(config).records()
    assert entry.read() == b"content"
    with zipfile.ZipFile(config.path) as packed:
        start = packed.getinfo("a.png").header_offset + 36
    Path(config.path).write_bytes(content[:start] + b"\xff" + content[start + 1 :])
    (entry,) = open_source(config).records()
    with pytest.raises(DataError, match=r"its entry cannot be read: .*; write or copy the zip again"):
        entry.read()
