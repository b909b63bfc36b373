"""The `tune` section of a study file: which weights `harness tune` searches, and how trials are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, inf, log10

from harness.design.factors import Factor
from harness.errors import SpecError, choices, nearest
from harness.metrics.names import MEASURES
from harness.models.objective import PLAYERS, TERMS, Fraction, active
from harness.settings import Settings
from harness.study import own, temperature
from harness.study.overlay import Keys, shown
from harness.study.schema import Pruner, Study, TuneConfig, apply_toggles, cell_toggles

SEEDS_TO_PRUNE = 5
"""The signed-rank test of four pairs is the first that can reach p < 0.1, and the fifth is the first that it saves."""
_WHOLE = ("loss.tau", "train.r1_gamma")
DIGITS = 4
"""Of proposed values: what is trained with can be written down."""
LEAST_VALUES = 10
"""A range that has fewer of so many digits has more digits."""


@dataclass(frozen=True)
class Parameter:
    """A setting that is searched on a logarithmic scale."""

    name: str
    """Dotted setting."""
    written: float
    low: float
    high: float

    @property
    def label(self) -> str:
        """Short, as tables and figures show it: `itd_r`, `D itd`, `tau`."""
        player, name = self.name.split(".")[-2:]
        if self.name.startswith("ideas."):
            return player if name == "weight" else f"{player}.{name}"
        return f"D {name}" if player == "discriminator" else name

    def exact(self, value: float) -> float:
        """What is trained for a proposed value: a number of few digits inside the range, or what was written."""
        if value == self.written:
            return value
        digits = max(DIGITS, 1 + _exponent(self.high) - _exponent((self.high - self.low) / LEAST_VALUES))
        places = digits - 1 - _exponent(value)
        rounded = round(value, places)
        if self.low <= rounded <= self.high:
            return rounded
        return round(rounded + 10.0**-places * (1 if rounded < self.low else -1), places)


def parameters(settings: Settings, tune: TuneConfig, factors: Sequence[Factor] = ()) -> tuple[Parameter, ...]:
    """What a search of a cell with these settings varies, in the order of the table of terms; `problems` finds none."""
    values, least = searchable(settings, factors), {"loss.tau": temperature.least(settings)}
    ends = {name: (max(value / tune.span, least.get(name, 0.0)), value * tune.span) for name, value in values.items()}
    ends |= tune.ranges
    chosen = tune.parameters or (*(name for name in values if _is_weight(name, settings)), *tune.ranges)
    return tuple(Parameter(name, value, *ends[name]) for name, value in values.items() if name in chosen)


def searchable(settings: Settings, factors: Sequence[Factor]) -> dict[str, float]:
    """Dotted setting -> written value: the active weights, the temperature, and R1's gamma where R1 is on; of ideas
    that are on their weights and, where `tune` names them, all that are numbers with decimals; of a script
    all that are.

    Not the settings of factors: a value that a search finds would be none of their levels.
    """
    weights = [term.setting for player in PLAYERS for term in active(settings.loss, player)]
    fixed = {factor.setting for factor in factors}
    of_ideas = [name for name, value in settings.flat.items() if name.startswith("ideas.") and type(value) is float]
    names = [name for name in (*weights, *of_ideas, *_WHOLE) if name not in fixed]
    if settings.command.run:
        args = {f"command.args.{name}": value for name, value in settings.command.args.items()}
        names = [name for name, value in args.items() if type(value) is float and name not in fixed]
    return {name: float(settings.flat[name]) for name in names if settings.flat[name] > 0}


def _is_weight(name: str, settings: Settings) -> bool:
    """Whether a search varies it without being asked to."""
    section, *idea, key = name.split(".")
    return section != "ideas" or (key == "weight" and settings.ideas[idea[0]]["kind"] in ("term", "penalty"))


def _exponent(value: float) -> int:
    return floor(log10(value))


def objectives(tune: TuneConfig) -> tuple[str, ...]:
    return (tune.objective,) if isinstance(tune.objective, str) else tune.objective


def pruner(settings: Settings, tune: TuneConfig) -> Pruner:
    """The one that the study names, or that fits."""
    if tune.pruner:
        return tune.pruner
    alone = len(objectives(tune)) == 1 and not tune.constraints
    return "halving" if alone and settings.snapshots > 1 else "none"


Problems = Iterator[tuple[Keys, str]]
"""Where a mistake is, and what it is."""


def problems(study: Study) -> Problems:
    """What is wrong with the section: keys, and what is wrong there with the fix."""
    tune = study.tune
    try:
        settings = apply_toggles(study, cell_toggles(study, tune.cell))
    except SpecError as error:
        yield ("tune", "cell"), str(error)
        return
    fixed = {factor.setting for factor in study.factors}
    named: list[tuple[Keys, str]] = [(("tune", "parameters", at), name) for at, name in enumerate(tune.parameters)]
    named += [(("tune", "ranges", name), name) for name in tune.ranges]
    for path, name in named:
        if name in fixed:
            text = f"{shown(name)} is a factor of the study, so a search cannot vary it"
            yield path, f"{text}; leave it out here, or leave it out of levels"
            return
    if rivals := own.rivals(settings.ideas, study.code):
        yield ("tune", "cell"), f"{tune.cell!r} cannot be trained, as {rivals}; name another cell"
    yield from _space_problems(study, settings)
    searched = parameters(settings, tune, study.factors)
    by_span = (each for each in searched if each.name not in tune.ranges)
    if far := next((each for each in by_span if not 0 < each.low < each.high < inf), None):
        text = f"would search {far.name} from {far.low:g} to {far.high:g}, which is more than numbers reach"
        yield ("tune", "span"), f"{text}; write a smaller one, such as {TuneConfig().span:g}"
    for each in searched:
        if each.name == "loss.tau" and (text := temperature.problem(each.low, settings)):
            yield ("tune", "ranges", each.name), f"would be searched from {text}"
        _, *idea, key = each.name.split(".")
        if idea and idea[0] in study.code.ideas and study.code.ideas[idea[0]].types[key] is Fraction and each.high > 1:
            text = f"is a share of at most 1, and would be searched up to {each.high:g}"
            yield ("tune", "ranges", each.name), f"{each.name} {text}; write tune.ranges: {{{each.name}: [..., 1]}}"
    yield from _metric_problems(tune)
    yield from _pruner_problems(settings, tune)


def _space_problems(study: Study, settings: Settings) -> Problems:
    tune, values, is_script = study.tune, searchable(settings, study.factors), bool(settings.command.run)
    for place, name in enumerate(tune.parameters):
        if name not in values and is_script:
            text = f"{shown(name)} is no setting above 0 of the script that has decimals{nearest(name, values) or ';'}"
            yield ("tune", "parameters", place), f"{text} allowed: {', '.join(values)}"
        elif name not in values:
            yield ("tune", "parameters", place), _unsearchable(name, values, study, settings)
        elif name in tune.parameters[:place]:
            yield ("tune", "parameters", place), f"{shown(name)} is here twice"
    yield from _range_problems(study, settings, values)
    if not values:
        none = "the script has no setting with decimals" if is_script else "no term is active"
        yield ("tune", "cell"), f"nothing can be searched in {tune.cell!r}: {none}"


def _range_problems(study: Study, settings: Settings, values: Mapping[str, float]) -> Problems:
    for name, (low, high) in study.tune.ranges.items():
        path = ("tune", "ranges", name)
        if name not in values:
            yield path, _unsearchable(name, values, study, settings)
        elif study.tune.parameters and name not in study.tune.parameters:
            yield path, "is not among tune.parameters: add it there, or leave its range out"
        elif low <= 0:
            yield path, f"must begin above 0, as it is searched on a logarithmic scale, not at {low:g}"
        elif low >= high:
            yield path, f"must be lowest, then highest, not [{low:g}, {high:g}]; turn them round"
        elif not low <= values[name] <= high:
            text = f"must hold the written value {values[name]:g}, which the first trial has, not [{low:g}, {high:g}]"
            yield path, f"{text}; widen it, or write another value"


def _unsearchable(name: str, values: Mapping[str, float], study: Study, settings: Settings) -> str:
    allowed, cell = f"allowed: {', '.join(values)}", study.tune.cell
    if name.startswith("ideas."):
        return _unsearchable_of_idea(name, study, settings)
    rows = [term for term in TERMS if name == term.setting]
    if rows:
        needed = ([f"{name}: {str(value).lower()}" for name, value in row.when.items()] for row in rows)
        needs = " or ".join(dict.fromkeys(" and ".join(each) for each in needed if each))
        return f"is not active in {cell!r}{f' (it needs {needs})' if needs else ' (its weight is 0)'}; {allowed}"
    if name in _WHOLE:
        return f"is 0 in {cell!r}, so there is nothing to search around; write a value above 0"
    return f"unknown weight {shown(name)}{nearest(name, values) or ';'} {allowed}"


def _unsearchable_of_idea(name: str, study: Study, settings: Settings) -> str:
    """Why a search of the study's cell, which has these settings, cannot vary this setting of an idea."""
    idea, _, key = name.removeprefix("ideas.").partition(".")
    ideas, cell = study.code.ideas, study.tune.cell
    if idea not in ideas:
        return f"the study has no idea {shown(idea)}{choices(idea, ideas) if ideas else ', as it names no code'}"
    if key not in ideas[idea].settings:
        return f"the idea {idea} has no setting {shown(key)}{choices(key, ideas[idea].settings)}"
    decimal = [each for each, value in ideas[idea].settings.items() if type(value) is float]
    if key not in decimal:
        numbers = f"of {idea} that is {', '.join(decimal)}" if decimal else f"and {idea} has none"
        return f"{name} is no number with decimals, which is what a search varies; {numbers}"
    if idea not in settings.ideas:
        return f"the idea {idea} is off in {cell!r}; name a cell in which it is on, or leave it out"
    return f"{name} is 0 or below in {cell!r}, so there is nothing to search around; write a value above 0"


def _metric_problems(tune: TuneConfig) -> Problems:
    named = objectives(tune)
    if not named:
        yield ("tune", "objective"), f"must name a metric; allowed: {', '.join(MEASURES)}"
    for place, name in enumerate(named):
        place_of = () if isinstance(tune.objective, str) else (place,)
        path: Keys = ("tune", "objective", *place_of)
        if name not in MEASURES:
            yield path, f"unknown metric {shown(name)}{choices(name, MEASURES)}"
        elif name in named[:place]:
            yield path, f"{shown(name)} is here twice"
    for name, margin in tune.constraints.items():
        path = ("tune", "constraints", name)
        if name not in MEASURES:
            yield path, f"unknown metric {shown(name)}{choices(name, MEASURES)}"
        elif name in named:
            yield path, "is an objective already; leave one of the two out"
        elif not 0 <= margin < 100:
            yield path, f"must be at least 0 and below 100, not {margin:g}"


def _pruner_problems(settings: Settings, tune: TuneConfig) -> Problems:
    path = ("tune", "pruner")
    if tune.pruner in (None, "none"):
        return
    if len(objectives(tune)) > 1:
        yield path, f"{tune.pruner} cannot judge several objectives; leave it out, or name one objective"
    elif tune.pruner == "wilcoxon" and tune.seeds < SEEDS_TO_PRUNE:
        yield path, f"wilcoxon needs tune.seeds of at least {SEEDS_TO_PRUNE}, not {tune.seeds}; or choose halving"
    elif tune.pruner in ("halving", "hyperband") and settings.snapshots < 2:
        section = "command" if settings.command.run else "train"
        text = f"{tune.pruner} judges what is measured on the way, but {section}.snapshots is {settings.snapshots}"
        yield path, f"{text}; measure more often, or leave it out"
