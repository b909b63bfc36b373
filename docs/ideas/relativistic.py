"""A discriminator that compares real with generated images, with R1 and R2 (R3GAN, arXiv 2501.05441, Sec. 2).

By itself the relativistic pairing loss need not converge; with a zero-centred gradient penalty on real images (R1) and
on generated ones (R2) it does. R1 is built in, as `train.r1_gamma`; R2 is below.
"""

import torch
from torch.nn.functional import softplus

from harness.ideas import adversarial, penalty


@adversarial
def relativistic(player, logits):
    """D: E softplus(D(x) - D(r)).  G: E softplus(D(r) - D(x)). Image i is compared with real image i.

    In the generator's step the logits of real images are computed because they are read here.
    """
    sign = 1 if player == "discriminator" else -1
    fake = [logits[name] for name in ("x", "x'") if name in logits]
    return sum(softplus(sign * (each - logits["r"])).mean() for each in fake)


@penalty("discriminator", weight=5.0, every=16)
def r2(step):
    """E |dD(x)/dx|^2 at generated images x. `weight` is gamma / 2; R1 is `train.r1_gamma` every `train.r1_interval`."""
    total = step.h.new_zeros(())
    for name in ("x", "x'"):  # x' is there with paired contrast
        if name in step.images:
            images = step.leaf(step.images[name])
            (gradient,) = torch.autograd.grad(step.logit(images, like=name).sum(), images, create_graph=True)
            total = total + gradient.square().sum((1, 2, 3)).mean()
    return total
