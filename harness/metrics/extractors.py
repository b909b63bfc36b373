"""The networks that measure, as cards tell them. No torch here."""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.models import encoders
from harness.models.weights import FOLDER

_CENTRE = "shorter side by {}, antialiased, centre square"
_RULES = {
    "torch_fidelity": "bilinear as in TensorFlow 1, not antialiased, to 299 x 299",
    **dict.fromkeys(("open_clip", "torchvision", "timm"), _CENTRE.format("the interpolation of its training")),
}


@dataclass(frozen=True)
class Extractor:
    """A frozen network that images are measured by."""

    name: str
    fingerprint: str
    """Identifies its weights."""
    seen: bool = False
    """Whether the very same weights guided training."""

    @property
    def resize(self) -> str:
        """How it brings 8-bit RGB images of any size to its own."""
        family, _, model = self.name.partition(":")
        rule = _embedded(model) if family == "embedded" else _RULES.get(family, "by itself")
        return f"8-bit RGB, resized by the network: {rule}"


def extractor(name: str, guides: tuple[str, ...] = ()) -> Extractor:
    """The extractor of that name; `guides` are the networks that guide training. Raises as `encoders.check` does."""
    mark = encoders.fingerprint(name)
    return Extractor(name, mark, seen=mark in map(encoders.fingerprint, guides))


def _embedded(model: str) -> str:
    path = FOLDER / f"{model}.json"
    side = json.loads(path.read_text(encoding="utf-8"))["size"] if path.is_file() else "its own"
    return f"{_CENTRE.format('bilinear')} of {side} x {side}" if isinstance(side, int) else _CENTRE.format("bilinear")
