"""What weakens a verdict, in two or three words that stand beside the claim itself. No torch here."""

from __future__ import annotations

from harness.analysis.results import Analysis, Estimate, MetricResult
from harness.report.document.document import Mark, Span

CLAIMED = ("better", "worse")
BADGE = "badge"


def badges(result: MetricResult, name: str, estimate: Estimate, timed: Analysis | None) -> list[str]:
    """Of a claim on `name`; none for a verdict that claims nothing. `timed`: the analysis at equal time."""
    if estimate.verdict not in CLAIMED:
        return []
    found = {
        "below the margin": is_small(result, estimate),
        "unsure by own seeds": holds_zero(estimate),
        "not at equal time": turns(result, name, estimate, timed) is not None,
    }
    return [text for text, holds in found.items() if holds]


def marked(found: list[str]) -> tuple[Span, ...]:
    """The badges as they stand behind a sentence."""
    return tuple(part for text in found for part in (" ", Mark(text, BADGE)))


def is_small(result: MetricResult, estimate: Estimate) -> bool:
    """Whether a change is less than the margin."""
    return result.margin is not None and abs(estimate.value or 0.0) < result.margin


def holds_zero(estimate: Estimate) -> bool:
    """Whether the seeds of the contrast alone allow no change."""
    return estimate.own_low is not None and estimate.own_high is not None and estimate.own_low < 0 < estimate.own_high


def turns(result: MetricResult, name: str, estimate: Estimate, timed: Analysis | None) -> str | None:
    """The other verdict on an effect when every cell has the baseline's time; None where it is the same or unknown."""
    for other in timed.metrics if timed else ():
        for effect in other.effects if other.metric.name == result.metric.name else ():
            if effect.toggle == name and effect.estimate.verdict != estimate.verdict:
                return effect.estimate.verdict
    return None
