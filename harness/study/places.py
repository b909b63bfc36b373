"""Paths that a study file names, relative to itself. No torch here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from harness.data.sources import SOURCES
from harness.models.encoders import placed
from harness.settings import Settings
from harness.study.schema import StudyToggle


def located(settings: Settings, folder: Path) -> Settings:
    """Paths of data and weights as absolute ones; they are written relative to the study file."""
    data, held_out = settings.data, settings.data.held_out
    places = SOURCES[data.source].places if data.source in SOURCES else ()

    def place(name: str, written: str) -> str:
        there = folder / os.path.expanduser(written)
        return str(there) if written and (name in places or os.path.exists(there)) else written

    held_out = replace(held_out, path=place("path", held_out.path), images=place("images", held_out.images))
    located = replace(data, path=place("path", data.path), images=place("images", data.images), held_out=held_out)
    guides, judges = settings.encoders, settings.metrics
    return replace(
        settings,
        data=located,
        encoders=replace(guides, clip=placed(guides.clip, folder), resnet=placed(guides.resnet, folder)),
        metrics=replace(
            judges,
            clip=placed(judges.clip, folder),
            resnet=placed(judges.resnet, folder),
            more=tuple(placed(name, folder) for name in judges.more),
        ),
    )


def located_patch(toggle: StudyToggle, folder: Path) -> StudyToggle:
    """A study's own toggle with the paths of weights as absolute ones."""
    names = ("encoders.clip", "encoders.resnet")
    patch = {key: placed(value, folder) if key in names else value for key, value in toggle.patch.items()}
    return replace(toggle, patch=patch)
