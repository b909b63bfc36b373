"""Preparing data: all cores or one, stopped and continued, bad images, fits; and reading it as one array."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from handmade import Handmade, png
from harness.data import dataset as data
from harness.data import listing, sources
from harness.data import prepare as preparing
from harness.data.dataset import Shards
from harness.data.decode import MAX_PIXELS, decode
from harness.errors import DataError, HarnessError
from harness.settings import DataConfig, HeldOutConfig

CONFIG = DataConfig(source="handmade", resolution=8)


@pytest.fixture(autouse=True)
def handmade(monkeypatch: pytest.MonkeyPatch) -> type[Handmade]:
    monkeypatch.setattr(Handmade, "altered", {})
    monkeypatch.setitem(sources.SOURCES, "handmade", Handmade)
    return Handmade


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".npy", ".jsonl")}


def test_other_processes_write_what_one_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = replace(CONFIG, path="300")
    monkeypatch.setattr(listing, "_SHARD_IMAGES", 70)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    alone, index = preparing.prepare(config, tmp_path / "alone")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1})
    together, other = preparing.prepare(config, tmp_path / "together")
    assert len(content(alone)) == 2 * 5 and index.images == 300
    # The children see the module as it is on disk: shards of another size, the same content.
    assert index.fingerprint == other.fingerprint
    assert not list(together.glob("scratch*"))


KILLED = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from harness.data import listing, prepare as preparing, sources
from harness.settings import DataConfig
from handmade import Handmade
sources.SOURCES["handmade"] = Handmade
listing._SHARD_IMAGES = 20
preparing._FEW = 10**9
whole = preparing._pack_shard
def slow(listing, folder, number):
    if number == 4:
        print("four", flush=True)
        import time; time.sleep(60)
    return whole(listing, folder, number)
preparing._pack_shard = slow
preparing.prepare(DataConfig(source="handmade", resolution=8, path="200"), pathlib.Path({cache!r}))
"""


def test_killed_in_the_middle_it_continues_and_ends_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = replace(CONFIG, path="200")
    monkeypatch.setattr(listing, "_SHARD_IMAGES", 20)
    code = KILLED.format(tests=str(Path(__file__).parent), cache=str(tmp_path / "killed"))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "four\n"
        process.send_signal(signal.SIGKILL)
    (folder,) = (tmp_path / "killed" / "data").iterdir()
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    assert len(before) == 4 and not (folder / "index.json").exists()
    preparing.prepare(config, tmp_path / "killed")
    again = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}
    assert len(again) == 10 and all(again[name] == then for name, then in before.items()), "nothing is done twice"
    undisturbed, _ = preparing.prepare(config, tmp_path / "undisturbed")
    assert content(folder) == content(undisturbed)


def test_bad_images_stop_or_are_left_out_and_nothing_is_done_twice(
    handmade: type[Handmade], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tiny = png(np.zeros((7, 30, 3), np.uint8))
    handmade.altered |= {3: (b"garbage", ("three",)), 8: (tiny, ("eight",)), 9: (png(np.zeros((9, 9), np.uint8)), ())}
    with pytest.raises(DataError) as told:
        preparing.prepare(CONFIG, tmp_path)
    text = str(told.value)
    assert "3 bad images" in text and "on_bad_image: skip" in text
    assert "picture-3.png: cannot be read" in text
    assert "picture-8.png: 30 x 7 pixels" in text and "min_side" in text
    assert "picture-9.png: no caption" in text
    monkeypatch.setattr(preparing, "decode", None)
    dataset = data.load(replace(CONFIG, on_bad_image="skip"), tmp_path)
    assert len(dataset.captions) == len(dataset.images) == 37
    assert dataset.captions[3] == ("red 4", "alias") and dataset.images[3][0, 0, 0] == 4
    with pytest.raises(DataError, match="3 bad images"):
        data.load(CONFIG, tmp_path)


def test_many_bad_images_are_listed_in_a_file(handmade: type[Handmade], tmp_path: Path) -> None:
    handmade.altered |= {number: (b"x", ("x",)) for number in range(15)}
    with pytest.raises(DataError, match="and 5 more, listed in") as told:
        preparing.prepare(CONFIG, tmp_path)
    (path,) = tmp_path.rglob("bad.txt")
    assert str(path) in str(told.value) and len(path.read_text().splitlines()) == 15


def test_what_is_prepared_is_not_written_to_again(
    handmade: type[Handmade], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handmade.altered[3] = b"x", ("x",)
    config = replace(CONFIG, on_bad_image="skip")
    folder, _ = preparing.prepare(config, tmp_path)

    def refuse(path: Path, *_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(preparing, "write_text", refuse)
    assert preparing.prepare(config, tmp_path)[1].images == 39
    (folder / "bad.txt").unlink()
    with pytest.raises(
        HarnessError, match=rf"{folder} cannot be written \(Read-only file system\); make room, or name"
    ):
        preparing.prepare(config, tmp_path)


def test_when_nothing_is_left_it_says_so(handmade: type[Handmade], tmp_path: Path) -> None:
    handmade.altered |= {number: (b"x", ("x",)) for number in range(40)}
    with pytest.raises(DataError, match="no image of handmade can be used"):
        preparing.prepare(replace(CONFIG, on_bad_image="skip"), tmp_path)


def test_what_was_planned_is_loaded_without_the_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = replace(CONFIG, path="12")
    dataset = data.load(config, tmp_path)
    other = data.fingerprint(replace(CONFIG, path="13"), tmp_path)
    monkeypatch.delitem(sources.SOURCES, "handmade")
    again = data.load(config, tmp_path, dataset.fingerprint)
    assert np.array_equal(again.images[:], dataset.images[:]) and again.captions == dataset.captions
    assert data.load(config, tmp_path, other).captions != dataset.captions
    with pytest.raises(DataError, match="unknown data source"):
        data.load(config, tmp_path)


def test_data_that_is_no_longer_what_was_planned_is_refused(tmp_path: Path) -> None:
    config = replace(CONFIG, path="12")
    with pytest.raises(DataError, match=r"12 is not what the run was planned with .*not 0123.*ask again to plan"):
        data.load(config, tmp_path, "0123456789abcdef")
    dataset = data.load(config, tmp_path)
    (tmp_path / "data" / "found" / dataset.fingerprint).write_text("gone")
    assert data.load(config, tmp_path, dataset.fingerprint).fingerprint == dataset.fingerprint
    assert (tmp_path / "data" / "found" / dataset.fingerprint).read_text() != "gone"


def test_held_out_data_of_its_own(tmp_path: Path) -> None:
    config = replace(CONFIG, path="30", held_out=HeldOutConfig(path="12"))
    dataset = data.load(config, tmp_path)
    assert len(dataset.train) == 18 and dataset.held_out.tolist() == list(range(18, 30))
    assert [dataset.images[image][0, 0, 0] for image in range(30)] == [*range(12, 30), *range(12)]
    assert dataset.captions[0] == ("red 12",) and dataset.captions[18] == ("red 0",)
    assert preparing.prepare(config, tmp_path)[1].held_out_too == 12


def test_a_change_of_the_data_is_prepared_anew_and_a_change_back_is_not(
    handmade: type[Handmade], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = data.fingerprint(CONFIG, tmp_path)
    handmade.altered[0] = png(np.zeros((9, 9), np.uint8)), ("zero",)
    assert data.fingerprint(CONFIG, tmp_path) != first
    handmade.altered.clear()
    monkeypatch.setattr(preparing, "decode", None)
    assert data.fingerprint(CONFIG, tmp_path) == first


def striped() -> bytes:
    """24 x 8: black, white and black thirds."""
    pixels = np.zeros((8, 24, 3), np.uint8)
    pixels[:, 8:16] = 255
    return png(pixels)


@pytest.mark.parametrize(
    ("fit", "row"),
    [("crop", [255] * 8), ("stretch", [0, 0, None, 255, 255, None, 0, 0]), ("pad", [255] * 8)],
)
def test_how_an_image_becomes_square(fit: str, row: list[int | None]) -> None:
    pixels = decode(striped(), replace(CONFIG, fit=fit))
    assert pixels.shape == (3, 8, 8)
    for value, wanted in zip(pixels[0, 0].tolist(), row, strict=True):
        assert wanted is None or abs(value - wanted) < 12
    middle = decode(striped(), replace(CONFIG, fit=fit))[0, 4]
    assert (middle[0] < 60) == (fit != "crop")


def test_a_photograph_is_turned_as_its_camera_says() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :8] = 255
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif, quality=95)
    decoded = decode(stream.getvalue(), CONFIG)[0]
    assert decoded[7, 7] > 200 > 50 > decoded[0, 0]


def test_sixteen_bits_become_eight() -> None:
    pixels = np.full((8, 8), 128 * 256 + 5, np.uint16)
    assert (decode(png(pixels), CONFIG) == 128).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_is_read(mode: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), (255, 255, 255)).convert(mode).save(stream, "TIFF")
    assert (decode(stream.getvalue(), CONFIG) == 255).all()


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    side = int(MAX_PIXELS**0.5) + 1
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "PNG")
    assert len(stream.getvalue()) < 100_000
    with pytest.raises(DataError, match="at most"):
        decode(stream.getvalue(), CONFIG)


def test_shards_read_like_one_array() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (10, 3, 4, 4), np.uint8)
    shards = Shards([whole[:3], whole[3:4], whole[4:]])
    assert shards.shape == whole.shape and len(shards) == 10 and shards.dtype == np.uint8
    for ids in (np.array([9, 0, 3, 3]), np.array([], np.int64), [1, 2], slice(2, 7), slice(None), 5, -1):
        assert np.array_equal(shards[ids], whole[ids])
    assert np.array_equal(np.array(shards), whole)
    assert np.array_equal(shards.mirror()[np.arange(10)], whole[..., ::-1])
    for outside in (10, -11, np.array([3, 10])):
        with pytest.raises(IndexError):
            shards[outside]


def test_only_one_process_prepares(tmp_path: Path) -> None:
    code = KILLED.replace("time.sleep(60)", "time.sleep(0.5)").format(
        tests=str(Path(__file__).parent), cache=str(tmp_path)
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate(timeout=60)[0] for process in both]
    assert sorted(told) == ["", "four\n"] and [process.returncode for process in both] == [0, 0]
    assert os.listdir(tmp_path) == ["data"]


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
TIMES = ("read", errno.EIO, True), ("read", None, True), ("decode", None, True), ("decode", errno.EMFILE, True)


@pytest.mark.parametrize(("where", "number", "passes"), [*TIMES, ("decode", 0, False), ("package", 0, True)])
def test_a_fault_that_may_pass_is_tried_again_and_one_of_the_content_when_its_file_is_touched(
    where: str,
    number: int | None,
    passes: bool,
    handmade: type[Handmade],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """`number` is that of the system's fault, None for memory that ran out, 0 for content."""
    config, whole, decoding = replace(CONFIG, on_bad_image="skip"), handmade._record, []
    fault = MemoryError() if number is None else OSError(number, "once") if number else OSError("cut off")
    if where == "package":
        handmade.altered[3] = HEIC, ("three",)

    def fail() -> bytes:
        raise fault

    def decoded(encoded: bytes, *more: object) -> np.ndarray:
        decoding.append(encoded)
        if where == "decode" and len(decoding) % 40 == 4:
            raise DataError("cannot be read") from fault
        return decode(encoded, *more)

    with monkeypatch.context() as patched:
        patched.setattr(preparing, "decode", decoded)
        if where == "read":
            record = replace(whole(handmade(CONFIG), 3), read=fail)
            patched.setattr(handmade, "_record", lambda self, each: record if each == 3 else whole(self, each))
        folder, index = preparing.prepare(config, tmp_path)
        assert index.images == 39 and len(index.bad) == 1
        decoding[:] = [b""] * 3  # the next is the fourth again
        assert preparing.prepare(config, tmp_path) == (folder, index), "the fault is still there"
        assert len(decoding) == 3 + (passes and where != "read")
    if not passes:
        assert preparing.prepare(config, tmp_path) == (folder, index)
        touched = replace(whole(handmade(CONFIG), 3), stamp="touched")
        monkeypatch.setattr(handmade, "_record", lambda self, each: touched if each == 3 else whole(self, each))
    monkeypatch.setattr(preparing, "decode", lambda encoded, *_: decode(encoded.replace(HEIC, striped()), config))
    other, after = preparing.prepare(config, tmp_path)
    assert after.images == 40 and not after.bad and other != folder
    assert (folder / "index.json").exists(), "runs may be training on it"
    monkeypatch.setattr(preparing, "_encoded", None)
    assert preparing.prepare(config, tmp_path) == (other, after)


def test_what_would_be_padded_to_more_than_is_decoded_is_a_bad_image(handmade: type[Handmade], tmp_path: Path) -> None:
    handmade.altered[3] = png(np.full((8, 12_000), 99, np.uint8)), ("a panorama",)
    assert preparing.prepare(CONFIG, tmp_path)[1].images == 40
    with pytest.raises(DataError, match=r"picture-3\.png: 12,000 x 8 pixels .*data\.fit: pad.*134,217,728"):
        preparing.prepare(replace(CONFIG, fit="pad"), tmp_path)
