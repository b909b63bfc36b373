"""How the embedded encoders are trained: augmentation, attack, loss, classes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from harness.models.encoders import FOLDER, embedded
from harness.rng import numpy_generator, torch_generator
from tools.weights import clip, corpus
from tools.weights.augment import augment, junk
from tools.weights.training import Recipe, attack


def draws(seed: int = 0) -> torch.Generator:
    return torch_generator(seed, "test")


def test_generators_depend_on_every_part_of_their_name() -> None:
    def both(seed: int, purpose: str, step: int) -> tuple[float, float]:
        generator = torch_generator(seed, purpose, step)
        return numpy_generator(seed, purpose, step).random(), torch.rand(1, generator=generator).item()

    names = [(0, "data", 0), (1, "data", 0), (0, "data", 1), (0, "date", 0), (1, "1", 1), (11, "", 1)]
    drawn = [both(*name) for name in names]
    assert drawn == [both(*name) for name in names]
    assert len({first for first, _ in drawn}) == len({second for _, second in drawn}) == len(names)


@pytest.mark.parametrize("make", [lambda images, generator: augment(images, 32, generator), junk])
def test_changed_images_stay_images_and_follow_the_generator(make) -> None:  # type: ignore[no-untyped-def]
    images = torch.rand(12, 3, 64, 64, generator=draws()) * 2 - 1
    first = make(images, draws(1))
    assert first.shape[:2] == (12, 3) and first.abs().max() <= 1 and torch.isfinite(first).all()
    assert torch.equal(first, make(images, draws(1))) and not torch.equal(first, make(images, draws(2)))


def test_what_comes_in_from_outside_the_picture_is_white() -> None:
    black = augment(-torch.ones(200, 3, 64, 64), 32, draws())
    assert (black[..., 0, 0] > 0.5).all(1).any() and (black[..., 16, 16] < 0).float().mean() > 0.9


def test_half_of_a_batch_is_seen_small() -> None:
    stripes = torch.ones(40, 3, 64, 64)
    stripes[..., ::4] = stripes[..., 1::4] = -1
    detail = augment(stripes, 32, draws()).diff(dim=3).abs().mean((1, 2, 3))
    assert detail[:20].mean() > 2 * detail[20:].mean()


def test_the_attack_climbs_and_stays_in_its_ball() -> None:
    images = torch.rand(64, 3, 8, 8, generator=draws()) - 0.5
    direction = torch.randn(3, 8, 8, generator=draws(1))
    moved = attack(images, lambda pixels: (pixels * direction).sum(), 0.1, draws(2))
    reach = (moved - images).abs().amax((1, 2, 3))
    assert reach.max() <= 0.1 + 1e-6 and reach.min() >= 0.1 / 3 - 1e-6 and reach.std() > 0.01
    assert ((moved - images) * direction).sum() > 0.8 * (reach.view(-1, 1, 1, 1) * direction.abs()).sum()
    assert attack(torch.ones(2, 3, 8, 8), lambda pixels: pixels.sum(), 0.1, draws()).max() <= 1


def test_the_loss_knows_pairs_twins_and_pictures_of_nothing() -> None:
    texts = torch.eye(6)[:4]
    scale, alone = torch.tensor(20.0), torch.eye(4, dtype=torch.bool)
    paired = clip.clip_loss(texts, texts, scale, alone)
    assert paired < 1e-3 < clip.clip_loss(texts.roll(1, 0), texts, scale, alone)
    same = texts[[0, 0, 2, 3]]
    twins = alone.clone()
    twins[0, 1] = twins[1, 0] = True
    assert clip.clip_loss(same, same, scale, twins) < 1e-3 < clip.clip_loss(same, same, scale, alone)
    nothing, lookalike = torch.eye(6)[4:], texts[:2]
    assert clip.clip_loss(torch.cat([texts, nothing]), texts, scale, alone) == pytest.approx(float(paired), abs=1e-3)
    assert clip.clip_loss(torch.cat([texts, lookalike]), texts, scale, alone) > 0.1


def test_classes_and_tones_come_from_the_code_points() -> None:
    names, labels = corpus._labels(["1f600", "1f469-1f3fb-200d-1f52c", "2764", "e50a"])
    assert [names[label] if label >= 0 else None for label in labels] == ["face-smiling", "person-role", "heart", None]
    assert [corpus._tone(key) for key in ("1f600", "1f44b-1f3fb", "1f44b-1f3ff", "1f3fa")] == [0, 1, 5, 0]


def test_every_picture_has_the_class_of_its_name(tmp_path: Path) -> None:
    """Pictures that are the same as another are in the records and not in the prepared data."""
    emoji = corpus.Corpus(tmp_path)
    names = [captions[0] for captions in emoji.data.captions]
    classes = {name: emoji.classes[label] for name, label in zip(names, emoji.labels, strict=True) if label >= 0}
    some = {"dog face": "animal-mammal", "red apple": "food-fruit", "rainbow flag": "flag", "hot dog": "food-prepared"}
    assert {name: classes[name] for name in some} == some
    tones = {name: int(tone) for name, tone in zip(names, emoji.tones, strict=True)}
    dark = [tone for name, tone in tones.items() if name.endswith(": medium-dark skin tone")]
    assert len(dark) > 100 and set(dark) == {4}


def test_the_card_tells_of_encoders_that_know_their_classes() -> None:
    rows = re.findall(r"^\| (resnet-\w+) \| \d+ \| ([\d.]+) \| ([\d.]+) \|$", (FOLDER / "README.md").read_text(), re.M)
    assert len(rows) == 4 and all(float(trained) > 0.8 and float(held_out) > 0.6 for _, trained, held_out in rows)


@pytest.mark.slow
def test_training_is_a_function_of_its_seed(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    emoji = corpus.Corpus(tmp_path)
    states = []
    for seed in (5, 5, 6):
        recipe = Recipe("clip-guide", seed=seed, steps=2, batch=16, junk=4)
        config, state = clip.train(recipe, emoji, lambda line: None)
        embedded.build_clip(config).load_state_dict(state)
        states.append(state["visual.fc.weight"])
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])
