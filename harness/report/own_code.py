"""The section on code that is not the harness's: a study's ideas, what each is and where it is on, and its scripts."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.command.words import unfilled
from harness.ideas.syntax import Idea, ideas_of
from harness.masking import masked
from harness.report.document.model import Block, Code, Paragraph, Text, bullets
from harness.report.inputs import ReportInputs
from harness.report.tables import Field, folded, table, text
from harness.report.verdicts import MOST_NAMES
from harness.report.wording import MISSING
from harness.runs.record import Run
from harness.settings import IdeaSetting, Settings
from harness.study.schema import apply_toggles
from harness.text import listed, shortened, with_folder_as

LONGEST = 200
"""Characters of a docstring or a setting that are shown."""
_OF_MARK = frozenset({"on", "kind", "reads"})
"""Entries of an idea in a cell that are no settings, or the same in each of its cells."""


@dataclass(frozen=True)
class _Use:
    """An idea of which at least one cell has something."""

    name: str
    kind: str
    idea: Idea | None
    """As the text that its runs carry defines it; None where that text cannot be read."""
    cells: dict[str, Mapping[str, IdeaSetting]] = field(default_factory=dict)
    """Cell in which it is on -> its entries of `Settings.ideas`."""

    def values(self, key: str) -> dict[str, list[str]]:
        """A setting's value as text -> the cells that have it."""
        cells: dict[str, list[str]] = {}
        for cell, entries in self.cells.items():
            value = entries.get(key, "")
            cells.setdefault(value if isinstance(value, str) else json.dumps(value), []).append(cell)
        return cells


def own_code(inputs: ReportInputs) -> Iterator[Block]:
    """What scripts run, the files of ideas with their hashes, and each idea; nothing for a study without such code.

    It is read from the texts that the runs carry, as the study's files may have other ones by now.
    """
    runs: dict[str, Run] = {}
    for record in inputs.records:
        runs.setdefault(record.run.cell, record.run)
    # A cell that trains as another one does has no runs of its own.
    others = {cell.cell: cell.toggles for cell in inputs.analysis.cells if cell.cell not in runs}
    settings = {cell: run.settings for cell, run in runs.items()}
    settings |= {cell: apply_toggles(inputs.study, toggles) for cell, toggles in others.items()}
    if items := [*_scripts(runs), *_files(runs.values())]:
        yield bullets(items)
    defined = _defined(runs.values())
    if uses := _uses(settings, defined):
        fields: list[Field[_Use]] = [
            text("idea", lambda use: Code(use.name)),
            text("what it is", _what),
            text("on in", lambda use: _cells(list(use.cells), len(settings))),
            text("settings", lambda use: _settings(use, inputs.study.path.parent)),
            text("what its code says of it", lambda use: _cut(use.idea.doc) if use.idea and use.idea.doc else MISSING),
        ]
        yield folded(table(["ideas"], "The ideas of the study's own code", fields, uses), "ideas of its own code")
    if idle := [name for name in defined if name not in {use.name for use in uses}]:
        yield Paragraph(f"In these files too, but on in no cell here: {shortened(idle, MOST_NAMES)}.", note=True)


def _scripts(runs: Mapping[str, Run]) -> Iterator[Text]:
    """By what cells are trained where that is not the built-in trainer, and its files with their hash."""
    cells: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for cell, run in runs.items():
        if run.settings.command.run:
            of_run = unfilled(run.settings.command), run.fingerprints.get("command.code", ""), tuple(run.source)
            cells.setdefault(of_run, []).append(cell)
    for (command, code, files), names in cells.items():
        of_it = ("; its code ", Code(code), f": {shortened(files, MOST_NAMES)}") if code else ()
        yield (f"{_cells(names, len(runs))}: trained by ", Code(masked(command)), *of_it)


def _files(runs: Iterable[Run]) -> Iterator[Text]:
    """Each file of ideas with the hash that is part of the ids of its runs."""
    files: dict[tuple[str, str], set[str]] = {}
    for run in runs:
        for file in run.code_files:
            files.setdefault((file, run.fingerprints[f"code.{file}"]), set()).update({*run.source} - {*run.code_files})
    for (file, digest), others in files.items():
        beside = f", with what the study's code imports: {shortened(sorted(others), MOST_NAMES)}" if others else ""
        yield (Code(file), ", hash ", Code(digest), beside)


def _defined(runs: Iterable[Run]) -> dict[str, Idea]:
    """Every idea of the texts by its name; of a text that is no Python, none."""
    ideas: dict[str, Idea] = {}
    read: set[str] = set()
    for run in runs:
        text = json.dumps([run.source, run.code_files])
        if run.code_files and text not in read:
            read.add(text)
            with contextlib.suppress(KeyError, ValueError, SyntaxError, RecursionError, MemoryError):
                for idea in ideas_of(run.source, run.code_files):
                    ideas.setdefault(idea.name, idea)
    return ideas


def _uses(settings: Mapping[str, Settings], defined: Mapping[str, Idea]) -> list[_Use]:
    """The ideas that are on, in the order of their files."""
    uses: dict[str, _Use] = {}
    for cell, values in settings.items():
        for name, entries in values.ideas.items():
            uses.setdefault(name, _Use(name, str(entries["kind"]), defined.get(name))).cells[cell] = entries
    order = {name: place for place, name in enumerate(defined)}
    return sorted(uses.values(), key=lambda use: (order.get(use.name, len(order)), use.name))


def _what(use: _Use) -> str:
    """What an idea is, for who does not know the marks."""
    if use.idea is None:
        return f"{use.kind} (the code of its runs cannot be read)"
    player = use.idea.player
    steps, sizes = (listed(list(use.values(key)), "or") for key in ("every", "at"))
    what = {
        "term": f"term of the {player}'s loss",
        "penalty": f"penalty of the {player}" + ("" if steps == "1" else f", once in {steps} steps"),
        "adversarial": "adversarial loss, in place of the logistic one",
        "augment": "augmentation of all images that the discriminator sees",
        "layer": f"layer of the {player} at {sizes} px",
        "discriminator": "discriminator, in place of the built-in one",
        "feature": "features of a frozen network",
    }[use.kind]
    return f"{what}; reads {listed(use.idea.reads)}" if use.idea.reads else what


def _settings(use: _Use, folder: Path) -> str:
    """`weight 0.5 (first), 2 (heavy); shift 1`; a path in the study's folder as it begins there, see `resolved`."""
    parts: list[str] = []
    for key in {key: None for entries in use.cells.values() for key in entries if key not in _OF_MARK}:
        values = use.values(key)
        each = []
        for value, cells in values.items():
            where = f" ({shortened(cells, MOST_NAMES)})" if len(values) > 1 else ""
            each.append(_cut(str(with_folder_as(value, folder, ""))) + where)
        parts.append(f"{key} {', '.join(each)}")
    return "; ".join(parts) or MISSING


def _cells(names: Sequence[str], count: int) -> str:
    return "every cell" if len(names) == count else shortened(names, MOST_NAMES)


def _cut(text: str) -> str:
    """Without passwords; of a long text the beginning, and how long it is."""
    plain = masked(text)
    return plain if len(plain) <= LONGEST else f"{plain[:LONGEST]}... ({len(plain)} characters)"
