"""The objective: contrast, adversarial loss, R1 and path length. Pure functions of features and logits.

Shapes: N samples, F feature width. Every loss is a mean over the samples, so weights do not depend on the batch size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.config import LossConfig, ModelConfig
from harness.models.terms import Player, Term, active

Image = Literal["x", "x'", "r"]


def contrast(u: Tensor, v: Tensor, tau: float = 0.5, similarity: str = "exp") -> Tensor:
    """-tau * mean_i log( exp Sim(u_i, v_i) / sum_j exp Sim(u_j, v_i) ), a scalar.

    u, v: [N,F], of any length. Sim = exp(cos / tau) for "exp", as LAFITE's code has it (its authors note that
    cos / tau was meant), cos / tau for "cosine" (InfoNCE). The sum runs over the first argument.
    """
    cos = F.normalize(u, dim=1) @ F.normalize(v, dim=1).T  # [j, i]
    logits = cos / tau if similarity == "cosine" else (cos / tau).exp()
    return -tau * logits.log_softmax(dim=0).diagonal().mean()


def condition_logit(
    loss: LossConfig, judged: tuple[Tensor, Tensor], image: Image, h: Tensor, pseudo: Tensor | None
) -> Tensor:
    """D(y; c) = b(y) + f_txt(y).c, the logit [N] of one batch of images under its condition.

    judged: (b [N], f_txt [N,F]) of the images; h, pseudo: [N,F]. Unmixed, r and x are judged under h and x' under the
    pseudo feature h'. With mix_logits every image is judged under both: b + lam f_txt.h + (1 - lam) f_txt.h', which
    by linearity is the logit under the mixed condition.
    """
    b, f_txt = judged
    return b + (f_txt * _condition(loss, image, h, pseudo)).sum(1)


def _condition(loss: LossConfig, image: Image, h: Tensor, pseudo: Tensor | None) -> Tensor:
    if not loss.mix_logits and image != "x'":
        return h
    if pseudo is None:
        raise ValueError(f"judging {image} needs the pseudo text feature h'")
    return loss.mix_lambda * h + (1 - loss.mix_lambda) * pseudo if loss.mix_logits else pseudo


def adversarial(player: Player, loss: LossConfig, logits: Mapping[str, Tensor]) -> Tensor:
    """Non-saturating logistic loss, a scalar. `logits`: [N] keyed "x", "r" (discriminator) and, if paired, "x'"."""
    fake = [logits["x"], logits["x'"]] if loss.paired_contrast else [logits["x"]]
    if player == "generator":
        return torch.stack([F.softplus(-logit).mean() for logit in fake]).sum()
    return F.softplus(-logits["r"]).mean() + torch.stack([F.softplus(logit).mean() for logit in fake]).sum()


def objective(
    player: Player, config: ModelConfig, features: Mapping[str, Tensor], logits: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The player's losses: "adversarial" and every active term by name, unweighted, and "total", weighted.

    features: [N, width] keyed by symbol ("h", "h'", "f_txt(x)", "f_img(x')", "f_res(r)", ...); only those that an
    active term reads are touched. logits: [N] keyed "x", "x'", "r". Scalars of the inputs' dtype and device come back.
    Raises KeyError when a needed feature or logit is absent.
    """
    loss = config.loss
    losses = {"adversarial": adversarial(player, loss, logits)}
    total = losses["adversarial"]
    for term in active(loss, player):
        losses[term.name] = _value(term, loss, features)
        total = total + loss.weights[player][term.name] * losses[term.name]
    return {**losses, "total": total}


def _value(term: Term, loss: LossConfig, features: Mapping[str, Tensor]) -> Tensor:
    """A target carries no gradient; only a pair of two generated images carries it through both sides."""
    u, v = features[term.u], features[term.v]
    if "(x" not in term.v:
        v = v.detach()
    return contrast(*_same_width(u, v), loss.tau, loss.similarity)


def _same_width(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    if u.shape[1] > v.shape[1]:
        return u @ _projection_like(u.shape[1], v.shape[1], u.dtype, u.device), v
    if v.shape[1] > u.shape[1]:
        return u, v @ _projection_like(v.shape[1], u.shape[1], v.dtype, v.device)
    return u, v


@lru_cache
def _projection_like(wide: int, narrow: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return projection(wide, narrow).to(device, dtype)


@lru_cache
def projection(wide: int, narrow: int) -> Tensor:
    """A fixed matrix [wide, narrow] with orthonormal columns that brings the wider of two features to the narrower.

    The orthogonal factor of a seeded Gaussian matrix, its signs fixed, in float64.
    """
    gaussian = np.random.Generator(np.random.PCG64(20211127)).standard_normal((wide, narrow))
    q, r = np.linalg.qr(gaussian)
    return torch.from_numpy(q * np.sign(np.diag(r)))


def r1_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """mean |d logit / d image|^2 over real images (Mescheder 2018, Eq. 9, without gamma / 2), a scalar.

    logits [N] computed from images [N,3,R,R] that require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """|J_w^T y| per sample (StyleGAN2, Sec. 3.2, Eq. 4): [N].

    images [N,3,R,R] computed from ws [N,L,W]; noise y ~ N(0, 1) of the images' shape, scaled here by 1 / R.
    """
    projected = (images * noise).sum() / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad(projected, ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
