"""What a card says about the number it belongs to: how biased it is, and whether two numbers may stand side by side.

No torch here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from harness.data.captions import POOL
from harness.metrics.definitions import LEAST_FOR_NEIGHBOURS, Metric, base

Card = Mapping[str, Any]

NOT_HOW = frozenset({"role", "engine"})
"""Parts of a card that do not say how a number was measured, but what it is for, and by which code."""
BIASED_BELOW = 5000
"""Images below which a Frechet distance is said to be biased."""


def digest(card: Card) -> str:
    """Equal for numbers that were measured alike, whatever part in the verdicts they take."""
    told = {key: value for key, value in card.items() if key not in NOT_HOW}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def deficient(card: Card) -> bool:
    """Whether a covariance was fitted to fewer images than it has rows, so that it has no full rank."""
    return _images(card) <= int(card.get("d", 0))


def _images(card: Card) -> int:
    """The smaller of the two sets."""
    return int(min(card.get("n", BIASED_BELOW), card.get("n_real") or card.get("n", BIASED_BELOW)))


def bias(metric: Metric, card: Card) -> str:
    """A sentence on a Frechet distance from few images; empty where there is nothing to mind."""
    count = card.get("n", BIASED_BELOW)
    if metric.scale != "log" or not (count < BIASED_BELOW or deficient(card)):
        return ""
    few = f" (N={count}, fewer than {BIASED_BELOW} images)" if count < BIASED_BELOW else f" (N={count})"
    text = f"{metric.title}: biased upward{few}, by an amount that depends on the model; compare within this table only"
    if not deficient(card):
        return f"{text}."
    rank = f"rank {_images(card) - 1} of {card['d']}, as there are fewer images than features"
    return f"{text}. The covariance has {rank}: go by the kernel distance, which has no such bias."


def alternatives(metric: Metric, card: Card) -> list[str]:
    """Sentences on what a number could not go wrong on; none where captions are read whole, and all are different."""
    if "real_distinct" in card:
        return [text] if base(metric.name) == "fd" and (text := _about_real(card)) else []
    return _about_captions(metric, card) if "asked" in card else []


def _about_real(card: Card) -> str:
    """On real images that coincide, from a tenth of them on."""
    count, distinct = card.get("n_real", 0), card["real_distinct"]
    if distinct > 0.9 * count and distinct >= LEAST_FOR_NEIGHBOURS:
        return ""
    left = "all one" if distinct == 1 else f"{distinct} different ones"
    few = (
        f"; precision and recall are left out, which need {LEAST_FOR_NEIGHBOURS}"
        if distinct < LEAST_FOR_NEIGHBOURS
        else ""
    )
    return f"To {card.get('extractor')} the {count} real images are {left}{few}."


def _about_captions(metric: Metric, card: Card) -> list[str]:
    asked, distinct, name = card.get("asked", 0), card.get("distinct", 0), card.get("extractor")
    if "rivals" in card:
        return [f"{metric.title}: {ranking(card)}"] if card["rivals"] + 1 < POOL or _frequent(card) else []
    whose = f"{asked} {card.get('captions')} captions"
    found = []
    if card.get("cut"):
        found.append(f"{card['cut']} of {whose} are cut off at {card['context']} tokens by {name}.")
    if distinct < asked:
        left = "all one" if distinct == 1 else f"{distinct} different ones"
        found.append(f"{metric.title}: to {name} the {whose} are {left}.")
    if distinct == 1 and metric.role != "diagnostic":
        left_out = "R-precision and the score of shuffled captions are left out"
        found.append(
            f"{left_out}, as no caption is wrong for an image; {metric.title} tells nothing of captions either."
        )
    return found


def ranking(card: Card) -> str:
    """Among how many captions R-precision ranks the own one, and what generators reach that read none."""
    among = card["rivals"] + 1
    few = f", as no more differ, in place of {POOL}" if among < POOL else ""
    told = f"the own caption is ranked among {among}{few}; chance is {card['chance']:.2g}"
    if _frequent(card):
        told += f", and one image for all captions can reach {card['constant']:.2g}, as so many of them are the same"
    return f"{told}."


def _frequent(card: Card) -> bool:
    """Whether one caption is so frequent that an image of it alone beats chance by more than a tenth."""
    return float(card.get("constant", 0.0)) > 1.1 * float(card["chance"])


def kernel_first(metrics: Iterable[Metric], cards: Mapping[str, Card]) -> tuple[Metric, ...]:
    """The headline metrics; a Frechet distance of deficient rank is preceded by the kernel distance of its network."""
    found = tuple(metrics)
    leading: list[Metric] = []
    for metric in found:
        if not metric.headline:
            continue
        if metric.scale == "log" and deficient(cards.get(metric.name, {})):
            leading += [replace(other, role="headline") for other in found if other.name == kernel_of(metric.name)]
        leading.append(metric)
    return tuple(leading)


def kernel_of(distance: str) -> str:
    """`fid` -> `kid`, `fd_emoji` -> `kid_emoji`."""
    return "kid" if distance == "fid" else f"kid{distance.removeprefix('fd')}"
