"""Data sets of the Hugging Face hub that are absent, damaged, hostile or code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import layouts
from harness.data.dataset import load
from harness.data.listing import Listing
from harness.data.sources import open_source
from harness.errors import DataError
from harness.settings import DataConfig, HeldOutConfig
from layouts import ONE, SAMPLES, refused

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    yield


def test_hub_data_that_is_absent_damaged_or_code_is_refused(tmp_path: Path) -> None:
    refused(DataConfig(source="huggingface", path="no/such"), r"no/such.*hf download --repo-type dataset no/such")
    code = tmp_path / "code"
    code.mkdir()
    (code / "code.py").write_text("raise SystemExit")
    refused(DataConfig(source="huggingface", path=str(code)), r"code\.py is code to load the data, which is never run")
    config = layouts.saved(tmp_path)
    (arrow,) = Path(config.path).glob("train/*.arrow")
    for cut in (0, 100, arrow.stat().st_size // 2):
        arrow.write_bytes(arrow.read_bytes()[:cut] or b"x")
        refused(config, r"saved: train cannot be read: .*; write or copy the folder again")


def test_hub_rows_may_not_name_files_outside(tmp_path: Path) -> None:
    import datasets

    (tmp_path / "out.png").write_bytes(SAMPLES[ONE][0])
    rows = datasets.Dataset.from_dict({"image": [str(tmp_path / "out.png"), "../out.png"], "caption": ["x", "y"]})
    rows.save_to_disk(str(tmp_path / "saved"))
    for each in open_source(DataConfig(source="huggingface", path=str(tmp_path / "saved"))).records():
        with pytest.raises(DataError, match=r"its path '.*out\.png' leads out of .*saved"):
            each.read()


def test_another_split_may_be_held_out(tmp_path: Path) -> None:
    import datasets

    def rows(names: list[str]) -> Any:
        pictures = dict(zip("abcde", [encoded for encoded, _ in SAMPLES.values()], strict=False))
        stored = [{"bytes": pictures[name], "path": f"{name}.png"} for name in names]
        return datasets.Dataset.from_dict({"image": stored, "caption": names}).cast_column("image", datasets.Image())

    both = datasets.DatasetDict({"train": rows(["a", "b", "c"]), "test": rows(["d", "e"]), "validation": rows(["a"])})
    both.save_to_disk(str(tmp_path / "saved"))
    config = DataConfig(source="huggingface", path=str(tmp_path / "saved"), resolution=16)
    config = replace(config, held_out=HeldOutConfig(split="test"))
    assert Listing(config).left_out == ("1 row of the split 'validation', left out: " + config.path,)
    loaded = load(config, tmp_path / "cache")
    assert [loaded.captions[image] for image in loaded.train] == [("a",), ("b",), ("c",)]
    assert [loaded.captions[image] for image in loaded.held_out] == [("d",), ("e",)]
    with pytest.raises(DataError, match=r"data\.held_out: .*no split 'tset' \(data\.split\)"):
        load(replace(config, held_out=HeldOutConfig(split="tset")), tmp_path / "cache")


def test_of_data_saved_as_one_split_no_other_is_taken_and_no_subset(tmp_path: Path) -> None:
    import datasets

    columns = {"image": [{"bytes": encoded, "path": None} for encoded, _ in SAMPLES.values()], "caption": [*SAMPLES]}
    config = DataConfig(source="huggingface", path=str(tmp_path))
    for name, first in (("test[:9]", "test"), ("validation", "validation"), ("", "train")):
        datasets.Dataset.from_dict(columns, split=name or None).save_to_disk(str(tmp_path))
        assert len(open_source(replace(config, split=first)).records()) == len(SAMPLES)
        noted = f"1 data set of the split '{name}' alone, taken for 'train': {tmp_path}"
        assert Listing(config).left_out == ((noted,) if name else ())
        told = rf"saved as one split alone.*{re.escape(name)}.*no split 'tset' \(data\.split\)"
        refused(replace(config, split="tset"), told)
        with pytest.raises(DataError, match=r"^data\.held_out: .*no split 'dev'"):
            load(replace(config, resolution=8, held_out=HeldOutConfig(split="dev")), tmp_path / "cache")
    refused(replace(config, subset="birds"), r"save_to_disk, so it has no subset 'birds' \(data\.subset\)")
    given = replace(layouts.image_folder(tmp_path / "folder"), subset="birds")
    refused(given, r"'birds' not found\. Available: \['default'\]; check data\.subset")


@pytest.mark.parametrize(
    ("column", "buffer", "flipped"),
    [("image", 2, 0x20), ("image", 5, 0x01), ("caption", 1, 0x01), ("caption", 3, 0x01)],
    ids=["of images", "of their paths", "of lists of captions", "of captions"],
)
def test_hub_data_whose_offsets_were_altered_are_not_followed(
    column: str, buffer: int, flipped: int, tmp_path: Path
) -> None:
    """The file has its length and its frame; one offset in its middle points beyond the values."""
    config = layouts.saved(tmp_path)
    (arrow,) = Path(config.path).glob("train/*.arrow")
    content = bytearray(arrow.read_bytes())
    content[offsets_at(bytes(content), column, buffer) + 4 * (len(SAMPLES) // 2) + 1] ^= flipped
    arrow.write_bytes(content)
    refused(config, r"saved: train cannot be read: .*offset.*; write or copy the folder again")


def offsets_at(content: bytes, column: str, buffer: int) -> int:
    """Where that buffer of a column begins in an Arrow file."""
    import pyarrow

    whole = pyarrow.py_buffer(content)
    (chunk,) = pyarrow.ipc.open_stream(whole).read_all().column(column).chunks
    return int(chunk.buffers()[buffer].address - whole.address)
