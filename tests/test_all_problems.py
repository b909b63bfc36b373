"""All that is wrong with a study file is told at once, and nothing that only follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import SpecError
from harness.study.load import load_study

HEAD = "study: tiny\n"


def complaints(folder: Path, text: str, *overrides: str) -> list[str]:
    """The dotted places that the refusal names, in order."""
    (folder / "study.yaml").write_text(HEAD + text)
    with pytest.raises(SpecError) as caught:
        load_study(folder / "study.yaml", None, overrides)
    return [line.split(": ")[1] for line in str(caught.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (
            "toggles: [mix_logit]\ndesign: {kind: fulll}\nloss: {tau: -1}\ntrain: {kimg: many}\n",
            {"toggles[0]", "design.kind", "loss.tau", "train.kimg"},
        ),
        (
            "toggles: [mix_logits, nothing_known]\ndesign: {kind: list, cells: [[mix_logits], [typo]]}\n"
            "train: {batch: 10}\ndiscriminator: {minibatch_std_group: 4}\n",
            {"toggles[1]", "design.cells[1]", "train.batch"},
        ),
        ("design: {seeds: none, kind: fulll}\nloss: {tua: 1}\n", {"design.seeds", "design.kind", "loss.tua"}),
        ("design: {kind: fulll}\ntrain: {batch: 10}\ndiscriminator: {minibatch_std_group: 4}\n",
         {"design.kind", "train.batch"}),
        ("baseline: origni\nmargins: {fdd: 3}\ntrain: {lr: high}\n", {"baseline", "margins.fdd", "train.lr"}),
        ("toggles:\n- mine: {loss.tau: -1}\n- mix_logit\ndata: {resolution: 16}\ngenerator: {channel_base: 8}\n",
         {"toggles[0].mine.loss.tau", "toggles[1]", "generator.channel_base"}),
        ("toggles: 5\ndata: {source: foldr}\n", {"toggles", "data.source"}),
    ],
)  # fmt: skip
def test_everything_is_told_at_once(tmp_path: Path, text: str, places: set[str]) -> None:
    found = complaints(tmp_path, text)
    assert set(found) == places and len(found) == len(places)


def test_overrides_are_among_them(tmp_path: Path) -> None:
    found = complaints(tmp_path, "toggles: [mix_logit]\n", "train.kimg=many", "design.kind=fulll")
    assert set(found) == {"toggles[0]", "train.kimg", "design.kind"}


def test_a_value_that_was_refused_causes_no_further_complaint(tmp_path: Path) -> None:
    text = "train: {batch: ten}\ndiscriminator: {minibatch_std_group: 7}\n"
    assert complaints(tmp_path, text) == ["train.batch"]
    assert complaints(tmp_path, "toggles: [mix_logit]\ndesign: {include: [full], cells: []}\n") == ["toggles[0]"]


def test_names_of_toggles_that_cannot_be_used_are_known_elsewhere(tmp_path: Path) -> None:
    text = "toggles: [mix_logit]\ndesign: {kind: list, cells: [[], [mix_logit]], exclude: [[mix_logit, other]]}\n"
    assert set(complaints(tmp_path, text)) == {"toggles[0]", "design.exclude[0]"}


def test_mending_one_by_one_ends_in_a_study(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(HEAD + "toggles: [mix_logits]\ndesign: {kind: full}\ntrain: {kimg: 1}\n")
    assert load_study(tmp_path / "study.yaml").toggle_names == ("mix_logits",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study: s\ntoggles:\n# mine\n\ndesign: {seeds: 2}\n", ":2:1: toggles: must be a list, not null"),
        ("study: s\nprofiles:\n  a:\n    tuned:\n# end\n", ":4:5: tuned: must be a mapping, not null"),
        ("study: s\ntoggles: null\n", ":2:10: toggles: must be a list, not null"),
        ("study: 1_000\n", ":1:8: study: must be text, not 1000; put it into quotation marks: '1_000'"),
        ("study: s\ntracking: {uri: 1e-3}\n", "must be text, not 0.001; put it into quotation marks: '1e-3'"),
        ("%YAML 1.1\n---\nstudy: s\ntracking: {uri: on}\n", "not true; put it into quotation marks: 'on'"),
        ("study: s\nprofile: 0o10\nprofiles: {on: {}}\n", ":2:10: profile: no profile '0o10'; allowed: on"),
    ],
)
def test_a_mistake_is_told_as_it_is_written_at_the_place_of_its_key_where_it_is_empty(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        load_study(tmp_path / "study.yaml")
    assert said in str(caught.value)
