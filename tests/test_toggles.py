"""One contract for every toggle: a pure rewrite of settings no other toggle touches."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pytest

import oracle
from harness.models.config import ModelConfig
from harness.models.toggles import TOGGLES, apply
from harness.settings import Settings

PAIRS = list(itertools.combinations(TOGGLES, 2))


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted path -> value of every leaf of a configuration."""
    if not isinstance(value, Mapping):
        return {path: value}
    items = [leaves(child, f"{path}.{key}".lstrip(".")) for key, child in value.items()]
    return {name: leaf for item in items for name, leaf in item.items()}


def changed(names: list[str]) -> dict[str, Any]:
    before, after = leaves(asdict(ModelConfig())), leaves(asdict(apply(ModelConfig(), names)))
    assert before.keys() == after.keys()
    return {path: value for path, value in after.items() if value != before[path]}


def test_registry_names_the_six_ideas_in_the_agreed_order() -> None:
    assert tuple(TOGGLES) == oracle.TOGGLES
    assert all(toggle.name == name and toggle.idea for name, toggle in TOGGLES.items())


@pytest.mark.parametrize(
    ("name", "leaf", "value"),
    [
        ("img_img_loss", "loss.img_img_loss", True),
        ("separate_features", "discriminator.heads", "separate"),
        ("transform_w", "generator.conditioning", "transform"),
        ("paired_contrast", "loss.paired_contrast", True),
        ("mix_logits", "loss.mix_logits", True),
        ("resnet_guided", "loss.resnet_guided", True),
    ],
)
def test_toggle_changes_exactly_its_own_leaf(name: str, leaf: str, value: Any) -> None:
    assert changed([name]) == {leaf: value}


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_pairs_touch_different_leaves_and_commute(first: str, second: str) -> None:
    one, other = changed([first]), changed([second])
    assert not one.keys() & other.keys()
    assert changed([first, second]) == changed([second, first]) == one | other


@pytest.mark.parametrize("name", TOGGLES)
def test_twice_is_once(name: str) -> None:
    assert apply(ModelConfig(), [name, name]) == apply(ModelConfig(), [name])


@pytest.mark.parametrize("name", TOGGLES)
def test_input_is_left_alone(name: str) -> None:
    config = ModelConfig()
    before = asdict(config)
    assert apply(config, [name]) is not config
    assert asdict(config) == before == asdict(ModelConfig())


@pytest.mark.parametrize("name", TOGGLES)
def test_other_settings_and_the_type_survive(name: str) -> None:
    settings = Settings()
    toggled = apply(settings, [name])
    assert type(toggled) is Settings
    assert (toggled.data, toggled.encoders, toggled.train, toggled.metrics) == (
        settings.data,
        settings.encoders,
        settings.train,
        settings.metrics,
    )


def test_no_names_is_the_origin() -> None:
    assert apply(ModelConfig(), []) == ModelConfig()


def test_all_subsets_are_distinct() -> None:
    configs = [apply(ModelConfig(), sorted(subset)) for subset in oracle.SUBSETS]
    assert len(configs) == 64
    assert all(a != b for a, b in itertools.combinations(configs, 2))


@pytest.mark.parametrize(
    ("typo", "near"), [("img_img", "img_img_loss"), ("mix_logit", "mix_logits"), ("transform-w", "transform_w")]
)
def test_unknown_name_is_refused_with_the_nearest_match(typo: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"{typo!r}.*did you mean {near!r}"):
        apply(ModelConfig(), ["paired_contrast", typo])


def test_unknown_name_far_from_all_lists_what_is_allowed() -> None:
    with pytest.raises(ValueError) as error:
        apply(ModelConfig(), ["zzz"])
    assert all(name in str(error.value) for name in TOGGLES)
    assert "did you mean" not in str(error.value)


def test_default_is_the_published_origin() -> None:
    config = leaves(asdict(ModelConfig()))
    published = {
        "generator.z_dim": 512,
        "generator.w_dim": 512,
        "generator.mapping_layers": 8,
        "generator.channel_base": 32768,
        "generator.channel_max": 512,
        "discriminator.channel_base": 32768,
        "discriminator.channel_max": 512,
        "loss.tau": 0.5,
        "loss.similarity": "exp",
        "loss.d_itd_on": "fake",
        "loss.mix_lambda": 0.5,
        "loss.weights.generator.itd": 5,
        "loss.weights.generator.itc": 10,
        "condition.text_noise": 0.1,
        "condition.pseudo_noise": 0.75,
        "condition.pseudo_probability": 0,
    }
    assert {path: config[path] for path in published} == published
