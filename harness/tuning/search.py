"""A search of a cell's weights: what it varies, which metrics it improves, and which runs a trial is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
from typing import Any

import numpy as np

from harness.data.dataset import TUNING
from harness.data.pack_record import Pack, read_pack
from harness.design.kinds import canonical_name
from harness.errors import SpecError
from harness.metrics.captions import why_not_scored
from harness.metrics.definitions import Metric, find_metric
from harness.metrics.names import BY_EXTRACTOR, SEEN, guides_that_measure, recorded
from harness.runs.record import Run
from harness.settings import Settings
from harness.study import search_space
from harness.study.overlay import dotted
from harness.study.plan import PlannedCell, fingerprints, planned_cells, runs_of, starting
from harness.study.schema import OF_SEARCH, Study, TuneConfig, cell_toggles
from harness.study.search_space import Parameter

TUNING_SEEDS, FRESH_SEEDS = 10_000, 20_000
"""Where the seeds of trials and of the comparison at the end begin; those of the study's own design are left out."""
_OF_RESNET = (*BY_EXTRACTOR, "precision", "recall")

Values = Mapping[str, float]
"""Dotted setting -> value."""


@dataclass(frozen=True)
class Search:
    """Everything about a search but its trials."""

    study: Study
    """As a study of this search, with folders of its own."""
    cell: PlannedCell
    parameters: tuple[Parameter, ...]
    objectives: tuple[Metric, ...]
    """As runs record them."""
    constraints: tuple[tuple[Metric, float], ...]
    """Metric and by how much it may be worse than in the first trial, in its `change_unit`."""
    fingerprints: Mapping[str, str]
    """Of the study's own data and encoders."""

    @property
    def tune(self) -> TuneConfig:
        return self.study.tune

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of every trial."""
        return _seeds(self.study, TUNING_SEEDS, self.tune.seeds)

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        """Of the comparison at the end."""
        return _seeds(self.study, FRESH_SEEDS, self.tune.confirm)

    @property
    def written(self) -> dict[str, float]:
        return {parameter.name: parameter.written for parameter in self.parameters}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The objectives and the metrics of the constraints."""
        return (*self.objectives, *(metric for metric, _ in self.constraints))

    @cached_property
    def identity(self) -> str:
        """8 hex digits: trials of equal ones can be compared with each other."""
        content: dict[str, Any] = {
            "parameters": [[each.name, each.low, each.high] for each in self.parameters],
            "objectives": [metric.name for metric in self.objectives],
            "constraints": [[metric.name, margin] for metric, margin in self.constraints],
            "runs": [run.id for run in self.runs(self.written, 0)],
        }
        if self.tune.pruner == "wilcoxon":  # whose steps are seeds, not snapshots
            content["steps"] = "seeds"
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """What it is called in Optuna's storage."""
        return f"{self.study.label}-{self.identity}"

    def exact(self, values: Values) -> dict[str, float]:
        """What is trained for these proposed values."""
        return {each.name: each.exact(values[each.name]) for each in self.parameters if each.name in values}

    def runs(self, values: Values, number: int) -> list[Run]:
        """The runs of a trial: on data and captions that no report asks for, one a seed."""
        settings = self._settings(values)
        own = replace(settings, metrics=replace(settings.metrics, seed=settings.metrics.seed + 1))
        cell = replace(self.cell, name=f"trial-{number:03d}", settings=own)
        prints = {**self.fingerprints, "data": self.fingerprints["data"] + TUNING}
        return runs_of(self.study, cell, self.seeds, prints)

    def fresh_runs(self, values: Values, name: str) -> list[Run]:
        """Runs of the study's own kind under the fresh seeds."""
        cell = replace(self.cell, name=name, settings=self._settings(values))
        return runs_of(self.study, cell, self.fresh_seeds, dict(self.fingerprints))

    def values(self, results: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Recorded metric -> mean over the seeds of a trial, on the scale on which a comparison averages it.

        Raises SpecError for an objective or constraint that its runs could not measure.
        """
        for each in results:
            self.check(each)
        rows = [metric for name in results[0] if (metric := find_metric(name))]
        return {metric.name: mean(metric, [each[metric.name] for each in results]) for metric in rows}

    def check(self, measured: Mapping[str, float]) -> None:
        """Raises SpecError where a run that is done holds no number of an objective or constraint."""
        for metric in self.metrics:
            if metric.name not in measured:
                text = f"{metric.name} has no number: on this data nothing could lower it, as `harness plan` may tell"
                raise SpecError(f"{self.study.path}: tune: {text}; name another of {', '.join(sorted(measured))}")

    def excess(self, values: Values, first: Values) -> dict[str, float]:
        """Constraint -> by how much more than its margin a trial is worse than the first one; kept where <= 0."""
        excess = {}
        for metric, margin in self.constraints:
            gap = float(metric.scaled(values[metric.name]) - metric.scaled(first[metric.name]))
            worse = gap if metric.better == "lower" else -gap
            excess[metric.name] = worse - float(metric.difference(margin))
        return excess

    def _settings(self, values: Values) -> Settings:
        return self.cell.settings.with_values(self.exact(values))


def make_search(study: Study) -> Search:
    """The search that the study's `tune` section asks for. Raises SpecError, MissingWeights and DataError."""
    for keys, text in search_space.problems(study):
        raise SpecError(f"{study.path}: {dotted(keys)}: {text}")
    toggles = cell_toggles(study, study.tune.cell)
    name = canonical_name(study.tune.cell, study.toggle_names, study.design, study.factors)
    pack = read_pack(study.root, study.path.parent)
    (cell,) = starting(study, planned_cells(study, {name: toggles}), pack)
    prints = fingerprints(study, [cell], pack)[name]

    def metric(name: str) -> Metric:
        return _metric(study, cell.settings, prints, name, pack)

    return Search(
        study=replace(study, searched_cell=name),
        cell=cell,
        parameters=search_space.parameters(cell.settings, study.tune, study.factors),
        objectives=tuple(map(metric, search_space.objectives(study.tune))),
        constraints=tuple((metric(each), margin) for each, margin in study.tune.constraints.items()),
        fingerprints=prints,
    )


def mean(metric: Metric, values: Sequence[float]) -> float:
    """On the metric's scale: distances by their geometric mean."""
    return float(metric.unscaled(np.mean(metric.scaled(values))))


def _metric(study: Study, settings: Settings, prints: Mapping[str, str], name: str, pack: Pack | None) -> Metric:
    """As runs record it. Raises SpecError where the network that measures it trains too, and for one of captions where
    there are none."""
    network = "resnet" if name in _OF_RESNET else "clip"
    if guide := guides_that_measure(prints).get(f"metrics.{network}"):
        text = f"{name} is measured by metrics.{network}, whose weights {guide} trains against"
        raise SpecError(f"{study.path}: tune: {text}: a search would please the guide; name another network there")
    data, given = prints["data"] + TUNING, settings.metrics.captions
    if network == "clip" and (why := why_not_scored(data, given, pack)):
        text = f"{name} is not measured, as {why}: leave {name} out of tune, or name such a file"
        raise SpecError(f"{study.path}: tune: {text}")
    metric = find_metric(recorded(name, getattr(settings.metrics, network)))
    assert metric is not None and not metric.name.endswith(SEEN)
    return metric


def _seeds(study: Study, first: int, number: int) -> tuple[int, ...]:
    taken = {*study.design.seeds, *study.design.control_seeds}
    return tuple(islice((seed for seed in count(first) if seed not in taken), number))


def searches(study: Study) -> list[Study]:
    """The study once for each search of weights that has a folder of runs."""
    begin = study.label + OF_SEARCH
    folders = sorted(study.root.parent.glob(f"{begin}*"))
    return [replace(study, searched_cell=folder.name.removeprefix(begin)) for folder in folders if folder.is_dir()]
