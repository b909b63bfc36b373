"""Numbers and verdicts in words, the same in the report, the figures and the terminal. Plain text, nothing escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from harness.comparison.analysis import CellState, CellSummary, Comparison, Effect, Verdict
from harness.comparison.paired import LEVEL
from harness.metrics.cards import bias
from harness.metrics.definitions import Metric
from harness.records import STATES

VERDICTS: dict[Verdict, str] = {
    "better": "Better",
    "worse": "Worse",
    "diverged": "Diverged",
    "no evidence either way": "No evidence either way",
    "insufficient seeds": "Insufficient seeds",
    "diagnostic": "Not judged, as training saw the network that measures",
}


def signed(metric: Metric, value: float) -> str:
    """A difference with its sign: `−18.2 %`, `+1.30`, `+0.021`."""
    return _bare(metric, value) + (" %" if metric.scale == "log" else "")


def _bare(metric: Metric, value: float, like: float | None = None) -> str:
    if metric.scale == "log":
        decimals = 1 if abs(value) < 1000 else 0
    else:
        decimals = {"points": 2, "share": 3}.get(metric.unit, _decimals(value if like is None else like))
    text = f"{value:+.{decimals}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]


def _decimals(value: float) -> int:
    """Those that show three digits."""
    return min(6, max(0, 2 - math.floor(math.log10(abs(value))))) if value else 2


def interval(metric: Metric, effect: Effect) -> str:
    """`−42.7 to −31.3 %`, or a dash where there is none."""
    if effect.low is None or effect.high is None:
        return "–"
    wider = max(abs(effect.low), abs(effect.high))
    unit = " %" if metric.scale == "log" else ""
    return f"{_bare(metric, effect.low, wider)} to {_bare(metric, effect.high, wider)}{unit}"


def number(metric: Metric, value: float, like: float | None = None) -> str:
    """A measured value, to the precision of `like` (default: itself)."""
    decimals = {"points": 1, "share": 3}.get(metric.unit, _decimals(value if like is None else like))
    return f"{value:.{decimals}f}".replace("-", "−")


def mean_sd(metric: Metric, summary: CellSummary) -> str:
    """`5.13 ± 0.21`; the spread is missing below two seeds, all of it without a run."""
    if summary.mean is None:
        return "–"
    mean = number(metric, summary.mean)
    return mean if summary.sd is None else f"{mean} ± {number(metric, summary.sd, like=summary.mean)}"


def p_value(p: float | None) -> str:
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def improved(effect: Effect) -> str:
    return f"{effect.improved} of {effect.n}" if effect.n else "–"


def runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def states(cell: CellState) -> str:
    """`2 done, 1 diverged`."""
    return ", ".join(f"{count} {state}" for state, count in cell.states.items())


def headline(comparison: Comparison) -> str:
    """How many runs there are and where they stand."""
    counts = {state: sum(cell.states.get(state, 0) for cell in comparison.cells) for state in STATES}
    where = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    seeds = f"{len(comparison.seeds)} seed{'' if len(comparison.seeds) == 1 else 's'}"
    return f"{len(comparison.cells)} cells under {seeds}, {runs(sum(counts.values()))}: {where}."


def answers(comparison: Comparison, metric: Metric) -> list[tuple[str, str]]:
    """(verdict, the variants that earned it with their numbers), for the verdicts that occur."""
    effects = comparison.of(metric.name)
    return [
        (title, "; ".join(_told(metric, effect) for effect in effects if effect.verdict == verdict) + ".")
        for verdict, title in VERDICTS.items()
        if any(effect.verdict == verdict for effect in effects)
    ]


def _told(metric: Metric, effect: Effect) -> str:
    if effect.difference is None:
        return f"{effect.cell} (no finished pair of runs)"
    numbers = [f"better in {improved(effect)} seeds"]
    if effect.verdict in ("better", "worse"):
        p = p_value(effect.p_holm)
        numbers = [interval(metric, effect), *numbers, f"p {p if p[0] == '<' else '= ' + p}"]
    return f"{effect.cell} {signed(metric, effect.difference)} ({'; '.join(numbers)})"


def cautions(comparison: Comparison, metrics: Sequence[Metric]) -> list[str]:
    """What a reader has to know before believing the verdicts on these metrics."""
    effects = [(metric, effect) for metric in metrics for effect in comparison.of(metric.name)]
    found = [_few_seeds(effects), _unfinished(comparison), *(_suggestive(comparison, metric) for metric in metrics)]
    found += [_without_spread(effects), *(bias(metric, comparison.cards.get(metric.name, {})) for metric in metrics)]
    found += [
        f"CLIP overfit suspected in {cell}: the CLIP that guided its training scores it higher in every seed, the CLIP "
        "that measures in none."
        for cell in comparison.suspicions
    ]
    return [text for text in found if text]


def _few_seeds(effects: Sequence[tuple[Metric, Effect]]) -> str:
    pairs = {effect.n for _, effect in effects if effect.n}
    if pairs == {1}:
        return "One seed gives no verdict: the differences may be chance. Two seeds are the least, five are better."
    if 2 not in pairs:
        return ""
    two, three, five = (stats.t.ppf((1 + LEVEL) / 2, n - 1) for n in (2, 3, 5))
    return (
        f"With 2 seeds the interval is wide because df = 1: it reaches {two:.1f} standard errors to either side "
        f"(3 seeds: {three:.1f}; 5 seeds: {five:.1f}). No evidence then says little."
    )


def _unfinished(comparison: Comparison) -> str:
    missing = sum(count for cell in comparison.cells for state, count in cell.states.items() if state != "done")
    return f"{runs(missing)} of the plan gave no number and are listed under Runs." if missing else ""


def _suggestive(comparison: Comparison, metric: Metric) -> str:
    family = comparison.of(metric.name)
    unsure = [e for e in family if e.verdict == "no evidence either way" and e.p is not None and e.p < 1 - LEVEL]
    if not unsure:
        return ""
    names = ", ".join(effect.cell for effect in unsure)
    return (
        f"{metric.title}: the interval of {names} excludes no change, but that does not survive Holm's correction "
        f"for {len(family)} comparisons. More seeds would tell."
    )


def _without_spread(effects: Sequence[tuple[Metric, Effect]]) -> str:
    names = [f"{e.cell} ({metric.title})" for metric, e in effects if e.n >= 2 and e.p is None]
    if not names:
        return ""
    return f"No interval where every seed differs by the very same amount, a matter of resolution: {', '.join(names)}."
