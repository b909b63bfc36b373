"""Every setting of the networks and their conditions, with its one default: the published origin (LAFITE, 256 px).

Resolution and feature widths are not settings: they come from the data set and the encoders.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.models.objective import Count, Fraction, LossConfig, NonNegative, Positive


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
    conditioning: Literal["concat", "transform", "modulate"] = "concat"
    """How h enters a layer: style = A([w, m(h)]), A(scale(h) * w + shift(h)), or A(w) * scale(h) + shift(h)."""
    modulate_from: Literal[4, 8, 16, 32, 64, 128, 256, 512, 1024] = 4
    """Resolution from which `conditioning: modulate` holds; below it layers are `concat`. LAFITE's code has 512."""
    text_width: Annotated[int, Ge(0)] = 0
    """Width of m(h), whose hidden layer is halfway between F and this; 0: F. LAFITE's code has 512."""
    text_activation: Literal["hidden", "both"] = "hidden"
    """Layers of m that end in leaky ReLU: the first of the two, or both, as in LAFITE's code."""
    text_lr_multiplier: Positive = 1.0
    """Learning rate of m's two layers as a share of the generator's. LAFITE's code has 0.01."""
    text_input: Literal["scaled", "unit"] = "scaled"
    """What a layer makes of h: h * sqrt(F), of mean square 1, or the unit vector as it is, as in LAFITE's code."""
    clamp: NonNegative = 0.0
    """Limit to either side that activations and colours are cut off at; 0: none. LAFITE's code has 256."""
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
    head_layers: Literal[1, 2] = 2
    """Linear layers of a feature head, with leaky ReLU between two. LAFITE's code has 1."""
    clamp: NonNegative = 0.0
    """Limit to either side that activations of convolutions are cut off at; 0: none. LAFITE's code has 256."""
    minibatch_std_group: Annotated[int, Ge(0)] = 4
    """Samples per minibatch standard deviation group, of which 1 has no deviation; 0 switches the layer off."""
    minibatch_std_layout: Literal["neighbours", "strided"] = "neighbours"
    """Which samples form a group: neighbours, or some evenly spread over the batch or `loss.group` (LAFITE's code)."""


@dataclass(frozen=True, kw_only=True)
class ConditionConfig:
    """How the condition features are drawn (LAFITE, arXiv 2111.13792, Sec. 3.1)."""

    text_noise: Annotated[float, Ge(0), Lt(1)] = 0.1
    """h = unit((1 - a) t + a e) with e a random unit vector."""
    pseudo_noise: Annotated[float, Ge(0), Lt(1)] = 0.75
    """h' = unit((1 - a) v + a e) with v the CLIP image feature."""
    pseudo_probability: Fraction = 0.0
    """Probability that a sample's h is a pseudo feature; 1 is language-free training."""
    shared_noise: bool = False
    """Whether h and h' of a sample have one random direction e in common, as in LAFITE's code."""
    noise_per: Literal["step", "phase"] = "step"
    """How often e is drawn: once a step, or anew for each player and regulariser, as in LAFITE's code."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Everything that a toggle may change about networks and objective. The default is the origin."""

    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    condition: ConditionConfig = field(default_factory=ConditionConfig)
