"""Which design to train for a given time: all kinds side by side, and one proposed.

The rule. Of the designs that fit with at least 3 seeds (else 2) and tell every main effect from every interaction of
two toggles, the smallest detectable main effect decides; but among those within 25 % of it, the one that tells most
interactions one by one is taken, then the one that tells most groups of them, then the one with the fewest runs
and the smallest effect. If no such design fits, one that mixes main effects with interactions is taken, and said to.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

from harness.design.design import Design
from harness.design.factors import combinations_of
from harness.design.fractions import TABLE, tabulated
from harness.design.kinds import MAX_CELLS, MAX_RUNS, ORIGIN, DesignConfig, Subset
from harness.design.power import detectable
from harness.errors import HarnessError, SpecError
from harness.planning.forecast import Forecast
from harness.study.cell_checks import cell_problems, overlap_problems
from harness.study.factors import idle_levels
from harness.study.overlay import dotted
from harness.study.plan import make_plan
from harness.study.schema import Study, apply_toggles, cell_toggles
from harness.text import duration, quantity

MOST_SEEDS = 20
ENOUGH_SEEDS = 3
NEAR = 1.25
"""Detectable effects within this factor are as good as equal: the spread they stand on is known no better."""
_LONGEST_DAYS = 100_000
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Option:
    """A design with as many seeds as fit."""

    name: str
    own: bool
    """Whether it is the study's own design."""
    cells: int
    seeds: int
    """That fit the budget, at most 20 and no more than a plan may have; 0: not even one does."""
    runs: int
    seconds: float
    """On all slots; with one seed if none fits."""
    effect: float | None
    """Smallest detectable main effect in residual sds; None below two seeds."""
    interaction: float | None
    clear: bool
    """Whether every toggle has a main effect that is no interaction of two as well."""
    apart: int
    """Interactions of two toggles that are estimated one by one."""
    groups: int
    """Sums of several interactions that are estimated."""
    settings: DesignConfig
    """The study file's `design` section."""


@dataclass(frozen=True)
class Comparison:
    """All designs at one budget."""

    seconds: float
    options: tuple[Option, ...]
    least: tuple[str, int, float]
    """What the cheapest design with two seeds costs: its name, runs, seconds."""
    ideas: str = "toggle"
    """What effects are of: `idea` where there are levels beside toggles."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Design -> why this study cannot have it."""

    @cached_property
    def proposed(self) -> Option | None:
        """The best by the rule of this module; None if nothing fits with two seeds."""
        return propose(self.options)

    def as_dict(self) -> dict[str, Any]:
        """JSON: {"budget_seconds", "options": [...], "proposed": place in options or null, "reasons",
        "least_with_two_seeds": {"design", "runs", "seconds"}, "left_out": {design: why}}.
        """
        return {
            "budget_seconds": self.seconds,
            "options": [asdict(option) for option in self.options],
            "proposed": self.options.index(self.proposed) if self.proposed else None,
            "reasons": why(self),
            "least_with_two_seeds": dict(zip(("design", "runs", "seconds"), self.least, strict=True)),
            "left_out": dict(self.left_out),
        }


def parse_time(option: str, text: str) -> float:
    """`12h`, `90m`, `2d`, `30s` or plain seconds, as seconds. Raises HarnessError."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not match or not 0 < float(match[1]) * _UNITS[match[2]] <= _LONGEST_DAYS * _UNITS["d"]:
        allowed = "a time such as 12h, 90m, 2d or 3600 (seconds)"
        raise HarnessError(f"{option} {text or repr(text)}: must be {allowed}, at most {_LONGEST_DAYS}d")
    return float(match[1]) * _UNITS[match[2]]


def compare(forecast: Forecast, seconds: float) -> Comparison:
    """Every kind of design over the study's toggles, trained anew. Raises HarnessError if the pace is unknown."""
    study, pace = forecast.plan.study, forecast.pace
    if not 0 < seconds < math.inf:
        raise HarnessError(f"a budget of {seconds:g} s: must be a finite time above 0, such as 3600")
    if pace is None:
        untimed = f", and steps cannot be timed: {forecast.why_untimed}" if forecast.why_untimed else ""
        raise HarnessError(
            f"--budget: no finished run tells how long one takes{untimed}; say it with --seconds-per-kimg X, "
            f"or train one: {study.command('run-grid', '--only', study.baseline)}"
        )

    def cost(cell: str, toggles: Sequence[str]) -> float:
        """Seconds of a run."""
        changed = [setting for toggle in study.toggles if toggle.name in toggles for setting in toggle.settings]
        changed += [factor.setting for factor in study.factors]
        settings = apply_toggles(study, toggles) if "train.kimg" in changed else study.settings
        return pace.seconds(cell, settings.length, toggles)

    control = [cost(study.baseline, cell_toggles(study, study.baseline))] * study.design.control
    options, with_two_seeds, left_out = [], [], {}
    for design, own in candidates(study):
        try:
            twins = twins_of(study, design)
        except SpecError as error:
            left_out[design.name] = str(error)
            continue
        each = [cost(cell.name, cell.toggles) for cell in design.layout.cells if cell.toggles not in twins]
        option = _option(forecast, design, seconds, each, control, twins)
        options.append(replace(option, own=own))
        two_seeds = [*each, *each, *control]
        with_two_seeds.append((design.name, len(two_seeds), forecast.wall_of(two_seeds)))
    ideas = "idea" if study.factors else "toggle"
    return Comparison(seconds, tuple(options), min(with_two_seeds, key=lambda cost: cost[2]), ideas, left_out)


def candidates(study: Study) -> Iterator[tuple[Design, bool]]:
    """The study's own design, then every kind and fraction with other cells than those before it."""
    toggles, factors = study.toggle_names, study.factors
    own = study.design
    baseline = "+".join(cell_toggles(study, study.baseline)) or ORIGIN
    bare = replace(own, include=(), cells=(), resolution=None, generators=())
    kinds = [replace(bare, kind=kind) for kind in ("one-at-a-time", "leave-one-out", "both")]
    if len(toggles) in TABLE:
        kinds += [
            replace(bare, kind="fractional", resolution=resolution)
            for resolution, generators in tabulated(len(toggles)).items()
            if 2 ** (len(toggles) - len(generators)) * combinations_of(factors) <= MAX_CELLS
        ]
    if 2 ** len(toggles) * combinations_of(factors) <= MAX_CELLS:
        kinds.append(replace(bare, kind="full"))
    seen: set[frozenset[tuple[str, ...]]] = set()
    for config in (own, *kinds):
        design = Design(config, toggles, factors)
        if cell_toggles(study, study.baseline) not in design.cells:
            design = Design(replace(config, include=(baseline,)), toggles, factors)
        cells = frozenset(design.cells)
        if cells not in seen:
            seen.add(cells)
            yield design, config is own


def propose(options: Sequence[Option]) -> Option | None:
    """The best of those that fit, by the rule of this module."""
    for clear, seeds in ((True, ENOUGH_SEEDS), (True, 2), (False, ENOUGH_SEEDS), (False, 2)):
        fit = [o for o in options if o.effect is not None and o.seeds >= seeds and (o.clear or not clear)]
        if fit:
            least = min(option.effect or math.inf for option in fit)
            near = [option for option in fit if (option.effect or math.inf) <= NEAR * least]
            return max(near, key=lambda option: (option.apart, option.groups, -option.runs, -(option.effect or 0)))
    return None


def why(found: Comparison) -> list[str]:
    """The proposal in plain sentences."""
    best = found.proposed
    if best is None and any(option.seeds >= 2 for option in found.options):
        return [f"nothing to detect: no {found.ideas} changes what is trained, or none can be told from the others"]
    if best is None:
        name, runs, seconds = found.least
        cheapest = f"the cheapest design, {name}, takes {duration(seconds)} with two seeds ({runs} runs)"
        return [f"nothing fits: {cheapest}, and one seed settles nothing"]
    lines = [f"{best.name} with {best.seeds} seeds: {best.runs:,} runs in {duration(best.seconds)}"]
    others = [option for option in found.options if option is not best and option.effect and option.seeds >= 2]
    smaller = [o for o in others if o.clear and (o.effect or 0) < (best.effect or 0) and o.seeds >= ENOUGH_SEEDS]
    if smaller:
        rival = min(smaller, key=lambda option: option.effect or math.inf)
        ratio = (best.effect or 0) / (rival.effect or 1)
        less = (rival.apart, rival.groups) < (best.apart, best.groups)
        but = f"says less about interactions ({interactions(rival)})" if less else f"takes {rival.runs:,} runs"
        lines.append(f"{rival.name} detects effects that are smaller by a factor of {ratio:.2f}, but {but}")
    elif best.clear:
        fit = f"of the designs that fit with {min(best.seeds, ENOUGH_SEEDS)} seeds and clear main effects"
        lines.append(f"{fit} it detects the smallest effect of one {found.ideas}")
    lines.append(f"interactions: {interactions(best)}")
    if not best.clear:
        lines.append(
            f"its main effects cannot be told from interactions of two {found.ideas}s: a longer budget would allow that"
        )
    if best.seeds < ENOUGH_SEEDS:
        lines.append(f"{best.seeds} seeds settle little: {ENOUGH_SEEDS} are the least that this tool would advise")
    return lines


def interactions(option: Option) -> str:
    """What it says about interactions, in a few words."""
    if not option.apart and not option.groups:
        return "none"
    apart = f"{option.apart} one by one" if option.apart else ""
    groups = f"in {quantity(option.groups, 'group')}" if option.groups else ""
    return " and ".join(filter(None, (apart, groups)))


def twins_of(study: Study, design: Design) -> dict[Subset, Subset]:
    """The toggles of cells that compute what an earlier cell does -> those of the cell whose runs are theirs.

    Raises SpecError for a design that the study cannot have.
    """
    study = replace(study, design=replace(design.config, seeds=(0,), max_seeds=None, control=0))
    checks = (check(study, design.layout.cells) for check in (overlap_problems, idle_levels, cell_problems))
    for path, text in chain.from_iterable(checks):
        raise SpecError(f"{dotted(path)}: {text}")
    cells = make_plan(study).cells
    toggles = {cell.name: cell.toggles for cell in cells}
    return {cell.toggles: toggles[cell.same_as] for cell in cells if cell.same_as}


def _option(
    forecast: Forecast,
    design: Design,
    seconds: float,
    each: Sequence[float],     # of a run of every cell that is trained
    control: Sequence[float],  # of every run of the control
    twins: Mapping[Subset, Subset],
) -> Option:  # fmt: skip
    def wall(seeds: int) -> float:
        # All of a seed is one block of the queue, so that its time is what another seed adds.
        return forecast.wall_of([*(list(each) * seeds), *control])

    def fits(seeds: int) -> bool:
        # The sum over the slots is a bound that spares the long lists.
        return sum(each) * seeds / forecast.slots <= seconds and wall(seeds) <= seconds

    most = min(MOST_SEEDS, (MAX_RUNS - len(control)) // len(design.cells))
    fitting = max(filter(fits, range(1, most + 1)), default=0)
    seeds, can = max(fitting, 1), design.estimable
    sizes, cells = [len(group.aliases) for group in can.interactions], len(design.cells)
    effect, interaction = detectable(can, cells, fitting, twins)
    return Option(
        name=design.name,
        own=False,
        cells=cells,
        seeds=fitting,
        runs=len(each) * seeds + len(control),
        seconds=wall(seeds),
        effect=effect,
        interaction=interaction,
        clear=len(can.effects) == len(can.toggles) and not any(each.aliases for each in can.effects),
        apart=sizes.count(1),
        groups=len(sizes) - sizes.count(1),
        settings=replace(design.config, seeds=tuple(range(seeds)), max_seeds=None),
    )
