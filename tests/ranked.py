"""Ranks in processes of their own against one: `python ranked.py COUNT FOLDER` prints how far they are apart, as JSON.

The processes are forked once for all that is compared, in float64. Rank 0 also computes what one process does.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from harness.data.batches import Batch
from harness.ideas.load import OwnIdeas, load_ideas
from harness.models.build import Shapes, build
from harness.models.objective import Kind
from harness.models.toggles import TOGGLES
from harness.rng import torch_generator
from harness.settings import Settings
from harness.training import ranks as module
from harness.training import trainer as trainer_module
from harness.training.ranks import Ranks, unit_of
from harness.training.trainer import Trainer
from own_code import run_with
from runs import Counted, F, R, S, corpus, settings

BATCH = 8
CORPUS = corpus()
RANKS = [Ranks()]
"""This process."""
SUBSETS = [c for size in range(len(TOGGLES) + 1) for c in itertools.combinations(TOGGLES, size)]


class Exact(Trainer):
    """In float64."""

    def batch(self, step: int) -> Batch:
        return self.doubled(super().batch(step))

    def with_own_noise(self, batch: Batch, step: int, phase: str) -> Batch:
        return self.doubled(super().with_own_noise(batch, step, phase))

    @staticmethod
    def doubled(batch: Batch) -> Batch:
        frozen = {kind: rows.double() for kind, rows in batch.frozen.items()}
        return replace(batch, real=batch.real.double(), h=batch.h.double(), pseudo=batch.pseudo.double(), frozen=frozen)


def exact_trainer(chosen: Settings, ranks: Ranks, ideas: OwnIdeas | None = None) -> Trainer:
    ideas = ideas or OwnIdeas()
    networks = build(chosen, Shapes(R, F), lambda name: torch_generator(0, f"init {name}"), ideas.modules())
    for name, parameter in networks.generator.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.5)
    guides: dict[Kind, Counted] = {"f_c": Counted(F), "f_res": Counted(S)}
    for guide in guides.values():
        guide.weight = guide.weight.double()
    subject = Exact(chosen, networks, CORPUS, guides, 0, ideas)
    subject.ranks = replace(ranks, unit=unit_of(chosen))
    return subject


def passes(subject: Trainer, step: int = 3) -> dict[str, Tensor]:
    """Losses of every part of a step, and behind each the gradients that its player got; the weights stay."""
    found: dict[str, Tensor] = {}
    for optimizer in subject.optimizers.values():
        optimizer.param_groups[0]["lr"] = 0.0
    batch = subject.batch(step)
    for phase in subject.phases:
        with subject.own.during(phase.name, lambda purpose: subject.stream(purpose, step)):
            losses = phase.take(subject.with_own_noise(batch, step, phase.name), step)
        found |= losses
        player = next(iter(losses)).partition("/")[0]
        weights = subject.networks.trained(player)  # type: ignore[arg-type]
        grads = [w.grad.flatten() for w in weights if w.grad is not None]
        found[f"gradient of {phase.name}"] = torch.cat(grads)
    return found | {"pl_mean": subject.pl_mean}


def furthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest value of each tensor."""
    assert ours.keys() == theirs.keys()
    return max(float((ours[k] - theirs[k]).abs().max() / theirs[k].abs().max().clamp_min(1e-3)) for k in theirs)


def compared(
    ranks: Ranks, chosen: Settings, code: str = "", take: Callable[[Trainer], dict[str, Tensor]] = passes
) -> float:
    """How far the ranks are from one process; infinitely, if one of them has other bits than another."""

    def subject(these: Ranks) -> Trainer:
        return exact_trainer(chosen, these, load_ideas(run_with(code, chosen)) if code else None)

    if code:
        chosen = run_with(code, chosen).settings
    shared = take(subject(ranks))
    every: list[Any] = [None] * ranks.count
    dist.all_gather_object(every, {name: value.numpy().tobytes() for name, value in shared.items()})
    if any(each != every[0] for each in every):
        return math.inf
    return furthest(shared, take(subject(Ranks()))) if ranks.rank == 0 else 0.0


def trained(subject: Trainer) -> dict[str, Tensor]:
    """The weights after three steps."""
    for step in range(3):
        subject.step(step)
    return {name: each.detach().clone() for name, each in subject.networks.state().items()} | {"pl": subject.pl_mean}


MUTANTS = ("mean for sum", "each rank its own contrast", "a gather without the live rows")


@contextmanager
def mutant(name: str) -> Iterator[None]:
    """A mistake that somebody could make."""

    def mean(self: Ranks, gradients: Sequence[Tensor]) -> None:
        add_up(self, gradients)
        for gradient in gradients:
            gradient /= self.count

    def dead(ctx: Any, *grads: Tensor) -> Any:
        return torch.zeros_like(ctx.ranks.rows(grads[0])), None

    def of_own_rows(player: Any, loss: Any, features: Any, logits: Any, own: Any = None) -> dict[str, Tensor]:
        places = RANKS[0].places(BATCH)
        parts = ({name: each[places] for name, each in part.items()} for part in (features, logits))
        losses = objective(player, loss, *parts, own)
        return {name: each / RANKS[0].count for name, each in losses.items()}

    add_up, objective = Ranks.add_up, trainer_module.objective
    changes: dict[str, tuple[Any, str, Any]] = {
        "mean for sum": (Ranks, "add_up", mean),
        "each rank its own contrast": (trainer_module, "objective", of_own_rows),
        "a gather without the live rows": (module._Whole, "backward", staticmethod(dead)),
    }
    owner, attribute, value = changes[name]
    before = vars(owner)[attribute]
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, before)


def chosen(*toggles: str, **more: Any) -> Settings:
    changes = {"train.batch": BATCH, "train.pl_batch_shrink": 2, "train.style_mixing": 0.7, **more}
    return settings(*toggles).with_values(changes)


def join(count: int, folder: Path) -> Ranks:
    """Fork the other ranks; this is rank 0."""
    rank = next((rank for rank in range(1, count) if os.fork() == 0), 0)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(str(folder / f"store{count}"), count)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=count, timeout=timedelta(seconds=60))
    RANKS[0] = Ranks(rank, count)
    return RANKS[0]


IDEAS = {
    "a term on pixels, on images of its own and on logits under other texts": """
@term("generator")
def mine(step):
    shifted = step.judge(step.images["x"].roll(1, 0) * 0.5 + step.real * 0.5)
    pixels = (step.images["x"].mean(0) - step.real.mean(0)).square().mean()
    return shifted.b.square().mean() + pixels + step.logit("x", step.h.roll(1, 0)).mean().square()
""",
    "a term with weights of its own": """
@term("discriminator")
class mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)
    def forward(self, step):
        return (self.head(step.feature("f_img", "x")).mean(0) - self.head(step.feature("f_img", "r")).mean(0)).norm()
""",
    "a term with weights before the discriminator": """
@term("discriminator")
class mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3, 1, 1))
    def forward(self, step):
        return softplus(step.logit(step.images["x"] * self.scale)).mean().square()
""",
    "a penalty between real and generated images": """
@penalty("discriminator", every=1)
def mine(step):
    share = torch.rand(len(step.real), 1, 1, 1, generator=step.rng())
    between = step.leaf(share * step.real + (1 - share) * step.images["x"])
    (gradient,) = torch.autograd.grad(step.logit(between).sum(), between, create_graph=True)
    return (gradient.flatten(1).norm(dim=1).mean() - 1).square()
""",
    "a penalty of the generator's": """
@penalty("generator", every=1)
def mine(step):
    return softplus(-step.logit("x")).std() + step.images["x"].std(0).mean()
""",
    "an augmentation over the batch": """
@augment
def mine(images, rng):
    share = torch.rand(len(images), 1, 1, 1, generator=rng)
    return images * share + images.roll(1, 0) * (1 - share)
""",
    "an augmentation that follows the logits": """
@augment
class mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("p", torch.ones(()))
    def forward(self, images, rng):
        return images + 0.1 * self.p * torch.randn(images.shape)
    def after(self, step):
        self.p += step.logit("r").sign().mean()
""",
    "a relativistic adversarial loss": """
@adversarial
def mine(player, logits):
    sign = 1 if player == "discriminator" else -1
    return softplus(-sign * (logits["r"] - logits["x"].mean())).mean()
""",
}
"""What a study's own code may do with a batch."""

VARIANTS: dict[str, dict[str, Any]] = {
    "strided": {"discriminator.minibatch_std_layout": "strided"},
    "no minibatch statistics": {"discriminator.minibatch_std_group": 0},
    "groups": {"loss.group": 2},
    "sum over the batch": {"loss.logit": "batch_sum"},
    "sum over groups": {"loss.logit": "batch_sum", "loss.group": 2},
    "gradient through the mean of path lengths": {"train.pl_mean_gradient": True},
    "noise for each phase": {"condition.noise_per": "phase"},
    "crops of LAFITE's code": {"encoders.view": "crop"},
    "a quarter of the batch has its path measured": {"train.batch": 16, "train.pl_batch_shrink": 4},
}


def main(count: int, folder: Path) -> dict[str, dict[str, float]]:
    """What is compared, and how far the ranks are from one process."""
    torch.set_default_dtype(torch.float64)
    ranks = join(count, folder)
    results = {"toggles": {"+".join(each): compared(ranks, chosen(*each)) for each in SUBSETS}}
    results["settings"] = {
        f"{name} {len(on)}": compared(ranks, chosen(*on, **changes))
        for name, changes in VARIANTS.items()
        for on in ((), tuple(TOGGLES))
    }
    results["ideas"] = {name: compared(ranks, chosen(), code) for name, code in IDEAS.items()}
    results["weights"] = {name: compared(ranks, chosen(), code, trained) for name, code in IDEAS.items()}
    results["weights"] |= {f"{len(on)} toggles": compared(ranks, chosen(*on), take=trained) for on in ((), TOGGLES)}
    results["mutants"] = {}
    for name in MUTANTS:
        with mutant(name):
            results["mutants"][name] = compared(ranks, chosen(*TOGGLES))
    return results


if __name__ == "__main__":
    found = main(int(sys.argv[1]), Path(sys.argv[2]))
    if RANKS[0].rank == 0:
        print(json.dumps(found))
