"""Random features and logits for the objective, and its configuration for a subset of the toggles."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import numpy as np
import torch

import oracle
from harness.models.config import LossConfig, ModelConfig
from harness.models.losses import condition_logit
from harness.models.toggles import apply

N, F = 5, 6
IMAGES = ("x", "x'", "r")
SOME_SUBSETS = [
    frozenset[str](),
    frozenset({"img_img_loss", "resnet_guided"}),
    frozenset({"paired_contrast", "mix_logits", "img_img_loss"}),
    frozenset(oracle.TOGGLES),
]

Arrays = dict[str, oracle.Array]
Tensors = dict[str, torch.Tensor]


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


def tensors(arrays: Mapping[str, oracle.Array], dtype: torch.dtype = torch.float64) -> Tensors:
    return {name: torch.tensor(value).to(dtype) for name, value in arrays.items()}


def conditioned(config: LossConfig, features: Tensors, b: Tensors) -> Tensors:
    h, pseudo = features["h"], features["h'"]
    return {y: condition_logit(config, (b[y], features[f"f_txt({y})"]), y, h, pseudo) for y in IMAGES}


def inputs(subset: frozenset[str], dtype: torch.dtype = torch.float64) -> tuple[Tensors, Tensors]:
    features, b = drawn()
    return tensors(oracle.one_head(subset, features), dtype), tensors(b, dtype)


def value(losses: Mapping[str, torch.Tensor]) -> dict[str, float]:
    return {name: loss.item() for name, loss in losses.items()}
