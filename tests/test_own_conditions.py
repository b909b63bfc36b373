"""How ideas of a study's own code meet the condition: widths of layers that read it, and D's logit under it."""

from __future__ import annotations

import pytest

from gallery import GALLERY
from harness.ideas.load import fixed_weights
from own_code import own_trainer
from runs import settings


def test_a_layer_is_made_with_the_widths_of_what_it_reads() -> None:
    code = """
class Reader(nn.Module):
    def __init__(self, channels, *widths):
        super().__init__()
        self.read = nn.ModuleList([nn.Linear(width, channels) for width in widths])
    def forward(self, x, *given):
        return x + sum(layer(each).view(len(x), -1, 1, 1) for layer, each in zip(self.read, given, strict=True))

@layer("generator", at=8, reads=("w", "h"))
class both(Reader):
    def __init__(self, channels: int, w_dim: int, text_dim: int):
        super().__init__(channels, w_dim, text_dim)

@layer("generator", at=8, reads=("h",))
class inherited(Reader):
    pass

@layer("generator", at=4)
class neither(Reader):
    pass
"""
    own = own_trainer(code)
    generator = own.networks.generator
    shapes = {
        name.split(".own.")[1].partition(".")[0]: [tuple(each.weight.shape) for each in module.read]
        for name, module in generator.named_modules()
        if hasattr(module, "read")
    }
    c, w, f = own.settings.generator.channel_max, own.settings.generator.w_dim, generator.text_dim
    assert w != f and shapes == {"both": [(c, w), (c, f)], "inherited": [(c, f)], "neither": []}
    own.step(0)


def test_a_term_with_weights_of_its_own_is_told_the_width_of_the_condition() -> None:
    """Where its constructor asks for it, which may be one that it inherits; others are made as ever."""
    code = """
class Head(nn.Module):
    def __init__(self, text_dim, *, scale=1.0):
        super().__init__()
        self.read, self.scale = nn.Linear(text_dim, 3), scale
    def forward(self, step):
        return self.scale * self.read(step.h).square().mean()

@term("generator", weight=0.5)
class own(Head):
    def __init__(self, text_dim: int, *, scale: float = 2.0):
        super().__init__(text_dim, scale=scale)

@penalty("discriminator", every=2)
class inherited(Head):
    pass

@term("discriminator")
class neither(nn.Module):
    def __init__(self, *, text_dim: int = 5):
        super().__init__()
        self.read = nn.Linear(text_dim, 3)
    def forward(self, step):
        return self.read.weight.square().mean() + step.logit("r").square().mean()
"""
    trainer = own_trainer(code)
    made = {
        f"{player}/{name}": tuple(idea.module.read.weight.shape)
        for player, ideas in trainer.networks.ideas.items()
        for name, idea in ideas.items()
    }
    f = trainer.networks.generator.text_dim
    assert f != 5
    assert made == {"generator/own": (3, f), "discriminator/inherited": (3, f), "discriminator/neither": (3, 5)}
    assert fixed_weights(trainer.networks.ideas) == 0
    weights = {name: each for name, each in trainer.networks.ideas.named_parameters() if name.endswith("read.weight")}
    before = {name: each.clone() for name, each in weights.items()}
    trainer.step(0)
    assert len(weights) == 3 and not any(each.equal(before[name]) for name, each in weights.items())


@pytest.mark.parametrize("toggles", [(), ("paired_contrast",), ("paired_contrast", "mix_logits")])
def test_images_of_an_idea_are_judged_under_the_condition_of_the_batch_that_they_are_like(
    toggles: tuple[str, ...],
) -> None:
    """So R2 of the gallery is of the logits that the objective has, mixed ones too."""
    r2 = (GALLERY / "relativistic.py").read_text(encoding="utf-8")
    code = """
@term("discriminator", weight=0.0)
def checked(step):
    for name, images in step.images.items():
        assert torch.allclose(step.logit(images, like=name), step.logit(name), atol=1e-5), name
    assert torch.allclose(step.logit(step.real), step.logit("r"), atol=1e-5)
    return step.real.mean()

@penalty("discriminator", weight=5.0, every=16)
def r2(step):
    total = 0.0
    for name, alone in (("x", step.h), ("x'", step.pseudo)):
        if name in step.images:
            images = step.leaf(step.images[name])
            it = step.judge(images)
            condition = LAMBDA * step.h + (1 - LAMBDA) * step.pseudo if MIXED else alone
            logit = it.b + (it.f_txt * condition).sum(1)
            (gradient,) = torch.autograd.grad(logit.sum(), images, create_graph=True)
            total = total + gradient.square().sum((1, 2, 3)).mean()
    return total
"""
    base = settings(*toggles)
    by_hand = own_trainer(f"MIXED, LAMBDA = {'mix_logits' in toggles}, {base.loss.mix_lambda}\n{code}", base)
    values = []
    for each in (by_hand, own_trainer(r2, base)):
        (phase,) = [phase for phase in each.phases if phase.name == "r2"]
        values.append(float(phase.take(each.batch(0), 0)["discriminator/r2"]))
    by_hand.step(1)
    assert values[0] > 0 and values[0] == pytest.approx(values[1], rel=1e-5)
