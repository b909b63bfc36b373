"""Teach the discriminator that a real image under the wrong text is a fake, and keep it smooth where both are right.

`mismatched`: the matching-aware discriminator, GAN-CLS (Reed et al. 2016, arXiv 1605.05396, Sec. 4.2 and Algorithm 1).
`ma_gp`: the matching-aware gradient penalty (DF-GAN, Tao et al. 2020, arXiv 2008.05865, Eq. 2).
"""

from typing import Literal

import torch
from torch.nn.functional import relu, softplus

from harness.ideas import Count, Positive, penalty, term


@term("discriminator", weight=0.5)
def mismatched(step, *, shift: Count = 1, loss: Literal["logistic", "hinge"] = "logistic"):
    """A real image under the text of the image `shift` places on in the batch is a fake.

    Algorithm 1 counts it half, and the generated images half too; here those keep their whole weight. `loss` is the
    form of the adversarial loss beside it: "hinge" if that is hinge, as in DF-GAN.
    """
    if shift % len(step.h) == 0:
        raise ValueError(f"shift {shift} gives every image of a batch of {len(step.h)} its own text")
    logit = step.logit("r", step.h.roll(shift, 0))
    return (softplus(logit) if loss == "logistic" else relu(1 + logit)).mean()


@penalty("discriminator", weight=2.0, every=1)
def ma_gp(step, *, power: Positive = 6.0):
    """k E[(|dD/dx| + |dD/de|)^p] at real images x under their own texts e; k is `weight`, p is `power`.

    DF-GAN has k = 2 and p = 6 and takes it in every step. It stands in place of R1: `train.r1_gamma: 0`.
    """
    real, h = step.leaf(step.real), step.leaf(step.h)
    gradients = torch.autograd.grad(step.logit(real, h).sum(), (real, h), create_graph=True)
    return sum(each.flatten(1).norm(dim=1) for each in gradients).pow(power).mean()
