"""Numbers and lists in words, the same in reports, figures and on the terminal: plain text, nothing escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from harness.analysis.results import Analysis, CellResult, Effect, Estimate, InteractionResult, MetricResult, Trend
from harness.analysis.sample import ALPHA
from harness.metrics.definitions import Metric
from harness.runs.record import STATES, RunRecord, State
from harness.text import listed, quantity, shortened

MISSING = "–"
_SCIENTIFIC = -1
"""In place of a number of decimals: powers of ten, below 0.00001 and from a million millions on."""
_LEAST = 1e-6
"""Of a change, in its unit, that is shown: below is what rounding leaves."""


def signed(metric: Metric, value: float | None) -> str:
    """A difference with its sign: `−18.2 %`, `+1.30`, `+0.021`."""
    return MISSING if value is None else _difference(metric, value) + percent(metric)


def percent(metric: Metric) -> str:
    """What follows a difference: those of distances are in %."""
    return " %" if metric.scale == "log" else ""


def _difference(metric: Metric, value: float, like: float | None = None) -> str:
    if metric.scale == "log":
        decimals = 1 if abs(value) < 1000 else 0
        if -100 + _LEAST < value < -99.9:  # what is left of a distance is not none
            decimals = -math.floor(math.log10(100 + value))
    else:
        decimals = {"points": 2, "share": 3}.get(metric.unit, _decimals(value if like is None else like))
    if _LEAST < abs(value) < 0.5 * 10.0**-decimals:
        decimals = -math.floor(math.log10(abs(value)))  # a small change is not none
    text = _rounded(value, decimals, "+")
    # Nothing but zeros has no sign.
    return text if text.strip("+−0.e") else text[1:]


def _rounded(value: float, decimals: int, sign: str = "") -> str:
    text = f"{value:{sign}.2e}" if decimals == _SCIENTIFIC else f"{value:{sign}.{decimals}f}"
    return minus(text).replace("inf", "∞")


def minus(text: str) -> str:
    """With the sign that is as wide as a plus."""
    return text.replace("-", "−")


def _decimals(value: float) -> int:
    """As many as show three digits."""
    if not value or not math.isfinite(value):
        return 2
    places = 2 - math.floor(math.log10(abs(value)))
    return _SCIENTIFIC if places > 7 or places < -9 else min(6, max(0, places))


def interval(metric: Metric, low: float | None, high: float | None) -> str:
    """`−42.7 to −31.3 %`, or a dash where there is none."""
    if low is None or high is None:
        return MISSING
    return f"{' to '.join(_ends(metric, low, high))}{percent(metric)}"


def brackets(metric: Metric, low: float, high: float) -> str:
    """`[−42.7, −31.3]`, in the unit of the difference before it."""
    return f"[{', '.join(_ends(metric, low, high))}]"


def _ends(metric: Metric, low: float, high: float) -> tuple[str, str]:
    # Both ends have the decimals of the larger one, but for an end that these would round to none.
    larger = max((abs(end) for end in (low, high) if math.isfinite(end)), default=0.0)
    return _difference(metric, low, larger), _difference(metric, high, larger)


def amount(metric: Metric, estimate: Estimate) -> str:
    """`11.2 % [7.1, 15.0]`: how much, without its sign, and the interval as seen from there."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return MISSING
    unit = percent(metric) or (f" {metric.unit}" if metric.unit == "points" else "")
    text = _difference(metric, abs(value)).lstrip("+") + unit
    if low is None or high is None:
        return text
    near, far = _ends(metric, low, high) if value >= 0 else _ends(metric, -high, -low)
    return f"{text} [{near.lstrip('+')}, {far.lstrip('+')}]"


def whole(metric: Metric, name: str, estimate: Estimate) -> str:
    """`resnet_guided: −26.6 % [−28.1, −25.1], better; seed 0: −28.0 %, seed 1: −25.3 %`."""
    low, high = estimate.low, estimate.high
    interval = f" {brackets(metric, low, high)}" if low is not None and high is not None else ""
    by_seed = zip(estimate.seeds, estimate.by_seed, strict=True)
    seeds = ", ".join(f"seed {seed}: {signed(metric, value)}" for seed, value in by_seed)
    said = f"{name}: {signed(metric, estimate.value)}{interval}, {estimate.verdict}"
    return f"{said}; {seeds}" if seeds else said


def margin(metric: Metric, size: float | None) -> str:
    """`5 %`, `1 point`, `0.02`."""
    size = size or 0.0
    points = f" point{'' if size == 1 else 's'}" if metric.unit == "points" else ""
    return f"{size:g}" + (percent(metric) or points)


def number(metric: Metric, value: float | None) -> str:
    """A measured value; a dash for None."""
    return MISSING if value is None else _rounded(value, _decimals_of(metric, value))


def _decimals_of(metric: Metric, value: float) -> int:
    return {"points": 1, "share": 3}.get(metric.unit, _decimals(value))


def mean_sd(metric: Metric, cell: CellResult) -> str:
    """`5.13 ± 0.21`; the spread is missing below two seeds, all of it without a run."""
    if cell.mean is None or cell.sd is None:
        return number(metric, cell.mean)
    decimals = _decimals_of(metric, cell.mean)
    if decimals != _SCIENTIFIC and 0 < cell.sd < 0.5 * 10.0**-decimals:
        # A small spread about a large mean is shown, not rounded to none.
        decimals = min(12, 1 - math.floor(math.log10(cell.sd)))
    return f"{_rounded(cell.mean, decimals)} ± {_rounded(cell.sd, decimals)}"


def p_value(p: float | None) -> str:
    if p is None or p < 0.001:
        return MISSING if p is None else "< 0.001"
    # With as many digits as show on which side of the level it is.
    apart = abs(p - ALPHA)
    return f"{p:.{-math.floor(math.log10(apart)) if 1e-9 < apart < 0.0005 else 3}f}"


def sign_flip(estimate: Estimate) -> str:
    """`0.250 (≥ 0.250)`: the p of the exact test, and the least that it could be with so many seeds."""
    if estimate.sign_flip is None or estimate.sign_flip_least is None:
        return MISSING
    return f"{p_value(estimate.sign_flip)} (≥ {p_value(estimate.sign_flip_least).lstrip('< ')})"


def plain_number(value: float | None, decimals: int = 2) -> str:
    return MISSING if value is None else _rounded(value, decimals)


def improved(estimate: Estimate) -> str:
    return f"{estimate.improved} of {estimate.n}" if estimate.n else MISSING


def states(counts: Mapping[State, int]) -> str:
    """`2 done, 1 diverged`."""
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts.get(state))


def rate(counts: Mapping[State, int], state: State) -> str:
    """`1 of 3`: how many of all planned runs; a dash for none of them."""
    count = counts.get(state, 0)
    return f"{count} of {sum(counts.values())}" if count else MISSING


def along(records: Sequence[RunRecord]) -> str:
    """What learning curves are drawn along."""
    is_script = any(record.run.settings.command.run for record in records)
    return "steps, thousands" if is_script else "training images shown, thousands"


def pair(alias: str) -> str:
    """`a:b` -> `a and b`, whatever its sign."""
    return listed(alias.removeprefix("-").split(":"))


def alias_names(aliases: Sequence[str]) -> str:
    """`a × b + c × d − e × f`: what is summed."""
    text = " ".join(("− " if name[:1] == "-" else "+ ") + " × ".join(name.lstrip("-").split(":")) for name in aliases)
    return text.removeprefix("+ ")


def interaction_name(interaction: InteractionResult) -> str:
    return f"{interaction.toggle} × all others" if interaction.toggle else alias_names(interaction.aliases)


def trend(metric: Metric, trend: Trend) -> str:
    """`Trend from tau=0.1 to tau=1: −4.1 %, −8.0 to −0.3 %, p 0.041 (not corrected).`"""
    estimate, levels = trend.estimate, trend.factor.ascending
    numbers = [signed(metric, estimate.value)]
    if estimate.p is not None:
        numbers += [interval(metric, estimate.low, estimate.high), f"p {p_value(estimate.p)} (not corrected)"]
    return f"Trend from {levels[0]} to {levels[-1]}: {', '.join(numbers)}."


def diverged(effect: Effect) -> str:
    """`2 with it, 0 without`."""
    on, off = effect.diverged
    return f"{on} with it, {off} without"


def looks(analysis: Analysis) -> str:
    """How many seeds there are, by which rule, and what has no verdict yet; empty where their number was fixed."""
    rule, seeds = analysis.rule, len(analysis.seeds)
    if rule is None:
        return ""
    count = f"{seeds} of at most {quantity(rule.most, 'seed')}"
    if seeds < rule.first:
        return f"{count} so far. The first look is after {rule.first}, and nothing is tested before it."
    beyond = _by_metric((result, result.no_seed_decides) for result in analysis.headlines)
    last = f" No seed decides {beyond}, as cells compared there make no use of the seed." if beyond else ""
    open_ = ((it, [name for name in it.undecided() if name not in it.no_seed_decides]) for it in analysis.headlines)
    if missing := _by_metric(open_):
        return f"{count}{' so far' if seeds < rule.most else ''}. No verdict yet: {missing}.{last}"
    if not analysis.headlines:
        return f"{count}."
    return f"{count}: all {'other ' if beyond else ''}effects have their verdict.{last}"


def _by_metric(names: Iterable[tuple[MetricResult, Sequence[str]]]) -> str:
    """`a and b (Fréchet distance); a (CLIP score)`."""
    return "; ".join(f"{shortened(own)} ({result.metric.title})" for result, own in names if own)


def decided(result: MetricResult) -> str:
    """`Verdicts after 3 seeds: a, b; after 4: c.`; empty where no look decided."""
    looks: dict[int, list[str]] = {}
    for name, estimate in result.compared:
        if estimate.decided_after is not None:
            looks.setdefault(estimate.decided_after, []).append(name)
    parts = [f"after {seeds} seeds: {shortened(looks[seeds])}" for seeds in sorted(looks)]
    return f"Verdicts {'; '.join(parts)}." if parts else ""


def control(result: MetricResult, baseline: str) -> str:
    """The baseline under further seeds against itself; empty without a control."""
    again, metric = result.control, result.metric
    if again is None or again.value is None:
        return ""
    seeds = f"seed{'s' * (len(again.seeds) > 1)} {listed([str(seed) for seed in again.seeds])}"
    itself = "itself" if again.first is None else f"itself under its first {again.first} seeds, whose number was fixed"
    apart = f"{interval(metric, again.low, again.high)}, p {p_value(again.p)}"
    if again.p is None:
        apart = "without an interval, as there is no spread to judge by"
    return (
        f"Control: {baseline} under {seeds} against {baseline} {itself}: {signed(metric, again.value)}, {apart}. "
        "Differences of this size appear without any idea."
    )
