"""Under the preset `lafite` networks, losses and views equal LAFITE's published equations (`tests/lafite.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import lafite
import runs
from harness.data.batches import Batch
from harness.models.build import Networks, Shapes, build
from harness.models.discriminator import Discriminator
from harness.models.generator import Generator
from harness.models.published import Place, published_names
from harness.rng import torch_generator
from harness.settings import EncoderConfig, Settings
from harness.study.schema import Study
from harness.training.ranks import Draws
from harness.training.trainer import Trainer
from harness.training.views import view
from lafite import Weights

Z, R, F, BATCH = 12, 8, runs.F, 8


@pytest.fixture(autouse=True)
def float64() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def preset(published: Study) -> Settings:
    """The preset's settings, with networks and batches small enough for a test."""
    whole = published.settings
    assert whole.loss.group == 16 and whole.train.batch == 64
    small = {"z_dim": Z, "w_dim": Z, "mapping_layers": 2, "channel_base": 64, "channel_max": 6}
    return whole.with_values(
        {
            **{f"generator.{name}": value for name, value in small.items()},
            "discriminator.channel_base": 64,
            "discriminator.channel_max": 6,
            "data.resolution": R,
            "train.batch": BATCH,
            "loss.group": 0,
        }
    )


def shapes(settings: Settings, resolution: int) -> dict[str, dict[str, tuple[int, ...]]]:
    generator = settings.generator
    channels = lafite.widths(generator.channel_base, generator.channel_max, resolution)
    modulate_from = generator.modulate_from if generator.conditioning == "modulate" else 2**20
    layers = generator.mapping_layers
    of_generator = lafite.generator_shapes(generator.z_dim, generator.w_dim, F, layers, channels, modulate_from)
    return {"generator": dict(of_generator), "discriminator": dict(lafite.discriminator_shapes(F, channels))}


def to_ours(value: Tensor, place: Place) -> Tensor:
    if place.layout == "leading axis":
        return value[None]
    return torch.roll(value, Z, 1) if place.layout == "text last" else value


def drawn(settings: Settings, resolution: int) -> tuple[Networks, dict[str, dict[str, Tensor]]]:
    """Networks of ours with the weights of published ones, every one of which is drawn, and those."""
    networks = build(settings, Shapes(resolution, F), lambda name: torch_generator(0, name))
    rng = torch.Generator().manual_seed(0)
    places, theirs = published_names(settings, resolution), {}
    for player, of_player in shapes(settings, resolution).items():
        slow = (".pre_", ".scale_layer_0", ".scale_layer_1", ".bias_layer_0", ".bias_layer_1", "mapping.")
        theirs[player] = {
            name: torch.randn(shape, generator=rng) * (100 if any(part in name for part in slow) else 1)
            for name, shape in of_player.items()
        }
        ours = {place.name: to_ours(theirs[player][name], place) for name, place in places[player].items()}
        getattr(networks, player).double().load_state_dict(ours)
        for value in theirs[player].values():
            value.requires_grad_()
    return networks, theirs


def modulating(settings: Settings) -> Settings:
    return settings.with_values({"generator.conditioning": "modulate", "generator.modulate_from": 8})


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.detach().abs().max()))


def same_gradients(ours: tuple[Tensor, nn.Module], theirs: tuple[Tensor, Weights], places: Mapping[str, Place]) -> None:
    """Of every weight of theirs, and of ours that stands in its place."""
    (loss, network), (published, weights) = ours, theirs
    of_ours = dict(zip(dict(network.named_parameters()), grads(loss, list(network.parameters())), strict=True))
    for name, gradient in zip(weights, grads(published, list(weights.values())), strict=True):
        close(of_ours[places[name].name], to_ours(gradient, places[name]), 1e-7)


def grads(loss: Tensor, weights: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(weight) if one is None else one for weight, one in zip(weights, found, strict=True)]


@pytest.mark.parametrize("resolution", [8, 16, 64])
@pytest.mark.parametrize("variant", ["concat", "modulate"])
def test_every_weight_has_one_published_name(preset: Settings, variant: str, resolution: int) -> None:
    settings = modulating(preset) if variant == "modulate" else preset
    networks = build(settings, Shapes(resolution, F), lambda name: torch_generator(0, name))
    places = published_names(settings, resolution)
    for player, of_player in places.items():
        assert of_player.keys() == shapes(settings, resolution)[player].keys()
        ours = {name: tuple(value.shape) for name, value in getattr(networks, player).state_dict().items()}
        assert sorted(place.name for place in of_player.values()) == sorted(ours)
        for name, place in of_player.items():
            assert to_ours(torch.zeros(shapes(settings, resolution)[player][name]), place).shape == ours[place.name]


def test_layers_that_a_setting_replaces_have_no_published_name(preset: Settings) -> None:
    changed = preset.with_values({"generator.conditioning": "transform", "discriminator.head_layers": 2})
    places = published_names(changed, R)
    assert not [place.name for place in places["generator"].values() if "style" in place.name]
    assert not [place.name for place in places["discriminator"].values() if "head" in place.name]
    networks = build(changed, Shapes(R, F), lambda name: torch_generator(0, name))
    for player, of_player in places.items():
        assert {place.name for place in of_player.values()} < set(getattr(networks, player).state_dict())


@pytest.mark.parametrize("size", [1, 3000], ids=["", "clamped"])
@pytest.mark.parametrize("variant", ["concat", "modulate"])
def test_the_generator_is_the_published_one(preset: Settings, variant: str, size: float) -> None:
    settings = modulating(preset) if variant == "modulate" else preset
    networks, theirs = drawn(settings, 16)
    weights, generator = theirs["generator"], networks.generator
    weights["synthesis.b4.const"] = (weights["synthesis.b4.const"] * size).detach().requires_grad_()
    generator.constant.data *= size
    z, other, h = torch.randn(4, Z), torch.randn(4, Z), torch.nn.functional.normalize(torch.randn(4, F))
    w = lafite.mapped(weights, z, 2)
    close(generator.mapping(z), w)
    ws = torch.stack([w] * 3 + [lafite.mapped(weights, other, 2)] * 3, dim=1)
    of_ours = torch.stack([generator.mapping(z)] * 3 + [generator.mapping(other)] * 3, dim=1)
    again = torch.Generator().manual_seed(1)
    noise = [torch.randn(4, 1, size, size, generator=again) for size in (4, 8, 8, 16, 16)]
    ours = generator.synthesis(of_ours, h, partial(torch.randn, generator=torch.Generator().manual_seed(1)))
    alike = lafite.synthesised(weights, ws, h, noise, published_epsilon=False)
    close(ours, alike)
    published = lafite.synthesised(weights, ws, h, noise)
    assert (ours - published).abs().max() < 1e-7 * published.abs().max(), "less than float32 can tell"
    direction = torch.randn(ours.shape)
    places = published_names(settings, 16)["generator"]
    same_gradients(((ours * direction).sum(), generator), ((alike * direction).sum(), weights), places)
    unclamped = Generator(replace(settings.generator, clamp=0.0), 16, F).double()
    unclamped.load_state_dict(generator.state_dict())
    without = unclamped.synthesis(of_ours, h, partial(torch.randn, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(without, ours) == (size == 1)


@pytest.mark.parametrize("size", [1, 1000], ids=["", "clamped"])
def test_the_discriminator_is_the_published_one(preset: Settings, size: float) -> None:
    networks, theirs = drawn(preset, 16)
    images, weights = torch.randn(BATCH, 3, 16, 16) * size, theirs["discriminator"]
    b, features = lafite.judged(weights, images)
    got = networks.discriminator(images)
    close(got.b, b)
    close(got.f_txt, features)
    unclamped = Discriminator(replace(preset.discriminator, clamp=0.0), 16, F).double()
    unclamped.load_state_dict(networks.discriminator.state_dict())
    assert torch.equal(unclamped(images).b, got.b) == (size == 1)
    few = images[:2]
    close(networks.discriminator(few).b, lafite.judged(weights, few)[0])
    both = networks.discriminator(torch.cat([images.flip(0), images]), run=BATCH)
    close(both.b[BATCH:], b)
    places, direction = published_names(preset, 16)["discriminator"], torch.randn(features.shape)
    ours, alike = got.b.sum() + (got.f_txt * direction).sum(), b.sum() + (features * direction).sum()
    same_gradients((ours, networks.discriminator), (alike, weights), places)


# Losses and regularisers, as the trainer computes them.


def trainer(settings: Settings) -> tuple[Trainer, dict[str, dict[str, Tensor]]]:
    networks, theirs = drawn(settings, R)
    guides = {"f_c": runs.Counted(F)}
    guides["f_c"].weight = guides["f_c"].weight.double()
    # The learning rate does not matter to a step's losses.
    subject = Trainer(settings, networks, runs.corpus(False), guides, 0)  # type: ignore[arg-type]
    return subject, theirs


def whole(subject: Trainer) -> Batch:
    batch = subject.batch(0)
    return replace(batch, real=batch.real.double(), h=batch.h.double(), pseudo=batch.pseudo.double())


@pytest.mark.parametrize("group", [0, 4])
def test_the_discriminators_loss_is_the_published_one(preset: Settings, group: int) -> None:
    settings = preset.with_values({"loss.group": group, "discriminator.minibatch_std_group": 2})
    subject, theirs = trainer(settings)
    batch, weights = whole(subject), theirs["discriminator"]
    with torch.no_grad():
        fake = subject.imagine(batch, 0, "discriminator")["x"]
    size = group or BATCH
    losses = []
    for part in (slice(first, first + size) for first in range(0, BATCH, size)):
        h = batch.h[part]
        b_r, f_r = lafite.judged(weights, batch.real[part], 2)
        b_x, f_x = lafite.judged(weights, fake[part], 2)
        adversarial = lafite.softplus(-lafite.logits(b_r, f_r, h)) + lafite.softplus(lafite.logits(b_x, f_x, h))
        losses.append((adversarial.mean(), lafite.contrast(f_r, h, 0.5)))
    adversarial, itd = (torch.stack(parts).mean() for parts in zip(*losses, strict=True))
    got = subject.d_step(batch, 0)
    close(got["discriminator/adversarial"], adversarial.detach())
    close(got["discriminator/itd"], itd.detach())
    close(got["discriminator/total"], (adversarial + 5 * itd).detach())


@pytest.mark.parametrize("group", [0, 4])
def test_the_generators_loss_is_the_published_one(preset: Settings, group: int) -> None:
    settings = preset.with_values({"loss.group": group, "discriminator.minibatch_std_group": 2})
    subject, theirs = trainer(settings)
    batch, weights = whole(subject), theirs["discriminator"]
    fake = subject.imagine(batch, 0, "generator")["x"].detach()
    rng = torch_generator(0, "f_c view", 0)
    side = int(torch.randint(R // 2, R, (), generator=rng))
    left, top = (int(torch.randint(0, R - side, (), generator=rng)) for _ in range(2))
    seen = lafite.enlarged(fake[:, :, top : top + side, left : left + side], R)
    clip, size, losses = subject.guides["f_c"].image(seen), group or BATCH, []
    for part in (slice(first, first + size) for first in range(0, BATCH, size)):
        h = batch.h[part]
        b, features = lafite.judged(weights, fake[part], 2)
        adversarial = lafite.softplus(-lafite.logits(b, features, h)).mean()
        losses.append((adversarial, lafite.contrast(features, h, 0.5), lafite.contrast(clip[part], h, 0.5)))
    adversarial, itd, itc = (torch.stack(parts).mean().detach() for parts in zip(*losses, strict=True))
    got = subject.g_step(batch, 0)
    close(got["generator/adversarial"], adversarial)
    close(got["generator/itd"], itd)
    close(got["generator/itc"], itc)
    close(got["generator/total"], adversarial + 5 * itd + 10 * itc)


def test_r1_is_the_published_one(preset: Settings) -> None:
    subject, theirs = trainer(preset)
    batch = whole(subject)
    real = batch.real.clone().requires_grad_()
    b, features = lafite.judged(theirs["discriminator"], real)
    (gradient,) = torch.autograd.grad(lafite.logits(b, features, batch.h).sum(), real)
    close(subject.r1_step(batch, 0)["discriminator/r1"], gradient.square().sum((1, 2, 3)).mean())


def test_path_length_regularisation_is_the_published_one(preset: Settings) -> None:
    subject, theirs = trainer(preset)
    batch, weights = whole(subject), theirs["generator"]
    h, rng = batch.h[: BATCH // 2], torch_generator(0, "path", 0)
    ws = subject.mixed_ws(len(h), Draws(rng)).detach().requires_grad_()
    noise = [torch.randn(len(h), 1, size, size, generator=rng) for size in (4, 8, 8)]
    image = lafite.synthesised(weights, ws, h, noise, published_epsilon=False)
    direction = torch.randn(image.shape, generator=rng) / R
    (gradient,) = torch.autograd.grad((image * direction).sum(), ws, create_graph=True)
    lengths = gradient.square().sum(2).mean(1).sqrt()
    mean = 0.99 * torch.tensor(3.0) + 0.01 * lengths.mean()
    penalty = (lengths - mean).square().mean()
    subject.pl_mean = torch.tensor(3.0)
    seen: list[Tensor] = []
    subject.update = lambda player, step, loss: seen.append(loss)  # type: ignore[method-assign]
    close(subject.path_step(batch, 0)["generator/path_length"], penalty.detach())
    close(subject.pl_mean, mean.detach())
    ours = torch.autograd.grad(seen[0], subject.networks.generator.constant)[0][0]
    close(ours, 4 * 2 * torch.autograd.grad(penalty, weights["synthesis.b4.const"])[0], 1e-7)


# What a guide sees.


def test_a_crop_is_enlarged_as_published() -> None:
    images, found = torch.randn(2, 3, 10, 10), set()
    for seed in range(200):
        seen = view(images, EncoderConfig(view="crop"), Draws(torch.Generator().manual_seed(seed)), 9)
        rng = torch.Generator().manual_seed(seed)
        side = int(torch.randint(5, 10, (), generator=rng))
        left, top = (int(torch.randint(0, 10 - side, (), generator=rng)) for _ in range(2))
        close(seen, lafite.enlarged(images[:, :, top : top + side, left : left + side], 9))
        found.add((side, left, top))
    assert {side for side, _, _ in found} == {5, 6, 7, 8, 9} and len(found) > 40


def test_a_small_image_lies_at_a_random_place_on_white() -> None:
    images, places = torch.rand(2, 3, 4, 4) - 2, set()
    for seed in range(100):
        seen = view(images, EncoderConfig(view="crop"), Draws(torch.Generator().manual_seed(seed)), 7)
        assert seen.shape == (2, 3, 7, 7)
        (top, left) = (seen[0, 0] != 1).nonzero()[0].tolist()
        assert torch.equal(seen[:, :, top : top + 4, left : left + 4], images)
        assert (seen == 1).sum() == 2 * 3 * (49 - 16)
        places.add((top, left))
    assert len(places) == 9
