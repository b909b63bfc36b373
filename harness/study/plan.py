"""A study to the runs that answer it.

A run's id is a hash of everything that decides its result: the settings that it reads (defaults written out), the seed,
the content of the data set and the weights of the encoders. Asking again finds the same run, a change makes a new one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from harness import cache
from harness.command import files
from harness.command.words import absent
from harness.data.caption_counts import content
from harness.data.pack_record import Pack, read_pack
from harness.design.design import Design
from harness.design.kinds import Subset, canonical_name
from harness.errors import MissingWeights, SpecError, choices
from harness.frozen_networks import encoders_read, network_kind
from harness.metrics import captions
from harness.models.encoders import with_path_in
from harness.rng import numpy_generator
from harness.runs import initial
from harness.runs.folders import refuse_unreachable
from harness.runs.identity import run_ids
from harness.runs.initial import Beginning
from harness.runs.record import Run, State
from harness.runs.snapshot import Snapshot
from harness.settings import DataConfig, InitConfig, Settings
from harness.study import own
from harness.study.looks import seeds_asked_for
from harness.study.remarks import remarks
from harness.study.schema import Study, apply_toggles
from harness.text import shortened

CODE = "command.code"
"""Name of the fingerprint of the files of a study's own training script."""


@dataclass(frozen=True)
class PlannedCell:
    """One combination of ideas."""

    name: str
    toggles: tuple[str, ...]
    settings: Settings
    same_as: str | None = None
    """An earlier cell that computes the very same, whose runs are this cell's runs too."""
    idle: tuple[str, ...] = ()
    """Dotted settings in which it differs from that one all the same, which change nothing that is computed."""
    source: Mapping[str, str] = field(default_factory=dict)
    """Relative path -> text of the study's own code that its runs execute."""
    beginning: Beginning = field(default_factory=Beginning)
    """The weights that its runs start from, see `starting`."""


@dataclass(frozen=True)
class Plan:
    """The cells and runs of a study, in order."""

    study: Study
    cells: tuple[PlannedCell, ...]
    runs: tuple[Run, ...]
    """Cell by cell as written, seeds in order; the baseline's control seeds follow its own. Where seeds are added: of
    the seeds that were asked for by now, which are those of `study.design` too."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Cell -> the rule of the design that forbids it."""
    pack: Pack | None = None
    """What tells of data and networks of a study that was unpacked."""
    later: tuple[Run, ...] = ()
    """Where seeds are added: the runs of seeds that may be asked for later, ordered as `runs`."""

    @functools.cached_property
    def design(self) -> Design:
        """What the cells can say, and what they cost."""
        return Design(self.study.design, self.study.toggle_names, self.study.factors)

    def cell(self, name: str) -> PlannedCell:
        """The cell of that name, or of the toggles that the name stands for. Raises SpecError."""
        wanted = canonical_name(name, self.study.toggle_names, self.study.design, self.study.factors)
        cells = {cell.name: cell for cell in self.cells}
        if wanted not in cells:
            raise SpecError(f"no cell {name!r} in the plan{choices(name, cells)}")
        return cells[wanted]

    def runs_of(self, cell: PlannedCell) -> tuple[Run, ...]:
        """The cell's runs, one a seed; those of the cell that it is the same as."""
        return self._by_cell[cell.same_as or cell.name]

    @functools.cached_property
    def _by_cell(self) -> dict[str, tuple[Run, ...]]:
        return {name: tuple(runs) for name, runs in itertools.groupby(self.runs, lambda run: run.cell)}

    def queue(self, runs: Iterable[Run]) -> tuple[Run, ...]:
        """`runs` in the order in which they are trained: seed by seed, cells shuffled within each seed.

        An interrupted grid so leaves whole replicates, and a machine that slows down slows no cell in particular. In
        the last seed the cells that are likely to take longest begin first, so that no slot waits long for the last
        run. The order depends on the study's name, the seeds and the cells there are, on nothing else.
        """
        # A cell's place does not depend on which others are asked for: `--only` keeps the order of the whole.
        places: dict[tuple[int, str], tuple[float, ...]] = {}
        seeds = self.study.design.seeds
        for block, seed in enumerate((*seeds, *self.study.design.control_seeds)):
            order = numpy_generator(seed, f"run order of {self.study.name}").permutation(len(self.cells))
            for cell, at in zip(self.cells, order, strict=True):
                longest = (-cell.settings.length, -len(cell.toggles)) if seed == seeds[-1] else ()
                places[seed, cell.name] = (block, *longest, int(at))
        return tuple(sorted(runs, key=lambda run: places[run.seed, run.cell]))

    def remarks(self, cell: PlannedCell) -> tuple[str, ...]:
        """What a reader of the cell's result should know."""
        shared = (f"{_sameness(cell)}: its runs are the same, so it says nothing new",) if cell.idle else ()
        prints = self.runs_of(cell)[0].fingerprints
        of_captions = self._caption_remarks(prints["data"], captions.relevant(cell.settings))
        words = cell.settings.command.run
        of_command = tuple(absent(words, cell.source)) if words else ()
        return shared + of_command + remarks(cell.settings, prints) + of_captions

    @functools.cached_property
    def _caption_remarks(self) -> Callable[[str, Settings], tuple[str, ...]]:
        return functools.cache(functools.partial(captions.of_settings, pack=self.pack))

    def select(self, names: Iterable[str]) -> tuple[Run, ...]:
        """The runs of the named cells in the plan's order; all runs if no name is given. Raises SpecError."""
        wanted = {run.id for name in names for run in self.runs_of(self.cell(name))}
        return tuple(run for run in self.runs if not wanted or run.id in wanted)

    def narrowed(self, only: Iterable[str]) -> Plan:
        """The plan of which these cells were asked for, in its order; all of them are as none. Raises SpecError."""
        cells = {self.cell(name).name for name in only}
        every = [cell.name for cell in self.cells]
        chosen = tuple(name for name in every if name in cells) if cells < set(every) else ()
        return replace(self, study=replace(self.study, only=chosen))

    def of_seeds(self, count: int) -> Plan:
        """The plan with so many seeds, of all that there may be, asked for; for a study whose seeds are added."""
        every = tuple(dict.fromkeys([*self.study.design.seeds, *(run.seed for run in self.later)]))
        seeds = tuple(sorted(every)[:count])
        places = {cell.name: place for place, cell in enumerate(self.cells)}
        runs = sorted((*self.runs, *self.later), key=lambda run: (places[run.cell], run.seed))
        asked = {*seeds, *self.study.design.control_seeds}
        study = replace(self.study, design=replace(self.study.design, seeds=seeds))
        now, later = (tuple(run for run in runs if (run.seed in asked) is wanted) for wanted in (True, False))
        return replace(self, study=study, runs=now, later=later)

    def snapshot(self) -> Snapshot:
        """What the run folders hold now."""
        return Snapshot(self.study.root, self.runs)

    def states(self) -> dict[str, State]:
        """Run id -> where its folder says that it stands."""
        return {name: status.state for name, status in self.snapshot().statuses.items()}

    def as_dict(self, states: Mapping[str, State] | None = None) -> dict[str, Any]:
        """JSON of the plan; `states` spares reading them again.

        {"study", "profile", "baseline",
         "design": {"kind", "include", "seeds", "max_seeds", "cells", "exclude", "require", "resolution", "generators",
                    "control"},
         "levels": [see `Factor.as_dict`], "can": what the cells can say and the alias table, see `Design.as_dict`,
         "cells": [{"name", "toggles", "same_as", "changes": {dotted setting: new value}, "remarks": [text]}],
         "runs": [{"id", "cell", "seed", "toggles", "state"}], "dropped": [{"name", "reason"}]}
        """
        states = states or self.states()
        return {
            "study": self.study.name,
            "profile": self.study.profile,
            "baseline": self.study.baseline,
            "design": asdict(self.study.design),
            "levels": [factor.as_dict() for factor in self.study.factors],
            "can": self.design.as_dict(),
            "cells": [
                {
                    "name": cell.name,
                    "toggles": cell.toggles,
                    "same_as": cell.same_as,
                    "changes": self.changes(cell),
                    "remarks": self.remarks(cell),
                }
                for cell in self.cells
            ],
            "runs": [
                {"id": run.id, "cell": run.cell, "seed": run.seed, "toggles": run.toggles, "state": states[run.id]}
                for run in self.runs
            ],
            "dropped": [{"name": name, "reason": reason} for name, reason in self.dropped.items()],
        }

    def changes(self, cell: PlannedCell) -> dict[str, Any]:
        """Dotted setting -> value, for the settings in which the cell differs from the study's own."""
        before = self.study.settings.flat
        off = [name for name in own.switched_on(self.study.settings) if name not in cell.settings.ideas]
        changed = {path: value for path, value in cell.settings.flat.items() if before.get(path, value) != value}
        return changed | {f"ideas.{name}.on": False for name in off}


def make_plan(study: Study) -> Plan:
    """The study's cells and runs. Cells that compute the very same share their runs. Where seeds are added, those runs
    that were asked for by now are its runs, and all others are `later`.

    Raises DataError, MissingWeights, RecordError where its runs cannot be reached, and SpecError if the baseline is
    another cell under a second name.
    """
    refuse_unreachable(study.root)
    design = Design(study.design, study.toggle_names, study.factors)
    pack = read_pack(study.root, study.path.parent)
    alone = starting(study, planned_cells(study, {at.name: at.toggles for at in design.layout.cells}), pack)
    prints = fingerprints(study, alone, pack)
    first: dict[str, PlannedCell] = {}
    cells: list[PlannedCell] = []
    runs: list[Run] = []
    for cell in alone:
        control = study.design.control_seeds if cell.name == study.baseline else ()
        its_runs = runs_of(study, cell, study.design.seeds + control, prints[cell.name])
        earlier = first.setdefault(its_runs[0].id, cell)
        if earlier is cell:
            runs += its_runs
        else:
            theirs = earlier.settings.flat
            idle = tuple(path for path, value in cell.settings.flat.items() if value != theirs.get(path))
            cell = replace(cell, same_as=earlier.name, idle=idle)
        cells.append(cell)
        if cell.name == study.baseline and cell.same_as:
            problem = f"{study.path}: baseline: {study.baseline!r} {_sameness(cell)}"
            raise SpecError(f"{problem}; name {cell.same_as!r}, or leave out the toggle that changes nothing")
    plan = Plan(study, tuple(cells), tuple(runs), design.layout.dropped, pack)
    return plan if study.design.max_seeds is None else plan.of_seeds(seeds_asked_for(study, runs))


def planned_cells(study: Study, toggles_of: Mapping[str, Subset]) -> list[PlannedCell]:
    """The cells of these names and toggles, with their code as it is now. Raises SpecError."""
    read = functools.cache(lambda patterns: files.read_files(patterns, study.path.parent))
    cells = []
    for name, toggles in toggles_of.items():
        settings = apply_toggles(study, toggles)
        source = read(settings.command.code) if settings.command.run else own.source(settings, study.code)
        cells.append(PlannedCell(name, toggles, settings, source=source))
    return cells


def _sameness(cell: PlannedCell) -> str:
    if cell.idle:
        idle = shortened(cell.idle)
        return f"differs from {cell.same_as!r} in {idle} alone, which changes nothing that is computed there"
    return f"has the very settings of {cell.same_as!r}"


def starting(study: Study, cells: Iterable[PlannedCell], pack: Pack | None) -> list[PlannedCell]:
    """`cells` with what `init` names in them, as the pack tells or else of what is here. Raises DataError."""

    @functools.cache
    def beginning(init: InitConfig) -> Beginning:
        return initial.beginning(init, study.root, pack.init(init) if pack else None)

    return [
        cell if cell.settings.command.run else replace(cell, beginning=beginning(cell.settings.init)) for cell in cells
    ]


def fingerprints(study: Study, cells: Sequence[PlannedCell], pack: Pack | None) -> dict[str, dict[str, str]]:
    """Cell -> "data" and every encoder setting it reads -> content hash, as the pack tells or else of what is here.

    Raises MissingWeights and DataError.
    """
    from harness.data import dataset as data
    from harness.models import encoders

    read = {cell.name: encoders_read(cell.settings) for cell in cells}
    pairs = dict.fromkeys(pair for names in read.values() for pair in names.items())
    _refuse_missing(study, [pair for pair in pairs if not (pack and pack.encoder(pair[1]))])

    # Each once, also where a hundred cells share it.
    @functools.cache
    def of_data(config: DataConfig) -> str:
        return (pack and pack.data(config)) or data.fingerprint(config, cache.root())

    @functools.cache
    def of_encoder(name: str) -> str:
        return (pack and pack.encoder(name)) or encoders.fingerprint(name)

    @functools.cache
    def of_captions(path: str) -> dict[str, str]:
        told = pack and pack.captions(path)
        return {captions.GIVEN: told or content(captions.read_captions(path))} if path else {}

    return {
        cell.name: {"data": of_data(cell.settings.data)}
        | {path: of_encoder(name) for path, name in read[cell.name].items()}
        | of_captions(cell.settings.metrics.captions)
        | (_of_script(cell) or dict(cell.beginning.fingerprints) | own.fingerprints(cell.settings, study.code))
        for cell in cells
    }


def _of_script(cell: PlannedCell) -> dict[str, str]:
    """The fingerprint of a training script's files; nothing where the built-in trainer trains."""
    return {CODE: files.digest(cell.source)} if cell.settings.command.run else {}


def _refuse_missing(study: Study, networks: Iterable[tuple[str, str]]) -> None:
    """Raises MissingWeights that names each of these (dotted setting, name of a network) that cannot be loaded."""
    from harness.models import encoders

    problems: dict[str, str] = {}
    for path, name in networks:
        try:
            encoders.check(name, network_kind(path))
        except (ValueError, OSError) as error:
            problems[str(error)] = path
    if problems:
        raise MissingWeights(
            "\n".join(f"{_written_at(study, path)}: {path}: {text}" for text, path in problems.items())
        )


def _written_at(study: Study, path: str) -> str:
    """The file that names the network of a dotted setting; with the line where that is the study's own code."""
    section, name, *rest = path.split(".")
    if section == "ideas":
        idea, (key,) = study.code.ideas[name], rest
        if study.settings.ideas[name][key] == with_path_in(idea.settings[key], study.path.parent):
            return idea.where
    return str(study.path)


def runs_of(study: Study, cell: PlannedCell, seeds: Sequence[int], fingerprints: dict[str, str]) -> list[Run]:
    """A cell's runs, one for each seed."""
    ids, first = run_ids(cell.settings, seeds, fingerprints), dict(cell.beginning.files)
    run = Run("", study.name, cell.name, 0, cell.toggles, cell.settings, fingerprints)
    run = replace(run, source=dict(cell.source), first_weights=first)
    return [replace(run, id=name, seed=seed) for name, seed in zip(ids, seeds, strict=True)]
