"""What a study is once its file has been read: every value resolved and checked."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt, Interval

from harness.design.factors import Factor, levels_of
from harness.design.kinds import FULL, FULL_MINUS, ORIGIN, DesignConfig, Layout, Subset, expand, toggles_of
from harness.errors import SpecError, nearest
from harness.ideas.read import Code
from harness.masking import masked
from harness.models import toggles as builtin
from harness.models.objective import PLAYERS, Count, active
from harness.models.toggles import TOGGLES
from harness.settings import Settings
from harness.study import own
from harness.study.overlay import shown
from harness.study.resources import Resources
from harness.study.variant import changes, folder_ending
from harness.text import file_word

Pruner = Literal["none", "halving", "hyperband", "wilcoxon"]


MAX_TRIALS = 10_000
OF_SEARCH = ".tune-"
"""Stands in a search's label before its cell. No name of a study or profile has a dot, so no other label has it."""


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """A search for better loss weights. It decides which runs there are, and is no part of any run's identity."""

    cell: str = "full"
    """Whose weights are searched."""
    trials: Annotated[int, Interval(ge=1, le=MAX_TRIALS)] = 30
    """How many in all; the first has the weights as written."""
    objective: str | tuple[str, ...] = "fd"
    """The metric to improve; several in a list: their Pareto front."""
    constraints: dict[str, float] = field(default_factory=dict)
    """metric -> by how much it may be worse than with the weights as written; % for distances, else its unit."""
    parameters: tuple[str, ...] = ()
    """Dotted settings that are searched; empty: every active weight of the cell, loss.tau and train.r1_gamma."""
    span: Annotated[float, Gt(1)] = 4.0
    """A setting without a range of its own is searched from its written value / span to its written value * span."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Dotted setting -> lowest and highest value, for some or all of those that are searched."""
    seeds: Annotated[int, Interval(ge=1, le=1000)] = 1
    """Runs of a trial, each under a seed of its own; their mean is what counts."""
    confirm: Annotated[int, Interval(ge=0, le=100)] = 5
    """Fresh seeds under which the best weights and those as written are compared at the end; 0: none."""
    sampler: Literal["tpe", "gp", "nsga2"] = "tpe"
    """What proposes weights: Parzen estimators (multivariate), a Gaussian process, or a genetic algorithm."""
    pruner: Pruner | None = None
    """When a trial is given up: by what it measures on the way (halving, hyperband), by its first seeds (wilcoxon), or
    never; null: halving for one objective without constraints that is measured on the way, else never."""
    storage: str | None = None
    """Optuna's storage as a URL, a relative SQLite file being beside the study file; null: OPTUNA_STORAGE, else a
    journal file beside the runs."""


@dataclass(frozen=True)
class Tuned:
    """How the weights of a cell were found; a study file holds it so that its report can say it."""

    trials: Count
    """Of the search."""
    objective: str
    """The metric, or metrics, that it improved."""


@dataclass(frozen=True, kw_only=True)
class Tracking:
    """Where MLflow keeps its copy of the results."""

    uri: str | None = None
    """Tracking store; null: sqlite:///mlflow.db beside the study file."""
    experiment: str | None = None
    """Name of the experiment; null: the study's name."""


@dataclass(frozen=True, kw_only=True)
class StudyFile(Settings):
    """The study file's schema: its keys, their types and their one default. Profiles are overlays of these keys."""

    study: str = ""
    """Name of the study, which names its folders too; required."""
    baseline: str = ORIGIN
    """The cell that all others are compared with."""
    code: str | tuple[str, ...] = ()
    """File of ideas of your own, or a list of files, beside the study file; see docs/own-ideas.md."""
    margins: dict[str, float] = field(default_factory=dict)
    """metric -> the change that does not matter, by which variants are called equivalent; % for distances."""
    toggles: tuple[str | dict[str, dict[str, Any]], ...] = tuple(TOGGLES)
    """Built-in toggles by name; own ones as one name and its patch of dotted settings."""
    levels: dict[str, Any] = field(default_factory=dict)
    """Dotted setting -> list of its values, the study's own among them: a factor, whose own value is the reference."""
    design: DesignConfig = field(default_factory=DesignConfig)
    """Which cells are trained, under which seeds."""
    tune: TuneConfig = field(default_factory=TuneConfig)
    """What `harness tune` searches, and by which metrics."""
    tuned: dict[str, Tuned] = field(default_factory=dict)
    """cell -> the search that its weights come from; `harness tune --apply` writes it, the report tells it."""
    resources: Resources = field(default_factory=Resources)
    """How runs are executed."""
    tracking: Tracking = field(default_factory=Tracking)
    """Where MLflow keeps its copy."""
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """name -> what it changes, in the shape of this file."""
    profile: str | None = None
    """The profile that is used when none is asked for."""


@dataclass(frozen=True)
class StudyToggle:
    """A toggle of the study."""

    name: str
    patch: Mapping[str, Any] = field(default_factory=dict)
    """Dotted setting -> value; empty for a built-in toggle."""

    @property
    def settings(self) -> tuple[str, ...]:
        """Dotted names of the settings that it changes."""
        return tuple(self.patch) if self.patch else (TOGGLES[self.name].setting,)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study file with its profile and overrides applied."""

    name: str
    path: Path
    """The study file, absolute."""
    profile: str | None
    settings: Settings
    """No toggle applied."""
    toggles: tuple[StudyToggle, ...]
    factors: tuple[Factor, ...] = ()
    """Settings with levels, of which `settings` has the references."""
    design: DesignConfig
    baseline: str
    resources: Resources
    tracking: Tracking
    code: Code = field(default_factory=Code)
    """Its own ideas."""
    margins: Mapping[str, float] = field(default_factory=dict)
    """metric -> the change that does not matter; % for distances, else the metric's unit."""
    tune: TuneConfig = field(default_factory=TuneConfig)
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    """cell -> the search that its weights come from."""
    overrides: tuple[str, ...] = ()
    """What was set on the command line, as written."""
    only: Subset = ()
    """The cells that were asked for on the command line; none: all."""
    places: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Dotted setting of `resources`, `tracking` or `tune` that is written anywhere -> where: the study file, the site
    file or --set."""
    text: str = field(default="", compare=False, repr=False)
    """The study file as it was read; it may be edited while the runs of this one train."""
    searched_cell: str = ""
    """Set for a search of this cell's weights, whose folders are apart from the study's own."""

    @property
    def root(self) -> Path:
        """Folder of the run folders."""
        return self.path.parent / "runs" / self.label

    @property
    def reports(self) -> Path:
        """Folder of the report; what the command line changes has one of its own."""
        return self.path.parent / "reports" / (self.label + folder_ending(self.variant))

    @property
    def variant(self) -> tuple[str, ...]:
        """What the command line changes of what a report tells: `train.kimg=2`, `only origin`."""
        changed = changes(self.overrides, bool(self.searched_cell))
        return changed + tuple(f"only {cell}" for cell in self.only)

    @property
    def title(self) -> str:
        """Of its report: the label, and what the command line changes."""
        return ", ".join([self.label, *self.variant])

    @property
    def label(self) -> str:
        """Name of its folders: the study's, the profile if it has one, and the cell of a search."""
        search = OF_SEARCH + self.searched_cell if self.searched_cell else ""
        return "-".join(filter(None, (self.name, self.profile))) + search

    def placed(self, setting: str) -> str:
        """`--set tracking.uri=x: tracking.uri`: a dotted setting behind the place where it is written, for messages."""
        return f"{masked(self.places.get(setting, str(self.path)))}: {setting}"

    def command(self, name: str, *words: str) -> str:
        """The line `harness NAME` that asks for this very study, from the current folder."""
        profile = ["--profile", self.profile] if self.profile else []
        changed = [word for text in self.overrides for word in ("--set", text)]
        return shlex.join(["harness", name, file_word(self.path), *profile, *changed, *words])

    @property
    def toggle_names(self) -> tuple[str, ...]:
        """In the order of the study."""
        return tuple(toggle.name for toggle in self.toggles)

    @property
    def ideas(self) -> tuple[str, ...]:
        """The names of the toggles, then of the levels other than references."""
        return (*self.toggle_names, *levels_of(self.factors))

    @property
    def layout(self) -> Layout:
        """The cells of the design."""
        return expand(self.design, self.toggle_names, self.factors)


def apply_toggles(study: Study, names: Iterable[str]) -> Settings:
    """The study's settings with the named toggles and levels on; the order of the names does not matter."""
    on = set(names)
    chosen = [toggle for toggle in study.toggles if toggle.name in on]
    if unknown := on - {*study.ideas}:
        raise ValueError(f"not toggles of this study: {', '.join(sorted(unknown))}")
    settings = builtin.apply(study.settings, [toggle.name for toggle in chosen if not toggle.patch])
    for toggle in chosen:
        settings = settings.with_values(toggle.patch)
    levels = {
        factor.setting: value
        for factor in study.factors
        for level, value in zip(factor.levels, factor.values, strict=True)
        if level in on
    }
    return own.in_cell(settings.with_values(levels) if levels else settings, study.code)


def overlaps(study: Study, names: Iterable[str]) -> Iterator[tuple[StudyToggle, StudyToggle, str]]:
    """Pairs of the named toggles that cannot both be on in a cell, and why."""
    on = set(names)
    for first, second in combinations([toggle for toggle in study.toggles if toggle.name in on], 2):
        if shared := set(first.settings) & set(second.settings):
            yield first, second, f"both set {', '.join(sorted(shared))}"
        elif rivals := own.rivals(own.switched_by(first.patch) | own.switched_by(second.patch), study.code):
            yield first, second, f"cannot meet in a cell, as {rivals}"


def cell_toggles(study: Study, name: str) -> Subset:
    """The ideas of the cell that `name` stands for, whether or not the design holds it. Raises SpecError."""
    toggles = study.toggle_names
    subset = toggles_of(name, toggles, study.design.listed(study.ideas), study.factors)
    if subset is None:
        near = nearest(name, [ORIGIN, FULL, *study.ideas, *(FULL_MINUS + toggle for toggle in toggles)])
        allowed = "allowed: origin, full, full-minus-TOGGLE, TOGGLE, TOGGLE+TOGGLE"
        if study.factors:
            allowed += f", and one level of each factor: {', '.join(levels_of(study.factors))}, TOGGLE+LEVEL"
        raise SpecError(f"unknown cell {shown(name)}{near or ';'} {allowed}")
    for first, second, why in overlaps(study, subset):
        raise SpecError(f"there can be no cell {shown(name)}: {first.name} and {second.name} {why}; name another cell")
    return subset


def terms_of(study: Study, cell: str) -> list[dict[str, Any]]:
    """The active contrastive terms of a cell: {"name", "player", "weight", "u", "v", "equation"}; then its ideas, see
    `own.rows`; of a script none is known. Raises SpecError."""
    settings = apply_toggles(study, cell_toggles(study, cell))
    if settings.command.run:
        return []
    loss = settings.loss
    built_in = [
        {"name": term.name, "player": player, "weight": loss.weights[player][term.name]}
        | {"u": str(term.u), "v": str(term.v), "equation": term.equation}
        for player in PLAYERS
        for term in active(loss, player)
    ]
    return built_in + own.rows(settings, study.code)
