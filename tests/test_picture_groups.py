"""Which images are one picture, by the digests of their pixels alone."""

from __future__ import annotations

from harness.data.packed import Row
from harness.data.pictures import group_pictures
from harness.data.sources import Record

Read = tuple[tuple[Record, bool], bytes]


def read(key: str, pixels: str = "", held: bool = False, name: str = "", captions: tuple[str, ...] = ("c",)) -> Read:
    return (Record(key, captions, key, "", bytes, name=name), held), pixels.encode()


def grouped(images: list[Read], share: float | None) -> tuple[list[Row | None], int, int]:
    return group_pictures([record for record, _ in images], [pixels for _, pixels in images], share)


def test_bad_images_are_like_no_other() -> None:
    pictures, repeats, _ = grouped([read("a"), read("b"), read("c", "x"), read("d", "x")], 0.5)
    assert [picture is None for picture in pictures] == [False, False, False, True] and repeats == 1


def test_names_become_keys_only_if_all_pictures_have_their_own() -> None:
    one = [read("0", "x", name="a"), read("1", "x", name="a"), read("2", "y", name="b")]
    assert [picture and picture["key"] for picture in grouped(one, 0.5)[0]] == ["a", None, "b"]
    for third in (read("3", "z", name="a"), read("3", "z")):
        assert [picture and picture["key"] for picture in grouped([*one, third], 0.5)[0]] == ["0", None, "2", "3"]


def test_the_held_out_data_keeps_a_shared_picture_with_its_captions() -> None:
    images = [read("a", "x", captions=("of train",)), read("b", "y"), read("held-out/a", "x", True)]
    pictures, *counts = grouped([*images, read("held-out/b", "x", True, captions=("more",))], None)
    mine: Row = {"key": "b", "captions": ["c"], "held_out": False}
    both: Row = {"key": "held-out/a", "captions": ["c", "more"], "held_out": True}
    assert pictures == [None, mine, both, None]
    assert counts == [1, 1]
