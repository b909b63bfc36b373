"""What each value alone cannot tell: combinations that no run could carry out.

A check is one function; each says the setting at fault, what is wrong and the fix.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from harness.data.pack_record import read_pack
from harness.data.sources import SOURCES
from harness.design import fractions
from harness.design import kinds as designs
from harness.design.design import Design
from harness.design.factors import combinations_of
from harness.design.kinds import KINDS, MAX_CELLS, MAX_RUNS, Subset
from harness.errors import SpecError, choices, nearest
from harness.metrics import names as metric_names
from harness.settings import OF_SOURCES, DataConfig, HeldOutConfig, MetricConfig
from harness.study import command_checks, factors, resource_checks, search_space
from harness.study.cell_checks import cell_problems, overlap_problems
from harness.study.overlay import ConfigTree, Keys, shown
from harness.study.schema import Study, StudyFile, TuneConfig, cell_toggles
from harness.study.search_space import Problems


def check_design(config: ConfigTree[StudyFile], study: Study) -> bool:
    """Note the problems of the study's design and baseline; whether its cells are certain."""
    if _faulty(config, "levels"):
        return False  # every level that the design names would be unknown
    readable = not _faulty(config, "design")
    # Each check stands on those before it.
    for check in _DESIGN_CHECKS if readable else _DESIGN_CHECKS[:1]:
        problems = list(check(study))
        for path, text in problems:
            if path != ("baseline",):
                config.refuse(path, text)
            elif not _faulty(config, "baseline"):
                # Who wrote no baseline wrote a design without the origin, in what came last of these.
                written = [each for each in config.changed if each in _CELLS]
                config.refuse(path if path in config.changed or not written else written[-1], text)
        if problems:
            return False
    return readable


def check_overlaps(config: ConfigTree[StudyFile], study: Study, cells: Sequence[designs.DesignCell]) -> None:
    """Note the pairs of toggles that these cells cannot have both on."""
    if not (_faulty(config, "toggles") or _faulty(config, "design")):
        for path, text in overlap_problems(study, cells):
            config.refuse(path, text)


def check_settings(config: ConfigTree[StudyFile], study: Study, cells: Sequence[designs.DesignCell]) -> None:
    """Note the problems of the settings of these cells. What reads a value that was refused already is left out."""
    refused = {str(path[-1]) for path in config.faulty if path}
    for path, text in _setting_problems(config, study, cells):
        if not any(re.search(rf"\b{re.escape(name)}\b", f"{path[-1]} {text}") for name in refused):
            config.refuse(path, text)


def _setting_problems(config: ConfigTree[StudyFile], study: Study, cells: Sequence[designs.DesignCell]) -> Problems:
    pack = None if _faulty(config, "study") else read_pack(study.root, study.path.parent)
    yield from () if _faulty(config, "data") else _data(study.settings.data)
    if not (_faulty(config, "data") or (pack and pack.data(study.settings.data))):
        yield from absent_data(study.settings.data)
    if not (_faulty(config, "metrics") or (pack and pack.captions(study.settings.metrics.captions))):
        yield from absent_captions(study.settings.metrics)
    yield from () if _faulty(config, "margins") else margin_problems(study.margins)
    yield from () if _faulty(config, "resources") else resource_checks.problems(study.resources)
    yield from () if _faulty(config, "command") else command_checks.problems(study, config.changed)
    yield from () if _faulty(config, "toggles") else command_checks.toggle_problems(study)
    if (study.tune != TuneConfig() or study.tuned) and not any(
        _faulty(config, each) for each in ("tune", "design", "levels")
    ):
        yield from (*_tuned(study), *search_space.problems(study))
    yield from () if _faulty(config, "levels") else factors.idle_levels(study, cells)
    yield from cell_problems(study, cells)


def _faulty(config: ConfigTree[StudyFile], section: str) -> bool:
    """Whether something in this section was refused."""
    return any(path[:1] == (section,) for path in config.faulty)


def margin_problems(margins: Mapping[str, float]) -> Problems:
    """Of a study's margins, by metric or kind of metric."""
    for name, margin in margins.items():
        if name not in metric_names.MEASURES:
            yield ("margins", name), f"unknown metric {shown(name)}{choices(name, metric_names.MEASURES)}"
        elif not 0 < margin < 100:
            yield ("margins", name), f"must be above 0 and below 100, not {margin:g}"


def _tuned(study: Study) -> Problems:
    for name in study.tuned:
        try:
            cell_toggles(study, name)
        except SpecError as error:
            yield ("tuned", name), str(error)


def _data(data: DataConfig) -> Problems:
    source = SOURCES.get(data.source)
    if source is None:
        yield ("data", "source"), f"unknown source {shown(data.source)}{choices(data.source, SOURCES)}"
        return
    for name in source.needs:
        if not getattr(data, name):
            yield ("data", name), f"missing: the source {data.source!r} needs data.{name}"
    read = (*source.needs, *source.reads)
    text = f"not read by the source {data.source!r} (it reads {', '.join(read) or 'none of these'}); leave it out"
    for name in OF_SOURCES[1:]:
        if name not in read and getattr(data, name) != getattr(DataConfig(), name):
            yield ("data", name), text
        if name not in read and asdict(data.held_out).get(name):
            yield ("data", "held_out", name), text
    yield from _held_out(data.held_out, data)


def absent_data(data: DataConfig) -> Problems:
    """The files and folders of data that are not there."""
    places = SOURCES[data.source].places if data.source in SOURCES else ()
    for keys, part in ((("data",), data), (("data", "held_out"), data.held_out)):
        for name in places:
            written = getattr(part, name)
            if written and "{" not in written and not os.path.exists(written):
                text = f"there is no {written}{_beside(written)} mount or restore it, or write where it is by now"
                yield (*keys, name), text


def _beside(written: str) -> str:
    """`; did you mean 'images'?` of what lies in the same folder; else a semicolon."""
    folder, name = os.path.split(written)
    with contextlib.suppress(OSError):
        return nearest(name, os.listdir(folder)) or ";"
    return ";"


def absent_captions(metrics: MetricConfig) -> Problems:
    """The file of captions, if it is not there."""
    if metrics.captions and not os.path.isfile(metrics.captions):
        kind = "a folder" if os.path.isdir(metrics.captions) else "no file that can be read again"
        state = f"is {kind}" if os.path.exists(metrics.captions) else "is not there"
        text = f"{metrics.captions} {state}; name a text file with a caption a line, relative to the study file"
        yield ("metrics", "captions"), text


def _held_out(apart: HeldOutConfig, data: DataConfig) -> Problems:
    if not (apart.path or apart.split):
        return
    path = ("data", "held_out")
    theirs = (_real(apart.path or data.path), _real(apart.images or data.images), apart.split or data.split)
    if theirs == (_real(data.path), _real(data.images), data.split):
        text = "is the data that is trained on; name other data, or leave it out to hold out a share"
        yield (*path, "path" if apart.path else "split"), text
    if apart.share != HeldOutConfig().share:
        yield (*path, "share"), "unused, as held_out names data of its own; leave one of the two out"


def _real(place: str) -> str:
    """A path with its links resolved, so that equal ones are one place; as it is if it is no path of this machine."""
    return os.path.realpath(place) if os.path.exists(place) else place


def _kind_and_rules(study: Study) -> Problems:
    kind = study.design.kind
    if kind not in KINDS:
        yield ("design", "kind"), f"unknown kind of design {shown(kind)}{choices(kind, KINDS)}"
    for place, pair in enumerate(study.design.exclude):
        yield from _unknown(("design", "exclude", place), pair, study)
        if pair[0] == pair[1]:
            yield ("design", "exclude", place), f"must be two different toggles, not {shown(list(pair))}"
    for toggle, needed in study.design.require.items():
        yield from _unknown(("design", "require", toggle), (toggle, *needed), study)


def _keys(study: Study) -> Problems:
    """Of the keys that belong to one kind of design."""
    yield from _listed(study)
    yield from _fraction(study)


def _fraction(study: Study) -> Problems:
    design, toggles = study.design, study.toggle_names
    if design.kind != "fractional":
        for name in ("resolution", "generators"):
            if getattr(design, name):
                text = "read by the kind 'fractional' only: leave the key out, or choose that kind"
                yield ("design", name), text
    elif not design.generators:
        try:
            fractions.smallest(toggles, design.resolution or fractions.DEFAULT)
        except SpecError as error:
            yield ("design", "resolution"), str(error)
    elif design.resolution:
        yield ("design", "resolution"), "unused, as design.generators decides; leave one of the two out"
    elif len(toggles) > len(fractions.LETTERS):
        text = f"{len(toggles)} toggles are more than there are letters; at most {len(fractions.LETTERS)}"
        yield ("design", "generators"), text
    elif len(design.generators) > fractions.MOST:
        yield ("design", "generators"), f"{len(design.generators)} are too many; at most {fractions.MOST}"
    else:
        for place, text in fractions.unusable(design.generators, toggles).items():
            yield ("design", "generators", place), text


def _listed(study: Study) -> Problems:
    design = study.design
    if design.cells and design.kind != "list":
        yield ("design", "cells"), "read by the kind 'list' only: leave the key out, or choose that kind"
    if design.kind == "list" and not (design.cells or design.include):
        yield ("design", "cells"), "needed by the kind 'list': list the cells, or name some in design.include"
    listed: set[Subset] = set()
    names: dict[str, int] = {}
    for place, cell in enumerate(design.cells):
        path = ("design", "cells", place)
        named = cell if isinstance(cell, dict) else {"": cell}
        if len(named) != 1:
            yield path, f"must be one name and its list of toggles, not {shown(named)}"
            continue
        name, members = next(iter(named.items()))
        yield from _unknown(path, members, study)
        if isinstance(cell, dict):
            yield from _cell_name(path, name, study.toggle_names)
            if (first := names.setdefault(name, place)) != place:
                yield path, f"{shown(name)} names design.cells[{first}] too; choose another name"
        subset = designs.in_study_order(members, study.ideas)
        if subset in listed:
            yield path, f"these toggles are listed twice: {shown(list(members))}"
        listed.add(subset)
        yield from _conflict(path, study, subset)


def _cell_name(path: Keys, name: str, toggles: Subset) -> Problems:
    if designs.toggles_of(name, toggles, {}) is not None:
        yield path, f"{shown(name)} already names a cell; choose another name"
    elif not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        yield path, f"a cell's name is made of letters, digits, - and _; not {shown(name)}"
    elif len(name) > 64:
        yield path, f"a cell's name has up to 64 characters; not {shown(name)}"


def _included(study: Study) -> Problems:
    for place, name in enumerate(study.design.include):
        path = ("design", "include", place)
        try:
            yield from _conflict(path, study, cell_toggles(study, name))
        except SpecError as error:
            yield path, str(error)


def _size(study: Study) -> Problems:
    bits, levels = len(study.toggles) - len(study.design.generators), combinations_of(study.factors)
    if study.design.kind == "fractional" and not study.design.generators:
        bits -= len(fractions.smallest(study.toggle_names, study.design.resolution or fractions.DEFAULT).generators)
    if study.design.kind in ("full", "fractional") and 2**bits * levels > MAX_CELLS:
        times = f" times {levels} combinations of levels" if study.factors else ""
        yield ("design", "kind"), f"2^{bits}{times} cells are more than {MAX_CELLS}; choose another kind"
    elif not study.layout.cells:
        yield ("design",), "no cell is left: exclude and require drop all of them"
    elif (runs := Design(study.design, study.toggle_names, study.factors).runs) > MAX_RUNS:
        yield ("design", "seeds"), f"{runs:,} runs are more than {MAX_RUNS:,}; choose fewer seeds or cells"


def _baseline(study: Study) -> Problems:
    names = [cell.name for cell in study.layout.cells]
    if study.baseline not in names:
        fix = f"add it to design.include, or choose another baseline: {', '.join(names[:12])}"
        what = f"the baseline {shown(study.baseline)} is not in the design"
        text = f"{what}{nearest(study.baseline, names) or ';'} {fix}"
        yield ("baseline",), text


_CELLS = tuple(("design", name) for name in ("kind", "cells", "include"))
_DESIGN_CHECKS: tuple[Callable[[Study], Problems], ...] = (_kind_and_rules, _keys, _included, _size, _baseline)


def _unknown(path: Keys, names: Subset, study: Study) -> Problems:
    for name in names:
        if name in {factor.reference for factor in study.factors}:
            text = f"{shown(name)} is the reference level, which a cell has where no other level is named"
            yield path, f"{text}; name another one, or leave it out"
        elif name not in study.ideas:
            what = "toggle or level" if study.factors else "toggle"
            yield path, f"unknown {what} {shown(name)}{choices(name, study.ideas)}"


def _conflict(path: Keys, study: Study, subset: Subset) -> Problems:
    reason = designs.conflict(subset, study.design, study.factors)
    if reason:
        yield path, f"asks for a cell that the design forbids: {reason}"
