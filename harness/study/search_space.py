"""The `tune` section of a study file: which weights `harness tune` searches, and how trials are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import SpecError, choices, nearest
from harness.metrics.names import MEASURES
from harness.models.objective import PLAYERS, TERMS, active
from harness.settings import Settings
from harness.study.overlay import Keys, shown
from harness.study.schema import Pruner, Study, TuneConfig, apply_toggles, cell_toggles

SEEDS_TO_PRUNE = 5
"""The signed-rank test of four pairs is the first that can reach p < 0.1, and the fifth is the first that it saves."""
_WHOLE = ("loss.tau", "train.r1_gamma")


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
        *_, player, name = self.name.split(".")
        return f"D {name}" if player == "discriminator" else name


def parameters(settings: Settings, tune: TuneConfig) -> tuple[Parameter, ...]:
    """What a search of a cell with these settings varies, in the order of the table of terms.

    Raises SpecError for what `problems` refuses.
    """
    for keys, text in _of_space(settings, tune):
        raise SpecError(f"{'.'.join(map(str, keys))}: {text}")
    values = searchable(settings)
    chosen = tune.parameters or tuple(values)
    return tuple(_parameter(name, value, tune) for name, value in values.items() if name in chosen)


def searchable(settings: Settings) -> dict[str, float]:
    """Dotted setting -> written value: the active weights, the temperature, and R1's gamma where R1 is on."""
    weights = [term.setting for player in PLAYERS for term in active(settings.loss, player)]
    return {name: float(settings.flat[name]) for name in (*weights, *_WHOLE) if settings.flat[name] > 0}


def objectives(tune: TuneConfig) -> tuple[str, ...]:
    return (tune.objective,) if isinstance(tune.objective, str) else tune.objective


def pruner(settings: Settings, tune: TuneConfig) -> Pruner:
    """The one that is asked for, or that fits."""
    if tune.pruner:
        return tune.pruner
    alone = len(objectives(tune)) == 1 and not tune.constraints
    return "halving" if alone and settings.train.snapshots > 1 else "none"


Problems = Iterator[tuple[Keys, str]]


def problems(study: Study) -> Problems:
    """What is wrong with the section: keys, and what is wrong there with the fix."""
    tune = study.tune
    try:
        settings = apply_toggles(study, cell_toggles(study, tune.cell))
    except SpecError as error:
        yield ("tune", "cell"), str(error)
        return
    yield from _of_space(settings, tune)
    yield from _of_metrics(tune)
    yield from _of_pruning(settings, tune)


def _of_space(settings: Settings, tune: TuneConfig) -> Problems:
    values = searchable(settings)
    for place, name in enumerate(tune.parameters):
        if name not in values:
            yield ("tune", "parameters", place), _unsearchable(name, values, tune.cell)
        elif name in tune.parameters[:place]:
            yield ("tune", "parameters", place), f"{shown(name)} is here twice"
    for name, ends in tune.ranges.items():
        path = ("tune", "ranges", name)
        if name not in values:
            yield path, _unsearchable(name, values, tune.cell)
        elif tune.parameters and name not in tune.parameters:
            yield path, "is not among tune.parameters: add it there, or leave its range out"
        elif wrong := _wrong_range(ends, values[name]):
            yield path, wrong
    if not values:
        yield ("tune", "cell"), f"nothing can be searched in {tune.cell!r}: no term is active"


def _wrong_range(ends: tuple[float, float], written: float) -> str:
    """What is wrong with a range of a setting, if anything is."""
    low, high = ends
    if low <= 0:
        return f"must begin above 0, as it is searched on a logarithmic scale, not at {low:g}"
    if low >= high:
        return f"must be lowest, then highest, not [{low:g}, {high:g}]; turn them round"
    if not low <= written <= high:
        told = f"must hold the written value {written:g}, which the first trial has, not [{low:g}, {high:g}]"
        return f"{told}; widen it, or write another value"
    return ""


def _unsearchable(name: str, values: Mapping[str, float], cell: str) -> str:
    allowed = f"allowed: {', '.join(values)}"
    rows = [term for term in TERMS if name == term.setting]
    if rows:
        needs = " or ".join(dict.fromkeys(_needs(row.when) for row in rows if row.when))
        return f"is not active in {cell!r}{f' (it needs {needs})' if needs else ' (its weight is 0)'}; {allowed}"
    if name in _WHOLE:
        return f"is 0 in {cell!r}, so there is nothing to search around; write a value above 0"
    return f"unknown weight {shown(name)}{nearest(name, values) or ';'} {allowed}"


def _needs(when: Mapping[str, Any]) -> str:
    return " and ".join(f"{name}: {str(value).lower()}" for name, value in when.items())


def _of_metrics(tune: TuneConfig) -> Problems:
    asked = objectives(tune)
    if not asked:
        yield ("tune", "objective"), f"must name a metric; allowed: {', '.join(MEASURES)}"
    for place, name in enumerate(asked):
        place_of = () if isinstance(tune.objective, str) else (place,)
        path: Keys = ("tune", "objective", *place_of)
        if name not in MEASURES:
            yield path, f"unknown metric {shown(name)}{choices(name, MEASURES)}"
        elif name in asked[:place]:
            yield path, f"{shown(name)} is here twice"
    for name, margin in tune.constraints.items():
        path = ("tune", "constraints", name)
        if name not in MEASURES:
            yield path, f"unknown metric {shown(name)}{choices(name, MEASURES)}"
        elif name in asked:
            yield path, "is an objective already; leave one of the two out"
        elif not 0 <= margin < 100:
            yield path, f"must be at least 0 and below 100, not {margin:g}"


def _of_pruning(settings: Settings, tune: TuneConfig) -> Problems:
    path = ("tune", "pruner")
    if tune.pruner in (None, "none"):
        return
    if len(objectives(tune)) > 1:
        yield path, f"{tune.pruner} cannot judge several objectives; leave it out, or name one objective"
    elif tune.pruner == "wilcoxon" and tune.seeds < SEEDS_TO_PRUNE:
        yield path, f"wilcoxon needs tune.seeds of at least {SEEDS_TO_PRUNE}, not {tune.seeds}; or choose halving"
    elif tune.pruner in ("halving", "hyperband") and settings.train.snapshots < 2:
        told = f"{tune.pruner} judges what is measured on the way, but train.snapshots is {settings.train.snapshots}"
        yield path, f"{told}; measure more often, or leave it out"


def _parameter(name: str, written: float, tune: TuneConfig) -> Parameter:
    low, high = tune.ranges.get(name, (written / tune.span, written * tune.span))
    return Parameter(name, written, low, high)
