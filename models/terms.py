"""The table of contrastive loss terms: one row a term. No torch here.

A row says which two features are contrasted, `weight * contrast(u, v)`, for which player, and under which settings of
`LossConfig` it is active. Symbols:

    x, x'     images generated from the same latent under h and under h'     r          real image
    h, h'     text feature and pseudo text feature                           f_c, f_res frozen CLIP and ResNet
    f_img, f_txt  the discriminator's feature heads
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.models.config import LossConfig

Player = Literal["generator", "discriminator"]
PLAYERS: tuple[Player, ...] = ("generator", "discriminator")


@dataclass(frozen=True)
class Term:
    """One row: `weight * contrast(u, v)`, active while every (field, value) of `when` holds in the LossConfig."""

    name: str
    player: Player
    weight: float
    u: str
    v: str
    when: tuple[tuple[str, bool | str], ...] = ()

    @property
    def equation(self) -> str:
        return f"contrast({self.u}, {self.v})"


_PAIRED = ("paired_contrast", True)
_IMG_IMG = ("img_img_loss", True)
_RESNET = ("resnet_guided", True)

# itd and itc are the origin's; the others belong to the modified objective.
TERMS: tuple[Term, ...] = (
    Term("itd", "generator", 5.0, "f_txt(x)", "h", (("paired_contrast", False),)),
    Term("itc", "generator", 10.0, "f_c(x)", "h", (("paired_contrast", False),)),
    Term("itd_r", "generator", 5.0, "f_txt(x)", "h", (_PAIRED,)),
    Term("itd_f", "generator", 1.0, "f_txt(x)", "h'", (_PAIRED,)),
    Term("iid_r", "generator", 4.0, "f_img(x)", "f_img(r)", (_IMG_IMG,)),
    Term("iid_f", "generator", 0.8, "f_img(x)", "f_img(x')", (_IMG_IMG, _PAIRED)),
    Term("iiv_r", "generator", 4.0, "f_res(x)", "f_res(r)", (_RESNET,)),
    Term("iiv_f", "generator", 0.8, "f_res(x)", "f_res(x')", (_RESNET, _PAIRED)),
    Term("iiv_d", "generator", 4.0, "f_img(x)", "f_res(r)", (_RESNET,)),
    Term("itc_r", "generator", 10.0, "f_c(x)", "h", (_PAIRED,)),
    Term("itc_f", "generator", 2.0, "f_c(x)", "h'", (_PAIRED,)),
    Term("iic", "generator", 3.0, "f_c(x)", "f_c(x')", (_IMG_IMG, _PAIRED)),
    Term("itd", "discriminator", 5.0, "f_txt(x)", "h", (("d_itd_on", "fake"),)),
    Term("itd", "discriminator", 5.0, "f_txt(r)", "h", (("d_itd_on", "real"),)),
    Term("iivd", "discriminator", 4.0, "f_img(r)", "f_res(r)", (_RESNET,)),
)

OF_TERMS = ("img_img_loss", "resnet_guided", "d_itd_on")
"""Fields of LossConfig that nothing reads but `active`: what they do is told by the active rows."""


def default_weights() -> dict[str, dict[str, float]]:
    """player -> term -> the weight written in the table."""
    return {player: {t.name: t.weight for t in TERMS if t.player == player} for player in PLAYERS}


def active(loss: LossConfig, player: Player) -> tuple[Term, ...]:
    """The player's rows that hold under `loss` and weigh more than nothing, in the table's order."""
    return tuple(
        term
        for term in TERMS
        if term.player == player
        and all(getattr(loss, name) == value for name, value in term.when)
        and loss.weights[player][term.name] > 0
    )


def features_needed(terms: Iterable[Term]) -> frozenset[str]:
    """Symbols of every feature that these terms read, such as `f_txt(x)` or `h'`."""
    return frozenset(symbol for term in terms for symbol in (term.u, term.v))
