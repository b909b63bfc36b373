"""Adaptive discriminator augmentation (StyleGAN2-ADA, arXiv 2006.06676, Sec. 2 and 3, App. B), with a state of its own.

Of the paper's changes these are flip, quarter turns, shift and three of colour; zoom, hue and filters are left out.
"""

import torch
from torch import nn

from harness.ideas import Count, Fraction, Positive, augment


@augment
class ada(nn.Module):
    """Each change is made with probability p, which follows how sure D is of real images: E sign D(r) -> `target`."""

    def __init__(self, *, target: Fraction = 0.6, kimg: Positive = 500.0, interval: Count = 4, start: Fraction = 0.0):
        super().__init__()
        self.target, self.interval = target, interval
        self.images = 1000 * kimg  # in which p can go from 0 to 1
        self.register_buffer("p", torch.tensor(start))  # buffers are kept in checkpoints
        self.register_buffer("signs", torch.zeros(2))  # since p last moved: sum of the signs, number of images

    @torch.no_grad()
    def after(self, step):
        """After every `interval`-th step p moves by a fixed amount: up where D is surer than `target`, else down."""
        logit = step.logit("r")
        self.signs += torch.stack([logit.sign().sum(), logit.new_tensor(float(len(logit)))])
        if (step.number + 1) % self.interval == 0:
            total, count = self.signs.clone()
            self.p.add_(count / self.images * (total / count - self.target).sign()).clamp_(0, 1)
            self.signs.zero_()

    def forward(self, images, rng):
        n, _, side, _ = images.shape

        def uniform(*size):
            return torch.rand((*size, n, 1, 1), generator=rng, device=rng.device).to(images)

        def some(change):  # 0, which changes nothing, with probability 1 - p
            return change * (uniform() < self.p)

        # Pixels. The place that each pixel of the result is read from, from the centre: shift, quarter turns, flip.
        middle = (side - 1) / 2
        place = torch.arange(side).to(images) - middle
        shift = some(((uniform(2) - 0.5) * side / 4).round())
        y, x = place.view(-1, 1) - shift[0], place - shift[1]
        y, x = (torch.where(at.abs() > middle, at.sign() * (2 * middle - at.abs()), at) for at in (y, x))  # reflected
        turn = some((4 * uniform()).floor()).long()
        cos, sin = (torch.tensor(values).to(images)[turn] for values in ((1, 0, -1, 0), (0, 1, 0, -1)))
        y, x = cos * y - sin * x, sin * y + cos * x
        x = x * (1 - 2 * some((2 * uniform()).floor()))
        rows, columns = ((at + middle).long() for at in (y, x))
        images = images[torch.arange(n).to(rows).view(-1, 1, 1), :, rows, columns].movedim(-1, 1)

        # Colour: brightness, contrast, saturation.
        normal = torch.randn((3, n, 1, 1), generator=rng, device=rng.device).to(images)
        brightness, contrast, saturation = (some(each)[:, None] for each in normal)
        images = (images + 0.2 * brightness) * 2 ** (0.5 * contrast)
        grey = images.mean(1, keepdim=True)
        return grey + (images - grey) * 2**saturation
