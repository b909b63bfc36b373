"""Self-attention in the generator (SAGAN, arXiv 1805.08318, Sec. 3)."""

import torch
from torch import nn

from harness.ideas import Count, layer


@layer("generator", at=8)
class attention(nn.Module):
    """Every place of a feature map reads from all others: y = gamma * o + x (Eqs. 1 to 3).

    gamma starts at zero, so that the network begins as one without attention. The paper divides the channels by 8.
    """

    def __init__(self, channels: int, *, reduction: Count = 8):
        super().__init__()
        narrow = max(1, channels // reduction)
        self.query, self.key, self.value = (nn.Conv2d(channels, narrow, 1, bias=False) for _ in range(3))
        self.out = nn.Conv2d(narrow, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))  # [n,C/8,H*W] each
        # Written out: path length takes second derivatives, which scaled_dot_product_attention does not have on a CPU.
        share = (query.transpose(1, 2) @ key).softmax(2)  # [n, place that reads, place read from]
        read = (value @ share.transpose(1, 2)).unflatten(2, x.shape[2:])
        return x + self.gamma * self.out(read)
