"""The networks that measure a run: what they are called in a metric's name, and which of them also guide training."""

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
    return [place for place, name in enumerate(labels) if name in labels[:place]]


def guides_that_measure(fingerprints: Mapping[str, str]) -> dict[str, str]:
    """Measuring setting -> the training setting of the very same weights, by a run's fingerprints."""
    of_training = ("encoders.", "ideas.", "command.guides.")
    guides = {content: path for path, content in fingerprints.items() if path.startswith(of_training)}
    measuring = {path: content for path, content in fingerprints.items() if path.startswith("metrics.")}
    return {path: guides[content] for path, content in measuring.items() if content in guides}


def remarks(fingerprints: Mapping[str, str]) -> tuple[str, ...]:
    """What follows from a measuring network that also guides training, for the reader of a plan or a report."""
    lost = {"metrics.clip": "clip_score", "metrics.resnet": "headline distance"}
    sentences = []
    for network, guide in guides_that_measure(fingerprints).items():
        without = f"; no {lost[network]} is left for them, so name another network" if network in lost else ""
        sentences.append(
            f"{network} has the weights of {guide}, which guides training: what it measures is recorded with the "
            f"ending {SEEN} and takes no part in verdicts{without}"
        )
    return tuple(sentences)
