"""What a study's own ideas do in a training step: terms, penalties, another adversarial loss, augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harness.ideas.load import ActiveIdea, OwnIdeas, seed_all
from harness.ideas.step import Step
from harness.models.build import Networks
from harness.models.objective import Image
from harness.models.own_layers import WrongReturn, calling, described

_NO_GRADIENT = "does not depend on any weight of its player, so it has no gradient"
Stream = Callable[[str], torch.Generator]
"""Purpose -> a random stream of the run's seed and the step, on the device that trains."""


class Own:
    """The ideas of a run, ready to be called."""

    def __init__(self, ideas: OwnIdeas, networks: Networks) -> None:
        self.ideas = ideas
        self._calls: dict[str, Any] = {idea.name: idea.function for idea in ideas.ideas}
        for modules in networks.ideas.children():
            self._calls |= dict(modules.named_children())
        self.augments = ideas.of("augment")
        self._adversarial = next(iter(ideas.of("adversarial")), None)

    @contextmanager
    def during(self, what: str, stream: Stream) -> Iterator[None]:
        """Around a part of a step: what own code draws depends on seed, step and part alone, and its errors say where.

        Dropout and the like draw from the global streams, which a run that goes on after a stop would have elsewhere.
        """
        if not self.ideas:
            yield
            return
        seed_all(stream(f"own ideas {what}").initial_seed())
        with self.ideas.explained(what):
            yield

    def augmented(self, images: Tensor, stream: Stream) -> Tensor:
        """[n,3,R,R] as D is shown them."""
        for idea in self.augments:
            with calling(idea.name):
                shown = self._calls[idea.name](images, stream(f"own {idea.name}"))
            if not isinstance(shown, Tensor) or shown.shape != images.shape:
                problem = f"gave {described(shown)}; an augment gives images of the same shape, {list(images.shape)}"
                raise WrongReturn(idea.name, problem)
            if (shown.dtype, shown.device) != (images.dtype, images.device):
                gave, wanted = (f"{each.dtype} on {each.device}" for each in (shown, images))
                raise WrongReturn(idea.name, f"gave images of {gave}; it was given {wanted}: write .to(images)")
            if images.requires_grad and not shown.requires_grad:
                raise WrongReturn(idea.name, "gave images without a gradient, so that no player learns from them")
            images = shown
        return images

    def adversarial(self, step: Step, logits: Mapping[Image, Tensor]) -> Tensor | None:
        """The loss in place of the logistic one; None: there is none."""
        if self._adversarial is None:
            return None
        return self.scalar(self._adversarial, step.player, _Logits(step, logits))

    def with_terms(self, losses: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
        """The player's losses with its own terms, unweighted, and in the total, weighted."""
        total = losses["total"]
        for idea in self.ideas.of("term", step.player):
            losses[idea.name] = self.scalar(idea, step)
            total = total + idea.weight * losses[idea.name]
        return {**losses, "total": total}

    def after(self, step: Step) -> None:
        """Lets ideas that are classes with a method `after` see the discriminator's step that was taken."""
        for name, call in self._calls.items():
            after = getattr(getattr(call, "module", None), "after", None)
            if after is not None:
                with torch.no_grad(), calling(name):
                    after(step)

    def scalar(self, idea: ActiveIdea, *arguments: object) -> Tensor:
        """What the idea gives, unweighted."""
        given = [each for argument in arguments for each in _tensors(argument)]
        versions = [each._version for each in given]
        with calling(idea.name):
            value = self._calls[idea.name](*arguments)
        if versions != [each._version for each in given]:
            problem = "changes in place what it is given, which is read after it as well"
            raise WrongReturn(idea.name, f"{problem}: let it work on a copy, .clone()")
        if not isinstance(value, Tensor) or value.shape != ():
            raise WrongReturn(idea.name, f"gave {described(value)}; {_article(idea.kind)} gives a scalar tensor")
        # A term may be a plain 0 for some time, as while it waits for its first step, or only be looked at.
        is_without = idea.kind == "term" and not value.requires_grad and not (idea.weight and bool(value))
        if not value.requires_grad and torch.is_grad_enabled() and not is_without:
            raise WrongReturn(idea.name, _NO_GRADIENT)
        return value

    @staticmethod
    def refuse_without_gradient(idea: ActiveIdea, weights: Iterable[Tensor]) -> None:
        """Behind a backward pass of the idea alone: raises WrongReturn if it has reached no weight."""
        if all(each.grad is None for each in weights):
            raise WrongReturn(idea.name, _NO_GRADIENT)


class ImagesWhenRead(Mapping[Image, Tensor]):
    """Real images, and generated ones from the moment on that one of them is read."""

    def __init__(self, real: Tensor, imagine: Callable[[], dict[Image, Tensor]]) -> None:
        self._images: dict[Image, Tensor] = {"r": real}
        self._imagine = imagine

    def __getitem__(self, image: Image) -> Tensor:
        if image != "r" and len(self._images) == 1:
            self._images |= self._imagine()
        return self._images[image]

    def __iter__(self) -> Iterator[Image]:
        return iter(self._images)

    def __len__(self) -> int:
        return len(self._images)


class _Logits(dict[Image, Tensor]):
    """D's logits by image; in the generator's step that of real images is computed when it is read."""

    def __init__(self, step: Step, logits: Mapping[Image, Tensor]) -> None:
        super().__init__(logits)
        self._step = step

    def __missing__(self, image: Image) -> Tensor:
        if image not in self._step.images:
            raise KeyError(image)
        return self._step.logit(image)


def _tensors(argument: object) -> list[Tensor]:
    """What of an argument is read by others too."""
    if isinstance(argument, Step):
        return argument.given()
    return [*argument.values()] if isinstance(argument, _Logits) else []


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "a" else f"a {kind}"
