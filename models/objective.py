"""The objective as data: every contrastive term with its weight, the features that it reads, and when it is active.

Symbols:

    x, x'         images generated from the same latent under h and under h'      r           real image
    h, h'         text feature and pseudo text feature                            f_c, f_res  frozen CLIP and ResNet
    f_img, f_txt  the discriminator's feature heads
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Literal, NamedTuple

from annotated_types import Ge, Gt, Interval

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(1)]
Fraction = Annotated[float, Interval(ge=0, le=1)]

Player = Literal["generator", "discriminator"]
PLAYERS: tuple[Player, ...] = ("generator", "discriminator")
Image = Literal["x", "x'", "r"]
Kind = str
"""A symbol: "h", "h'", "f_img", "f_txt", or what a frozen network gives: `harness.settings.FROZEN`."""


class Feature(NamedTuple):
    """A text feature, which is of no image, or what a network says of one."""

    kind: Kind
    image: Image | None = None

    def __str__(self) -> str:
        """As in equations: `h`, `f_c(x')`."""
        return f"{self.kind}({self.image})" if self.image else self.kind

    @property
    def is_fake(self) -> bool:
        return self.image in ("x", "x'")


H, PSEUDO = Feature("h"), Feature("h'")
f_c, f_res = partial(Feature, "f_c"), partial(Feature, "f_res")
f_img, f_txt = partial(Feature, "f_img"), partial(Feature, "f_txt")


@dataclass(frozen=True)
class Term:
    """One row: `weight * contrast(u, v)` in the player's loss, while each setting of `when` has its value."""

    name: str
    player: Player
    weight: float
    """The default; `LossConfig.weights` holds the one that counts."""
    u: Feature
    v: Feature
    when: Mapping[str, bool | str] = field(default_factory=dict)

    @property
    def through_v(self) -> bool:
        """Whether the gradient flows through v too: texts, real images and their features are fixed targets.

        Follows from v and is no field of its own: run ids hold the equation, which must tell the rows apart.
        """
        return self.v.is_fake

    @property
    def equation(self) -> str:
        return f"contrast({self.u}, {self.v})"

    @property
    def setting(self) -> str:
        """The dotted setting of its weight."""
        return f"loss.weights.{self.player}.{self.name}"


_UNPAIRED, _PAIRED = {"paired_contrast": False}, {"paired_contrast": True}
_IMG_IMG, _RESNET = {"img_img_loss": True}, {"resnet_guided": True}

# itd and itc are the origin's; the others belong to the modified objective.
# fmt: off
TERMS: tuple[Term, ...] = (
    Term("itd",   "generator",      5.0, f_txt("x"), H,           _UNPAIRED),
    Term("itc",   "generator",     10.0, f_c("x"),   H,           _UNPAIRED),
    Term("itd_r", "generator",      5.0, f_txt("x"), H,           _PAIRED),
    Term("itd_f", "generator",      1.0, f_txt("x"), PSEUDO,      _PAIRED),
    Term("iid_r", "generator",      4.0, f_img("x"), f_img("r"),  _IMG_IMG),
    Term("iid_f", "generator",      0.8, f_img("x"), f_img("x'"), _IMG_IMG | _PAIRED),
    Term("iiv_r", "generator",      4.0, f_res("x"), f_res("r"),  _RESNET),
    Term("iiv_f", "generator",      0.8, f_res("x"), f_res("x'"), _RESNET | _PAIRED),
    Term("iiv_d", "generator",      4.0, f_img("x"), f_res("r"),  _RESNET),
    Term("itc_r", "generator",     10.0, f_c("x"),   H,           _PAIRED),
    Term("itc_f", "generator",      2.0, f_c("x"),   PSEUDO,      _PAIRED),
    Term("iic",   "generator",      3.0, f_c("x"),   f_c("x'"),   _IMG_IMG | _PAIRED),
    Term("itd",   "discriminator",  5.0, f_txt("x"), H,           {"d_itd_on": "fake"}),
    Term("itd",   "discriminator",  5.0, f_txt("r"), H,           {"d_itd_on": "real"}),
    Term("iivd",  "discriminator",  4.0, f_img("r"), f_res("r"),  _RESNET),
)
# fmt: on

TERM_SWITCHES = ("img_img_loss", "resnet_guided", "d_itd_on")
"""Fields of LossConfig that nothing reads but `active`: the active rows say what they do."""


def default_weights() -> dict[str, dict[str, float]]:
    """player -> term -> the weight written in the table."""
    return {player: {t.name: t.weight for t in TERMS if t.player == player} for player in PLAYERS}


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The objective: which rows of `TERMS` are active, their weights, and the decided readings."""

    img_img_loss: bool = False
    """Image-to-image contrastive terms (iid_r, iid_f, iic)."""
    paired_contrast: bool = False
    """Generate x' from the pseudo text feature h' beside x and contrast the two."""
    resnet_guided: bool = False
    """Terms against the features of a frozen ResNet (iiv_r, iiv_f, iiv_d, iivd)."""
    mix_logits: bool = False
    """Judge every image under both h and h'."""
    mix_lambda: Fraction = 0.5
    """Share of h in a mixed logit."""
    tau: Positive = 0.5
    """Temperature of the contrast."""
    similarity: Literal["exp", "cosine"] = "exp"
    """exp: Sim = exp(cos / tau), as the source and LAFITE's code have it; cosine: Sim = cos / tau (InfoNCE)."""
    tau_place: Literal["factor", "logarithm"] = "factor"
    """Where tau stands in a contrast of shares p: -tau * mean log p, or -mean log(tau * p), as LAFITE's code has it.

    There it has no gradient: the same weight counts 1 / tau times as much.
    """
    d_itd_on: Literal["fake", "real"] = "fake"
    """Images of the discriminator's itd term: generated (the source) or real (LAFITE's code)."""
    logit: Literal["per_sample", "batch_sum"] = "per_sample"
    """D's logit of sample i: b_i + f_i.h_i, or b_i + sum over the whole batch of f.h, as LAFITE's code has it."""
    group: Annotated[int, Ge(0)] = 0
    """Samples that are contrasted with each other, and over which `logit: batch_sum` adds; 0: the whole batch.
    1 is refused where a contrastive term is active, as one sample has no other to be told from.

    LAFITE trains on four GPUs: batches of 64, of which each GPU contrasts its own 16.
    """
    weights: Mapping[str, Mapping[str, NonNegative]] = field(default_factory=default_weights)
    """player -> term -> weight; 0 switches a term off and nothing is computed for it."""


def active(loss: LossConfig, player: Player) -> tuple[Term, ...]:
    """The player's rows that hold under `loss` and weigh more than nothing, in the table's order."""
    return tuple(
        term
        for term in TERMS
        if term.player == player
        and all(getattr(loss, name) == value for name, value in term.when.items())
        and loss.weights[player][term.name] > 0
    )


def features_needed(terms: Iterable[Term]) -> frozenset[Feature]:
    """Every feature that these terms read."""
    return frozenset(feature for term in terms for feature in (term.u, term.v))
