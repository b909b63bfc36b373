"""What the embedded encoders can do, measured."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.models.encoders import embedded
from harness.models.encoders.frozen import Clip, Preparation, Resnet
from harness.rng import torch_generator
from tools.weights.corpus import TONES, Corpus

_BATCH = 256


@dataclass(frozen=True)
class Retrieval:
    """Text-to-image retrieval among all pictures of the data set."""

    first: float
    """Share of captions whose picture has the highest cosine."""
    tenth: float
    """Share of captions whose picture is among the ten highest."""
    own: float
    """Mean cosine of a caption and its picture."""
    other: float
    """Mean cosine of a caption and any picture."""


def image_features(encoder: Clip | Resnet, corpus: Corpus, size: int) -> Tensor:
    """[M,F] of all pictures, brought to `size` pixels first."""
    parts = torch.split(torch.arange(len(corpus.images)), _BATCH)
    with torch.no_grad():
        return torch.cat([encoder.image(reduced(corpus.pixels(part), size)) for part in parts])


def reduced(images: Tensor, size: int) -> Tensor:
    """[N,3,R,R] -> [N,3,size,size]."""
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True)


def retrieval(clip: Clip, corpus: Corpus, ids: Tensor, size: int) -> Retrieval:
    """How the main captions of `ids` find their pictures; a picture equal to the right one is right."""
    texts = clip.text([corpus.data.captions[i][0] for i in ids.tolist()])
    match = texts @ image_features(clip, corpus, size).T
    right = corpus.pictures[ids][:, None] == corpus.pictures
    own = match[torch.arange(len(ids)), ids]
    better = ((match > own[:, None]) & ~right).sum(1)
    means = own.mean().item(), match.mean().item()
    return Retrieval((better == 0).float().mean().item(), (better < 10).float().mean().item(), *means)


def accuracy(name: str, corpus: Corpus, ids: Tensor, size: int) -> float:
    """Share of the pictures `ids`, brought to `size` pixels, whose subgroup the ResNet names."""
    config = embedded.read_config(name)
    network = embedded.build_tower(config["tower"], len(config["classes"]) + TONES)
    network.load_state_dict(embedded.read_weights(name))
    whole = Resnet(network, Preparation(config["size"], config["mean"], config["std"]), 0, "")
    guess = image_features(whole, corpus, size)[:, :-TONES].argmax(1)[ids]
    labels = corpus.labels[ids]
    return (guess == labels)[labels >= 0].float().mean().item()


@dataclass(frozen=True)
class Ascent:
    """Pictures made from noise by following the guide's gradient, and their scores by both encoders."""

    pictures: Tensor
    """[N,3,R,R] in [-1,1]."""
    guide: float
    """Mean cosine with their captions by the encoder that was followed."""
    measure: float
    """The same by the other encoder."""
    first: float
    """Share of the pictures for which the other encoder finds the right caption among all held-out captions."""


def ascend(guide: Clip, measure: Clip, texts: list[str], place: list[int], size: int) -> Ascent:
    """100 Adam steps on pixels towards texts[i], i in `place`. A guide that can be gamed scores high, alone."""
    captions = guide.text(texts)[place]
    draws = torch_generator(0, "ascent", size)
    pixels = (0.3 * torch.randn(len(place), 3, size, size, generator=draws)).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.05)
    for _ in range(100):
        loss = -(guide.image(pixels.clamp(-1, 1)) * captions).sum()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.no_grad():
        made = pixels.clamp(-1, 1)
        match = measure.image(made) @ measure.text(texts).T
        followed = (guide.image(made) * captions).sum(1).mean().item()
    own = match[torch.arange(len(place)), place]
    return Ascent(made, followed, own.mean().item(), (match.argmax(1) == torch.tensor(place)).float().mean().item())
