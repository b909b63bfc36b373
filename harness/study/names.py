"""Names that no idea can have: a table of runs has a column for each idea, beside those that it always has."""

from __future__ import annotations

from harness.metrics.names import BY_EXTRACTOR, MEASURES, SEEN, recorded
from harness.runs.record import COST, OUTCOME, WHICH_RUN
from harness.settings import Settings


def taken_names(settings: Settings) -> tuple[str, ...]:
    """The columns of a table of runs that are no ideas; so are metrics with `SEEN` and all that begin with `COST`."""
    return (*WHICH_RUN, *OUTCOME, *_metrics(settings))


def is_taken(name: str, settings: Settings) -> bool:
    """Whether a table of runs has a column of that name which is no idea."""
    is_seen = name.endswith(SEEN) and name.removesuffix(SEEN) in _metrics(settings)
    return name in taken_names(settings) or is_seen or name.startswith(COST)


def _metrics(settings: Settings) -> tuple[str, ...]:
    """What is measured, by itself and as the study's networks record it."""
    extractors = ("", settings.metrics.resnet, *settings.metrics.more)
    return tuple(dict.fromkeys([*MEASURES, *(recorded(kind, it) for it in extractors for kind in BY_EXTRACTOR)]))
