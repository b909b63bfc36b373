"""The training step. It knows networks, features and the objective; nothing of folders, tracking or metrics.

One iteration is a discriminator step, R1 every `r1_interval`, a generator step, path length every `pl_interval`, and
the moving average of the generator (StyleGAN2, arXiv 1912.04958, Sec. 3.2 and App. B).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor, nn

from harness.data.batches import Batch, Corpus
from harness.errors import Diverged
from harness.models.build import Networks
from harness.models.discriminator import Judgement
from harness.models.losses import condition_logit, objective, path_lengths, r1_penalty
from harness.models.terms import Player, active, features_needed
from harness.rng import torch_generator
from harness.settings import Settings
from harness.training.guides import Guides

Images = dict[str, Tensor]


class Trainer:
    """The state of one run and how a step changes it. Step k is a pure function of the state, the seed and k."""

    def __init__(self, settings: Settings, networks: Networks, corpus: Corpus, guides: Guides, seed: int) -> None:
        self.settings, self.networks, self.corpus, self.guides, self.seed = settings, networks, corpus, guides, seed
        train = settings.train
        self.device = next(networks.generator.parameters()).device
        self.optimizers: dict[Player, torch.optim.Adam] = {
            "generator": self._adam(networks.generator, train.pl_interval if train.pl_weight else 0),
            "discriminator": self._adam(networks.discriminator, train.r1_interval if train.r1_gamma else 0),
        }
        self.pl_mean = torch.zeros((), device=self.device)
        self.compute = torch.bfloat16 if train.precision == "bf16" else None

    def step(self, step: int) -> dict[str, Tensor]:
        """One iteration; the losses by name, unweighted, as scalars. Raises Diverged before a broken update."""
        train = self.settings.train
        batch = self.batch(step)
        losses = self.d_step(batch, step)
        if train.r1_gamma and step % train.r1_interval == 0:
            losses |= self.r1_step(batch, step)
        losses |= self.g_step(batch, step)
        if train.pl_weight and step % train.pl_interval == 0:
            losses |= self.path_step(batch, step)
        self.average(step)
        return losses

    def d_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Real against generated images; the generator is not touched."""
        with torch.no_grad():
            images = self.imagine(batch, step, "discriminator")
        judged = self.judge({**images, "r": batch.real})
        return self._descend("discriminator", step, batch, judged, {})

    def g_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Generated images against the discriminator and the frozen guides."""
        images = self.imagine(batch, step, "generator")
        with frozen(self.networks.discriminator):
            judged = self.judge(images)
            if "f_img(r)" in self._needed["generator"]:
                with torch.no_grad():
                    judged |= self.judge({"r": batch.real})
            guided = self.guide(images, step)
            return self._descend("generator", step, batch, judged, guided)

    def r1_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Lazy R1 on real images (Mescheder 2018): gamma / 2 * penalty, times the interval."""
        train = self.settings.train
        real = batch.real.detach().requires_grad_(True)
        logits = self._logits(batch, self.judge({"r": real}))
        penalty = r1_penalty(logits["r"], real)
        self._update("discriminator", step, penalty * (train.r1_gamma / 2 * train.r1_interval))
        return {"discriminator/r1": penalty.detach()}

    def path_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Lazy path length regularisation: (|J^T y| - mean)^2, times weight and interval."""
        train = self.settings.train
        rng = self._rng("path", step)
        h = batch.h[: max(1, len(batch.h) // train.pl_batch_shrink)]
        ws = self._ws(len(h), rng)
        images = self.networks.generator.synthesis(ws, h, rng, self.compute)
        lengths = path_lengths(images, ws, torch.randn(images.shape, generator=rng, device=self.device))
        self.pl_mean = self.pl_mean.lerp(lengths.detach().mean(), train.pl_decay)
        penalty = (lengths - self.pl_mean).square().mean()
        self._update("generator", step, penalty * (train.pl_weight * train.pl_interval))
        return {"generator/path_length": penalty.detach()}

    # what a step is made of

    @cached_property
    def _needed(self) -> dict[Player, frozenset[str]]:
        players: tuple[Player, ...] = ("generator", "discriminator")
        return {player: features_needed(active(self.settings.loss, player)) for player in players}

    def batch(self, step: int) -> Batch:
        """The real images and conditions of one step, on the trainer's device."""
        batch = self.corpus.batch(self.settings.condition, self.seed, step, self.settings.train.batch)
        if self.device.type == "cpu":
            return batch
        moved = (None if part is None else part.to(self.device, non_blocking=True) for part in vars(batch).values())
        return Batch(*moved)  # type: ignore[arg-type]

    def imagine(self, batch: Batch, step: int, player: Player) -> Images:
        """x and, with paired contrast, x' of the same latents."""
        rng = self._rng(f"{player} latents", step)
        n, synthesis = len(batch.h), self.networks.generator.synthesis
        ws = self._ws(n, rng)
        if not self.settings.loss.paired_contrast:
            return {"x": synthesis(ws, batch.h, rng, self.compute)}
        both = synthesis(torch.cat([ws, ws]), torch.cat([batch.h, batch.pseudo]), rng, self.compute)
        return {"x": both[:n], "x'": both[n:]}

    def _ws(self, n: int, rng: torch.Generator) -> Tensor:
        """ws [n,L,W] with style mixing: by chance, a sample's layers switch to a second w at a random depth."""
        generator = self.networks.generator
        z = torch.randn(2, n, generator.z_dim, generator=rng, device=self.device)
        chance, depth = torch.rand(2, n, 1, 1, generator=rng, device=self.device)
        ws: Tensor = generator.mapping(z[0])[:, None].expand(-1, generator.layers, -1)
        if not self.settings.train.style_mixing:
            return ws
        layer = torch.arange(generator.layers, device=self.device).view(1, -1, 1)
        first = 1 + (depth * (generator.layers - 1)).floor()  # uniform over 1..L-1
        switch = (chance < self.settings.train.style_mixing) & (layer >= first)
        return torch.where(switch, generator.mapping(z[1])[:, None], ws)

    def judge(self, images: Images) -> dict[str, Judgement]:
        """One pass of the discriminator over all batches; its minibatch statistics stay within each."""
        judged = self.networks.discriminator(torch.cat(list(images.values())), self.compute)
        parts = zip(*(output.chunk(len(images)) for output in judged), strict=True)
        return {name: Judgement(*part) for name, part in zip(images, parts, strict=True)}

    def guide(self, images: Images, step: int) -> dict[str, Tensor]:
        """Features of the generated images by the frozen guides: only those that an active term reads."""
        features: dict[str, Tensor] = {}
        for kind in ("f_c", "f_res"):
            seen = {name: x for name, x in images.items() if f"{kind}({name})" in self._needed["generator"]}
            if seen:
                rng = torch_generator(self.seed, f"{kind} view", step)
                outputs = self.guides.features(kind, torch.cat(list(seen.values())), rng).chunk(len(seen))
                features |= {f"{kind}({name})": output for name, output in zip(seen, outputs, strict=True)}
        return features

    def _descend(
        self, player: Player, step: int, batch: Batch, judged: Mapping[str, Judgement], guided: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        features = {"h": batch.h, "h'": batch.pseudo, **guided}
        for name, (_, f_img, f_txt) in judged.items():
            features |= {f"f_img({name})": f_img, f"f_txt({name})": f_txt}
        if batch.resnet is not None:
            features["f_res(r)"] = batch.resnet
        losses = objective(player, self.settings, features, self._logits(batch, judged))
        self._update(player, step, losses["total"])
        return {f"{player}/{name}": value.detach() for name, value in losses.items()}

    def _logits(self, batch: Batch, judged: Mapping[str, Judgement]) -> dict[str, Tensor]:
        loss = self.settings.loss
        return {
            name: condition_logit(loss, (it.b, it.f_txt), name, batch.h, batch.pseudo)  # type: ignore[arg-type]
            for name, it in judged.items()
        }

    def _update(self, player: Player, step: int, loss: Tensor) -> None:
        optimizer = self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in _parameters(optimizer) if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        value = loss.detach()
        if not bool(torch.isfinite(value + norm)):
            raise Diverged(f"step {step}: the {player}'s loss is {float(value):g}, its gradient norm {float(norm):g}")
        optimizer.step()

    @torch.no_grad()
    def average(self, step: int) -> None:
        """EMA of the generator with a half-life in images, shorter while the run is young."""
        train = self.settings.train
        half_life, seen = train.ema_kimg * 1000, (step + 1) * train.batch
        if train.ema_rampup:
            half_life = min(half_life, seen * train.ema_rampup)
        keep = 0.5 ** (train.batch / max(half_life, 1e-8))
        averaged: list[Tensor] = list(self.networks.averaged.parameters())
        torch._foreach_lerp_(averaged, list[Tensor](self.networks.generator.parameters()), 1 - keep)

    def _adam(self, network: nn.Module, interval: int) -> torch.optim.Adam:
        """Adam with the correction for a regulariser that takes every `interval`-th step (StyleGAN2, App. B)."""
        train = self.settings.train
        ratio = interval / (interval + 1) if interval else 1.0
        betas = (train.beta1**ratio, train.beta2**ratio)
        return torch.optim.Adam(network.parameters(), train.lr * ratio, betas, 1e-8, fused=True)

    def _rng(self, purpose: str, step: int) -> torch.Generator:
        return torch_generator(self.seed, purpose, step, str(self.device))


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for these parameters inside the block."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _parameters(optimizer: torch.optim.Optimizer) -> Iterable[Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
