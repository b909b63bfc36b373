"""Every setting that decides what a run computes, with its one default.

`Settings` extends the model's configuration by data, encoders, training and measuring. All of it enters the run id.
How a run is executed (slots, threads, folders) is not here: it must not change the result's identity.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Interval, Lt

from harness.models.config import ModelConfig
from harness.models.objective import (
    Count,
    Fraction,
    NonNegative,
    Player,
    Positive,
)
from harness.trees import leaves, plain_tree, with_value

IdeaSetting = bool | int | float | str | tuple[str, ...]
Resolution = Literal[8, 16, 32, 64, 128, 256, 512, 1024]


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """Images never trained on: their captions are what the caption metrics ask for."""

    share: Annotated[float, Interval(gt=0, lt=1)] = 0.1
    """Share of the data that is held out, chosen by the images' names; unused with a `path` or `split` of its own."""
    path: str = ""
    """Data of the same source that is held out, such as COCO's val2014; empty: a share of `data.path`."""
    images: str = ""
    """Folder of its images, for sources whose captions lie elsewhere."""
    split: str = ""
    """Another split of the same Hugging Face data set that is held out."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images and captions, and how an image becomes R x R pixels."""

    source: str = "twemoji"
    """What kind of data: a name in `harness.data.sources.SOURCES`."""
    path: str = ""
    """Where it lies: a folder, file, pattern or data set name, as the source says; relative to the study file."""
    images: str = ""
    """Folder of the images, for sources whose captions lie elsewhere; empty: beside the captions."""
    image_column: str = "image"
    """Column of the image's path or content, for tables and Hugging Face data sets."""
    caption_column: str = "caption"
    """Column of the caption or list of captions, for tables and Hugging Face data sets."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    subset: str = ""
    """Configuration of a Hugging Face data set that has several."""
    stored_features: bool = False
    """Train with the image features of CLIP ViT-B/32 that a LAFITE zip holds, rather than compute them."""
    resolution: Resolution = 256
    """Height and width of the images in pixels."""
    fit: Literal["crop", "stretch", "pad"] = "crop"
    """How an image becomes square: its centre, the whole of it stretched, or the whole of it on white."""
    mirror: bool = False
    """Show every training image mirrored half of the time. Its frozen features are those of the mirrored image."""
    min_side: Count = 8
    """An image with a shorter side than this is a bad one."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    """What to do about images that cannot be read: list them and stop, or list them and go on without."""
    uncaptioned: Literal["bad", "keep"] = "bad"
    """Whether an image without a caption is a bad one, or is trained on under its pseudo text feature."""
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    """Images never trained on."""


OF_SOURCES = ("source", "path", "images", "image_column", "caption_column", "split", "subset", "stored_features")
"""Settings that some sources read and others do not."""


IN_FINGERPRINT = frozenset((*OF_SOURCES, "fit", "min_side", "on_bad_image", "uncaptioned", "held_out"))
"""Settings that decide only what the data is; its fingerprint stands for them in a run's identity."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The frozen networks that guide training. They never see a real image while training runs."""

    clip: str = "open_clip:ViT-B-32/openai"
    """CLIP whose features condition and guide the generator."""
    resnet: str = "timm:resnet50.a1_in1k"
    """ResNet of the resnet_guided terms; loaded only when one of them is active."""
    view: Literal["shift", "crop"] = "shift"
    """How a frozen encoder sees generated images: each shifted at random on white by up to `crop`, or one random crop
    for the whole batch, enlarged to the encoder's size (LAFITE's code); images smaller than that lie at a random place
    on white."""
    crop: Fraction = 0.0
    """`view: shift`: the largest shift as a share of the images' size."""
    crop_from: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    """`view: crop`: the smallest side of a crop as a share of the images' size; the largest is all but one pixel."""
    pixel_noise: NonNegative = 0.0
    """Standard deviation of the Gaussian noise added to generated images, in [-1,1] units, before a frozen encoder."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes the guides' convolutions and products in bfloat16; features of real data and metrics stay fp32."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """The training loop (StyleGAN2, arXiv 1912.04958, Sec. 3.2 and App. B)."""

    kimg: Annotated[float, Interval(gt=0, le=1e9)] = 25000.0
    """Length: thousands of real images shown to the discriminator."""
    batch: Annotated[int, Ge(2)] = 16
    """Images per step. Contrastive terms depend on it."""
    lr: Positive = 0.0025
    """Adam's learning rate for both players, before the lazy-regularisation correction."""
    beta1: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Adam's first decay."""
    beta2: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """Adam's second decay."""
    style_mixing: Fraction = 0.9
    """Probability that a sample's layers switch to a second w at a random depth."""
    r1_gamma: NonNegative = 10.0
    """Weight of R1; 0 switches it off."""
    r1_interval: Count = 16
    """Steps between two R1 steps."""
    pl_weight: NonNegative = 2.0
    """Weight of path length regularisation; 0 switches it off."""
    pl_interval: Count = 4
    """Steps between two path length steps."""
    pl_decay: Annotated[float, Interval(gt=0, le=1)] = 0.01
    """Rate of the moving mean of path lengths."""
    pl_batch_shrink: Count = 2
    """A path length step uses batch / pl_batch_shrink images."""
    pl_mean_gradient: bool = False
    """Whether the gradient of path length regularisation flows through the moving mean too, as in StyleGAN2's code."""
    first: Player = "discriminator"
    """Who takes the first half of a step. In LAFITE's code it is the generator."""
    ema_kimg: NonNegative = 10.0
    """Half-life of the averaged generator in thousands of images."""
    ema_rampup: Annotated[float, Ge(0), Lt(1)] = 0.05
    """The half-life is at most this share of the images seen; 0 switches the ramp off. So `ema_kimg` has no effect in a
    run that is shorter than `ema_kimg` / `ema_rampup` thousand images: 200 with the defaults."""
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    """tf32 lets a GPU round the factors of products in a step to 10 bits behind the point, about three times as fast as
    fp32; bf16 computes the convolution blocks of both players in bfloat16. Weights, and metrics, stay fp32."""
    graphs: Literal["auto", "on", "off"] = "auto"
    """Whether a GPU is asked for whole parts of a step at once, as CUDA graphs; auto: where that is measured to be
    faster. A run computes the same either way."""
    snapshots: Annotated[int, Ge(1)] = 4
    """How often, evenly spread and the end included, the run is measured and a sample grid drawn."""


@dataclass(frozen=True, kw_only=True)
class MetricConfig:
    """How a run is measured. What an encoder measures that also guides training takes no part in verdicts."""

    clip: str = "open_clip:ViT-L-14/laion2b_s32b_b82k"
    """CLIP of clip_score and r_precision."""
    resnet: str = "timm:resnet101.a1_in1k"
    """Network whose feature space the Frechet distance, KID and precision/recall live in."""
    more: tuple[str, ...] = ()
    """Further image networks, each of which adds a Frechet distance and a KID of its own."""
    captions: str = ""
    """Text file with a caption a line, which images are generated from in place of those of the data; relative to the
    study file."""
    side: Literal["train", "held-out"] = "train"
    """Whose captions are drawn for the distances, and whose images they are measured against."""
    samples: Annotated[int, Ge(16)] = 10000
    """Generated images, each with a caption and a latent of its own, fixed for all runs."""
    seed: int = 20211127
    """Seed of captions and latents. Not a run's seed: it is shared by all runs."""


@dataclass(frozen=True, kw_only=True)
class InitConfig:
    """Weights that every cell starts from, at step 0 and with fresh Adam; see `harness.runs.initial`.

    Each is a file, a finished run of the study by its folder, id or CELL/SEED, or `embedded:origin-32`, which ships;
    empty: drawn by the run's seed. In a study file `init: SOURCE` is short for all three.
    """

    generator: str = ""
    """Of the generator that is trained."""
    discriminator: str = ""
    """Of the discriminator."""
    averaged: str = ""
    """Of the averaged generator, which is measured."""


@dataclass(frozen=True, kw_only=True)
class CommandConfig:
    """A training script of your own, which takes the place of the built-in trainer; docs/own-script.md.

    With one, the settings of the trainer (its networks, losses, encoders and training) are not read.
    """

    run: tuple[str, ...] = ()
    """Program and arguments, in which `harness.command.words.PLACES` are filled in; empty: the built-in trainer."""
    args: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """The script's settings and their defaults. There are no others, and each keeps the type of its default."""
    code: tuple[str, ...] = ()
    """Patterns of the files that decide what the script computes, below the study file's folder, such as `**/*.py`. The
    script runs in a copy of these files, and their content is part of a run's identity."""
    snapshots: Count = 1
    """How often the script leaves images to measure, the end included; it is told the number."""
    guides: tuple[str, ...] = ()
    """Frozen networks that the script trains with, by the names of encoders: what measures with one of them takes no
    part in verdicts."""
    hours: NonNegative = 0.0
    """The longest time that the script may take, all attempts together; 0: no limit. It changes no run's identity."""


@dataclass(frozen=True, kw_only=True)
class Settings(ModelConfig):
    """Everything that decides a run's result but its seed."""

    init: InitConfig = field(default_factory=InitConfig)
    data: DataConfig = field(default_factory=DataConfig)
    encoders: EncoderConfig = field(default_factory=EncoderConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    metrics: MetricConfig = field(default_factory=MetricConfig)
    ideas: Mapping[str, Mapping[str, IdeaSetting]] = field(default_factory=dict)
    """Name -> settings of an idea; in a cell of those that are on and the features that they read, with `kind` and
    what it `reads`."""
    command: CommandConfig = field(default_factory=CommandConfig)

    @property
    def total_steps(self) -> int:
        """Steps of a run; 0 where a script alone knows it."""
        return 0 if self.command.run else max(1, round(self.train.kimg * 1000 / self.train.batch))

    @property
    def step_size(self) -> int:
        """What one step adds to the images that curves are drawn against; the steps of a script are counted alone."""
        return 1 if self.command.run else self.train.batch

    @property
    def length(self) -> float:
        """Of a run, as its pace is measured: thousands of images, or one run of a script."""
        return 1.0 if self.command.run else self.train.kimg

    @property
    def snapshots(self) -> int:
        """How often a run is measured, the untrained generator left out."""
        return self.command.snapshots if self.command.run else self.train.snapshots

    @functools.cached_property
    def flat(self) -> Mapping[str, Any]:
        """Dotted setting -> value."""
        return {path: value for path, value in leaves(self.as_dict()) if value != {}}

    def __hash__(self) -> int:
        """The generated one fails at mappings."""
        return hash(frozenset(self.flat.items()))

    def with_values(self, values: Mapping[str, Any]) -> Self:
        """A copy with these dotted settings; nothing is checked."""
        changed = self
        for path, value in values.items():
            changed = with_value(changed, path.split("."), value)
        return changed

    def as_dict(self) -> dict[str, Any]:
        """What JSON is written from."""
        plain: dict[str, Any] = plain_tree(self)
        return plain
