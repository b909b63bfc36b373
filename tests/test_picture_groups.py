"""Which images are one picture, by the digests of their pixels alone."""

from __future__ import annotations

from harness.data.pictures import Image as Seen
from harness.data.pictures import Picture, group_pictures


def seen(key: str, pixels: str = "", apart: bool = False, name: str = "", captions: tuple[str, ...] = ("c",)) -> Seen:
    return Seen(key, name, captions, pixels.encode(), apart)


def test_bad_images_are_like_no_other() -> None:
    found = group_pictures([seen("a"), seen("b"), seen("c", "x"), seen("d", "x")], 0.5)
    assert [place is None for place in found.by_image] == [False, False, False, True] and found.repeats == 1


def test_names_become_keys_only_if_all_pictures_have_their_own() -> None:
    one = [seen("0", "x", name="a"), seen("1", "x", name="a"), seen("2", "y", name="b")]
    assert [place and place.key for place in group_pictures(one, 0.5).by_image] == ["a", None, "b"]
    for third in (seen("3", "z", name="a"), seen("3", "z")):
        assert [place and place.key for place in group_pictures([*one, third], 0.5).by_image] == ["0", None, "2", "3"]


def test_the_held_out_data_keeps_a_shared_picture_with_its_captions() -> None:
    images = [seen("a", "x", captions=("of train",)), seen("b", "y"), seen("held-out/a", "x", True)]
    found = group_pictures([*images, seen("held-out/b", "x", True, captions=("more",))], None)
    assert found.by_image == (None, Picture("b", ("c",), False), Picture("held-out/a", ("c", "more"), True), None)
    assert (found.repeats, found.held_out_too) == (1, 1)
