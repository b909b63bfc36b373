"""The table of terms against a copy of the agreed tables, and one contract for every row."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

import oracle
from cases import feature
from harness.models.config import ModelConfig
from harness.models.objective import PLAYERS, TERMS, LossConfig, Player, Term, active, default_weights, features_needed
from harness.models.toggles import apply

IMAGES = ("x", "x'", "r")
SYMBOLS = {"h", "h'"} | {f"{encoder}({y})" for encoder in ("f_img", "f_txt", "f_c", "f_res") for y in IMAGES}


def loss(subset: frozenset[str], d_itd_on: str = "fake") -> LossConfig:
    return dataclasses.replace(apply(ModelConfig(), sorted(subset)).loss, d_itd_on=d_itd_on)


def without(config: LossConfig, player: Player, name: str) -> LossConfig:
    weights = {**config.weights, player: {**config.weights[player], name: 0.0}}
    return dataclasses.replace(config, weights=weights)


def symbols(terms: Iterable[Term]) -> set[str]:
    """As equations write the features that are read."""
    return {str(each) for each in features_needed(terms)}


@pytest.mark.parametrize("d_itd_on", ["fake", "real"])
@pytest.mark.parametrize("player", PLAYERS)
def test_active_rows_are_those_of_the_page(player: Player, d_itd_on: str) -> None:
    reading = oracle.Reading(d_itd_on=d_itd_on)
    for subset in oracle.SUBSETS:
        config = loss(subset, d_itd_on)
        got = [(t.name, config.weights[player][t.name], str(t.u), str(t.v)) for t in active(config, player)]
        assert got == [(r.name, r.weight, r.u, r.v) for r in oracle.active(player, subset, reading)], sorted(subset)


def test_every_row_of_the_table_is_on_the_page() -> None:
    readings = [oracle.Reading(d_itd_on=on) for on in ("fake", "real")]
    page = {(p, r.name, r.weight, r.u, r.v) for p in oracle.PLAYERS for on in readings for r in oracle.rows(p, on)}
    assert {(t.player, t.name, t.weight, str(t.u), str(t.v)) for t in TERMS} == page
    assert len(TERMS) == len(page)


def test_default_weights_are_those_of_the_page() -> None:
    assert default_weights() == {p: {r.name: r.weight for r in oracle.rows(p)} for p in oracle.PLAYERS}
    assert ModelConfig().loss.weights == default_weights()


def test_gradient_flows_through_both_sides_of_pairs_of_generated_images_alone() -> None:
    assert {term.name for term in TERMS if term.through_v} == {"iid_f", "iiv_f", "iic"}


def test_defaults_are_not_shared() -> None:
    default_weights()["generator"]["itd"] = -1.0
    assert default_weights()["generator"]["itd"] == LossConfig().weights["generator"]["itd"] == 5.0


@pytest.mark.parametrize("term", TERMS, ids=lambda t: f"{t.player}-{t.name}-{t.u}")
def test_row_reads_known_symbols_and_real_settings(term: Term) -> None:
    assert {str(term.u), str(term.v)} <= SYMBOLS
    assert (feature(str(term.u)), feature(str(term.v))) == (term.u, term.v)
    assert term.u != term.v
    assert set(term.when) <= {field.name for field in dataclasses.fields(LossConfig)}
    assert term.equation == f"contrast({term.u}, {term.v})"
    assert term.name in default_weights()[term.player]


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("d_itd_on", ["fake", "real"])
def test_no_name_is_active_twice(player: Player, d_itd_on: str) -> None:
    for subset in oracle.SUBSETS:
        names = [term.name for term in active(loss(subset, d_itd_on), player)]
        assert len(names) == len(set(names))


@pytest.mark.parametrize("player", PLAYERS)
def test_weight_zero_removes_the_row_and_its_features(player: Player) -> None:
    for subset in oracle.SUBSETS:
        config = loss(subset)
        rows = active(config, player)
        for term in rows:
            left = active(without(config, player, term.name), player)
            assert left == tuple(t for t in rows if t is not term)
            assert symbols(left) == {str(each) for t in rows if t is not term for each in (t.u, t.v)}


def test_origin_needs_no_second_image_and_no_resnet() -> None:
    assert symbols(active(LossConfig(), "generator")) == {"f_txt(x)", "f_c(x)", "h"}
    assert symbols(active(LossConfig(), "discriminator")) == {"f_txt(x)", "h"}


def test_full_needs_everything_it_contrasts() -> None:
    full = loss(frozenset(oracle.TOGGLES))
    targets = {"h", "h'", "f_img(r)", "f_img(x')", "f_res(r)", "f_res(x')", "f_c(x')"}
    assert symbols(active(full, "generator")) == {"f_txt(x)", "f_img(x)", "f_c(x)", "f_res(x)"} | targets
    assert symbols(active(full, "discriminator")) == {"f_txt(x)", "h", "f_img(r)", "f_res(r)"}


def test_no_terms_need_nothing() -> None:
    assert features_needed([]) == frozenset()
