"""Which runs others start from, so that nobody deletes the weights of runs that have yet to begin.

Known are: the plan, all folders of runs beside the study's own (of its profiles, searches and other studies) with their
jobs and the commands that trained there, the study files beside it with all their profiles, and all of that of each
study that uses the cache.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import RecordError, SpecError
from harness.files import read_json
from harness.storage.caches import Needed
from harness.study.load import texts_of_profiles
from harness.study.plan import Plan
from harness.study.yaml import read_text

_ID = re.compile(r"\b[0-9a-f]{12}\b")


@dataclass(frozen=True)
class Starting:
    """What starts from which run."""

    of: Mapping[str, Mapping[str, str]]
    """Id of a run -> folder of a run, or a file, that names it -> what to call it."""
    unreadable: tuple[Path, ...]
    """What might name more, but cannot be read."""

    def names(self, run: str, without: Collection[Path] = ()) -> list[str]:
        """What starts from a run, but for these folders of runs."""
        others = {str(folder) for folder in without}
        return list(dict.fromkeys(name for place, name in self.of.get(run, {}).items() if place not in others))


@dataclass(frozen=True)
class _Texts:
    """What may name a run."""

    root: Path
    """The folder of runs in which CELL/SEED is one."""
    place: Path
    name: str
    texts: Collection[str]


def starting(plan: Plan, need: Needed) -> Starting:
    """What starts from which run, as far as it is known."""
    root, unreadable, ids_in = plan.study.root.resolve(), list(need.unreadable), functools.cache(_ids)
    found: dict[str, dict[str, str]] = {}
    # A run of the plan may have had another name when it was trained.
    planned = {root / run.id: f"{run.cell}/{run.seed}" for run in plan.runs}
    for folder, runs in {**need.runs, root: (*plan.runs, *need.runs.get(root, ()))}.items():
        of = "" if folder == root else f" of {folder.name}"
        for run in runs:
            name = planned.get(folder / run.id, f"{run.cell}/{run.seed}{of}")
            for source in {source for text in run.first_weights.values() for source in ids_in(text, "")}:
                found.setdefault(source, {})[str(folder / run.id)] = name
    # By the names in their run.json, as `init` finds them: a plan is made from what it names.
    by_label: dict[str, list[tuple[str, Collection[str]]]] = {}
    for run in need.runs.get(root, ()):
        by_label.setdefault(f"{run.cell}/{run.seed}", []).append((run.id, vars(run.settings.init).values()))
    for each in (*_commands(need, unreadable), *_study_files(plan, need, unreadable)):
        for text in each.texts:
            ids = ids_in(text, str(each.root.parent.parent))
            if each.root == root:  # a run that starts from CELL/SEED itself is not what is meant
                ids |= {name for name, begun in by_label.get(text, ()) if text not in begun}
            for source in ids:
                found.setdefault(source, {})[str(each.place)] = each.name
    return Starting(found, tuple(dict.fromkeys(unreadable)))


def _ids(text: str, folder: str) -> frozenset[str]:
    """Ids of runs in a path, which may lead there through links."""
    try:
        return frozenset(_ID.findall(os.path.realpath(os.path.join(folder, os.path.expanduser(text)))))
    except ValueError:  # it holds a zero byte
        return frozenset()


def _commands(need: Needed, unreadable: list[Path]) -> Iterator[_Texts]:
    """The command lines that have trained in these folders of runs: `--set init=...` may be in one."""
    for root in need.runs:
        path = root / "provenance.json"
        try:
            calls = read_json(path).get("calls", []) if path.exists() else []
            texts = {word for call in calls for word in re.split(r"[\s='\"]", call["command"])}
        except (RecordError, OSError, AttributeError, KeyError, TypeError):
            unreadable.append(path)
            continue
        yield _Texts(root, path, f"a command that {path} notes", texts)


def _study_files(plan: Plan, need: Needed, unreadable: list[Path]) -> Iterator[_Texts]:
    """The study's file, those beside it and those of other studies that use the cache."""
    beside = [path for ending in ("*.yaml", "*.yml") for path in plan.study.path.parent.glob(ending)]
    for path in sorted({plan.study.path, *beside, *need.files}):
        if not path.is_file():
            continue
        text = ""
        try:
            text = read_text(path)
            if not re.search(rf"\binit\b|{_ID.pattern}", text):
                continue
            for label, texts in texts_of_profiles(text, path).items():
                yield _Texts((path.parent / "runs" / label).resolve(), path, f"runs of {path.name}", texts)
        except SpecError:
            # A file of another program may be of any kind.
            if not text or re.search(r"\bstudy\b", text):
                unreadable.append(path)
