"""The training step. It knows networks, features and the objective; nothing of folders, tracking or metrics.

One iteration is a discriminator step, R1 every `r1_interval`, a generator step, path length every `pl_interval`, and
the moving average of the generator (StyleGAN2, arXiv 1912.04958, Sec. 3.2 and App. B). `train.first` may turn the order
of the players round.

Shapes: n images of a batch, R pixels, L layers, W intermediate latent, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.batches import Batch, Corpus
from harness.errors import Diverged
from harness.models.build import Networks
from harness.models.discriminator import Judgement
from harness.models.losses import condition_logit, objective, path_lengths, r1_penalty
from harness.models.objective import PLAYERS, PSEUDO, Feature, H, Image, Kind, Player, active, features_needed
from harness.rng import torch_generator
from harness.settings import EncoderConfig, Settings


class Guide(Protocol):
    """A frozen image encoder."""

    @property
    def size(self) -> int:
        """Pixels per side that it works on."""

    def image(self, images: Tensor) -> Tensor:
        """[N,3,R,R] in [-1,1] -> [N, width of its features], with gradient."""


Images = dict[Image, Tensor]
Judged = dict[Image, Judgement]


class Phase(NamedTuple):
    """One player's step or its regulariser."""

    name: str
    take: Callable[[Batch, int], dict[str, Tensor]]
    interval: int = 1
    """Steps between two of it."""


class Trainer:
    """The state of one run and how a step changes it. Step k is a pure function of the state, the seed and k."""

    def __init__(
        self,
        settings: Settings,
        networks: Networks,  # on the device that trains
        corpus: Corpus,  # real images, conditions and features, on the CPU
        guides: Mapping[Kind, Guide],  # frozen image encoders: of "f_c" and of what active terms read
        seed: int,
    ) -> None:
        self.settings, self.networks, self.corpus, self.guides, self.seed = settings, networks, corpus, guides, seed
        train = settings.train
        self.device = next(networks.generator.parameters()).device
        self.needed = {player: features_needed(active(settings.loss, player)) for player in PLAYERS}
        self.optimizers: dict[Player, torch.optim.Adam] = {
            "generator": self._adam(networks.generator, train.pl_interval if train.pl_weight else 0),
            "discriminator": self._adam(networks.discriminator, train.r1_interval if train.r1_gamma else 0),
        }
        self.pl_mean = torch.zeros((), device=self.device)
        self.compute = torch.bfloat16 if train.precision == "bf16" else None

    def step(self, step: int) -> dict[str, Tensor]:
        """One iteration; the losses by name, unweighted, as scalars. Raises Diverged before a broken update."""
        batch, losses = self.batch(step), dict[str, Tensor]()
        for phase in self.phases:
            if step % phase.interval == 0:
                losses |= phase.take(self.with_own_noise(batch, step, phase.name), step)
        self.average(step)
        return losses

    @property
    def phases(self) -> list[Phase]:
        """What a step is made of, in order; a regulariser of weight 0 is not in it."""
        train = self.settings.train
        discriminator = [Phase("discriminator", self.d_step)]
        if train.r1_gamma:
            discriminator.append(Phase("R1", self.r1_step, train.r1_interval))
        generator = [Phase("generator", self.g_step)]
        if train.pl_weight:
            generator.append(Phase("path length", self.path_step, train.pl_interval))
        return discriminator + generator if train.first == "discriminator" else generator + discriminator

    def d_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Real against generated images; the generator is not touched."""
        with torch.no_grad():
            fake = self.imagine(batch, step, "discriminator")
        judged = self.judge({**fake, "r": batch.real})
        losses = objective("discriminator", self.settings.loss, features(batch, judged), self.logits(batch, judged))
        self.update("discriminator", step, losses["total"])
        return {f"discriminator/{name}": loss.detach() for name, loss in losses.items()}

    def g_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Generated images against the discriminator and the frozen guides."""
        fake = self.imagine(batch, step, "generator")
        with frozen(self.networks.discriminator):
            judged = self.judge(fake)
            if Feature("f_img", "r") in self.needed["generator"]:
                with torch.no_grad():  # a target
                    judged |= self.judge({"r": batch.real})
            read = features(batch, judged) | self.guide(fake, step)
            losses = objective("generator", self.settings.loss, read, self.logits(batch, judged))
            self.update("generator", step, losses["total"])
        return {f"generator/{name}": loss.detach() for name, loss in losses.items()}

    def r1_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Lazy R1 on real images (Mescheder 2018): gamma / 2 * penalty, times the interval."""
        train = self.settings.train
        real = batch.real.detach().requires_grad_(True)
        penalty = r1_penalty(self.logits(batch, self.judge({"r": real}))["r"], real)
        self.update("discriminator", step, penalty * (train.r1_gamma / 2 * train.r1_interval))
        return {"discriminator/r1": penalty.detach()}

    def path_step(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Lazy path length regularisation: (|J^T y| - mean)^2, times weight and interval."""
        train = self.settings.train
        rng = self._rng("path", step)
        h = batch.h[: max(1, len(batch.h) // train.pl_batch_shrink)]
        ws = self.mixed_ws(len(h), rng)
        images = self.networks.generator.synthesis(ws, h, rng, self.compute)
        lengths = path_lengths(images, ws, torch.randn(images.shape, generator=rng, device=self.device))
        new = lengths if train.pl_mean_gradient else lengths.detach()
        mean = self.pl_mean.lerp(new.mean(), train.pl_decay)
        self.pl_mean = mean.detach()
        penalty = (lengths - mean).square().mean()
        self.update("generator", step, penalty * (train.pl_weight * train.pl_interval))
        return {"generator/path_length": penalty.detach()}

    # What a step is made of

    def batch(self, step: int) -> Batch:
        """The real images and conditions of one step, on the trainer's device."""
        batch = self.corpus.batch(self.settings.condition, self.seed, step, self.settings.train.batch)
        real, h, pseudo = (part.to(self.device, non_blocking=True) for part in (batch.real, batch.h, batch.pseudo))
        frozen = {kind: rows.to(self.device, non_blocking=True) for kind, rows in batch.frozen.items()}
        return Batch(real, h, pseudo, frozen)

    def with_own_noise(self, batch: Batch, step: int, phase: str) -> Batch:
        """The batch with conditions that this phase has drawn for itself, where they are not drawn once a step."""
        if self.settings.condition.noise_per == "step":
            return batch
        h, pseudo = self.corpus.conditions(self.settings.condition, self.seed, step, len(batch.h), phase)
        return replace(batch, h=h.to(self.device), pseudo=pseudo.to(self.device))

    def imagine(self, batch: Batch, step: int, player: Player) -> Images:
        """x and, with paired contrast, x' of the same latents."""
        rng = self._rng(f"{player} latents", step)
        n, synthesis = len(batch.h), self.networks.generator.synthesis
        ws = self.mixed_ws(n, rng)
        if not self.settings.loss.paired_contrast:
            return {"x": synthesis(ws, batch.h, rng, self.compute)}
        both = synthesis(torch.cat([ws, ws]), torch.cat([batch.h, batch.pseudo]), rng, self.compute)
        return {"x": both[:n], "x'": both[n:]}

    def mixed_ws(self, n: int, rng: torch.Generator) -> Tensor:
        """ws [n,L,W] with style mixing: by chance, a sample's layers switch to a second w at a random depth."""
        generator = self.networks.generator
        # Drawn whatever the probability, so that the pixel noise, drawn next, does not depend on it.
        z = torch.randn(2, n, generator.z_dim, generator=rng, device=self.device)
        chance, depth = torch.rand(2, n, 1, 1, generator=rng, device=self.device)
        ws: Tensor = generator.mapping(z[0])[:, None].expand(-1, generator.layers, -1)
        if not self.settings.train.style_mixing:
            return ws
        layer = torch.arange(generator.layers, device=self.device).view(1, -1, 1)
        first = 1 + (depth * (generator.layers - 1)).floor()  # uniform over 1..L-1
        switch = (chance < self.settings.train.style_mixing) & (layer >= first)
        return torch.where(switch, generator.mapping(z[1])[:, None], ws)

    def judge(self, images: Images) -> Judged:
        """One pass of the discriminator over all batches; its minibatch statistics stay within each."""
        every = torch.cat(list(images.values()))
        judged = self.networks.discriminator(every, self.compute, self.settings.loss.group or len(every) // len(images))
        parts = zip(*(output.chunk(len(images)) for output in judged), strict=True)
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
        """[n, width]: the features of that kind of images [n,3,R,R] as `view` moves them, in fp32, with gradient."""
        config, guide = self.settings.encoders, self.guides[kind]
        rng = torch_generator(self.seed, f"{kind} view", step)  # on the CPU: the same views on every device
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            return guide.image(view(images, config, rng, guide.size))

    def logits(self, batch: Batch, judged: Judged) -> dict[Image, Tensor]:
        """D's logit [n] of each batch of images under its condition."""
        return {
            name: condition_logit(self.settings.loss, (it.b, it.f_txt), name, batch.h, batch.pseudo)
            for name, it in judged.items()
        }

    def update(self, player: Player, step: int, loss: Tensor) -> None:
        """One step of Adam for the player's weights alone. Raises Diverged before a broken one."""
        optimizer = self.optimizers[player]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        value = loss.detach()
        # One transfer from the device instead of two: a sum is finite only if both are.
        if not bool(torch.isfinite(value + norm)):
            raise Diverged(f"step {step}: the {player}'s loss is {float(value):g}, its gradient norm {float(norm):g}")
        optimizer.step()

    @torch.no_grad()
    def average(self, step: int) -> None:
        """EMA of the generator with a half-life in images, shorter while the run is young."""
        train = self.settings.train
        half_life, images = train.ema_kimg * 1000, (step + 1) * train.batch
        if train.ema_rampup:
            half_life = min(half_life, images * train.ema_rampup)
        keep = 0.5 ** (train.batch / max(half_life, 1e-8))  # 0 without a half-life: the average is the generator
        averaged: list[Tensor] = list(self.networks.averaged.parameters())
        # One kernel for all weights, where a loop launches one for each.
        torch._foreach_lerp_(averaged, list[Tensor](self.networks.generator.parameters()), 1 - keep)

    def _adam(self, network: nn.Module, interval: int) -> torch.optim.Adam:
        """Adam with the correction for a regulariser that takes every `interval`-th step (StyleGAN2, App. B)."""
        train = self.settings.train
        ratio = interval / (interval + 1) if interval else 1.0
        betas = (train.beta1**ratio, train.beta2**ratio)
        return torch.optim.Adam(network.parameters(), train.lr * ratio, betas, 1e-8, fused=True)

    def _rng(self, purpose: str, step: int) -> torch.Generator:
        return torch_generator(self.seed, purpose, step, str(self.device))


def features(batch: Batch, judged: Judged) -> dict[Feature, Tensor]:
    """What the batch and the discriminator give the terms to read."""
    given = {H: batch.h, PSEUDO: batch.pseudo}
    for name, it in judged.items():
        given |= {Feature("f_img", name): it.f_img, Feature("f_txt", name): it.f_txt}
    return given | {Feature(kind, "r"): rows for kind, rows in batch.frozen.items()}


def view(images: Tensor, config: EncoderConfig, rng: torch.Generator, size: int) -> Tensor:
    """Images [n,3,R,R] as a guide of `size` pixels sees them: moved at random, with a little noise.

    So that no encoder can be pleased by a fixed pattern of pixels.
    """
    if config.view == "crop":
        images = _cropped(images, config.crop_from, rng, size)
    elif config.crop > 0:
        size, reach = images.shape[-1], round(config.crop * images.shape[-1])
        padded = F.pad(images, (reach,) * 4, value=1.0)  # white
        corners = torch.randint(0, 2 * reach + 1, (len(images), 2), generator=rng).tolist()
        images = torch.stack([one[:, y : y + size, x : x + size] for one, (y, x) in zip(padded, corners, strict=True)])
    if config.pixel_noise > 0:
        images = images + config.pixel_noise * torch.randn(images.shape, generator=rng).to(images.device)
    return images


def _cropped(images: Tensor, smallest: float, rng: torch.Generator, size: int) -> Tensor:
    """[n,3,R,R] -> [n,3,size,size] as LAFITE's code has it: one square of `smallest` to all of the side, enlarged.

    Images of fewer than `size` pixels lie as they are at a random place on white.
    """

    def below(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=rng))

    pixels = images.shape[-1]
    if pixels < size:
        left, top = below(0, size - pixels), below(0, size - pixels)
        return F.pad(images, (left, size - pixels - left, top, size - pixels - top), value=1.0)  # white
    side = below(max(1, int(smallest * pixels)), pixels)
    left, top = below(0, pixels - side), below(0, pixels - side)
    square = images[:, :, top : top + side, left : left + side]
    return F.interpolate(square, (size, size), mode="bicubic", align_corners=False)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for these parameters inside the block."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
