"""What was read before is read again when it may have changed, and only then; equal content is the same data."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

import layouts
from handmade import Handmade
from harness.data import dataset as data
from harness.data import prepare as preparing
from harness.data import sources
from harness.data.sources import Record, open_source
from harness.errors import DataError, MissingWeights
from harness.models import encoders
from harness.runs.record import Run
from harness.settings import DataConfig, HeldOutConfig, Settings
from harness.training.setup import refuse_other_inputs

Samples = dict[str, tuple[bytes, tuple[str, ...]]]


def samples(turned: bool) -> Samples:
    """Pictures of equal size in bytes under the names of the layouts' pictures, inverted or not."""
    found: Samples = {}
    for number, (key, (_, captions)) in enumerate(layouts.SAMPLES.items()):
        pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(255 - pixels if turned else pixels).save(stream, "BMP")
        found[key] = stream.getvalue(), captions
    return found


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The library's cache is a new one."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "hf"))
    yield


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


def set_times(root: Path) -> None:
    """As an archive with fixed times leaves them."""
    for path in (*files(root), *(path for path in root.rglob("*") if path.is_dir()), root):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def written(layout: str, root: Path, turned: bool, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Of the layout's files; older ones are written over."""
    monkeypatch.setattr(layouts, "SAMPLES", samples(turned))
    scratch = root.parent / f"scratch-{turned}"
    config = layouts.LAYOUTS[layout](fresh(scratch))
    for path in files(scratch):
        target = root / path.relative_to(scratch)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    shutil.rmtree(scratch)
    set_times(root)
    moved = {name: getattr(config, name).replace(str(scratch), str(root)) for name in ("path", "images")}
    return replace(config, **moved, resolution=8)


def fresh(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


@pytest.mark.parametrize("layout", [*layouts.LAYOUTS])
def test_pictures_replaced_under_fixed_times_are_noticed_and_a_change_back_is_known(
    layout: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = written(layout, fresh(tmp_path / "data"), False, monkeypatch)
    before = {path: path.stat().st_size for path in files(tmp_path / "data")}
    first = data.fingerprint(config, tmp_path / "cache")
    written(layout, tmp_path / "data", True, monkeypatch)
    after = {path: path.stat().st_size for path in files(tmp_path / "data")}
    if "parquet of images" not in layout and "zip" not in layout:
        assert before == after, "only times of change tell these files apart"
    second = data.fingerprint(config, tmp_path / "cache")
    assert second != first, "other pictures were taken for these"
    written(layout, tmp_path / "data", False, monkeypatch)
    assert data.fingerprint(config, tmp_path / "cache") == first


@pytest.mark.parametrize("layout", [*layouts.LAYOUTS])
def test_unchanged_data_is_not_even_read_and_touched_data_is_read_and_not_prepared_again(
    layout: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = written(layout, fresh(tmp_path / "data"), False, monkeypatch)
    folder, index = preparing.prepare(config, tmp_path / "cache")
    monkeypatch.setattr(preparing, "decode", None)
    with monkeypatch.context() as patched:
        patched.setattr(preparing, "_encoded", None)
        assert preparing.prepare(config, tmp_path / "cache") == (folder, index)
    for path in files(tmp_path / "data"):
        path.chmod(0o600)
        os.utime(path)
    assert preparing.prepare(config, tmp_path / "cache") == (folder, index), "read again, and found to be the same"
    monkeypatch.setattr(preparing, "_encoded", None)
    assert preparing.prepare(config, tmp_path / "cache") == (folder, index), "and then not read a third time"


def test_copied_data_is_the_same_and_not_prepared_twice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = written("folder", fresh(tmp_path / "data"), False, monkeypatch)
    folder, index = preparing.prepare(config, tmp_path / "cache")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    monkeypatch.setattr(preparing, "decode", None)
    assert preparing.prepare(replace(config, path=str(tmp_path / "copy")), tmp_path / "cache") == (folder, index)
    shutil.rmtree(folder)
    monkeypatch.undo()
    again, other = preparing.prepare(replace(config, path=str(tmp_path / "copy")), tmp_path / "cache")
    assert again != folder and other == index, "what was deleted is prepared again"


@pytest.mark.parametrize("change", ["share", "caption", "resolution", "fit"])
def test_what_looks_alike_but_for_a_setting_is_not_taken_for_it(
    change: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = written("folder", fresh(tmp_path / "data"), False, monkeypatch)
    first = data.fingerprint(config, tmp_path / "cache")
    if change == "caption":
        (tmp_path / "data" / f"{layouts.ONE}.txt").write_text("another")
    settings: dict[str, Any] = {"share": {"held_out": HeldOutConfig(share=0.5)}, "resolution": {"resolution": 16}}
    settings["fit"] = {"fit": "pad"}
    assert data.fingerprint(replace(config, **settings.get(change, {})), tmp_path / "cache") != first


def test_pictures_that_rows_name_are_part_of_a_parquet_and_a_saved_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    monkeypatch.setattr(layouts, "SAMPLES", samples(False))
    layouts.pictures(tmp_path / "data")
    held = next(iter(samples(False).values()))[0]
    rows = [{"image": {"bytes": None, "path": f"{key}.png"}, "caption": key} for key in layouts.SAMPLES]
    rows += [{"image": {"bytes": held, "path": "held.png"}, "caption": "held"}]
    packed = replace(layouts.parquet(tmp_path / "data" / "t.parquet", rows), resolution=8)
    columns = {"image": [f"{key}.png" for key in layouts.SAMPLES], "caption": list(layouts.SAMPLES)}
    datasets.Dataset.from_dict(columns).save_to_disk(str(tmp_path / "data" / "saved"))
    layouts.pictures(tmp_path / "data" / "saved")
    saved = DataConfig(source="huggingface", path=str(tmp_path / "data" / "saved"), resolution=8)
    set_times(tmp_path / "data")
    before = [data.fingerprint(config, tmp_path / "cache") for config in (packed, saved)]
    for folder in (tmp_path / "data", tmp_path / "data" / "saved"):
        (folder / f"{layouts.ONE}.png").write_bytes(samples(True)[layouts.ONE][0])
    set_times(tmp_path / "data")
    after = [data.fingerprint(config, tmp_path / "cache") for config in (packed, saved)]
    assert before[0] != after[0] and before[1] != after[1]


def test_a_folder_that_a_link_no_longer_leads_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, turned in (("one", False), ("two", True)):
        written("csv", fresh(tmp_path / "root" / name), turned, monkeypatch)
    shutil.copy(tmp_path / "root" / "one" / "table.csv", tmp_path / "root")
    lines = (tmp_path / "root" / "table.csv").read_text().splitlines()
    (tmp_path / "root" / "table.csv").write_text(
        "\n".join([lines[0], *(f"{x[: x.rindex(',') + 1]}now/{x[x.rindex(',') + 1 :]}" for x in lines[1:])])
    )
    config = DataConfig(source="table", path=str(tmp_path / "root" / "table.csv"), resolution=8)
    found = []
    for name in ("one", "two", "one"):
        (tmp_path / "root" / "now").unlink(missing_ok=True)
        (tmp_path / "root" / "now").symlink_to(name)
        found.append(data.fingerprint(config, tmp_path / "cache"))
    assert found[0] == found[2] != found[1]


class Restless(Handmade):
    """A picture changes while another is read."""

    changes: ClassVar[bool] = True

    def records(self) -> Sequence[Record]:
        records = list(super().records())
        return [*records[:-1], replace(records[-1], read=self._change)]

    def _change(self) -> bytes:
        encoded = Handmade._record(self, 3).read()
        if self.changes:
            Handmade.altered[5] = Handmade._record(self, 300).read(), ("five",)
        return encoded


def test_data_that_changes_while_it_is_read_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Handmade, "altered", {})
    monkeypatch.setitem(sources.SOURCES, "handmade", Restless)
    config = DataConfig(source="handmade", resolution=8)
    with pytest.raises(DataError, match=r"handmade changed while it was being prepared; run the command again"):
        preparing.prepare(config, tmp_path)
    monkeypatch.setattr(Handmade, "altered", {})
    monkeypatch.setattr(Restless, "changes", False)
    dataset = data.load(config, tmp_path)
    assert dataset.captions[5] == ("red 5", "alias", "alias"), "nothing is kept of what was read then"


class Unsteady(Handmade):
    """As on a file system whose times are another each time one looks, with a bad image."""

    looks: ClassVar[int] = 0

    def records(self) -> Sequence[Record]:
        Unsteady.looks += 1
        return [replace(record, stamp=f"{record.stamp} {self.looks}") for record in super().records()]


@pytest.mark.parametrize("bad", [False, True])
def test_where_times_are_never_the_same_data_is_read_each_time_and_prepared_once(
    bad: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Handmade, "altered", {7: (b"no image", ("seven",))} if bad else {})
    monkeypatch.setitem(sources.SOURCES, "handmade", Unsteady)
    config = DataConfig(source="handmade", resolution=8, on_bad_image="skip")
    folder, index = preparing.prepare(config, tmp_path)
    assert len(index.bad) == bad
    decoded, decode = list[bytes](), preparing.decode
    monkeypatch.setattr(preparing, "decode", lambda encoded, *more: decoded.append(encoded) or decode(encoded, *more))
    assert preparing.prepare(config, tmp_path) == (folder, index) and decoded == [b"no image"] * bad
    monkeypatch.undo()
    monkeypatch.setitem(sources.SOURCES, "handmade", Unsteady)
    monkeypatch.setattr(Handmade, "altered", {8: (Handmade._record(Handmade(config), 300).read(), ("red 8", "alias"))})
    assert preparing.prepare(config, tmp_path)[1].fingerprint != index.fingerprint


def test_the_stamp_of_a_file_is_its_own_and_steady(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(b"x")
        (tmp_path / f"{name}.txt").write_text(name)
        os.utime(tmp_path / f"{name}.png", (0, 0))
    config = DataConfig(source="folder", path=str(tmp_path))
    one, other = open_source(config).records()
    assert one.stamp != other.stamp
    assert [record.stamp for record in open_source(config).records()] == [one.stamp, other.stamp]


def replaced(path: Path, content: bytes) -> None:
    state = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def test_weights_of_the_same_size_and_time_are_other_weights(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(b"one")
    before = encoders.fingerprint(f"timm:resnet50@{path}")
    replaced(path, b"two")
    assert encoders.fingerprint(f"timm:resnet50@{path}") != before


def test_a_run_is_not_trained_with_other_weights_than_it_was_planned_with(tmp_path: Path) -> None:
    settings = Settings()
    clip = tmp_path / "clip.pt"
    clip.write_bytes(b"one")
    name = f"open_clip:ViT-B-32/openai@{clip}"
    settings = replace(settings, encoders=replace(settings.encoders, clip=name))
    run = Run("x", "s", "origin", 0, (), settings, {"encoders.clip": encoders.fingerprint(name)})
    refuse_other_inputs(run)
    replaced(clip, b"two")
    with pytest.raises(MissingWeights, match=r"encoders\.clip: .* is not what the run was planned with"):
        refuse_other_inputs(run)


@pytest.mark.parametrize("changed", ["picture", "caption"])
def test_what_the_library_has_read_before_is_read_again(
    changed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It keeps a copy of a folder's tables, and takes them for unchanged by their time."""
    folder = fresh(tmp_path / "data")
    found = []
    for turned in (False, True, False):
        monkeypatch.setattr(layouts, "SAMPLES", samples(turned and changed == "picture"))
        rows = layouts.embedded()
        rows[0]["caption"] = ["twice" if turned and changed == "caption" else "thing"]
        layouts.parquet(folder / "train.parquet", rows)
        set_times(folder)
        config = DataConfig(source="huggingface", path=str(folder), resolution=8)
        found.append(data.fingerprint(config, tmp_path / "cache"))
    assert found[0] == found[2] != found[1]


def test_the_words_of_a_tokenizer_are_part_of_a_copied_repository(tmp_path: Path) -> None:
    for name in ("open_clip_config.json", "model.safetensors", "vocab.txt", "README.md"):
        (tmp_path / name).write_text("{}")
    name = f"open_clip:hf-hub:org/name@{tmp_path}"
    before = encoders.fingerprint(name)
    (tmp_path / "README.md").write_text("other")
    assert encoders.fingerprint(name) == before
    replaced(tmp_path / "vocab.txt", b"[]")
    assert encoders.fingerprint(name) != before
