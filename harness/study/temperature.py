"""How small `loss.tau` may be before the contrast cannot be computed."""

from __future__ import annotations

from collections.abc import Iterator

from harness.settings import Settings

LEAST = 0.0113
"""exp(1 / tau), the largest similarity of the form exp, has to stay below 2^128, where 32-bit numbers end: tau above
1 / (128 ln 2) = 0.01127."""


def least(settings: Settings) -> float:
    """Below it no temperature can be computed under these settings."""
    return 0.0 if settings.command.run or settings.loss.similarity != "exp" else LEAST


def problem(tau: float, settings: Settings) -> str:
    """What is wrong with this temperature under these settings; empty if nothing is."""
    if tau >= least(settings):
        return ""
    why = "with loss.similarity: exp the contrast needs exp(1 / tau), which is too large for 32-bit numbers"
    return f"{tau:g} is too small: {why}; at least {LEAST:g}, or loss.similarity: cosine"


def problems(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Of a cell: keys, and what is wrong there with the fix."""
    if text := problem(settings.loss.tau, settings):
        yield ("loss", "tau"), text
