"""Interactions in words, each no stronger than what the design can tell. No torch here."""

from __future__ import annotations

import math

from harness.analysis.results import Estimate, InteractionResult, MetricResult
from harness.metrics.definitions import Metric
from harness.report.wording import listed, pair, signed

Line = tuple[float, float]
"""Value and half-width of its 95 % interval on the scale of the analysis, better above 0."""


def sentence(result: MetricResult, found: InteractionResult) -> str:
    """What a verdict of better or worse on an interaction means."""
    good, title = found.estimate.verdict == "better", result.metric.title
    if found.toggle:
        more = "more" if good else "less"
        split = _split(result, found.toggle, found.estimate)
        told = f": {title} {split[0]} alone, {split[1]} with all of them on" if split else f" ({title})"
        return f"{found.toggle} gains {more} with the other ideas on than alone{told}."
    if len(found.aliases) > 1:
        names = [f"{pair(name)} {_together(good != name.startswith('-'))}" for name in found.aliases]
        return f"{listed(names, 'or')} ({title}): this design cannot tell which."
    one, *other = found.aliases[0].split(":")
    split = _split(result, one, found.estimate)
    told = f"{title}: {one} {split[0]} without {listed(other)}, {split[1]} with it" if split else title
    if good and only_together(result, found):
        return f"{pair(found.aliases[0])} only help together ({told})."
    return f"{pair(found.aliases[0])} {_together(good)} ({told})."


def same_finding(result: MetricResult, found: InteractionResult) -> bool:
    """Whether a toggle's effect and its interaction with the rest are one contrast, as alone it changes nothing."""
    effect = next((effect.estimate for effect in result.effects if effect.toggle == found.toggle), None)
    if effect is None or not effect.by_seed or len(effect.by_seed) != len(found.estimate.by_seed):
        return False
    pairs = zip(effect.by_seed, found.estimate.by_seed, strict=True)
    largest = max(map(abs, (*effect.by_seed, *found.estimate.by_seed)))
    return all(abs(one - other) <= 1e-9 * largest for one, other in pairs)


def _split(result: MetricResult, toggle: str, joint: Estimate) -> tuple[str, str] | None:
    """A toggle's effect without and with the other side: their difference is twice the interaction."""
    main = next((effect.estimate for effect in result.effects if effect.toggle == toggle), None)
    if main is None or main.value is None or joint.value is None:
        return None
    effect, half = (float(result.metric.difference(value)) for value in (main.value, joint.value))
    return _shown(result.metric, effect - half), _shown(result.metric, effect + half)


def _shown(metric: Metric, value: float) -> str:
    return signed(metric, float(metric.change(value)))


def _together(good: bool) -> str:
    return f"are {'stronger' if good else 'weaker'} together than the sum of each alone"


def only_together(result: MetricResult, found: InteractionResult) -> bool:
    """Whether each of the two ideas gains where the other is on and shows no gain where it is off.

    An effect with the other on is effect + interaction, and without it effect - interaction; the half-widths of two
    independent contrasts add as squares.
    """
    toggles = found.aliases[0].removeprefix("-").split(":")
    estimates = {effect.toggle: effect.estimate for effect in result.effects}
    joint = _line(result.metric, found.estimate)
    mains = [_line(result.metric, estimates[toggle]) for toggle in toggles if toggle in estimates]
    if joint is None or len(mains) != 2:
        return False
    return all(main is not None and _needs_the_other(main, joint) for main in mains)


def _needs_the_other(main: Line, joint: Line) -> bool:
    width = math.hypot(main[1], joint[1])
    return main[0] + joint[0] > width and main[0] - joint[0] <= width and main[0] > 0


def _line(metric: Metric, estimate: Estimate) -> Line | None:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    value, low, high = (float(metric.difference(number)) for number in (estimate.value, estimate.low, estimate.high))
    return (value if metric.better == "higher" else -value), (high - low) / 2
