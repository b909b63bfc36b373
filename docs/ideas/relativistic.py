"""A discriminator that compares real with generated images, with R1 and R2 (R3GAN, arXiv 2501.05441, Sec. 2).

By itself the relativistic pairing loss need not converge; with a zero-centred gradient penalty on real images (R1) and
on generated ones (R2) it does. R1 is built in, as `train.r1_gamma`; R2 is below.
"""

import torch
from torch.nn.functional import softplus

from harness.ideas import Count, adversarial, term


@adversarial
def relativistic(player, logits):
    """D: E softplus(D(x) - D(r)).  G: E softplus(D(r) - D(x)). Image i is compared with real image i.

    In the generator's step the logits of real images are computed because they are read here.
    """
    sign = 1 if player == "discriminator" else -1
    fake = [logits[name] for name in ("x", "x'") if name in logits]
    return sum(softplus(sign * (each - logits["r"])).mean() for each in fake)


@term("discriminator", weight=5.0)
def r2(step, *, interval: Count = 16):
    """E |dD(x)/dx|^2 at generated images x, in every `interval`-th step, and so many times as much.

    `weight` is gamma / 2. A term and no penalty, because penalties are given real images alone.
    """
    if step.number % interval:
        return step.h.new_zeros(())
    images = [step.leaf(step.images[name]) for name in ("x", "x'") if name in step.images]
    logits = sum(step.logit(each).sum() for each in images)
    gradients = torch.autograd.grad(logits, images, create_graph=True)
    return interval * sum(each.square().sum((1, 2, 3)).mean() for each in gradients)
