"""What an idea of a study's own code sees of one training step.

All that an idea sees is of the whole batch, also where several processes share the run and the networks of each see
only some of its rows: see `Rows`.

Shapes: n images of a batch, R pixels, F text feature, T tokens of a caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from harness.models.discriminator import Judgement
from harness.models.losses import condition_logit, contrast_of
from harness.models.objective import Feature, Image, LossConfig, Player


class Rows(Protocol):
    """Of the processes that share a run, this one; if it is alone, both give what they are given."""

    def rows(self, whole: Tensor) -> Tensor:
        """What this process puts through the networks."""

    def whole(self, own: Tensor) -> Tensor:
        """The rows of all processes."""


class Passes(Protocol):
    """The passes of a step that are made only when an idea asks for them: own rows in, the whole batch out."""

    @property
    def ranks(self) -> Rows:
        """The processes that share the run."""

    @property
    def guides(self) -> Mapping[str, object]:
        """By the kind of feature that they give."""

    @property
    def loss(self) -> LossConfig:
        """The settings of the objective."""

    def judge(self, images: Mapping[Image, Tensor], step: int, purpose: str) -> dict[Image, Judgement]:
        """What D says of these batches of images."""

    def look(self, kind: str, images: Tensor, step: int) -> Tensor:
        """[n, width]: what the frozen network of that kind says of generated images, with gradient."""

    def stream(self, purpose: str, step: int) -> torch.Generator:
        """Random numbers of the run's seed, a purpose and the step, on the device that trains."""


class Step:
    """One step of one player, or of a penalty of its own.

    In the discriminator's step generated images have no gradient; in the generator's the discriminator is fixed, and
    what it says of real images is a target without a gradient.
    """

    number: int
    """0 for the first."""
    player: Player
    h: Tensor
    """Text features, or pseudo ones where a sample has no caption [n,F], unit norm."""
    pseudo: Tensor
    """Pseudo text features h' [n,F], unit norm."""
    images: Mapping[Image, Tensor]
    """"r", and what is generated from the same latents: "x" under h and, with paired contrast, "x'" under h'.

    A penalty is given "r" alone.
    """

    def __init__(
        self,
        passes: Passes,
        number: int,
        player: Player,
        images: Mapping[Image, Tensor],  # own rows
        judged: Mapping[Image, Judgement],
        features: Mapping[Feature, Tensor],  # h, h', frozen ones of real images, and what else is there already
    ) -> None:
        self.number, self.player = number, player
        self.h, self.pseudo = features[Feature("h")], features[Feature("h'")]
        self._passes, self._judged, self.features = passes, dict(judged), dict(features)
        self._own, self.images = images, WholeImages(images, passes.ranks)

    def given(self) -> list[Tensor]:
        """All that is computed already and that others read as well."""
        return [*self._own.values(), *self.features.values()]

    @property
    def real(self) -> Tensor:
        """Real images r [n,3,R,R] in [-1,1]."""
        return self.images["r"]

    @property
    def h_tokens(self) -> Tensor:
        """Features of the captions' tokens [n,T,F], zeros behind the end; for ideas with reads=("h_tokens",)."""
        return self.feature("h_tokens")

    def feature(self, kind: str, image: Image | None = None) -> Tensor:
        """[n, width of the network]: "f_img", "f_txt", "f_c", and what the idea reads: "f_res" or a feature of its own.

        Raises LookupError for a feature that the idea does not say that it reads.
        """
        wanted = Feature(kind, image)
        if wanted not in self.features and image:
            if kind in ("f_img", "f_txt"):
                it = self.judge(image)
                self.features |= {Feature("f_img", image): it.f_img, Feature("f_txt", image): it.f_txt}
            elif image != "r" and kind in self._passes.guides:
                self.features[wanted] = self._passes.look(kind, self._own[image], self.number)
        if wanted not in self.features:
            raise LookupError(f'{wanted} is not there; if it is a feature, the idea has to say reads=("{kind}",)')
        return self.features[wanted]

    def judge(self, image: Image | Tensor) -> Judgement:
        """What D says of images [n,3,R,R]: b [n], f_img and f_txt [n,F]; a name is a batch of this step."""
        if isinstance(image, Tensor):
            own = self._passes.ranks.rows(image)
            return self._passes.judge({"r": own}, self.number, f"{self.player} own")["r"]
        if image not in self._judged:
            is_target = self.player == "generator" and image == "r"
            with torch.set_grad_enabled(torch.is_grad_enabled() and not is_target):
                passes = self._passes.judge({image: self._own[image]}, self.number, f"{self.player} {image}")
            self._judged |= passes
        return self._judged[image]

    def logit(self, image: Image | Tensor, h: Tensor | None = None, *, like: Image = "r") -> Tensor:
        """D(image; h) [n], h being [n,F].

        Without h, the condition under which the objective judges that image, mixed with `mix_logits`: of a tensor that
        of the batch `like`.
        """
        loss, it = self._passes.loss, self.judge(image)
        name = like if isinstance(image, Tensor) else image
        if h is None:
            return condition_logit(loss, (it.b, it.f_txt), name, self.h, self.pseudo)
        return condition_logit(replace(loss, mix_logits=False), (it.b, it.f_txt), "r", h, h)

    def contrast(self, u: Tensor, v: Tensor) -> Tensor:
        """The contrast of the built-in terms of features [n,·] of any widths, with the study's tau and similarity."""
        return contrast_of(self._passes.loss, u, v)

    @staticmethod
    def leaf(value: Tensor) -> Tensor:
        """A copy that gradients can be taken with respect to."""
        return value.detach().requires_grad_(True)

    def rng(self, purpose: str = "") -> torch.Generator:
        """A random stream of the run's seed, the step and `purpose`, the same when the run goes on after a stop."""
        return self._passes.stream(f"own {self.player} {purpose}", self.number)


class WholeImages(Mapping[Image, Tensor]):
    """The images of a step, each batch gathered from all processes when it is first read."""

    def __init__(self, own: Mapping[Image, Tensor], ranks: Rows) -> None:
        self._own, self._ranks = own, ranks
        self._whole: dict[Image, Tensor] = {}

    def __getitem__(self, image: Image) -> Tensor:
        if image not in self._whole:
            self._whole[image] = self._ranks.whole(self._own[image])
        return self._whole[image]

    def __iter__(self) -> Iterator[Image]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)
