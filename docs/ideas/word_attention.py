"""Attention of the generator to the words of the caption, as in AttnGAN (arXiv 1711.10485, Sec. 3.1, Eq. 2).

Unlike there, what a place reads is added to it, by a factor that starts at zero, and not put beside it.
"""

import torch
from torch import nn

from harness.ideas import layer


@layer("generator", at=8, reads=("h_tokens",))
class word_attention(nn.Module):
    """Every place j of a feature map reads words e_i by exp(x_j.U e_i) / sum_k exp(x_j.U e_k)."""

    def __init__(self, channels: int, text_dim: int):
        super().__init__()
        self.words = nn.Linear(text_dim, channels, bias=False)  # U
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x, h_tokens):
        words = self.words(h_tokens)  # [n,T,C]
        scores = x.flatten(2).transpose(1, 2) @ words.transpose(1, 2)  # [n,H*W,T]
        # Behind the end of a caption there are zeros. An image without one has nothing else, and reads zero.
        is_word = h_tokens.abs().amax(2, keepdim=True).transpose(1, 2) > 0
        share = scores.masked_fill(~is_word, torch.finfo(scores.dtype).min).softmax(2)
        return x + self.gamma * (share @ words).transpose(1, 2).unflatten(2, x.shape[2:])
