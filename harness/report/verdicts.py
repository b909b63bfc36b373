"""Verdicts: how each one looks, what weakens it, and why an estimate has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from harness.analysis.results import Analysis, Estimate, MetricResult, Verdict
from harness.report import wording
from harness.report.document.model import Clause, Mark, Names, Simple, Text

GOOD, BAD, NEUTRAL, INK = "#009e73", "#d55e00", "#0072b2", "#222222"
CLAIMED = ("better", "worse")
"""Verdicts that claim something."""
MOST_NAMES = 6
"""Names before `and n more` where a reason holds for many."""


@dataclass(frozen=True)
class Look:
    """How a verdict is shown in figures, on the terminal and on interactions."""

    colour: str
    marker: str
    hollow: bool = False
    terminal: str = ""
    """Style of `rich`."""
    on_interaction: str = ""
    """The words where better and worse would seem to be about the ideas themselves; else the verdict."""

    def dot(self, size: float = 5.5) -> dict[str, Any]:
        """Properties of a marker, for `Axes.plot`."""
        face = "white" if self.hollow else self.colour
        return {"marker": self.marker, "markersize": size, "color": self.colour, "markerfacecolor": face}


FORMS: Mapping[Verdict, Look] = {
    "better": Look(GOOD, "o", terminal="bold green", on_interaction="stronger together"),
    "worse": Look(BAD, "s", terminal="bold red", on_interaction="weaker together"),
    "equivalent": Look("#56b4e9", "D", terminal="cyan", on_interaction="additive"),
    "inconclusive": Look(NEUTRAL, "o", hollow=True),
    "insufficient seeds": Look("#e69f00", "v", hollow=True),
    "diverged": Look("#cc79a7", "X", terminal="magenta"),
    "diagnostic": Look(INK, "d", hollow=True),
}
"""Colours of Okabe and Ito (2008), safe for colour-blind readers; grey is left to the baseline."""


def mark(verdict: Verdict) -> Mark:
    return Mark(verdict, verdict)


def on_interaction(verdict: Verdict) -> str:
    """What a verdict on an interaction says: `stronger together`, `additive`, ..."""
    return FORMS[verdict].on_interaction or verdict


def badges(result: MetricResult, name: str, estimate: Estimate, at_equal_time: Analysis | None) -> list[str]:
    """What weakens a better or worse on `name`, in two or three words each; none for other verdicts."""
    if estimate.verdict not in CLAIMED:
        return []
    weaknesses = {
        "below the margin": is_below_margin(result, estimate),
        "uncertain from own seeds": has_zero(estimate.own_low, estimate.own_high),
        "not at equal time": other_verdict(result, name, estimate, at_equal_time) is not None,
    }
    return [text for text, holds in weaknesses.items() if holds]


def after_a_sentence(badges: Iterable[str]) -> tuple[Simple, ...]:
    return tuple(part for text in badges for part in (" ", Mark(text, "badge")))


def is_below_margin(result: MetricResult, estimate: Estimate) -> bool:
    return result.margin is not None and abs(estimate.value or 0.0) < result.margin


def has_zero(low: float | None, high: float | None) -> bool:
    """Whether there is an interval, and it leaves room for no change."""
    return low is not None and high is not None and low < 0 < high


def other_verdict(
    result: MetricResult, toggle: str, estimate: Estimate, at_equal_time: Analysis | None
) -> Verdict | None:
    """The verdict on an effect when every cell has the baseline's time; None where it is the same or unknown."""
    for timed in at_equal_time.metrics if at_equal_time else ():
        for effect in timed.effects if timed.metric.name == result.metric.name else ():
            if effect.toggle == toggle and effect.estimate.verdict != estimate.verdict:
                return effect.estimate.verdict
    return None


def reasons(result: MetricResult) -> list[Text]:
    """`a and b: no seed is shared, ...`: what the comparisons on a metric lack, each reason once."""
    own = [Reasoned(effect.toggle, effect.toggle, effect.estimate) for effect in result.effects]
    own += beside_effects(result)
    own += [Reasoned(wording.interaction_name(each), "", each.estimate) for each in result.interactions]
    own += [Reasoned(f"the share of {name}", name, share) for name, share in result.attribution.items()]
    return [(clause, ".") for clause in by_reason(own, ": {}")]


class Reasoned(NamedTuple):
    """What may lack something."""

    called: str
    cell: str
    """The idea or cell itself; empty for interactions."""
    estimate: Estimate


def beside_effects(result: MetricResult) -> list[Reasoned]:
    """Differences of cells from the baseline that are no effect themselves, as that of a cell of one toggle may be, or
    that have another verdict than the effect, as Holm's correction is over all cells."""
    effects = {effect.toggle: effect.estimate for effect in result.effects}

    def is_told(name: str, estimate: Estimate) -> bool:
        effect = effects.get(name)
        same = ("value", "by_seed", "verdict")
        return effect is not None and all(getattr(estimate, each) == getattr(effect, each) for each in same)

    cells = [(cell.cell, cell.estimate) for cell in result.cells if cell.estimate]
    others = [(name, estimate) for name, estimate in cells if not is_told(name, estimate)]
    return [Reasoned(f"{name} alone" if name in effects else name, name, estimate) for name, estimate in others]


def by_reason(every: Iterable[Reasoned], form: str) -> list[Clause]:
    """Each reason once, put by `form` behind the first names that have it and how many follow.

    Some are sentences about the name itself, `full has no result: ...`, and are told as such. Diagnostic metrics have
    no verdict to miss.
    """
    groups: dict[tuple[str, bool], dict[str, str]] = {}
    for called, cell, estimate in every:
        if estimate.reason and estimate.verdict != "diagnostic":
            predicate = estimate.reason.removeprefix(f"{cell or called} has ")
            groups.setdefault((predicate, predicate != estimate.reason), {})[called] = cell
    clauses = []
    for (reason, is_predicate), cells in groups.items():
        named = Names(tuple(cells.items())[:MOST_NAMES], max(0, len(cells) - MOST_NAMES))
        one, many = (f" {verb} {reason}" if is_predicate else form.format(reason) for verb in ("has", "have"))
        clauses.append(Clause(named, (one,), (many,)))
    return clauses
