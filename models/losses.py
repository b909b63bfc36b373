"""The objective as formulas: contrast, adversarial loss, R1 and path length. Pure functions of features and logits.

Shapes: N samples, F feature width, R pixels, L layers, W intermediate latent. A loss is a scalar of the inputs' dtype
and device, and a mean over the samples, so weights do not depend on the batch size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.objective import Feature, Image, LossConfig, Player, active


def objective(
    player: Player,
    loss: LossConfig,
    features: Mapping[Feature, Tensor],  # [N, width of the network], read only by active terms
    logits: Mapping[Image, Tensor],      # [N]
    own_adversarial: Tensor | None = None,  # of a study's own code, in place of the logistic loss
) -> dict[str, Tensor]:  # fmt: skip
    """The player's losses: "adversarial" and every active term by name, unweighted, and "total", weighted.

    Raises KeyError when a needed feature or logit is absent.
    """
    losses = {"adversarial": adversarial(player, loss, logits) if own_adversarial is None else own_adversarial}
    total = losses["adversarial"]
    for term in active(loss, player):
        u, v = features[term.u], features[term.v]
        losses[term.name] = contrast_of(loss, u, v if term.through_v else v.detach())
        total = total + loss.weights[player][term.name] * losses[term.name]
    return {**losses, "total": total}


def contrast_of(loss: LossConfig, u: Tensor, v: Tensor) -> Tensor:
    """The contrast of u and v, [N,·] of any two widths, as `loss` has it: its temperature, similarity and groups."""
    u, v = _same_width(u, v)
    groups = zip(torch.split(u, loss.group), torch.split(v, loss.group), strict=True) if loss.group else [(u, v)]
    each = [contrast(a, b, loss.tau, loss.similarity, loss.tau_place) for a, b in groups]
    return torch.stack(each).mean() if loss.group else each[0]


def condition_logit(loss: LossConfig, judged: tuple[Tensor, Tensor], image: Image, h: Tensor, pseudo: Tensor) -> Tensor:
    """D(y; c) = b(y) + f_txt(y).c, the logit [N] of one batch of images under its condition.

    judged: (b [N], f_txt [N,F]) of the images; h, pseudo: [N,F]. Unmixed, r and x are judged under h and x' under the
    pseudo feature h'. With mix_logits every image is judged under both: b + lam f_txt.h + (1 - lam) f_txt.h', which
    by linearity is the logit under the mixed condition. With `logit: batch_sum` f_txt.c is the sum over the samples.
    """
    b, f_txt = judged
    condition = pseudo if image == "x'" else h
    if loss.mix_logits:
        condition = loss.mix_lambda * h + (1 - loss.mix_lambda) * pseudo
    agreement = (f_txt * condition).sum(1)
    if loss.logit == "batch_sum":
        size = loss.group or len(b)
        agreement = agreement.view(-1, size).sum(1).repeat_interleave(size)
    return b + agreement


def adversarial(player: Player, loss: LossConfig, logits: Mapping[Image, Tensor]) -> Tensor:
    """Non-saturating logistic loss (Goodfellow 2014, Sec. 3); with paired contrast, x' counts as x does.

    G: -log s(D(x)).  D: -log s(D(r)) - log(1 - s(D(x))).  softplus(d) = -log(1 - s(d)) = -log s(-d).
    """
    fake = [logits["x"], logits["x'"]] if loss.paired_contrast else [logits["x"]]
    if player == "generator":
        return torch.stack([F.softplus(-logit).mean() for logit in fake]).sum()
    return F.softplus(-logits["r"]).mean() + torch.stack([F.softplus(logit).mean() for logit in fake]).sum()


def contrast(u: Tensor, v: Tensor, tau: float = 0.5, similarity: str = "exp", tau_place: str = "factor") -> Tensor:
    """-tau * mean_i log( exp Sim(u_i, v_i) / sum_j exp Sim(u_j, v_i) ): the sum runs over the first argument.

    u, v: [N,F], of any length. Sim = exp(cos / tau) for "exp", as LAFITE's code has it (its authors note that
    cos / tau was meant), cos / tau for "cosine" (InfoNCE, arXiv 1807.03748, Eq. 4). With tau_place "logarithm" tau
    stands inside the logarithm, not before the mean.
    """
    cos = F.normalize(u, dim=1) @ F.normalize(v, dim=1).T  # [j, i]
    logits = cos / tau if similarity == "cosine" else (cos / tau).exp()
    if tau_place == "logarithm":
        return -(logits.log_softmax(dim=0).diagonal() + math.log(tau)).mean()
    return -tau * logits.log_softmax(dim=0).diagonal().mean()


def _same_width(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The wider of the two is brought to the narrower's width, as only vectors of one width have a cosine."""
    if u.shape[1] > v.shape[1]:
        return u @ projection(u.shape[1], v.shape[1], u.dtype, u.device), v
    if v.shape[1] > u.shape[1]:
        return u, v @ projection(v.shape[1], u.shape[1], v.dtype, v.device)
    return u, v


@cache  # what is recorded as a graph reads it where it lies
def projection(
    wide: int, narrow: int, dtype: torch.dtype = torch.float64, device: torch.device | str = "cpu"
) -> Tensor:
    """A fixed matrix [wide, narrow] with orthonormal columns that brings the wider of two features to the narrower.

    The orthogonal factor of a seeded Gaussian matrix, computed in float64. A QR factorisation leaves the signs of the
    columns open and libraries differ in them, so they are fixed by the diagonal of R.
    """
    gaussian = np.random.Generator(np.random.PCG64(20211127)).standard_normal((wide, narrow))
    q, r = np.linalg.qr(gaussian)
    return torch.from_numpy(q * np.sign(np.diag(r))).to(device, dtype)


def r1_penalties(logits: Tensor, images: Tensor) -> Tensor:
    """|d logit / d image|^2 of each real image [N] (Mescheder 2018, Eq. 9, without gamma / 2 and the mean).

    logits computed from images [N,3,R,R] that require gradients.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().sum((1, 2, 3))


def path_lengths(images: Tensor, ws: Tensor, noise: Tensor) -> Tensor:
    """|J_w^T y| per sample (StyleGAN2, Sec. 3.2, Eq. 4): [N].

    images [N,3,R,R] computed from ws [N,L,W]; noise y ~ N(0, 1) of the images' shape, scaled here by 1 / R.
    """
    projected = (images * noise).sum() / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad(projected, ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
