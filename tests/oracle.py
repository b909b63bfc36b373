"""The objective once more, written from its equations alone: float64, plain loops, nothing taken from `models`.

Symbols as in `harness.models.objective`. Every exponential, logarithm and sum stands where the equations have it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TOGGLES = ("img_img_loss", "separate_features", "transform_w", "paired_contrast", "mix_logits", "resnet_guided")
SUBSETS = tuple(frozenset(s) for k in range(7) for s in itertools.combinations(TOGGLES, k))
PLAYERS = ("generator", "discriminator")

TABLES = {
    "generator": """
        itd   | 5   | f_txt(x) | h         | not paired_contrast
        itc   | 10  | f_c(x)   | h         | not paired_contrast
        itd_r | 5   | f_txt(x) | h         | paired_contrast
        itd_f | 1   | f_txt(x) | h'        | paired_contrast
        iid_r | 4   | f_img(x) | f_img(r)  | img_img_loss
        iid_f | 0.8 | f_img(x) | f_img(x') | img_img_loss and paired_contrast
        iiv_r | 4   | f_res(x) | f_res(r)  | resnet_guided
        iiv_f | 0.8 | f_res(x) | f_res(x') | resnet_guided and paired_contrast
        iiv_d | 4   | f_img(x) | f_res(r)  | resnet_guided
        itc_r | 10  | f_c(x)   | h         | paired_contrast
        itc_f | 2   | f_c(x)   | h'        | paired_contrast
        iic   | 3   | f_c(x)   | f_c(x')   | img_img_loss and paired_contrast
    """,
    "discriminator": """
        itd   | 5   | f_txt(x) | h         | always
        iivd  | 4   | f_img(r) | f_res(r)  | resnet_guided
    """,
}


@dataclass(frozen=True)
class Row:
    """One line of a table: `weight * contrast(u, v)` while `when` holds."""

    name: str
    weight: float
    u: str
    v: str
    when: str

    def holds(self, toggles: frozenset[str]) -> bool:
        conditions = [] if self.when == "always" else self.when.split(" and ")
        return all((c[4:] not in toggles) if c.startswith("not ") else (c in toggles) for c in conditions)


@dataclass(frozen=True)
class Reading:
    """The decided readings of the source."""

    similarity: str = "exp"
    d_itd_on: str = "fake"
    lam: float = 0.5
    tau: float = 0.5


ORIGIN = Reading()


@dataclass(frozen=True)
class Losses:
    """Unweighted terms, the adversarial loss, and the weighted total."""

    terms: dict[str, float]
    adversarial: float
    total: float

    def as_dict(self) -> dict[str, float]:
        return {**self.terms, "adversarial": self.adversarial, "total": self.total}


def rows(player: str, reading: Reading = ORIGIN) -> tuple[Row, ...]:
    """Every row of the player's table; `d_itd_on: real` moves the discriminator's itd to real images."""
    cells = [[cell.strip() for cell in line.split("|")] for line in TABLES[player].strip().splitlines()]
    table = [Row(name, float(weight), u, v, when) for name, weight, u, v, when in cells]
    if player == "discriminator" and reading.d_itd_on == "real":
        table[0] = Row("itd", 5.0, "f_txt(r)", "h", "always")
    return tuple(table)


def active(player: str, toggles: frozenset[str], reading: Reading = ORIGIN) -> tuple[Row, ...]:
    return tuple(row for row in rows(player, reading) if row.holds(toggles))


def cos(a: Array, b: Array) -> float:
    return float(np.dot(a, b)) / (math.sqrt(np.dot(a, a)) * math.sqrt(np.dot(b, b)))


def contrast(u: Array, v: Array, tau: float = 0.5, similarity: str = "exp") -> float:
    """-tau * mean_i log( exp Sim(u_i, v_i) / sum_j exp Sim(u_j, v_i) ): the sum runs over the first argument."""

    def sim(a: Array, b: Array) -> float:
        return math.exp(cos(a, b) / tau) if similarity == "exp" else cos(a, b) / tau

    n = len(u)
    total = 0.0
    for i in range(n):
        denominator = 0.0
        for j in range(n):
            denominator += math.exp(sim(u[j], v[i]))
        total += math.log(math.exp(sim(u[i], v[i])) / denominator)
    return -tau * total / n


def logits(
    toggles: frozenset[str], features: Mapping[str, Array], b: Mapping[str, Array], reading: Reading = ORIGIN
) -> dict[str, Array]:
    """D(y; c) = b(y) + f_txt(y).c for y = r, x under h and x' under h'; mixed: all three under (h, h')."""
    out = {}
    for y, condition in (("r", "h"), ("x", "h"), ("x'", "h'")):
        values = []
        for i in range(len(b[y])):
            f = features[f"f_txt({y})"][i]
            if "mix_logits" in toggles:
                real, pseudo = np.dot(f, features["h"][i]), np.dot(f, features["h'"][i])
                values.append(b[y][i] + reading.lam * real + (1 - reading.lam) * pseudo)
            else:
                values.append(b[y][i] + np.dot(f, features[condition][i]))
        out[y] = np.array(values)
    return out


def mean_log(probabilities: list[float]) -> float:
    return sum(math.log(p) for p in probabilities) / len(probabilities)


def logistic(d: Array) -> list[float]:
    return [1 / (1 + math.exp(-value)) for value in d]


def adversarial(player: str, toggles: frozenset[str], d: Mapping[str, Array]) -> float:
    """L_G = -log s(D(x)) [- log s(D(x'))];  L_D = -log s(D(r)) - log(1 - s(D(x))) [- log(1 - s(D(x')))]."""
    generated = ("x", "x'") if "paired_contrast" in toggles else ("x",)
    if player == "generator":
        return sum(-mean_log(logistic(d[y])) for y in generated)
    fake = sum(-mean_log([1 - s for s in logistic(d[y])]) for y in generated)
    return -mean_log(logistic(d["r"])) + fake


def one_head(toggles: frozenset[str], features: Mapping[str, Array]) -> dict[str, Array]:
    """The features that the discriminator really has: f_img = f_txt unless separate_features."""
    if "separate_features" in toggles:
        return dict(features)
    return {**features, **{f"f_img({y})": features[f"f_txt({y})"] for y in ("x", "x'", "r")}}


def objective(
    player: str,
    toggles: frozenset[str],
    features: Mapping[str, Array],
    d: Mapping[str, Array],
    reading: Reading = ORIGIN,
) -> Losses:
    """One player's objective from the features and the logits `d` of x, x' and r."""
    features = one_head(toggles, features)
    table = active(player, toggles, reading)
    terms = {row.name: contrast(features[row.u], features[row.v], reading.tau, reading.similarity) for row in table}
    adv = adversarial(player, toggles, d)
    return Losses(terms, adv, adv + sum(row.weight * terms[row.name] for row in table))
