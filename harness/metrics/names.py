"""The networks that a run is measured by: what they are called in a metric's name, and which of them also train it.

No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from harness.models import encoders

SEEN = "_seen"
"""Ends the name of a metric whose network also guided training: such a number is a diagnostic."""


MEASURES = ("fd", "kid", "clip_score", "r_precision", "precision", "recall")
"""What is measured, whatever network measures it."""
BY_EXTRACTOR = ("fd", "kid")
"""Metrics whose name says which network's features they live in."""


def recorded(metric: str, extractor: str, seen: bool = False) -> str:
    """Under what name a run records a metric: `fd` by the published Inception -> `fid`, by another -> `fd_emoji`."""
    name = metric
    if metric in BY_EXTRACTOR:
        own = label(extractor)
        name = f"{metric}_{own}" if own else {"fd": "fid"}.get(metric, metric)
    return name + SEEN if seen else name


def label(extractor: str) -> str:
    """What a metric's name says about its extractor; empty for the published Inception, whose metrics are FID and KID.

    `embedded:resnet-measure` -> emoji, which it was trained on; `timm:vit_small_patch14_dinov2.lvd142m` -> dinov2;
    `timm:resnet50.a1_in1k@FILE` -> resnet50_a1_in1k.
    """
    try:
        if encoders.is_published_inception(extractor):
            return ""
    except ValueError:
        pass  # A name that means nothing is refused with the reason where its weights are looked for.
    library, _, name = extractor.partition(":")
    if library == "embedded":
        return "emoji"
    model = name.partition("@")[0].lower()
    return "dinov2" if "dinov2" in model else re.sub(r"[^a-z0-9]+", "_", model).strip("_")


def clashes(extractors: Iterable[str]) -> list[int]:
    """Places of those extractors whose metrics would have the names of an earlier one's."""
    labels = [label(name) for name in extractors]
    return [place for place, found in enumerate(labels) if found in labels[:place]]


def pupils(prints: Mapping[str, str]) -> dict[str, str]:
    """Measuring setting -> the training setting of the very same weights, by a run's fingerprints."""
    guides = {content: path for path, content in prints.items() if path.startswith("encoders.")}
    judges = {path: content for path, content in prints.items() if path.startswith("metrics.")}
    return {path: guides[content] for path, content in judges.items() if content in guides}


def remarks(prints: Mapping[str, str]) -> tuple[str, ...]:
    """What follows from a judge that also trains, for the reader of a plan or a report."""
    lost = {"metrics.clip": "clip_score", "metrics.resnet": "headline distance"}
    return tuple(
        f"{judge} has the weights of {guide}, which guides training: what it measures is recorded with the ending "
        f"{SEEN} and takes no part in verdicts{_without(lost.get(judge))}"
        for judge, guide in pupils(prints).items()
    )


def _without(metric: str | None) -> str:
    return f"; no {metric} is left for them, so name another network" if metric else ""
