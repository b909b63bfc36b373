"""A discriminator on the features of a frozen network (Projected GAN, arXiv 2111.01007, Sec. 3).

Without the paper's spectral normalisation: the convolutions are the harness's own, and R1 stays on.
"""

import torch
from torch import nn
from torch.nn.functional import interpolate

from harness.ideas import Count, Network, discriminator
from harness.models.discriminator import Conv
from harness.models.ops import Linear


@discriminator
class projected(nn.Module):
    """Four stages of the network, mixed across channels and scales at random; a small head on each judges it."""

    def __init__(
        self, resolution: int, text_dim: int, *, network: Network = "timm:tf_efficientnet_lite1.in1k", width: Count = 64
    ):
        super().__init__()
        self.frozen = network  # comes loaded and frozen: any of timm's that has forward_intermediates
        stages = self.stages(torch.zeros(1, 3, resolution, resolution))
        self.mix = nn.ModuleList(nn.Conv2d(stage.shape[1], width, 1, bias=False) for stage in stages)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in stages[1:])
        for random in (*self.mix, *self.smooth):
            nn.init.kaiming_normal_(random.weight)
            random.requires_grad_(False)  # what is frozen when constructed stays frozen
        self.heads = nn.ModuleList(nn.Sequential(*self.halved_to_4(stage.shape[-1], width)) for stage in stages)
        self.b, self.f_img, self.f_txt = (Linear(width * len(stages), outputs) for outputs in (1, text_dim, text_dim))

    @staticmethod
    def halved_to_4(side: int, width: int):
        """A convolution for each halving down to 4 pixels, one at least."""
        while side > 4:
            yield Conv(width, width, 3, down=True)
            side = (side + 1) // 2
        yield Conv(width, width, 3)

    def stages(self, images):
        """Feature maps [n,C,H,W], the largest first."""
        images = interpolate(images, (self.frozen.size,) * 2, mode="bilinear", antialias=True)
        prepared = images * self.frozen.scale + self.frozen.shift
        return self.frozen.network.forward_intermediates(prepared, intermediates_only=True)[-4:]

    def forward(self, images):
        # Cross-channel mixing at each stage, then cross-scale mixing from the smallest to the largest.
        mixed = [mix(stage) for mix, stage in zip(self.mix, self.stages(images), strict=True)]
        for i in reversed(range(len(mixed) - 1)):
            above = interpolate(mixed[i + 1], mixed[i].shape[2:], mode="bilinear")
            mixed[i] = self.smooth[i](mixed[i] + above)
        pooled = torch.cat([head(each).mean((2, 3)) for head, each in zip(self.heads, mixed, strict=True)], 1)
        return self.b(pooled)[:, 0], self.f_img(pooled), self.f_txt(pooled)
