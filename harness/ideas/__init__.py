"""What a study's own code imports: marks that make an idea, a toggle by its name, of a function or class. No torch.

    mark                                    stands on  is called as                           gives
    @term(player, weight=1.0)               function   (step)                                 scalar, see below
    @penalty(player, weight=1.0, every=1)   function   (step)                                 scalar, see below
    @adversarial                            function   (player, logits)                       scalar
    @augment                                function   (images, rng)                          images
    @layer(player, at=SIZE)                 class      (channels), then (x)                   x
    @discriminator                          class      (resolution, text_dim), then (images)  b, f_img, f_txt
    NAME = feature(network, size=0)         -          -                                      a frozen network

A term is added to the player's loss, `weight` times. A penalty has a backward pass of its own on every `every`-th step,
`weight * every` times, as R1 has. An adversarial loss stands in place of the logistic one, a discriminator in place of
the built-in one. What D sees of images, of both players and in R1, goes through augment. A layer stands behind G's or
before D's block of that size. A feature is a further kind of feature, f_NAME(image), for ideas that read it.

`player` is "generator" or "discriminator". term, penalty, adversarial and augment may also stand on an nn.Module class:
it is made once a run, then called as the function is; `__init__(self, text_dim, *, ...)` of a term or penalty is told
the width F of the condition. `reads=("NAME", ...)` says what an idea reads beside that: of a term or penalty features
of images (own ones, "f_c", "f_res") and "h_tokens", for `step.feature` and `step.h_tokens`; of a layer of G "h", "w"
and "h_tokens", which `forward` gets behind x, and `__init__` their widths behind channels: `text_dim` for "h" and
"h_tokens", `w_dim` for "w".

Keyword-only parameters (of a class: of `__init__`) are settings, `ideas.NAME.PARAMETER` in a study. Each needs a type
(int, float, bool, str, Literal[...], Positive, NonNegative, Count, Fraction, Network) and a default that is written
out, because the file is read for them and not run. `weight`, `every`, `at`, `network` and `size` are settings as well.

A setting of the type Network is the name of a frozen network. `__init__` of a class is given the network itself, loaded
and frozen; its weights are part of the run's id, and what it measures beside is recorded as `_seen`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

from harness.models.objective import Count, Fraction, NonNegative, Player, Positive

__all__ = [
    "Count",
    "Fraction",
    "Network",
    "NonNegative",
    "Positive",
    "adversarial",
    "augment",
    "discriminator",
    "feature",
    "layer",
    "penalty",
    "term",
]

IdeaKind = Literal["term", "penalty", "adversarial", "augment", "layer", "discriminator", "feature"]
KINDS: tuple[IdeaKind, ...] = get_args(IdeaKind)
Marked = TypeVar("Marked", bound=Callable[..., Any])
Network = Any
"""Type of a setting that names a frozen network as `encoders` does: the constructor is given it loaded and frozen."""


@dataclass(frozen=True)
class Mark:
    """What `__idea__` of a marked function or class says. Values of settings are the run's, not the mark's."""

    kind: IdeaKind
    player: Player | None = None
    """Whose loss, or whose network; None where an idea is not of one player."""
    reads: tuple[str, ...] = ()


@dataclass(frozen=True)
class FrozenNetwork:
    """A further kind of feature, whose symbol is the name that this is assigned to."""

    network: str
    """As `encoders.resnet` names one."""
    size: int = 0
    """Side in pixels of the images that it gets; 0: the network's own."""
    __idea__: Mark = Mark("feature")


def term(player: Player, *, weight: float = 1.0, reads: Sequence[str] = ()) -> Callable[[Marked], Marked]:
    """A term of the player's loss: (step, *, settings) -> scalar, which counts `weight` times."""
    return _marked(Mark("term", player, tuple(reads)))


def penalty(
    player: Player, *, weight: float = 1.0, every: int = 1, reads: Sequence[str] = ()
) -> Callable[[Marked], Marked]:
    """(step, *, settings) -> scalar, on every `every`-th step in a backward pass of its own, `weight * every` times."""
    return _marked(Mark("penalty", player, tuple(reads)))


def adversarial(idea: Marked) -> Marked:
    """(player, logits, *, settings) -> scalar in place of the logistic loss; logits["r"], ["x"], ["x'"]: [n]."""
    return _marked(Mark("adversarial"))(idea)


def augment(idea: Marked) -> Marked:
    """(images [n,3,R,R] in [-1,1], rng, *, settings) -> images of that shape, which D sees in their place."""
    return _marked(Mark("augment"))(idea)


def layer(player: Player, *, at: int, reads: Sequence[str] = ()) -> Callable[[Marked], Marked]:
    """nn.Module class (channels, *, settings): [n,channels,at,at] -> the same, behind G's or before D's block."""
    return _marked(Mark("layer", player, tuple(reads)))


def discriminator(idea: Marked) -> Marked:
    """nn.Module class (resolution, text_dim, *, settings): images -> (b [n], f_img [n,F], f_txt [n,F])."""
    return _marked(Mark("discriminator"))(idea)


def feature(network: str, *, size: int = 0) -> FrozenNetwork:
    """A frozen network by name, such as `f_dino = feature("timm:vit_small_patch14_dinov2.lvd142m", size=224)`."""
    return FrozenNetwork(network, size)


def _marked(mark: Mark) -> Callable[[Marked], Marked]:
    def put_on(idea: Marked) -> Marked:
        idea.__idea__ = mark  # type: ignore[attr-defined]
        return idea

    return put_on
