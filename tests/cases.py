"""Random features and logits for the objective, and its configuration for a subset of the toggles."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import torch

import oracle
from harness.models.config import ModelConfig
from harness.models.losses import condition_logit
from harness.models.objective import PSEUDO, Feature, H, Image, LossConfig, f_txt
from harness.models.toggles import apply

N, F = 5, 6
IMAGES: tuple[Image, ...] = ("x", "x'", "r")
SOME_SUBSETS = [
    frozenset[str](),
    frozenset({"img_img_loss", "resnet_guided"}),
    frozenset({"paired_contrast", "mix_logits", "img_img_loss"}),
    frozenset(oracle.TOGGLES),
]

Arrays = dict[str, oracle.Array]
Features = dict[Feature, torch.Tensor]
Logits = dict[Image, torch.Tensor]


@functools.cache
def drawn(n: int = N, seed: int = 0) -> tuple[Arrays, Arrays]:
    """Random features by symbol, and the unconditional logits b of x, x' and r."""
    draw = np.random.default_rng(seed)
    symbols = [f"{name}({y})" for name in ("f_img", "f_txt", "f_c", "f_res") for y in IMAGES] + ["h", "h'"]
    features = {symbol: draw.standard_normal((n, F)) for symbol in symbols}
    for symbol in ("h", "h'"):
        features[symbol] /= np.linalg.norm(features[symbol], axis=1, keepdims=True)
    return features, {y: draw.standard_normal(n) for y in IMAGES}


def configure(subset: frozenset[str], reading: oracle.Reading = oracle.ORIGIN) -> ModelConfig:
    config = apply(ModelConfig(), sorted(subset))
    chosen = {"similarity": reading.similarity, "d_itd_on": reading.d_itd_on}
    loss = dataclasses.replace(config.loss, **chosen, mix_lambda=reading.lam, tau=reading.tau)
    return dataclasses.replace(config, loss=loss)


def feature(symbol: str) -> Feature:
    """The one that is written so in an equation."""
    kind, _, image = symbol.removesuffix(")").partition("(")
    return Feature(kind, image or None)  # type: ignore[arg-type]


def of_symbols(arrays: Mapping[str, oracle.Array], dtype: torch.dtype = torch.float64) -> Features:
    return {feature(symbol): torch.tensor(value).to(dtype) for symbol, value in arrays.items()}


def of_images(arrays: Mapping[str, oracle.Array], dtype: torch.dtype = torch.float64) -> Logits:
    return {y: torch.tensor(arrays[y]).to(dtype) for y in IMAGES}


def conditioned(config: LossConfig, features: Features, b: Logits) -> Logits:
    return {y: condition_logit(config, (b[y], features[f_txt(y)]), y, features[H], features[PSEUDO]) for y in IMAGES}


def inputs(subset: frozenset[str], dtype: torch.dtype = torch.float64) -> tuple[Features, Logits]:
    features, b = drawn()
    return of_symbols(oracle.one_head(subset, features), dtype), of_images(b, dtype)


def value(losses: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {name: loss.item() for name, loss in losses.items()}
