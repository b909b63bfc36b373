"""Measures the embedded encoders and writes the card of all embedded weights, models/weights/README.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from harness.models.encoders import FOLDER, embedded
from harness.models.encoders.frozen import Clip
from harness.models.encoders.load import load_clip
from harness.runs.initial import ORIGINS
from tools.weights import figures
from tools.weights.corpus import Corpus

SIZES = (32, 16)
"""Pixels that pictures are reduced to before an encoder sees them."""
ASCENT_EVERY = 8
"""The captions that ascent starts from: every eighth of the held-out ones."""

_HEAD = """# The embedded weights

Written by `python -m tools.weights`; do not edit. The encoders are four small networks that see 32 px images, trained
on the training split of the data set `twemoji` and nothing else: the `guide` pair to train with, the `measure` pair to
measure with, of other architecture and seed, so that no run is measured by the network that guided its training. They
know emoji, not photographs. The last section is a trained GAN, of the same data. {attribution}.

Held out is a tenth of the pictures, chosen by their code points. A picture's other skin tones may be in the training
split: held-out figures say how well names and parts recombine, not how an unseen thing is recognised.

CLIPs are trained with a contrastive loss between captions (aliases included) and pictures that were shifted, rotated,
recoloured, blurred, cut, noised or reduced to 12 to 24 px. Half of every batch is moved by one signed gradient step
inside a ball of at most epsilon (of the 0..255 range) to where the loss grows, and pictures of nothing (shuffled tiles,
noise) are negatives of every caption. Both make it harder for a generator to score high without drawing the caption.
ResNets learn Unicode's subgroups and the skin tone of the same pictures.
"""


def write(corpus: Corpus, recipes: dict[str, float]) -> Path:
    """Measures what `models/weights` holds; `recipes` gives each encoder's epsilon in [-1,1] units."""
    sections = [
        _HEAD.format(attribution=corpus.data.attribution),
        "## Size and training\n\n" + _sizes(recipes),
        "## Text-to-image retrieval: each caption's own picture among all pictures\n\n" + _retrieval(corpus),
        "## Classification into Unicode's subgroups\n\n" + _accuracy(corpus),
        "## Pictures made by following one CLIP's gradient, scored by the other\n\n" + _ascent(corpus),
        "## The origin to start from\n\n" + _origins(),
    ]
    path = FOLDER / "README.md"
    path.write_text("\n".join(sections))
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; numbers with a fraction get three digits."""
    cells = [head, ["---"] * len(head), *rows]
    shown = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in shown) + "\n"


def _sizes(recipes: dict[str, float]) -> str:
    rows = []
    for name, epsilon in recipes.items():
        config = embedded.read_config(name)
        weights = FOLDER / f"{name}.safetensors"
        tower = embedded.build_tower(config["tower"], config.get("features", 0))
        with FlopCounterMode(display=False) as counter:
            tower.eval()(torch.zeros(1, 3, config["size"], config["size"]))
        rows.append(
            (
                f"`embedded:{name}`",
                f"{sum(value.numel() for value in embedded.read_weights(name).values()):,}",
                f"{counter.get_total_flops() / 2e6:.1f} M",
                f"{weights.stat().st_size / 1e6:.1f} MB",
                f"{epsilon * 127.5:.0f}/255",
                f"{config['trained']['steps']} x 128, seed {config['trained']['seed']}",
                f"{config['trained']['seconds'] / 60:.0f} min",
            )
        )
    head = ("encoder", "weights", "multiply-adds per image", "file", "epsilon", "steps x batch", "training, CPU time")
    return table(head, rows)


def _sides(corpus: Corpus) -> dict[str, Tensor]:
    return {"training": torch.from_numpy(corpus.data.train), "held out": torch.from_numpy(corpus.data.held_out)}


def _clips() -> dict[str, Clip]:
    return {name: load_clip(f"embedded:{name}") for name in ("clip-guide", "clip-measure")}


def _retrieval(corpus: Corpus) -> str:
    rows: list[Sequence[object]] = []
    for name, clip in _clips().items():
        for size in SIZES:
            for side, ids in _sides(corpus).items():
                found = figures.retrieval(clip, corpus, ids, size)
                rows.append((name, size, side, found.first, found.tenth, found.own, found.other))
    return table(("encoder", "px", "captions", "R@1", "R@10", "cosine, own picture", "cosine, any picture"), rows)


def _accuracy(corpus: Corpus) -> str:
    rows: list[Sequence[object]] = []
    for name in ("resnet-guide", "resnet-measure"):
        for size in SIZES:
            shares = [figures.accuracy(name, corpus, ids, size) for ids in _sides(corpus).values()]
            rows.append((name, size, *shares))
    return table(("encoder", "px", "training", f"held out (of {len(corpus.classes)} subgroups)"), rows)


def _ascent(corpus: Corpus) -> str:
    clips = _clips()
    texts = [corpus.data.captions[i][0] for i in corpus.data.held_out]
    places = list(range(0, len(texts), ASCENT_EVERY))
    ids = torch.from_numpy(corpus.data.held_out[places])
    rows: list[Sequence[object]] = []
    for size in SIZES:
        for first, second in (("clip-guide", "clip-measure"), ("clip-measure", "clip-guide")):
            made = figures.ascend(clips[first], clips[second], texts, places, size)
            real = figures.retrieval(clips[second], corpus, ids, size).own
            rows.append((size, first, made.guide, second, made.measure, real, made.first))
    head = (
        "px",
        "followed",
        "its cosine",
        "scored by",
        "its cosine",
        "real pictures",
        f"right of {len(texts)} captions",
    )
    return table(head, rows)


def _origins() -> str:
    """What the origins that ship are, by the descriptions that `python -m tools.weights.origin` wrote beside them."""
    lines = []
    for name in ORIGINS:
        card = json.loads((FOLDER / f"{name}.json").read_text())
        settings, metrics = card["settings"], card["metrics"]
        size = (FOLDER / f"{name}.safetensors").stat().st_size / 1e6
        minutes = card["s_per_kimg"] * settings["train.kimg"] / 60
        lines.append(
            f"`init: embedded:{name}`: generator (its average) and discriminator of the origin at "
            f"{settings['data.resolution']} px, in half precision, {size:.1f} MB. Trained with the `guide` pair on "
            f"{settings['train.kimg']:g} thousand images, {minutes:.0f} minutes of one core, by "
            f"`python -m tools.weights.origin`.\nBy the `measure` pair its Frechet distance (emoji) is "
            f"{metrics['fd_emoji']:.2f} and its CLIP score {metrics['clip_score']:.1f}, "
            f"recall {metrics['recall']:.2f}, R-precision {metrics['r_precision']:.2f}.\n"
        )
    return "\n".join(lines)
