"""The objective against `oracle`, an independent float64 implementation, over every subset of the toggles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

import numpy as np
import pytest
import torch

import oracle
from cases import IMAGES, SOME_SUBSETS, Arrays, Features, conditioned, configure, drawn, inputs, value
from harness.models.losses import objective
from harness.models.objective import PLAYERS, Feature, LossConfig, Player, active, features_needed

READINGS = [
    oracle.Reading(similarity, on, lam, tau)
    for similarity, tau in (("exp", 0.5), ("cosine", 0.3))
    for on, lam in (("fake", 0.5), ("real", 0.2))
]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("subset", oracle.SUBSETS, ids=lambda s: "+".join(sorted(s)) or "origin")
def test_agrees_with_the_oracle(subset: frozenset[str]) -> None:
    raw, raw_b = drawn()
    features, b = inputs(subset)
    for reading in READINGS:
        config = configure(subset, reading)
        d = oracle.logits(subset, raw, raw_b, reading)
        logits = conditioned(config.loss, features, b)
        for y in IMAGES:
            np.testing.assert_allclose(logits[y].numpy(), d[y], **CLOSE)
        for player in PLAYERS:
            expected = oracle.objective(player, subset, raw, d, reading).as_dict()
            got = value(objective(player, config.loss, features, logits))
            assert got.keys() == expected.keys()
            for name, number in expected.items():
                assert got[name] == pytest.approx(number, rel=1e-10, abs=1e-10), (name, reading)


def by_hand(rows: str, features: Arrays) -> float:
    """Sum of `weight * contrast(u, v)` over lines `weight u v`."""
    parsed = [line.split() for line in rows.strip().splitlines()]
    return sum(float(w) * oracle.contrast(features[u], features[v]) for w, u, v in parsed)


def minus_log_sigmoid(d: oracle.Array) -> float:
    return float(np.mean(np.log(1 + np.exp(-d))))


def test_no_toggles_is_the_origins_objective() -> None:
    raw, raw_b = drawn()
    features, b = inputs(frozenset())
    one = oracle.one_head(frozenset(), raw)
    d = {y: raw_b[y] + np.sum(one[f"f_txt({y})"] * one["h"], axis=1) for y in ("r", "x")}
    logits = conditioned(LossConfig(), features, b)
    g = objective("generator", LossConfig(), features, logits)["total"].item()
    assert g == pytest.approx(minus_log_sigmoid(d["x"]) + by_hand("5 f_txt(x) h\n 10 f_c(x) h", one), rel=1e-10)
    adversarial = minus_log_sigmoid(d["r"]) + minus_log_sigmoid(-d["x"])
    got = objective("discriminator", LossConfig(), features, logits)["total"].item()
    assert got == pytest.approx(adversarial + by_hand("5 f_txt(x) h", one), rel=1e-10)


def test_all_toggles_are_the_modified_objective() -> None:
    raw, raw_b = drawn()
    everything = frozenset(oracle.TOGGLES)
    features, b = inputs(everything)
    condition = (raw["h"] + raw["h'"]) / 2
    d = {y: raw_b[y] + np.sum(raw[f"f_txt({y})"] * condition, axis=1) for y in IMAGES}
    config = configure(everything)
    logits = conditioned(config.loss, features, b)
    rows = """
        5  f_txt(x) h          1   f_txt(x) h'
        4  f_img(x) f_img(r)   0.8 f_img(x) f_img(x')
        4  f_res(x) f_res(r)   0.8 f_res(x) f_res(x')   4 f_img(x) f_res(r)
        10 f_c(x)   h          2   f_c(x)   h'          3 f_c(x)   f_c(x')
    """
    words = rows.split()
    lines = "\n".join(" ".join(words[k : k + 3]) for k in range(0, len(words), 3))
    g = objective("generator", config.loss, features, logits)["total"].item()
    assert g == pytest.approx(minus_log_sigmoid(d["x"]) + minus_log_sigmoid(d["x'"]) + by_hand(lines, raw), rel=1e-10)
    adversarial = minus_log_sigmoid(d["r"]) + minus_log_sigmoid(-d["x"]) + minus_log_sigmoid(-d["x'"])
    got = objective("discriminator", config.loss, features, logits)["total"].item()
    assert got == pytest.approx(adversarial + by_hand("5 f_txt(x) h\n 4 f_img(r) f_res(r)", raw), rel=1e-10)


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("subset", SOME_SUBSETS, ids=len)
def test_total_is_adversarial_plus_weighted_terms(subset: frozenset[str], player: Player) -> None:
    config = configure(subset)
    weights = {p: {name: 0.1 + k for k, name in enumerate(w)} for p, w in config.loss.weights.items()}
    config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, weights=weights))
    features, b = inputs(subset)
    logits = conditioned(config.loss, features, b)
    got = value(objective(player, config.loss, features, logits))
    names = got.keys() - {"adversarial", "total"}
    assert got["total"] == pytest.approx(
        got["adversarial"] + sum(weights[player][n] * got[n] for n in names), rel=1e-12
    )
    default = value(objective(player, configure(subset).loss, features, logits))
    assert {n: default[n] for n in names} == {n: got[n] for n in names}, "terms are unweighted"


class Recorder(Mapping[Feature, torch.Tensor]):
    """Remembers which features were asked for."""

    def __init__(self, values: Features) -> None:
        self.values_, self.asked = values, set[Feature]()

    def __getitem__(self, feature: Feature) -> torch.Tensor:
        self.asked.add(feature)
        return self.values_[feature]

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.values_)

    def __len__(self) -> int:
        return len(self.values_)


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("subset", SOME_SUBSETS, ids=len)
def test_weight_zero_removes_a_term_and_only_needed_features_are_read(subset: frozenset[str], player: Player) -> None:
    features, b = inputs(subset)
    whole = configure(subset)
    logits = conditioned(whole.loss, features, b)
    before = value(objective(player, whole.loss, features, logits))
    for term in active(whole.loss, player):
        weights = {**whole.loss.weights, player: {**whole.loss.weights[player], term.name: 0.0}}
        config = dataclasses.replace(whole, loss=dataclasses.replace(whole.loss, weights=weights))
        recorder = Recorder(features)
        got = value(objective(player, config.loss, recorder, logits))
        assert recorder.asked == features_needed(active(config.loss, player))
        assert got.keys() == before.keys() - {term.name}
        weighted = whole.loss.weights[player][term.name] * before[term.name]
        assert got["total"] == pytest.approx(before["total"] - weighted, rel=1e-12)


@pytest.mark.parametrize("player", PLAYERS)
def test_origin_works_with_its_own_logits_only(player: Player) -> None:
    features, b = inputs(frozenset())
    logits = conditioned(LossConfig(), features, b)
    own = {y: logits[y] for y in (("x",) if player == "generator" else ("x", "r"))}
    assert value(objective(player, LossConfig(), features, own)) == value(
        objective(player, LossConfig(), features, logits)
    )


@pytest.mark.parametrize(
    ("subset", "player", "absent"),
    [
        ([], "generator", "x"),
        ([], "discriminator", "r"),
        (["paired_contrast"], "generator", "x'"),
        (["paired_contrast"], "discriminator", "x'"),
    ],
)
def test_a_missing_logit_is_never_left_out_of_the_loss(subset: list[str], player: Player, absent: str) -> None:
    config = configure(frozenset(subset))
    features, b = inputs(frozenset(subset))
    logits = conditioned(config.loss, features, b)
    del logits[absent]
    with pytest.raises(KeyError, match=absent):
        objective(player, config.loss, features, logits)


@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("subset", SOME_SUBSETS, ids=len)
def test_order_of_the_batch_does_not_matter(subset: frozenset[str], player: Player) -> None:
    features, b = inputs(subset)
    order = torch.tensor([3, 1, 4, 0, 2])
    config = configure(subset)
    straight = objective(player, config.loss, features, conditioned(config.loss, features, b))
    features, b = ({name: tensor[order] for name, tensor in part.items()} for part in (features, b))
    assert value(objective(player, config.loss, features, conditioned(config.loss, features, b))) == pytest.approx(
        value(straight), rel=1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("player", PLAYERS)
def test_any_float_dtype(player: Player, dtype: torch.dtype) -> None:
    everything = frozenset(oracle.TOGGLES)
    config = configure(everything)
    features, b = inputs(everything, dtype)
    logits = conditioned(config.loss, features, b)
    got = objective(player, config.loss, features, logits)
    wide = [{name: tensor.double() for name, tensor in part.items()} for part in (features, logits)]
    expected = value(objective(player, config.loss, *wide))
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert value(got) == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_objective_is_pure() -> None:
    everything = frozenset(oracle.TOGGLES)
    config = configure(everything)
    features, b = inputs(everything)
    logits = conditioned(config.loss, features, b)
    kept = [{name: tensor.clone() for name, tensor in part.items()} for part in (features, logits)]
    first, second = (value(objective("generator", config.loss, features, logits)) for _ in range(2))
    assert first == second
    for part, copy in zip((features, logits), kept, strict=True):
        assert all(torch.equal(part[name], copy[name]) for name in copy)
