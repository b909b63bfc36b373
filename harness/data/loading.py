"""Frozen encoders, loaded with their mistakes told as the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import MissingWeights
from harness.models import encoders

if TYPE_CHECKING:
    from harness.models.frozen import Clip, Resnet


def load_clip(name: str, device: str) -> Clip:
    """The CLIP of that name. Raises MissingWeights with what to do when it cannot be had."""
    with _told():
        return encoders.load_clip(name, device)


def load_resnet(name: str, device: str) -> Resnet:
    """The ResNet of that name. Raises MissingWeights with what to do when it cannot be had."""
    with _told():
        return encoders.load_resnet(name, device)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        raise MissingWeights(str(error)) from error
