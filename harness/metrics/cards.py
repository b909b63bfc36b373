"""Cards: how a number was measured, so that two numbers may stand side by side, and what its reader must know."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics import formulas
from harness.metrics.definitions import LEAST_FOR_NEIGHBOURS, NO_CAPTIONS, POOL, Metric, base
from harness.models.encoders import tokens
from harness.text import are, quantity

Card = Mapping[str, Any]

NOT_HOW = frozenset({"role", "engine"})
"""Parts of a card that do not say how a number was measured, but what it is for, and by which code."""
BIASED_BELOW = 5000
"""Images below which a Frechet distance is said to be biased."""


def digest(card: Card) -> str:
    """Equal for numbers that were measured alike, whatever part in the verdicts they take."""
    how = {key: value for key, value in card.items() if key not in NOT_HOW}
    return hashlib.sha256(json.dumps(how, sort_keys=True).encode()).hexdigest()[:16]


def about_real(features: NDArray[Any]) -> dict[str, Any]:
    """What the card of an image network says of real images: the width "d", and how many are "real_distinct" ones."""
    return {"d": int(features.shape[1]), "real_distinct": len(set(formulas.alike(features)))}


def about_captions(metric: str, texts: Sequence[str], features: NDArray[Any], clip: str) -> dict[str, Any]:
    """What the card of a caption metric says of these captions, whose features by that CLIP are rows of `features`.

    "asked" captions, of which so many "distinct" ones are left in the features; "cut" of them are longer than the
    "context", where its tokenizer can be had. Of R-precision also the number of "rivals" of a caption, "chance", and
    what one image for all captions can reach at best, "constant": more than chance where one caption is frequent.
    """
    first = formulas.alike(features)  # [N]: row of the first caption that each coincides with
    card: dict[str, Any] = {"asked": len(texts), "distinct": len(set(first))}
    try:
        reader = tokens.reader(clip)
    except (ValueError, OSError):
        pass  # such as without a network: the features came from the cache
    else:
        card |= {"context": reader.context, "cut": sum(text.cut for text in reader.read(texts))}
    if metric == "r_precision":
        rivals = formulas.rivals(features)
        chance, frequent = 1 / (1 + rivals), float(np.bincount(first).max()) / len(first)
        card |= {"rivals": rivals, "chance": round(chance, 6), "constant": round(max(chance, frequent), 6)}
    return card


def _deficient_rank(card: Card) -> int:
    """Of a covariance that was fitted to fewer images, of two at least, than it has rows; 0 if it has full rank."""
    count = card.get("n", BIASED_BELOW)
    smaller = min(count, card.get("n_real") or count)
    return smaller - 1 if smaller <= card.get("d", 0) else 0


def bias(metric: Metric, card: Card) -> str:
    """A sentence on a Frechet distance from few images; empty where its bias does not matter."""
    count = card.get("n", BIASED_BELOW)
    rank = _deficient_rank(card)
    if metric.scale != "log" or not (count < BIASED_BELOW or rank):
        return ""
    few = f" (N={count}, fewer than {BIASED_BELOW} images)" if count < BIASED_BELOW else f" (N={count})"
    text = f"{metric.title}: biased upward{few}, by an amount that depends on the model; compare within this table only"
    if not rank:
        return f"{text}."
    why = f"rank {rank} of {card['d']}, as there are no more images than features"
    return f"{text}. The covariance has {why}: go by the kernel distance, which has no such bias."


def caveats(metric: Metric, card: Card) -> list[str]:
    """Sentences on images without captions, on captions that are cut off, and on captions or real images that coincide;
    often none."""
    return [*missing_captions(metric, card), *_of_alike(metric, card)]


def missing_captions(metric: Metric, card: Card) -> list[str]:
    """Sentences on images without captions: what takes their place, and which metrics there are none of."""
    captions, kind = card.get("captions"), base(metric.name)
    if kind not in ("fd", "clip_score"):
        return []
    if captions == NO_CAPTIONS:
        return [
            "No image has a caption and metrics.captions names no file: images are generated from pseudo text features "
            "of real images, and CLIP score and R-precision are not measured."
        ]
    images = {"train": "images to train on", "held-out": "held-out images"}.get(str(captions), "")
    of_distances = kind == "fd"
    sentences = []
    if captions == "train" and not of_distances:
        sentences.append(
            "No held-out image has a caption: CLIP score and R-precision take those of images to train on."
        )
    if "captioned" in card:
        what = "Distances are of images generated from" if of_distances else "CLIP score and R-precision take"
        sentences.append(f"{what} the captions of {card['captioned']} {images}; the others have none.")
    return sentences


def _of_alike(metric: Metric, card: Card) -> list[str]:
    count, distinct, name = card.get("n_real", 0), card.get("real_distinct"), card.get("extractor")
    if distinct is not None:
        return list(_of_images(card, count, distinct)) if base(metric.name) == "fd" else []
    if "asked" not in card:
        return []
    if "rivals" in card:
        return [f"{metric.title}: {ranking(card)}"] if card["rivals"] + 1 < POOL or _frequent(card) else []
    asked, distinct = card["asked"], card.get("distinct", 0)
    captions, sentences = quantity(asked, f"{card.get('captions')} caption"), []
    if card.get("cut"):
        sentences.append(
            f"{card['cut']} of {captions} {are(card['cut'])} cut off at {card['context']} tokens by {name}."
        )
    if distinct < asked:
        sentences.append(f"{metric.title}: to {name} the {captions} are {_different(distinct)}.")
    if distinct == 1 and metric.role != "diagnostic":
        # Captions that are given belong to no real image, so that there is no score of shuffled ones.
        lost = "R-precision is" if card["captions"] == "given" else "R-precision and the score of shuffled captions are"
        nothing = f"{metric.title} tells nothing of captions either"
        sentences.append(f"{lost} left out, as no caption is wrong for an image; {nothing}.")
    return sentences


def _of_images(card: Card, count: int, distinct: int) -> Iterator[str]:
    """Of a Frechet distance from `count` real images, `distinct` of which differ to its network."""
    need = f"precision and recall are left out, which need {LEAST_FOR_NEIGHBOURS}"
    few = f"; {need}" if distinct < LEAST_FOR_NEIGHBOURS else ""
    if distinct <= 0.9 * count:  # one image in ten that coincides is no news
        yield f"To {card.get('extractor')} the {count} real images are {_different(distinct)}{few}."
    elif few:
        yield f"There are {count} real images{few}."
    if (generated := card.get("n", LEAST_FOR_NEIGHBOURS)) < LEAST_FOR_NEIGHBOURS:
        yield f"There are {generated} generated images; {need}."


def _different(distinct: int) -> str:
    return "all one" if distinct == 1 else f"{distinct} different ones"


def ranking(card: Card) -> str:
    """Among how many captions R-precision ranks the own one, and what generators reach that read none."""
    among = card["rivals"] + 1
    few = f", as no more differ, in place of {POOL}" if among < POOL else ""
    sentence = f"the own caption is ranked among {among}{few}; chance is {card['chance']:.2g}"
    if _frequent(card):
        sentence += (
            f", and one image for all captions can reach {card['constant']:.2g}, as so many of them are the same"
        )
    return f"{sentence}."


def _frequent(card: Card) -> bool:
    """Whether one caption is so frequent that an image of it alone beats chance by more than a tenth."""
    return float(card.get("constant", 0.0)) > 1.1 * float(card["chance"])


def kernel_first(metrics: Iterable[Metric], cards: Mapping[str, Card]) -> tuple[Metric, ...]:
    """The headline metrics; a Frechet distance of deficient rank is preceded by the kernel distance of its network."""
    metrics, leading = tuple(metrics), list[Metric]()
    for metric in metrics:
        if not metric.headline:
            continue
        if metric.scale == "log" and _deficient_rank(cards.get(metric.name, {})):
            kernel = f"kid{metric.name.removeprefix('fid').removeprefix('fd')}"
            leading += [replace(other, role="headline") for other in metrics if other.name == kernel]
        leading.append(metric)
    return tuple(leading)
