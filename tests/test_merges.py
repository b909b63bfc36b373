"""`<<` in a study file merges key by key at every depth, as profiles are laid over the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import SpecError
from harness.study.load import load_text
from harness.study.yaml import parse

HEAD = "study: tiny\ntoggles: [mix_logits]\nprofiles:\n  quick: &quick\n"
QUICK = "    data: {resolution: 16, min_side: 4}\n    train: {kimg: 16, batch: 32, lr: 0.005, r1_gamma: 1}\n"


def plain(text: str) -> Any:
    return parse(text, lambda line, column: f"{line + 1}:{column + 1}").plain()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: &a {x: {p: 1, q: 2}}\nb: {<<: *a, x: {q: 3}}", {"x": {"p": 1, "q": 3}}),
        ("a: &a {x: {p: {u: 1, v: 2}}}\nb: {<<: *a, x: {p: {v: 3}}}", {"x": {"p": {"u": 1, "v": 3}}}),
        ("a: &a {x: {p: 1}}\nc: &c {x: {p: 2, q: 2}}\nb: {<<: [*a, *c]}", {"x": {"p": 1, "q": 2}}),
        ("a: &a {x: {p: 1}}\nc: &c {x: {p: 2, q: 2}}\nb: {<<: [*c, *a], x: {r: 5}}", {"x": {"p": 2, "q": 2, "r": 5}}),
        ("a: &a {x: {p: 1}}\nc: &c {<<: *a, x: {q: 2}}\nb: {<<: *c, x: {r: 3}}", {"x": {"p": 1, "q": 2, "r": 3}}),
        ("a: &a {x: [1, 2]}\nb: {<<: *a, x: [3]}", {"x": [3]}),
        ("a: &a {x: {p: 1}}\nb: {<<: *a, x: 7}", {"x": 7}),
        ("a: &a {x: {p: 1}}\nb: {x: {q: 2}, <<: *a}", {"x": {"p": 1, "q": 2}}),
        ("a: &a {x: {p: 1}}\nb: {<<: *a, x: null}", {"x": None}),
        ("a: &a {x: {p: 1}}\nb:\n  <<: *a\n  x:  # {p: 2}", {"x": {"p": 1}}),
        ("a: &a {x: {p: 1}}\nb:\n  x:\n  <<: *a", {"x": {"p": 1}}),
        ("a: &a {x: 1}\nb:\n  <<: *a\n  x:", {"x": None}),
    ],
)
def test_mappings_merge_at_every_depth(text: str, value: Any) -> None:
    found = plain(text)
    assert found["b"] == value
    assert found["a"] == plain(text.splitlines()[0])["a"]  # what is merged from stays as it is


def test_a_profile_that_merges_another_keeps_what_it_does_not_repeat() -> None:
    text = HEAD + QUICK + "  longer:\n    <<: *quick\n    train: {kimg: 32}\n    data: {min_side: 5}\n"
    quick, longer = (load_text(text, Path("s.yaml"), name).settings for name in ("quick", "longer"))
    assert (longer.train.kimg, longer.data.min_side) == (32, 5)
    assert (longer.train.batch, longer.train.lr, longer.train.r1_gamma) == (32, 0.005, 1)
    assert longer.data.resolution == 16 and quick.train.kimg == 16 and quick.data.min_side == 4


def test_a_mistake_in_merged_content_is_shown_where_it_is_written() -> None:
    text = HEAD + "    train: {kimg: 16, batch: many}\n  longer:\n    <<: *quick\n    train: {kimg: 32}\n"
    with pytest.raises(SpecError) as refused:
        load_text(text, Path("s.yaml"), "longer")
    assert "s.yaml:5:30: train.batch: must be a whole number" in str(refused.value)


def test_a_key_twice_is_still_refused() -> None:
    with pytest.raises(SpecError, match=r"2:19: the key 'x' is here twice; first at 2:13"):
        plain("a: &a {x: 1}\nb: {<<: *a, x: 1, x: 2}")
