"""A study to the runs that answer it. No torch here.

A run's id is a hash of everything that decides its result: every setting (defaults written out), the seed, the content
of the data set and the weights of the encoders it reads. Asking again finds the same run, a change makes a new one.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from harness import cache
from harness.data.config import IN_FINGERPRINT
from harness.design.kinds import Dropped, canonical_name, expand
from harness.errors import MissingWeights, SpecError
from harness.records import Run, RunFolder, State
from harness.study.definition import Study, apply_toggles, encoders_read, remarks
from harness.study.draft import leaves, nearest
from harness.study.settings import Settings

ALGORITHM = 2
"""Part of every run id: raise it with any change to the code that changes what a run computes."""


@dataclass(frozen=True)
class Cell:
    """One combination of toggles."""

    name: str
    toggles: tuple[str, ...]
    settings: Settings
    same_as: str | None = None
    """An earlier cell with the very same settings, whose runs are this cell's runs too."""


@dataclass(frozen=True)
class Plan:
    """The cells and runs of a study, in order."""

    study: Study
    cells: tuple[Cell, ...]
    runs: tuple[Run, ...]
    dropped: tuple[Dropped, ...] = ()

    def cell(self, name: str) -> Cell:
        """The cell of that name, or of the toggles that the name stands for. Raises SpecError."""
        wanted = canonical_name(name, self.study.toggle_names, self.study.design)
        found = next((cell for cell in self.cells if cell.name == wanted), None)
        if found is None:
            names = [cell.name for cell in self.cells]
            raise SpecError(f"no cell {name!r} in the plan{nearest(name, names) or ';'} allowed: {', '.join(names)}")
        return found

    def runs_of(self, cell: Cell) -> tuple[Run, ...]:
        """The cell's runs, one a seed; those of the cell that it is the same as."""
        return tuple(run for run in self.runs if run.cell == (cell.same_as or cell.name))

    def remarks(self, cell: Cell) -> tuple[str, ...]:
        """What a reader of the cell's result should know."""
        return remarks(cell.settings, self.runs_of(cell)[0].fingerprints)

    def select(self, names: Iterable[str]) -> tuple[Run, ...]:
        """The runs of the named cells in the plan's order; all runs if no name is given. Raises SpecError."""
        wanted = {run.id for name in names for run in self.runs_of(self.cell(name))}
        return tuple(run for run in self.runs if not wanted or run.id in wanted)

    def states(self) -> dict[str, State]:
        """Run id -> where its folder says that it stands."""
        return {run.id: RunFolder(self.study.root / run.id).status().state for run in self.runs}

    def as_dict(self) -> dict[str, Any]:
        """JSON of the plan.

        {"study", "profile", "baseline", "design": {"kind", "include", "seeds", "cells", "exclude", "require"},
         "cells": [{"name", "toggles", "same_as", "changes": {dotted setting: new value}, "remarks": [text]}],
         "runs": [{"id", "cell", "seed", "toggles", "state"}], "dropped": [{"name", "reason"}]}
        """
        states = self.states()
        return {
            "study": self.study.name,
            "profile": self.study.profile,
            "baseline": self.study.baseline,
            "design": asdict(self.study.design),
            "cells": [_cell_json(self, cell) for cell in self.cells],
            "runs": [
                {"id": run.id, "cell": run.cell, "seed": run.seed, "toggles": run.toggles, "state": states[run.id]}
                for run in self.runs
            ],
            "dropped": [asdict(cell) for cell in self.dropped],
        }

    def changes(self, cell: Cell) -> dict[str, Any]:
        """Dotted setting -> value, for the settings in which the cell differs from the study's own."""
        own = dict(leaves(self.study.settings.as_dict()))
        return {path: value for path, value in leaves(cell.settings.as_dict()) if own[path] != value}


def make_plan(study: Study) -> Plan:
    """The study's cells and runs. Cells that resolve to the same settings share their runs.

    Raises DataError, MissingWeights, and SpecError if the baseline is another cell under a second name.
    """
    layout = expand(study.design, study.toggle_names)
    first: dict[str, str] = {}
    cells: list[Cell] = []
    for placed in layout.cells:
        settings = apply_toggles(study, placed.toggles)
        earlier = first.setdefault(_canonical(settings.as_dict()), placed.name)
        cells.append(Cell(placed.name, placed.toggles, settings, earlier if earlier != placed.name else None))
    twin = next(cell.same_as for cell in cells if cell.name == study.baseline)
    if twin:
        told = f"{study.baseline!r} has the very settings of {twin!r}"
        raise SpecError(f"{study.path}: baseline: {told}; name that one, or leave out the toggle that changes nothing")
    prints = _fingerprints(study, cells)
    runs = (
        _run(study, cell, seed, prints[cell.name]) for cell in cells if not cell.same_as for seed in study.design.seeds
    )
    return Plan(study, tuple(cells), tuple(runs), layout.dropped)


_FINGERPRINTED = {"data": IN_FINGERPRINT, "encoders": ("clip", "resnet"), "metrics": ("clip", "resnet", "more")}


def run_id(settings: dict[str, Any], seed: int, fingerprints: dict[str, str]) -> str:
    """12 hex digits that name a result: equal for equal settings, seed, data, encoders and algorithm only."""
    # Fingerprints stand for the content; where data and weights lie and how they are packed changes no result.
    decides = {
        part: {key: each for key, each in values.items() if key not in _FINGERPRINTED[part]}
        if part in _FINGERPRINTED
        else values
        for part, values in settings.items()
    }
    identity = {"algorithm": ALGORITHM, "settings": decides, "seed": seed, "fingerprints": fingerprints}
    return hashlib.sha256(_canonical(identity).encode()).hexdigest()[:12]


def missing(settings: Settings) -> dict[str, str]:
    """Setting -> why the encoder that it names cannot be used, for each encoder that a run reads."""
    from models import encoders

    found: dict[str, str] = {}
    for path, name in encoders_read(settings).items():
        try:
            encoders.check(name, "clip" if path.endswith("clip") else "resnet")
        except (ValueError, OSError) as error:
            found[path] = str(error)
    return found


def _fingerprints(study: Study, cells: Iterable[Cell]) -> dict[str, dict[str, str]]:
    """Cell -> "data" and every encoder setting it reads -> content hash."""
    from harness.data import dataset as data
    from models import encoders

    problems = {text: path for cell in cells for path, text in missing(cell.settings).items()}
    if problems:
        raise MissingWeights("\n".join(f"{study.path}: {path}: {text}" for text, path in problems.items()))
    of_data = functools.cache(lambda config: data.fingerprint(config, cache.root()))
    of_encoder = functools.cache(encoders.fingerprint)
    prints = {}
    for cell in cells:
        read = encoders_read(cell.settings)
        prints[cell.name] = {
            "data": of_data(cell.settings.data),
            **{path: of_encoder(name) for path, name in read.items()},
        }
    return prints


def _run(study: Study, cell: Cell, seed: int, fingerprints: dict[str, str]) -> Run:
    settings = cell.settings.as_dict()
    name = run_id(settings, seed, fingerprints)
    return Run(name, study.name, cell.name, seed, cell.toggles, settings, fingerprints)


def _canonical(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _cell_json(plan: Plan, cell: Cell) -> dict[str, Any]:
    return {
        "name": cell.name,
        "toggles": cell.toggles,
        "same_as": cell.same_as,
        "changes": plan.changes(cell),
        "remarks": plan.remarks(cell),
    }
