"""The training step. It knows networks, features and the objective; nothing of folders, tracking or metrics.

One iteration is a discriminator step, R1 every `r1_interval`, a generator step, path length every `pl_interval`, and
the moving average of the generator (StyleGAN2, arXiv 1912.04958, Sec. 3.2 and App. B). `train.first` may turn the order
of the players round.

Where several processes share a run, the networks see this one's rows of the batch; what they give passes through
`ranks.whole`, and all that is computed from it is of the whole batch.

Shapes: N images of a batch, n of them this process's own (all, if it is alone), R pixels, L layers, W intermediate
latent, F features.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from harness.data.batches import Batch, Corpus
from harness.ideas.load import ActiveIdea, OwnIdeas
from harness.ideas.step import Step
from harness.models.build import Networks
from harness.models.discriminator import Judgement
from harness.models.losses import condition_logit, objective, path_lengths, r1_penalties
from harness.models.objective import PLAYERS, PSEUDO, Feature, H, Image, Kind, Player, active, features_needed
from harness.models.precision import rounded_products
from harness.settings import Settings
from harness.training.feed import Feed
from harness.training.finite import UNREAD_STEPS, Finite
from harness.training.graphs import Graphs, Phase
from harness.training.own import ImagesWhenRead, Own
from harness.training.ranks import Draws, Ranks
from harness.training.recorder import recorder
from harness.training.views import view


class Guide(Protocol):
    """A frozen image encoder."""

    @property
    def size(self) -> int:
        """Pixels per side that it works on."""

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1] -> [N, width of its features], with gradient."""


Images = dict[Image, Tensor]
Judged = dict[Image, Judgement]


class Trainer:
    """The state of one run and how a step changes it. Step k is a pure function of the state, the seed and k."""

    ranks = Ranks()
    """Of the processes that share the run, this one."""

    def __init__(
        self,
        settings: Settings,
        networks: Networks,  # on the device that trains
        corpus: Corpus,  # real images, conditions and features, on the CPU
        guides: Mapping[Kind, Guide],  # frozen image encoders: of "f_c" and of what active terms read
        seed: int,
        ideas: OwnIdeas | None = None,  # of the study's own code
    ) -> None:
        self.own = Own(ideas or OwnIdeas(), networks)
        self.settings, self.networks, self.corpus, self.guides, self.seed = settings, networks, corpus, guides, seed
        self.loss, train = settings.loss, settings.train
        self.device = next(networks.generator.parameters()).device
        self.needed = {player: features_needed(active(settings.loss, player)) for player in PLAYERS}
        self.optimizers: dict[Player, torch.optim.Adam] = {
            "generator": self._adam("generator", [train.pl_interval] if train.pl_weight else []),
            "discriminator": self._adam("discriminator", [train.r1_interval] if train.r1_gamma else []),
        }
        self.feed = Feed(self.read, self.device)
        self.finite = Finite(self.optimizers.values(), self.device)
        self.pl_mean = torch.zeros((), device=self.device)
        others = [self.pl_mean, *self.finite.state]
        self.graphs = Graphs(recorder(self.device, train.graphs), seed, self.optimizers.values(), others)
        self.copied = list(zip(networks.averaged.buffers(), networks.generator.buffers(), strict=True))
        """Pairs of buffers, such as the running statistics of an own layer, which have no mean of their own."""
        self.compute = torch.bfloat16 if train.precision == "bf16" else None
        self.beside = set(networks.ideas.parameters())
        """Weights of own terms and penalties, which see whole batches: their gradient is whole on every rank."""

    def step(self, step: int) -> dict[str, Tensor]:
        """One iteration; the losses by name, unweighted, as scalars.

        A broken update is never taken. It raises Diverged: on the CPU at once, on a GPU here, later or in finite.check.
        """
        batch, losses = self.batch(step), dict[str, Tensor]()
        self.finite.at(step)
        with rounded_products(self.settings.train.precision == "tf32"):
            for phase in self.phases:
                if step % phase.interval == 0:
                    with self.own.during(f"{phase.name} of step {step}", partial(self.stream, step=step)):
                        losses |= self.graphs.take(phase, self.with_own_noise(batch, step, phase.name), step)
            self.average(step)
        if step % UNREAD_STEPS == 0:
            self.finite.check()
        return losses

    @property
    def phases(self) -> list[Phase]:
        """What a step is made of, in order; a regulariser of weight 0 is not in it."""
        train, own = self.settings.train, "own code may have a state of its own or wait for the GPU"
        eager = own if self.own.ideas else "several processes share the run" if self.ranks.count > 1 else ""
        crops = "a crop of another size at each step" if self.settings.encoders.view == "crop" else ""
        discriminator = [Phase("discriminator", self.d_step, eager=eager)]
        if train.r1_gamma:
            discriminator.append(Phase("R1", self.r1_step, train.r1_interval, eager))
        generator = [Phase("generator", self.g_step, eager=eager or crops)]
        if train.pl_weight:
            generator.append(Phase("path length", self.path_step, train.pl_interval, eager))
        for idea in self.own.ideas.of("penalty"):
            phases = discriminator if idea.player == "discriminator" else generator
            phases.append(Phase(idea.name, partial(self.penalty_step, idea), idea.every, eager))
        return discriminator + generator if train.first == "discriminator" else generator + discriminator

    def d_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Real against generated images; the generator is not touched."""
        with torch.no_grad():
            fake = self.imagine(batch, step, "discriminator")
        images: Images = {**fake, "r": batch.real}
        judged = self.judge(images, step, "discriminator")
        seen = Step(self, step, "discriminator", images, judged, features(batch, judged))
        losses = self.losses(seen, self.logits(batch, judged))
        self.update("discriminator", step, losses["total"])
        self.own.after(seen)
        return {f"discriminator/{name}": loss.detach() for name, loss in losses.items()}

    def g_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Generated images against the discriminator and the frozen guides."""
        fake = self.imagine(batch, step, "generator")
        with frozen(self.networks.discriminator):
            judged = self.judge(fake, step, "generator")
            if Feature("f_img", "r") in self.needed["generator"]:
                with torch.no_grad():  # a target
                    judged |= self.judge({"r": batch.real}, step, "generator r")
            read = features(batch, judged) | self.guide(fake, step)
            seen = Step(self, step, "generator", {**fake, "r": batch.real}, judged, read)
            losses = self.losses(seen, self.logits(batch, {name: judged[name] for name in fake}))
            self.update("generator", step, losses["total"])
        return {f"generator/{name}": loss.detach() for name, loss in losses.items()}

    def r1_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Lazy R1 on real images (Mescheder 2018): gamma / 2 * penalty, times the interval."""
        train = self.settings.train
        real = batch.real.detach().requires_grad_(True)
        logits = self.logits(batch, self.judge({"r": real}, step, "R1"))["r"]
        penalty = self.ranks.whole(r1_penalties(logits, real)).mean()
        self.update("discriminator", step, penalty * (train.r1_gamma / 2 * train.r1_interval))
        return {"discriminator/r1": penalty.detach()}

    def path_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Lazy path length regularisation: (|J^T y| - mean)^2, times weight and interval."""
        train = self.settings.train
        ranks = replace(self.ranks, unit=1)  # no image has to do with its neighbours here
        draws, first = Draws(self.stream("path", step), ranks), max(1, len(batch.h) // train.pl_batch_shrink)
        h, tokens = (None if each is None else ranks.rows(each[:first]) for each in (batch.h, batch.tokens))
        assert h is not None
        ws = self.mixed_ws(len(h), draws)
        images = self.networks.generator.synthesis(ws, h, draws.normal, self.compute, tokens)
        lengths = ranks.whole(path_lengths(images, ws, draws.normal(images.shape)))
        new = lengths if train.pl_mean_gradient else lengths.detach()
        mean = self.pl_mean.lerp(new.mean(), train.pl_decay)
        penalty = (lengths - mean).square().mean()
        self.update("generator", step, penalty * (train.pl_weight * train.pl_interval))
        self.pl_mean.copy_(mean.detach())
        return {"generator/path_length": penalty.detach()}

    def penalty_step(self, idea: ActiveIdea, batch: Batch, step: int) -> dict[str, Tensor]:
        """A regulariser of the study's own, lazily, as R1."""
        assert idea.player  # a penalty has one
        is_discriminators = idea.player == "discriminator"
        with frozen(self.networks.generator if is_discriminators else self.networks.discriminator):
            images = ImagesWhenRead(batch.real, partial(self.imagine, batch, step, idea.name))
            seen = Step(self, step, idea.player, images, {}, features(batch, {}))
            penalty = self.own.scalar(idea, seen)
            self.update(idea.player, step, penalty * (idea.weight * idea.every))
            self.own.refuse_without_gradient(idea, self.networks.trained(idea.player))
        return {f"{idea.player}/{idea.name}": penalty.detach()}

    # What a step is made of

    def losses(self, seen: Step, logits: Mapping[Image, Tensor]) -> dict[str, Tensor]:
        """The objective's losses and the study's own terms, unweighted, and "total", weighted."""
        adversarial = self.own.adversarial(seen, logits)
        losses = objective(seen.player, self.settings.loss, seen.features, logits, adversarial)
        return self.own.with_terms(losses, seen)

    def batch(self, step: int) -> Batch:
        """The real images and conditions of one step, on the trainer's device."""
        return self.feed.batch(step)

    def read(self, step: int) -> Batch:
        """The same on the CPU, its real images of 8 bits."""
        size = self.settings.train.batch
        return self.corpus.read(self.settings.condition, self.seed, step, size, self.ranks.places(size))

    def with_own_noise(self, batch: Batch, step: int, phase: str) -> Batch:
        """The batch with conditions that this phase has drawn for itself, where they are not drawn once a step."""
        if self.settings.condition.noise_per == "step":
            return batch
        drawn = self.corpus.conditions(self.settings.condition, self.seed, step, len(batch.h), phase)
        h, pseudo, tokens = (None if part is None else part.to(self.device, non_blocking=True) for part in drawn)
        assert h is not None and pseudo is not None
        return replace(batch, h=h, pseudo=pseudo, tokens=tokens)

    def imagine(self, batch: Batch, step: int, purpose: str) -> Images:
        """Own rows of x and, with paired contrast, x' of the same latents; each purpose has latents of its own."""
        draws, synthesis = Draws(self.stream(f"{purpose} latents", step), self.ranks), self.networks.generator.synthesis
        h, tokens = self.ranks.rows(batch.h), None if batch.tokens is None else self.ranks.rows(batch.tokens)
        n = len(h)
        ws = self.mixed_ws(n, draws)
        if not self.settings.loss.paired_contrast:
            return {"x": synthesis(ws, h, draws.normal, self.compute, tokens)}
        if tokens is not None:
            tokens = torch.cat([tokens, torch.zeros_like(tokens)])  # h' is of no words
        conditions = torch.cat([h, self.ranks.rows(batch.pseudo)])
        both = synthesis(torch.cat([ws, ws]), conditions, draws.normal, self.compute, tokens)
        return {"x": both[:n], "x'": both[n:]}

    def mixed_ws(self, n: int, draws: Draws) -> Tensor:
        """ws [n,L,W] with style mixing: by chance, a sample's layers switch to a second w at a random depth."""
        generator = self.networks.generator
        # Drawn whatever the probability, so that the pixel noise, drawn next, does not depend on it.
        z = draws.normal((2 * n, generator.z_dim))
        chance, depth = draws.uniform((2 * n, 1, 1)).view(2, n, 1, 1)
        if not self.settings.train.style_mixing:
            ws: Tensor = generator.mapping(z[:n])[:, None]
            return ws.expand(-1, generator.layers, -1)
        w, other = generator.mapping(z)[:, None].chunk(2)
        layer = torch.arange(generator.layers, device=self.device).view(1, -1, 1)
        first = 1 + (depth * (generator.layers - 1)).floor()  # uniform over 1..L-1
        return torch.where((chance < self.settings.train.style_mixing) & (layer >= first), other, w)

    def judge(self, images: Mapping[Image, Tensor], step: int, purpose: str) -> Judged:
        """What D says of whole batches, of which own rows are given, in one pass; its minibatch statistics stay within
        each.
        """
        every = torch.cat(list(images.values()))
        if self.own.augments:
            whole = self.ranks.whole(every)
            every = self.ranks.rows(self.own.augmented(whole, lambda idea: self.stream(f"{idea} {purpose}", step)))
        judged = self.networks.discriminator(every, self.compute, self.settings.loss.group or len(every) // len(images))
        parts = zip(*(self.ranks.whole(output).chunk(len(images)) for output in judged), strict=True)
        return {name: Judgement(*part) for name, part in zip(images, parts, strict=True)}

    def guide(self, fake: Images, step: int) -> dict[Feature, Tensor]:
        """What the guides see in generated images: only features that an active term reads, in fp32, with gradient."""
        guided = dict[Feature, Tensor]()
        for kind in self.guides:
            names = [name for name in fake if Feature(kind, name) in self.needed["generator"]]
            if names:
                outputs = self.look(kind, torch.cat([fake[name] for name in names]), step).chunk(len(names))
                guided |= {Feature(kind, name): output for name, output in zip(names, outputs, strict=True)}
        return guided

    def look(self, kind: Kind, images: Tensor, step: int) -> Tensor:
        """[N, width]: the features of that kind of images, of which own rows [n,3,R,R] are given, as `view` moves them.

        In fp32, with gradient.
        """
        config, guide = self.settings.encoders, self.guides[kind]
        draws = Draws(self.stream(f"{kind} view", step), self.ranks)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            return self.ranks.whole(guide.image(view(images, config, draws, guide.size)))

    def logits(self, batch: Batch, judged: Judged) -> dict[Image, Tensor]:
        """D's logit [N] of each batch of images under its condition."""
        return {
            name: condition_logit(self.settings.loss, (it.b, it.f_txt), name, batch.h, batch.pseudo)
            for name, it in judged.items()
        }

    def update(self, player: Player, step: int, loss: Tensor) -> None:
        """One step of Adam for the player's weights alone, unless it is broken."""
        optimizer = self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        gradients = {p: p.grad for p in parameters if p.grad is not None}
        whole = [gradient for p, gradient in gradients.items() if p in self.beside and self.ranks.rank]
        for gradient in whole:
            gradient.zero_()  # rank 0's counts
        self.ranks.add_up([*gradients.values()])
        norm = torch.nn.utils.get_total_norm([*gradients.values()])
        self.finite.note(player, step, loss.detach(), norm)
        optimizer.step()

    @torch.no_grad()
    def average(self, step: int) -> None:
        """EMA of the generator with a half-life in images, shorter while the run is young."""
        train = self.settings.train
        half_life, images = train.ema_kimg * 1000, (step + 1) * train.batch
        if train.ema_rampup:
            half_life = min(half_life, images * train.ema_rampup)
        keep = 0.5 ** (train.batch / max(half_life, 1e-8))  # 0 without a half-life: the average is the generator
        for mean, now in self.copied:
            mean.copy_(now)
        averaged: list[Tensor] = list(self.networks.averaged.parameters())
        # One kernel for all weights, where a loop launches one for each.
        torch._foreach_lerp_(averaged, list[Tensor](self.networks.generator.parameters()), 1 - keep)

    def _adam(self, player: Player, intervals: Sequence[int]) -> torch.optim.Adam:
        """Adam with the correction for regularisers that each take a step of their own (StyleGAN2, App. B)."""
        train = self.settings.train
        every = [*intervals, *(idea.every for idea in self.own.ideas.of("penalty", player))]
        ratio = float(1 / (1 + sum(Fraction(1, interval) for interval in every)))
        betas = (train.beta1**ratio, train.beta2**ratio)
        return torch.optim.Adam(self.networks.trained(player), train.lr * ratio, betas, 1e-8, fused=True)

    def stream(self, purpose: str, step: int) -> torch.Generator:
        """Random numbers of the run's seed, a purpose and the step, on the device that trains."""
        return self.graphs.stream(purpose, step, self.device)


def features(batch: Batch, judged: Judged) -> dict[Feature, Tensor]:
    """What the batch and the discriminator give the terms to read."""
    given = {H: batch.h, PSEUDO: batch.pseudo}
    if batch.tokens is not None:
        given[Feature("h_tokens")] = batch.tokens
    for name, it in judged.items():
        given |= {Feature("f_img", name): it.f_img, Feature("f_txt", name): it.f_txt}
    return given | {Feature(kind, "r"): rows for kind, rows in batch.frozen.items()}


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for these parameters inside the block."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
