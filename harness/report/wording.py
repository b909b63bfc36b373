"""Numbers and verdicts in words, the same in the report, the figures and the terminal. Plain text, nothing escaped.

No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.analysis.results import CellResult, Effect, Estimate, InteractionResult, MetricResult, Verdict
from harness.metrics.definitions import Metric
from harness.runs.record import STATES, State

MISSING = "–"
_NONE = -1
"""No number of decimals: below 0.00001 and from a million millions on."""


def signed(metric: Metric, value: float | None) -> str:
    """A difference with its sign: `−18.2 %`, `+1.30`, `+0.021`."""
    if value is None:
        return MISSING
    return _bare(metric, value) + (" %" if metric.scale == "log" else "")


def _bare(metric: Metric, value: float, like: float | None = None) -> str:
    if not math.isfinite(value):
        return minus(f"{value:+}").replace("inf", "∞")
    if metric.scale == "log":
        decimals = 1 if abs(value) < 1000 else 0
    else:
        decimals = {"points": 2, "share": 3}.get(metric.unit, _decimals(value if like is None else like))
    text = minus(f"{value:+.2e}" if decimals == _NONE else f"{value:+.{decimals}f}")
    return text if text.strip("+−0.e") else text[1:]


def minus(text: str) -> str:
    """With the sign that is as wide as a plus."""
    return text.replace("-", "−")


def _decimals(value: float) -> int:
    """Those that show three digits; `_NONE` for what is read better as a power of ten."""
    if not value:
        return 2
    places = 2 - math.floor(math.log10(abs(value)))
    return _NONE if places > 7 or places < -9 else min(6, max(0, places))


def interval(metric: Metric, low: float | None, high: float | None) -> str:
    """`−42.7 to −31.3 %`, or a dash where there is none."""
    if low is None or high is None:
        return MISSING
    wider = max((abs(end) for end in (low, high) if math.isfinite(end)), default=0.0)
    unit = " %" if metric.scale == "log" else ""
    return f"{_bare(metric, low, wider)} to {_bare(metric, high, wider)}{unit}"


def ends(metric: Metric, low: float, high: float) -> str:
    """`[−42.7, −31.3]`, in the unit of the difference before it."""
    wider = max(abs(low), abs(high))
    return f"[{_bare(metric, low, wider)}, {_bare(metric, high, wider)}]"


def amount(metric: Metric, estimate: Estimate) -> str:
    """`11.2 % [7.1, 15.0]`: how much, without its sign, and the interval as seen from there."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return MISSING
    unit = " %" if metric.scale == "log" else f" {metric.unit}" if metric.unit == "points" else ""
    text = _bare(metric, abs(value)).lstrip("+") + unit
    if low is None or high is None:
        return text
    near, far = (low, high) if value >= 0 else (-high, -low)
    wider = max((abs(end) for end in (near, far) if math.isfinite(end)), default=0.0)
    return f"{text} [{_bare(metric, near, wider).lstrip('+')}, {_bare(metric, far, wider).lstrip('+')}]"


def margin(result: MetricResult) -> str:
    """`5 %`, `1 point`, `0.02`."""
    metric, size = result.metric, result.margin or 0.0
    points = f" point{'' if size == 1 else 's'}" if metric.unit == "points" else ""
    return f"{size:g}" + (" %" if metric.scale == "log" else points)


def number(metric: Metric, value: float, like: float | None = None) -> str:
    """A measured value, to the precision of `like` (default: itself)."""
    if not math.isfinite(value):
        return minus(str(value))
    decimals = _decimals_of(metric, value if like is None else like)
    return minus(f"{value:.2e}" if decimals == _NONE else f"{value:.{decimals}f}")


def _decimals_of(metric: Metric, value: float) -> int:
    return {"points": 1, "share": 3}.get(metric.unit, _decimals(value))


def mean_sd(metric: Metric, cell: CellResult) -> str:
    """`5.13 ± 0.21`; the spread is missing below two seeds, all of it without a run."""
    if cell.mean is None:
        return MISSING
    if not cell.sd:
        return number(metric, cell.mean) + ("" if cell.sd is None else f" ± {number(metric, 0.0, like=cell.mean)}")
    decimals = _decimals_of(metric, cell.mean)
    if decimals == _NONE or cell.sd >= 0.5 * 10.0**-decimals or metric.unit in ("points", "share"):
        return f"{number(metric, cell.mean)} ± {number(metric, cell.sd, like=cell.mean)}"
    # A small spread about a large mean is shown, not rounded to none.
    decimals = min(12, 1 - math.floor(math.log10(cell.sd)))
    return minus(f"{cell.mean:.{decimals}f} ± {cell.sd:.{decimals}f}")


def p_value(p: float | None) -> str:
    if p is None:
        return MISSING
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def sign_flip(estimate: Estimate) -> str:
    """`0.250 (≥ 0.250)`: the p of the exact test, and the least that it could be with so many seeds."""
    if estimate.sign_flip is None or estimate.sign_flip_least is None:
        return MISSING
    return f"{p_value(estimate.sign_flip)} (≥ {p_value(estimate.sign_flip_least).lstrip('< ')})"


def plain_number(value: float | None, decimals: int = 2) -> str:
    return MISSING if value is None else minus(f"{value:.{decimals}f}")


def improved(estimate: Estimate) -> str:
    return f"{estimate.improved} of {estimate.n}" if estimate.n else MISSING


def runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def seeds(count: int) -> str:
    return f"{count} seed{'' if count == 1 else 's'}"


def states(counts: Mapping[State, int]) -> str:
    """`2 done, 1 diverged`."""
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))


def rate(counts: Mapping[State, int], state: State) -> str:
    """`1 of 3`: how many of all planned runs; a dash for none of them."""
    count = counts.get(state, 0)
    return f"{count} of {sum(counts.values())}" if count else MISSING


def listed(names: Sequence[str], last: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return f" {last} ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def pair(alias: str) -> str:
    """`a:b` -> `a and b`, whatever its sign."""
    return listed(alias.removeprefix("-").split(":"))


def alias_names(aliases: Sequence[str]) -> str:
    """`a × b + c × d − e × f`: what is summed."""
    text = " ".join(("− " if name[:1] == "-" else "+ ") + " × ".join(name.lstrip("-").split(":")) for name in aliases)
    return text.removeprefix("+ ")


def interaction_name(found: InteractionResult) -> str:
    return f"{found.toggle} × all others" if found.toggle else alias_names(found.aliases)


_TOGETHER: dict[Verdict, str] = {
    "better": "stronger together",
    "worse": "weaker together",
    "equivalent": "additive",
}


def together(verdict: Verdict) -> str:
    """What a verdict means on an interaction, where better and worse would read as said of the ideas."""
    return _TOGETHER.get(verdict, verdict)


def diverged(effect: Effect) -> str:
    """`2 with it, 0 without`."""
    on, off = effect.diverged
    return f"{on} with it, {off} without"


def control(result: MetricResult, baseline: str) -> str:
    """The baseline under further seeds against itself; empty where there is none to tell of."""
    found, metric = result.control, result.metric
    if found is None or found.value is None:
        return ""
    seeds = listed([str(seed) for seed in found.seeds])
    return (
        f"Control: {baseline} under seeds {seeds} against {baseline} itself: {signed(metric, found.value)}, "
        f"{interval(metric, found.low, found.high)}, p {p_value(found.p)}. That is what no idea at all looks like."
    )
