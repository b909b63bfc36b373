"""Each setting that stands for a difference from LAFITE's published code changes what it says and nothing else."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.data.batches import Batch
from harness.errors import SpecError
from harness.models.build import Networks, Shapes, build
from harness.models.config import ConditionConfig, GeneratorConfig
from harness.models.discriminator import Head, minibatch_std
from harness.models.generator import ConcatStyle, ModulateStyle, SynthesisLayer, ToRGB
from harness.models.losses import condition_logit, contrast, objective
from harness.models.objective import Feature, H, LossConfig
from harness.models.ops import SQRT2, Linear
from harness.runs.identity import run_id
from harness.settings import Settings
from harness.since import SINCE
from harness.study.load import load_study
from harness.study.remarks import remarks
from harness.study.schema import Study, apply_toggles
from runs import corpus, settings, trainer
from tiny import TINY, F, N, Z, drawn, exact, normal, stream, units


def networks(resolution: int = 16, **generator: Any) -> Networks:
    config = replace(TINY, generator=replace(TINY.generator, **generator))
    return build(config, Shapes(resolution, F), stream(0))


def judge(**discriminator: Any) -> nn.Module:
    config = replace(TINY, discriminator=replace(TINY.discriminator, **discriminator))
    return build(config, Shapes(8, F), stream(0)).discriminator


def changed(one: nn.Module, other: nn.Module) -> set[str]:
    """Names of the weights that only one of the two has, or that differ."""
    ours, theirs = one.state_dict(), other.state_dict()
    same = {
        name
        for name in ours.keys() & theirs.keys()
        if ours[name].shape == theirs[name].shape and torch.equal(ours[name], theirs[name])
    }
    return (ours.keys() | theirs.keys()) - same


# Generator.


def test_text_width_is_that_of_the_text_mlp() -> None:
    origin, other = networks().generator, networks(text_width=20).generator
    styles = [module for module in other.modules() if isinstance(module, ConcatStyle)]
    assert len(styles) == 8
    for style in styles:
        assert [tuple(layer.weight.shape) for layer in style.m] == [(14, F), (20, 14)]
        assert style.affine.weight.shape[1] == Z + 20
    assert all(".style." in name for name in changed(origin, other))
    assert not changed(origin, networks(text_width=F).generator)


def test_text_activation_is_that_of_the_text_mlps_last_layer() -> None:
    origin, other = networks().generator, networks(text_activation="both").generator
    assert not changed(origin, other)
    before, after = (next(m for m in each.modules() if isinstance(m, ConcatStyle)).m for each in (origin, other))
    x = normal(N, F)
    torch.testing.assert_close(after(x), SQRT2 * nn.functional.leaky_relu(before(x), 0.2))


def test_text_lr_multiplier_is_that_of_the_text_mlps_layers() -> None:
    origin, other = networks().generator, networks(text_lr_multiplier=0.01).generator
    assert all(".style.m." in name for name in changed(origin, other))
    multipliers = {name: layer.lr_multiplier for name, layer in other.named_modules() if isinstance(layer, Linear)}
    assert {value for name, value in multipliers.items() if ".style.m." in name} == {0.01}
    assert {value for name, value in multipliers.items() if ".style.affine" in name} == {1.0}
    z, h = normal(N, Z), units()
    torch.testing.assert_close(origin(z, h), other(z, h), msg="the same first images")


@pytest.mark.parametrize("conditioning", ["concat", "transform", "modulate"])
def test_text_input_is_the_size_of_h(conditioning: str) -> None:
    origin = networks(conditioning=conditioning).generator
    other = networks(conditioning=conditioning, text_input="unit").generator
    assert not changed(origin, other)
    z, h = normal(N, Z), units()
    torch.testing.assert_close(other(z, h * math.sqrt(F)), origin(z, h))


def test_modulation_holds_from_its_resolution() -> None:
    origin, other = networks(32).generator, networks(32, conditioning="modulate", modulate_from=16).generator
    kinds = [{type(m) for m in block.modules() if isinstance(m, ConcatStyle | ModulateStyle)} for block in other.blocks]
    assert kinds == [{ConcatStyle}, {ConcatStyle}, {ModulateStyle}, {ModulateStyle}]
    assert all(name.startswith(("blocks.2.", "blocks.3.")) and ".style." in name for name in changed(origin, other))


def dense(layer: Linear, x: Tensor) -> Tensor:
    return layer.lr_multiplier * (x @ layer.weight.T / math.sqrt(x.shape[1]) + layer.bias)


def test_modulate_style_scales_and_shifts_the_style_of_w() -> None:
    config = GeneratorConfig(w_dim=6, text_width=10, text_lr_multiplier=0.01)
    style = drawn(ModulateStyle(config, 4, 5))
    w, h = exact(3, 6), exact(3, 4, seed=1)

    def of_text(layers: nn.Sequential) -> Tensor:
        x = h * 2
        for layer in layers[:2]:
            x = SQRT2 * nn.functional.leaky_relu(dense(layer, x), 0.2)
        return dense(layers[2], x)

    assert [tuple(layer.weight.shape) for layer in style.modulate_scale] == [(7, 4), (10, 7), (5, 10)]
    expected = dense(style.affine, w) * of_text(style.modulate_scale) + of_text(style.modulate_shift)
    torch.testing.assert_close(style(w, h), expected)


def test_clamp_cuts_off_activations_and_colours() -> None:
    origin, other = networks().generator, networks(clamp=0.5).generator
    assert not changed(origin, other) and torch.equal(
        networks(clamp=1e6).generator(normal(N, Z), units()), origin(normal(N, Z), units())
    )
    seen: list[Tensor] = []
    for layer in other.modules():
        if isinstance(layer, SynthesisLayer | ToRGB):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output.abs().max()))
    other(normal(N, Z), units())
    assert len(seen) == 8 and max(seen) == 0.5


# Discriminator.


def test_the_discriminators_clamp_cuts_off_its_activations() -> None:
    images = normal(N, 3, 8, 8) * 10
    origin, other = judge(), judge(clamp=0.25)
    assert not changed(origin, other) and not torch.equal(origin(images).b, other(images).b)
    assert torch.equal(judge(clamp=1e6)(images).b, origin(images).b)
    seen: list[Tensor] = []
    other.blocks[0].conv0.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().abs().max()))
    other.dense.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().abs().max()))
    other.conv.bias.data += 10
    other(images)
    assert [float(one) for one in seen] == [0.25, 0.25]


def test_head_layers_are_those_of_a_feature_head() -> None:
    origin, other = judge(heads="separate"), judge(heads="separate", head_layers=1)
    assert all(name.startswith(("head_txt", "head_img")) for name in changed(origin, other))
    head = next(module for module in other.modules() if isinstance(module, Head))
    assert len(head.layers) == 1
    x = normal(N, head.layers[0].weight.shape[1])
    torch.testing.assert_close(head(x), dense(head.layers[0], x))


@pytest.mark.parametrize(("samples", "group", "run"), [(8, 2, 8), (8, 4, 8), (12, 2, 4), (6, 3, 6), (4, 4, 4)])
def test_strided_groups_are_those_of_neighbours_in_another_order(samples: int, group: int, run: int) -> None:
    x = exact(samples, 3, 4, 4)
    order = [
        first + place + member * (run // group)
        for first in range(0, samples, run)
        for place in range(run // group)
        for member in range(group)
    ]
    torch.testing.assert_close(minibatch_std(x, group, run)[order], minibatch_std(x[order], group, group))


def test_the_layout_of_groups_changes_no_weight_and_keeps_batches_apart() -> None:
    origin, other = judge(), judge(minibatch_std_layout="strided")
    images, more = normal(N, 3, 8, 8), normal(N, 3, 8, 8, seed=1)
    assert not changed(origin, other) and not torch.equal(origin(images).b, other(images).b)
    both = other(torch.cat([images, more]), run=N).b
    torch.testing.assert_close(both, torch.cat([other(images).b, other(more).b]))
    with pytest.raises(ValueError, match="minibatch_std_group 2 does not divide a batch of 3"):
        other(normal(6, 3, 8, 8), run=3)


# Objective.


def test_tau_in_the_logarithm_is_a_constant_and_scales_no_gradient() -> None:
    u, v = exact(5, 4).requires_grad_(), exact(5, 4, seed=1)
    inside, before = contrast(u, v, 0.25, tau_place="logarithm"), contrast(u, v, 0.25)
    assert inside.item() == pytest.approx(before.item() / 0.25 - math.log(0.25), rel=1e-12)
    slopes = [torch.autograd.grad(loss, u)[0] for loss in (inside, before)]
    torch.testing.assert_close(slopes[0], slopes[1] / 0.25)


def test_a_logit_over_the_batch_adds_every_agreement() -> None:
    b, f, h = exact(6), exact(6, 4, seed=1), exact(6, 4, seed=2)
    loss = LossConfig(logit="batch_sum")
    torch.testing.assert_close(condition_logit(loss, (b, f), "x", h, h), b + (f * h).sum())
    grouped = condition_logit(replace(loss, group=3), (b, f), "x", h, h)
    torch.testing.assert_close(grouped[:3], b[:3] + (f[:3] * h[:3]).sum())
    torch.testing.assert_close(grouped[3:], b[3:] + (f[3:] * h[3:]).sum())
    mixed = replace(loss, mix_logits=True, mix_lambda=0.3)
    other = exact(6, 4, seed=3)
    expected = b + 0.3 * (f * h).sum() + 0.7 * (f * other).sum()
    torch.testing.assert_close(condition_logit(mixed, (b, f), "x", h, other), expected)


def test_a_group_is_contrasted_by_itself() -> None:
    f, c, h = exact(6, 4), exact(6, 4, seed=1), exact(6, 4, seed=2)
    features = {Feature("f_txt", "x"): f, Feature("f_c", "x"): c, H: h}
    whole = objective("generator", LossConfig(), features, {"x": exact(6, seed=3)})
    halves = objective("generator", LossConfig(group=3), features, {"x": exact(6, seed=3)})
    assert halves["itd"].item() == pytest.approx(((contrast(f[:3], h[:3]) + contrast(f[3:], h[3:])) / 2).item())
    assert halves["adversarial"] == whole["adversarial"] and halves["itc"] != whole["itc"]
    same = objective("generator", LossConfig(group=6), features, {"x": exact(6, seed=3)})
    assert all(torch.equal(same[name], value) for name, value in whole.items())


# Conditions and the order of a step.


def test_shared_noise_is_one_direction_for_both_conditions() -> None:
    subject, plain = corpus(), ConditionConfig(text_noise=0.5, pseudo_noise=0.5)
    alike = replace(subject, frozen={"f_c": subject.text.features[::2].copy()})  # v = the first caption's feature
    shared = replace(plain, shared_noise=True)
    clean = alike.batch(replace(plain, text_noise=0.0, pseudo_noise=0.0), 0, 0, 16)
    first = (clean.h == clean.pseudo).all(1)  # by chance, the caption of the batch is an image's first
    assert 0 < first.sum() < 16
    one = alike.batch(shared, 0, 0, 16)
    assert torch.equal(one.h[first], one.pseudo[first])
    apart = alike.batch(plain, 0, 0, 16)
    assert torch.equal(apart.h, one.h) and not torch.isclose(apart.h, apart.pseudo).all(1).any()
    free = alike.batch(replace(shared, pseudo_probability=1.0), 0, 0, 16)
    assert torch.equal(free.h, free.pseudo) and torch.equal(free.pseudo, one.pseudo)


def batches(chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Batch]:
    """Phase -> the batch that it was given at step 0, in the order of the phases."""
    subject, seen = trainer(chosen), dict[str, Batch]()
    for name in ("d_step", "r1_step", "g_step", "path_step"):
        monkeypatch.setattr(subject, name, lambda batch, step, name=name: seen.update({name: batch}) or {})
    subject.step(0)
    return seen


def test_noise_is_drawn_once_a_step_or_by_every_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = settings("paired_contrast")
    once = batches(plain, monkeypatch)
    assert list(once) == ["d_step", "r1_step", "g_step", "path_step"] and len({id(each) for each in once.values()}) == 1
    each = list(batches(plain.with_values({"condition.noise_per": "phase"}), monkeypatch).values())
    assert all(torch.equal(one.real, once["d_step"].real) for one in each)
    pairs = [(one, other) for place, one in enumerate(each) for other in each[:place]]
    assert len(pairs) == 6 and not any(torch.equal(a.h, b.h) or torch.equal(a.pseudo, b.pseudo) for a, b in pairs)
    clean = plain.with_values({"condition.text_noise": 0.0, "condition.noise_per": "phase"})
    assert len({tuple(one.h.flatten().tolist()) for one in batches(clean, monkeypatch).values()}) == 1, "same captions"


def test_the_player_that_is_first_takes_the_first_half(monkeypatch: pytest.MonkeyPatch) -> None:
    turned = settings().with_values({"train.first": "generator"})
    assert list(batches(turned, monkeypatch)) == ["g_step", "path_step", "d_step", "r1_step"]


# In a study.


def test_every_difference_is_a_toggle_of_the_preset(published: Study) -> None:
    """All of them together lead to the harness's origin, but for what the README's call says of data and size."""
    ids = {run_id(apply_toggles(published, [name]), 0, {}) for name in published.toggle_names}
    assert len(ids) == len(published.toggle_names) == 15
    every, origin = apply_toggles(published, published.toggle_names).flat, Settings().flat
    model = {path for path in every if path.split(".")[0] not in ("data", "metrics")}
    left = {path for path in model if every[path] != origin[path]}
    assert left == {"train.batch", "train.ema_kimg"}
    assert every["data.mirror"] and every["train.ema_kimg"] == every["train.batch"] * 10 / 32
    published = published.settings.flat
    others = ("init", "data", "metrics", "ideas", "command")
    differences = {path for path in SINCE if path.split(".")[0] not in others}
    same = {path for path in differences if published[path] == SINCE[path]}
    assert same == {"generator.modulate_from", "encoders.crop_from", "train.graphs"}


def test_a_reader_is_told_what_a_logit_over_the_batch_means(published: Study) -> None:
    (told,) = remarks(published.settings)
    assert told.startswith("loss.logit batch_sum adds f.h of 16 images to the logit of each")
    assert not remarks(apply_toggles(published, ["logit_per_sample"]))


def test_a_reader_is_told_of_modulation_above_the_resolution() -> None:
    values = {"generator.conditioning": "modulate", "generator.modulate_from": 512, "data.resolution": 256}
    told = "generator.modulate_from 512 is above data.resolution 256, so every layer is concat: same training as with "
    assert remarks(Settings().with_values(values)) == (f"{told}generator.conditioning concat",)
    assert not remarks(Settings().with_values(values | {"data.resolution": 512}))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("loss: {group: 5}\ntrain: {batch: 16}", r"loss\.group: 5 does not divide train\.batch = 16: a divisor, or 0"),
        (
            "loss: {group: 6}\ntrain: {batch: 12}\ndiscriminator: {minibatch_std_layout: strided}",
            r"loss\.group: 6 is no multiple of discriminator\.minibatch_std_group = 4: a multiple of it, or 0",
        ),
        (
            "loss: {group: 1}\ntrain: {batch: 16}",
            r"loss\.group: 1 leaves no other sample .*: 0 for the whole batch, or a divisor of train\.batch = 16 of",
        ),
        ("toggles: [{lone: {loss.group: 1}}]\ndesign: {kind: full}", r"loss\.group: 1 leaves no other sample"),
        ("loss: {logit: batch}", r"loss\.logit: .*per_sample.*batch_sum"),
        ("generator: {modulate_from: 100}", r"generator\.modulate_from"),
        ("encoders: {crop_from: 1}", r"encoders\.crop_from"),
    ],
)
def test_groups_that_cannot_be_made_are_refused(tmp_path: Path, written: str, told: str) -> None:
    (tmp_path / "a.yaml").write_text(f"study: tiny\n{written}\n")
    with pytest.raises(SpecError, match=told):
        load_study(tmp_path / "a.yaml")


def test_groups_of_one_may_stand_where_nothing_is_contrasted(tmp_path: Path) -> None:
    weights = "{generator: {itd: 0, itc: 0}, discriminator: {itd: 0}}"
    (tmp_path / "a.yaml").write_text(f"study: tiny\ntoggles: []\nloss: {{group: 1, weights: {weights}}}\n")
    assert load_study(tmp_path / "a.yaml").settings.loss.group == 1
