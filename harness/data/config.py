"""The settings of `data:`, with their one default. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from models.config import Count

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
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    """Images never trained on."""


OF_SOURCES = ("source", "path", "images", "image_column", "caption_column", "split", "subset", "stored_features")
"""Settings that some sources read and others do not."""
IN_FINGERPRINT = frozenset((*OF_SOURCES, "fit", "min_side", "on_bad_image", "held_out"))
"""Settings that decide only what the data is; its fingerprint stands for them in a run's identity."""
