"""The table that says how measured numbers are read, and the names under which runs record them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.metrics.names import BY_EXTRACTOR, SEEN

Floats = NDArray[np.float64]
Role = Literal["headline", "further", "diagnostic"]
_LARGEST = 700.0  # e^700 is 1e304; beyond 709 the exponential overflows
LEAST_FOR_NEIGHBOURS = 4
"""Images of each set that precision and recall need, as a ball reaches to the third neighbour."""
NO_CAPTIONS = "pseudo text features"
"""What a card says of the captions where images are generated from real images, as there is no caption."""
POOL = 100
"""Captions that R-precision ranks an image's own among, itself one of them, if so many differ."""


@dataclass(frozen=True)
class Metric:
    """How one measured number is read."""

    name: str
    better: Literal["lower", "higher"]
    scale: Literal["log", "raw"]
    """log: runs are compared by ratios, shown as % change; raw: by differences."""
    title: str
    unit: str
    role: Role
    """A diagnostic is shown and takes no part in verdicts."""
    doc: str

    @property
    def headline(self) -> bool:
        return self.role == "headline"

    @property
    def change_unit(self) -> str:
        """Of a change as readers see it."""
        return "%" if self.scale == "log" else self.unit

    def scaled(self, values: ArrayLike) -> Floats:
        """Values on the scale on which runs are averaged and subtracted."""
        raw = np.asarray(values, np.float64)
        return np.asarray(np.log(raw) if self.scale == "log" else raw)

    def unscaled(self, values: ArrayLike) -> Floats:
        """The inverse of `scaled`."""
        scaled = np.asarray(values, dtype=np.float64)
        return np.asarray(np.exp(scaled) if self.scale == "log" else scaled)

    def change(self, differences: ArrayLike) -> Floats:
        """Differences on that scale as readers see them, in `change_unit`; finite for finite ones."""
        scaled = np.asarray(differences, dtype=np.float64)
        return np.asarray(100 * np.expm1(np.minimum(scaled, _LARGEST)) if self.scale == "log" else scaled)

    def difference(self, changes: ArrayLike) -> Floats:
        """The inverse of `change`."""
        shown = np.asarray(changes, dtype=np.float64)
        return np.asarray(np.log1p(shown / 100) if self.scale == "log" else shown)


_ALL = (
    Metric("fd", "lower", "log", "Fréchet distance", "", "headline", "Between Gaussians of image features; biased up."),
    Metric(
        "clip_score", "higher", "raw", "CLIP score", "points", "headline", "Mean 100 max(cos, 0) of image and caption."
    ),
    Metric(
        "kid", "lower", "raw", "Kernel distance", "", "further", "Cubic MMD² of image features; unbiased, can be < 0."
    ),
    Metric("r_precision", "higher", "raw", "R-precision", "share", "further", "Own caption ranks first among others."),
    Metric("precision", "higher", "raw", "Precision", "share", "further", "Generated images among the real: fidelity."),
    Metric("recall", "higher", "raw", "Recall", "share", "further", "Real images among the generated: variety."),
    Metric(
        "clip_score_seen", "higher", "raw", "Guide's CLIP score", "points", "diagnostic", "By the CLIP trained against."
    ),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
_PUBLISHED = {"fid": ("fd", "FID"), "kid": ("kid", "KID")}
"""Recorded with the published Inception only: name -> name in `METRICS`, title."""
_ROLES: tuple[Role, ...] = ("headline", "further", "diagnostic")


def find_metric(recorded: str) -> Metric | None:
    """The row of a recorded name, its title naming the extractor; None for any other logged number.

    The role is that of the headline extractor; for one of `metrics.more` the card knows better, see `metrics_of`.
    """
    if recorded in METRICS and recorded not in _PUBLISHED:
        return METRICS[recorded]
    plain = recorded.removesuffix(SEEN)
    kind, _, extractor = plain.partition("_")
    if plain in _PUBLISHED:
        kind, title = _PUBLISHED[plain]
    elif kind in BY_EXTRACTOR and extractor:
        title = f"{METRICS[kind].title} ({extractor})"
    elif plain in METRICS and kind not in BY_EXTRACTOR:
        kind, title = plain, METRICS[plain].title
    else:
        return None
    row = replace(METRICS[kind], name=recorded, title=title)
    if plain == recorded:
        return row
    doc = f"{row.doc} By a network that also guided training."
    return replace(row, title=f"{title}, seen in training", role="diagnostic", doc=doc)


def metrics_of(cards: Mapping[str, Mapping[str, Any]]) -> tuple[Metric, ...]:
    """The rows of those recorded names that are metrics, in the table's order, with the roles that their cards tell."""
    metrics = [
        replace(metric, role=cards[name].get("role", metric.role))
        for name in sorted(cards)
        if (metric := find_metric(name))
    ]
    # The headline extractor's rows before those of the further ones.
    order = list(METRICS)
    return tuple(sorted(metrics, key=lambda metric: (order.index(base(metric.name)), _ROLES.index(metric.role))))


def headlines(values: Mapping[str, float], cards: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Of the values by recorded name those of headline metrics."""
    return {metric.name: values[metric.name] for metric in metrics_of(cards) if metric.headline}


def base(recorded: str) -> str:
    """`fd_dinov2_seen` -> `fd`; the name itself where no kind of metric is behind it."""
    if recorded in METRICS:
        return recorded
    name = recorded.removesuffix(SEEN)
    if name in _PUBLISHED:
        return _PUBLISHED[name][0]
    kind = name.partition("_")[0]
    return kind if kind in BY_EXTRACTOR else name if name in METRICS else recorded
