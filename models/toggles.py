"""The six ideas under study: each a pure rewrite of the configuration.

No two toggles touch the same setting, so their order does not matter, and applying one twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeVar

from harness.models.config import ModelConfig

Config = TypeVar("Config", bound=ModelConfig)


@dataclass(frozen=True)
class Toggle:
    """A named idea: sets `setting` (section.field) to `value`."""

    name: str
    idea: str
    setting: str
    value: Any


_ALL = (
    Toggle("img_img_loss", "image-image loss", "loss.img_img_loss", True),
    Toggle("separate_features", "separate image and text features in D", "discriminator.heads", "separate"),
    Toggle("transform_w", "generator layer that transforms w", "generator.conditioning", "transform"),
    Toggle("paired_contrast", "new contrastive structure", "loss.paired_contrast", True),
    Toggle("mix_logits", "mixed discriminator logits", "loss.mix_logits", True),
    Toggle("resnet_guided", "ResNet guidance", "loss.resnet_guided", True),
)
TOGGLES: dict[str, Toggle] = {toggle.name: toggle for toggle in _ALL}


def apply(config: Config, names: Iterable[str]) -> Config:
    """`config` with the named toggles on; pure, the order of the names does not matter.

    Raises ValueError with the nearest match when a name is not one of `TOGGLES`.
    """
    for name in names:
        if name not in TOGGLES:
            near = get_close_matches(name, TOGGLES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown toggle {name!r}: allowed are {', '.join(TOGGLES)}{hint}")
        section, field = TOGGLES[name].setting.split(".")
        changed = replace(getattr(config, section), **{field: TOGGLES[name].value})
        config = replace(config, **{section: changed})
    return config
