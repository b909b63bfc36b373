"""Every setting of the networks and their conditions, with its one default: the published origin (LAFITE, 256 px).

Resolution and feature widths are not settings: they come from the data set and the encoders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.models.objective import Count, Fraction, LossConfig


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """StyleGAN2 generator (arXiv 1912.04958, Sec. 3 and App. B), conditioned on a text feature in every layer."""

    z_dim: Count = 512
    """Width of the latent z."""
    w_dim: Count = 512
    """Width of the intermediate latent w."""
    mapping_layers: Count = 8
    """Fully connected layers from z to w; their learning rate is 0.01 of the generator's."""
    channel_base: Count = 32768
    """Feature maps at resolution R: min(channel_base / R, channel_max)."""
    channel_max: Count = 512
    """Upper limit of the feature maps of a layer."""
    conditioning: Literal["concat", "transform"] = "concat"
    """How h enters a layer: style = A([w, m(h)]), or style = A(scale(h) * w + shift(h))."""
    noise: bool = True
    """Add learned-strength pixel noise after each convolution."""


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """StyleGAN2 residual discriminator with feature heads for the contrastive terms."""

    channel_base: Count = 32768
    """Feature maps at resolution R: min(channel_base / R, channel_max)."""
    channel_max: Count = 512
    """Upper limit of the feature maps of a layer."""
    heads: Literal["shared", "separate"] = "shared"
    """One feature head, so that f_img = f_txt, or one for images and one for text."""
    minibatch_std_group: Annotated[int, Ge(0)] = 4
    """Samples per minibatch standard deviation group; 0 switches the layer off."""


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """How the condition features are drawn (LAFITE, arXiv 2111.13792, Sec. 3.1)."""

    text_noise: Annotated[float, Ge(0), Lt(1)] = 0.1
    """h = unit((1 - a) t + a e) with e a random unit vector."""
    pseudo_noise: Annotated[float, Ge(0), Lt(1)] = 0.75
    """h' = unit((1 - a) v + a e) with v the CLIP image feature."""
    pseudo_probability: Fraction = 0.0
    """Probability that a sample's h is a pseudo feature; 1 is language-free training."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that a toggle may change about networks and objective. The default is the origin."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    condition: ConditionConfig = field(default_factory=ConditionConfig)
