"""`harness unpack`: a stranger's file. All of a pack or nothing, in a new folder, and nothing else is touched."""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.errors import HarnessError
from harness.storage import unpack as unpacking
from hostile import bounded, untouched
from packs import away, content, home, run

__all__ = ["away", "home"]
PARTS = {
    "study.yaml": b"study: tiny\n",
    "runs/tiny/pack.json": b'{"study": "study.yaml"}',
    "runs/tiny/grid.json": b"{}",
}
LINK = (stat.S_IFLNK | 0o777) << 16


def made(path: Path, more: dict[str, bytes] | None = None, attributes: int = 0, **options: Any) -> Path:
    """A zip of the least that a pack holds, and more, whose files have these attributes."""
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, text in PARTS.items():
            archive.writestr(name, text)
        for name, text in (more or {}).items():
            info = zipfile.ZipInfo("x")
            info.filename = name  # as it is, also with what ZipInfo would cut off
            info.external_attr = attributes
            info.compress_type = archive.compression
            archive.writestr(info, text)
    return path


def test_it_is_what_unzip_makes(home: Path, away: Any, tmp_path: Path) -> None:
    run("pack", "study.yaml", "-o", str(tmp_path / "mine.zip"))
    before = run("status", "study.yaml", "--json").replace(str(home), "HERE")
    folder = away(tmp_path / "mine.zip")
    assert run("unpack", str(tmp_path / "mine.zip"), str(tmp_path / "theirs")) == f"{tmp_path / 'theirs'}\n"
    assert content(tmp_path / "theirs") == content(folder)
    status = run("status", str(tmp_path / "theirs" / "study.yaml"), "--json")
    assert status.replace(str(tmp_path / "theirs"), "HERE") == before


def test_the_folder_is_named_after_the_zip_and_the_study_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened = harness.unpack(made(tmp_path / "mine.zip"))
    assert (opened.folder, opened.study, opened.labels) == (Path("mine"), Path("mine/study.yaml"), ("tiny",))
    assert opened.code == () and harness.unpack(made(tmp_path / "two.zip", {"a/b.py": b""})).code == ("a/b.py",)
    assert content(tmp_path / "mine") == PARTS and opened.bytes == sum(map(len, PARTS.values()))


def test_code_is_told_also_where_only_a_run_holds_it(tmp_path: Path) -> None:
    runs = {"runs/tiny/a/run.json": b'{"source": {"hidden.py": "x"}}', "runs/tiny/b/run.json": b'["damaged'}
    opened = harness.unpack(made(tmp_path / "mine.zip", runs), tmp_path / "inside")
    assert opened.code == ("hidden.py",)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "/evil",
        "runs/./x",
        "a//b",
        "..\\evil",
        "a\\..\\..\\evil",
        "C:\\evil",
        "C:/evil",
        "\\evil",
        "..",
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "mine.zip", {name: b"evil"})
    with untouched(tmp_path), pytest.raises(HarnessError, match="leads out of the folder; nothing was unpacked"):
        harness.unpack(path, tmp_path / "inside")


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    link = made(tmp_path / "link.zip", {"runs/tiny/out": b"/etc"}, LINK)
    pipe = made(tmp_path / "pipe.zip", {"runs/tiny/out": b""}, stat.S_IFIFO << 16)
    for path, what in ((link, "'runs/tiny/out' is a link"), (pipe, "'runs/tiny/out' is no plain file")):
        with untouched(tmp_path), pytest.raises(HarnessError, match=what):
            harness.unpack(path, tmp_path / "inside")


@pytest.mark.parametrize(
    "name", [".jobs/1/job.json", "a/claim", "a/mlflow.json", "a/checkpoint/1", "anew/a/x", "x.lock"]
)
def test_what_would_pass_for_something_of_this_machine_is_refused(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "mine.zip", {f"runs/tiny/{name}": b""})
    with untouched(tmp_path), pytest.raises(HarnessError, match=f"{name}' is what no pack has"):
        harness.unpack(path, tmp_path / "inside")


@pytest.mark.parametrize("name", ["a" * 256, "é" * 128, "a/" * 1500 + "a"], ids=["long", "long in bytes", "deep"])
def test_a_name_that_no_disk_takes_is_told_in_short(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "mine.zip", {name: b""})
    with untouched(tmp_path), pytest.raises(HarnessError, match="is a longer name than any disk takes") as refused:
        harness.unpack(path, tmp_path / "inside")
    assert str(path) in str(refused.value) and len(str(refused.value)) < len(str(path)) + 130


def test_one_name_for_two_things_is_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        twice = made(tmp_path / "twice.zip", {"study.yaml": b"study: other\n"})
    both = made(tmp_path / "both.zip", {"study.yaml/x": b""})
    for path, what in ((twice, "holds 'study.yaml' twice"), (both, "'study.yaml' is a file and a folder")):
        with untouched(tmp_path), pytest.raises(HarnessError, match=what):
            harness.unpack(path, tmp_path / "inside")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FREE", 2**20)
    path = made(tmp_path / "mine.zip", {"runs/tiny/zeros": bytes(2**23)}, compression=zipfile.ZIP_DEFLATED)
    with bounded(), untouched(tmp_path), pytest.raises(HarnessError, match="would become 8,388,"):
        harness.unpack(path, tmp_path / "inside")


def test_a_file_larger_than_its_zip_says_is_not_written(tmp_path: Path) -> None:
    path = made(tmp_path / "mine.zip", {"runs/tiny/zeros": bytes(2**20)}, compression=zipfile.ZIP_DEFLATED)
    content, size = path.read_bytes(), struct.pack("<I", 2**20)
    assert content.count(size) == 2
    path.write_bytes(content.replace(size, struct.pack("<I", 10)))
    with pytest.raises(HarnessError, match="is no zip, or a damaged one"):
        harness.unpack(path, tmp_path / "inside")
    assert list(tmp_path.iterdir()) == [path]


def encrypted(content: bytes) -> bytes:
    """With the flag of an encrypted file, in both of its heads."""
    changed = bytearray(content)
    local, central = content.index(b"PK\x03\x04"), content.index(b"PK\x01\x02")
    changed[local + 6] |= 1
    changed[central + 8] |= 1
    return bytes(changed)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-30], "is no zip, or a damaged one"),
        (lambda content: b"", "is no zip"),
        (lambda content: content.replace(b"study: tiny", b"study: tina", 1), "is no zip, or a damaged one"),
        (encrypted, "encrypted"),
        (lambda content: content.replace(b"pack.json", b"sack.json"), "is no pack of a study"),
        (lambda content: content.replace(b"study.yaml", b"study.text", 1), "is no zip, or a damaged one"),
    ],
)
def test_what_is_no_pack_leaves_nothing(tmp_path: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = made(tmp_path / "mine.zip")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(HarnessError, match=message):
        harness.unpack(path, tmp_path / "no" / "such" / "inside")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (b"[]", r"pack\.json: cannot be used"),
        (b'{"study": "../other.yaml"}', "is no pack of a study"),
        (b'{"study": "runs/tiny/grid.json"}', "is no pack of a study"),
        (b'{"study": 3}', r"pack\.json: cannot be used \(study.*\); ask for the pack again"),
        (b'{"study": "study.yaml", "newer": 1}', r"\(newer: not known here\); update the harness if .*, else ask for"),
    ],
)
def test_a_record_that_says_something_else_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: bytes, message: str
) -> None:
    monkeypatch.setitem(PARTS, "runs/tiny/pack.json", record)
    path = made(tmp_path / "mine.zip")
    with untouched(tmp_path), pytest.raises(HarnessError, match=message):
        harness.unpack(path, tmp_path / "inside")


def test_a_method_that_no_pack_has_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "mine.zip", {"runs/tiny/log.txt": b"x" * 100}, compression=zipfile.ZIP_LZMA)
    with pytest.raises(HarnessError, match="compressed in a way that no pack has"):
        harness.unpack(path, tmp_path / "inside")


@pytest.mark.parametrize("there", ["file", "full folder", "link to a folder", "broken link"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    path, folder = made(tmp_path / "mine.zip"), tmp_path / "inside"
    if there == "file":
        folder.write_text("mine")
    elif there == "full folder":
        (folder / "mine").mkdir(parents=True)
    else:
        folder.symlink_to(tmp_path / ("elsewhere" if there == "link to a folder" else "nowhere"))
        (tmp_path / "elsewhere").mkdir()
    with untouched(tmp_path), pytest.raises(HarnessError, match="is there already, and nothing is overwritten"):
        harness.unpack(path, folder)


def test_an_empty_folder_is_filled_and_one_that_is_missing_is_made(tmp_path: Path) -> None:
    path = made(tmp_path / "mine.zip")
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "far" / "away"):
        harness.unpack(path, folder)
        assert content(folder) == PARTS
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("written", [".", "../empty"])
def test_the_current_folder_is_filled_and_stays_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    pack, folder = made(tmp_path / "mine.zip"), tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    opened = harness.unpack(pack, Path(written))
    assert opened.study.read_bytes() == b"study: tiny\n"
    assert content(folder) == PARTS == content(Path.cwd()) and sorted(tmp_path.iterdir()) == [folder, pack]


def test_a_file_that_is_not_there_and_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HarnessError, match="is a folder; name the zip that `harness pack` wrote"):
        harness.unpack(tmp_path, tmp_path)
    with pytest.raises(HarnessError, match=r"gone\.zip: there is no such file"):
        harness.unpack(tmp_path / "gone.zip")
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Disk", (), {"free": 10}))
    path = made(tmp_path / "mine.zip")
    with untouched(tmp_path), pytest.raises(HarnessError, match="its disk has 10 bytes free"):
        harness.unpack(path, tmp_path / "inside")


def test_modes_of_the_zip_are_not_taken(tmp_path: Path) -> None:
    path = made(tmp_path / "mine.zip", {"runs/tiny/log.txt": b"x"}, (stat.S_IFREG | 0o6777) << 16)
    harness.unpack(path, tmp_path / "inside")
    assert not (tmp_path / "inside" / "runs" / "tiny" / "log.txt").stat().st_mode & 0o6111


def test_a_zip_of_many_names_is_read_in_a_moment(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for place in range(30_000):
            archive.writestr(f"{place}", b"")
    with bounded(), untouched(tmp_path), pytest.raises(HarnessError, match="is no pack of a study"):
        harness.unpack(tmp_path / "many.zip", tmp_path / "inside")
