"""Where seeds are added until the effects are decided: which seeds were asked for by now, and what each look said.

`looks.json` in the study's folder of runs has every look at whole seeds, with the rule that it followed. The seeds that
a grid goes on with are a function of the runs' results alone; this file tells commands that compare nothing how far it
is, and a reader whether the rule was changed between two looks.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

from harness.design.kinds import FIRST_LOOK
from harness.files import alone, read, write_json
from harness.runs.record import STRICT, Count, Run
from harness.study.schema import Study
from harness.text import listed, quantity, shortened

NAME = "looks.json"
Undecided = Sequence[tuple[str, str]]
"""(metric, effect)."""
_FIX = "delete it: the looks are found again in the runs, but not that the rule was changed between them"


@dataclass(frozen=True)
class Rule:
    """What decides when a grid adds no more seeds; to be fixed before the first look."""

    __pydantic_config__: ClassVar = STRICT

    most: Count
    """Seeds."""
    baseline: str
    margins: Mapping[str, float]
    cells: tuple[str, ...]

    def changes(self, later: Rule) -> list[str]:
        """What is another in a later rule, in words."""
        changed = [] if self.most == later.most else [f"the most seeds from {self.most} to {later.most}"]
        changed += [] if self.baseline == later.baseline else [f"the baseline from {self.baseline} to {later.baseline}"]
        return changed + ([] if self.margins == later.margins else ["the margins"])


@dataclass(frozen=True)
class Look:
    """A comparison of so many whole seeds."""

    __pydantic_config__: ClassVar = STRICT

    first_run: str
    """Id of the first run of the plan: with other settings it is another grid in the same folder."""
    seeds: Count
    undecided: tuple[tuple[str, str], ...]
    """(metric, effect)."""
    rule: Rule
    runs: str = ""
    """Stands for the ids of all runs of the first seed, and so for what the cells are; empty where that is not known:
    of an earlier version, or of some cells alone."""
    no_seed_decides: tuple[tuple[str, str], ...] = ()
    """Those of `undecided` to which further seeds add nothing, as all cells on one side make no use of the seed."""

    @property
    def wants_more(self) -> bool:
        """Whether further seeds may decide what is undecided."""
        return {*self.undecided} != {*self.no_seed_decides}

    def changes(self, later: Look) -> list[str]:
        """What is another in the rule of a later look, in words."""
        known = self.runs and later.runs  # a name can stay while what it means is changed, and the other way round
        others = self.runs != later.runs if known else self.rule.cells != later.rule.cells
        return self.rule.changes(later.rule) + ["the cells"] * others


@dataclass(frozen=True)
class _Written:
    """What looks.json holds."""

    __pydantic_config__: ClassVar = STRICT

    looks: tuple[Look, ...] = field(default=())


def look_now(study: Study, runs: Iterable[Run], seeds: int = 0, undecided: Undecided = ()) -> Look:
    """A look at a study with `seeds: auto`, by the rule and with the runs that it has now."""
    cells = tuple(cell.name for cell in study.layout.cells)
    rule = Rule(study.design.max_seeds or 0, study.baseline, dict(study.margins), cells)
    first = [run.id for run in runs if run.seed == study.design.seeds[0]]
    digest = "" if study.only else hashlib.sha256("\n".join(sorted(first)).encode()).hexdigest()[:12]
    return Look(first[0], seeds, tuple(sorted(undecided)), rule, digest)


def read_looks(root: Path, runs: Collection[str]) -> tuple[Look, ...]:
    """Those at a grid with these runs, by id, in the order in which they were taken. Raises RecordError."""
    written = read(root / NAME, _Written, _FIX)
    return tuple(look for look in written.looks if look.first_run in runs) if written else ()


def note_looks(
    study: Study, runs: Sequence[Run], undecided: Sequence[tuple[int, Undecided]], no_seed_decides: Undecided = ()
) -> None:
    """Add the looks (whole seeds, what is undecided) that say what looks.json does not. Raises RecordError."""
    root, now = study.root, []
    for seeds, left in undecided:
        beyond = tuple(sorted({*left} & {*no_seed_decides}))
        now.append(replace(look_now(study, runs, seeds, left), no_seed_decides=beyond))
    with alone(root, "looks", -1):
        written = read(root / NAME, _Written, _FIX) or _Written()
        alike = look_now(study, runs)
        newest = {
            look.seeds: look
            for look in written.looks
            if replace(look, seeds=0, undecided=(), no_seed_decides=()) == alike
        }
        if new := [look for look in now if look != newest.get(look.seeds)]:
            write_json(root / NAME, asdict(_Written((*written.looks, *new))), durable=True)


def changed_rules(looks: Sequence[Look]) -> list[str]:
    """What was changed between one look and a later one, in words; a rule has to be fixed before the first look."""
    texts = (f"{text}, after {quantity(a.seeds, 'seed')}" for a, b in pairwise(looks) for text in a.changes(b))
    return list(dict.fromkeys(texts))


def seeds_asked_for(study: Study, runs: Sequence[Run]) -> int:
    """Of a study whose seeds are added: how many of them were asked for by now, at least those of the first look.

    `runs`: all that there may be. A seed of which a run has a folder was asked for, and so was the one after the last
    look that left something undecided.
    """
    seeds, begun = study.design.seeds, _begun(study)
    places = {seed: place for place, seed in enumerate(seeds, 1)}
    reached = max((places.get(run.seed, 0) for run in runs if run.id in begun), default=0)
    last = _last_look(study, runs)
    wanted = 0 if last is None else last.seeds + last.wants_more
    return min(max(FIRST_LOOK, reached, wanted), len(seeds))


def _begun(study: Study) -> set[str]:
    """The names of what has a folder, runs among them."""
    return {entry.name for entry in os.scandir(study.root)} if study.root.is_dir() else set()


def _by_rule(study: Study, runs: Sequence[Run]) -> dict[int, Look]:
    """Seeds -> the newest look at so many, by the rule that the study has now and at runs that it has, which still are
    there. Raises RecordError.
    """
    now, seeds, begun = look_now(study, runs), study.design.seeds, _begun(study)
    places = [seeds.index(run.seed) for run in runs if run.seed in seeds and run.id not in begun]
    whole = min(places, default=len(seeds))
    looks = read_looks(study.root, [now.first_run])
    return {it.seeds: it for it in looks if it.rule == now.rule and not it.changes(now) and it.seeds <= whole}


def _last_look(study: Study, runs: Sequence[Run]) -> Look | None:
    looks = _by_rule(study, runs)
    return looks[max(looks)] if looks else None


def in_words(study: Study, runs: Sequence[Run]) -> str:
    """Of a plan's study and runs: `4 of at most 8 seeds: decided`. Where the seeds are fixed, what was trained with
    seeds that are added; else empty.
    """
    most, asked = study.design.max_seeds, len(study.design.seeds)
    if most is None:
        return _added_before(study, runs)
    head, last = f"{asked} of at most {most} seeds", _last_look(study, runs)
    if last is None:
        return f"{head}: {_to_be_compared(study, runs)}"
    if not last.undecided:
        return f"{head}: decided" + (f" after {last.seeds}" if last.seeds < asked else "")
    by_metric: dict[str, list[str]] = {}
    for metric, effect in last.undecided:
        by_metric.setdefault(metric, []).append(effect)
    names = "; ".join(f"{metric}: {shortened(effects, 4)}" for metric, effects in by_metric.items())
    left = f"{quantity(len(last.undecided), 'effect')} undecided" + (f" after {last.seeds}" * (last.seeds < asked))
    if not last.wants_more:
        return f"{head}: {left} ({names}), and no more are added, as cells compared there make no use of the seed"
    return f"{head}: {left} ({names})" + (", and no more are added" if last.seeds == most else "")


def _to_be_compared(study: Study, runs: Sequence[Run]) -> str:
    """Where no look says how far the study is as it is now."""
    now = look_now(study, runs)
    looks = read_looks(study.root, [now.first_run])
    if not looks:
        return f"the first comparison that decides is after {FIRST_LOOK} whole seeds"
    if changed := looks[-1].changes(now):
        how = f"by another rule ({listed(changed)})"
    else:
        how = "with other runs" if looks[-1].rule == now.rule else "under other names of the cells"
    return f"compared before {how}; run-grid compares again"


def _added_before(study: Study, runs: Sequence[Run]) -> str:
    looks = read_looks(study.root, {run.id for run in runs})
    if not looks:
        return ""
    last = looks[-1]
    state = "undecided" if last.undecided else "decided"
    return (
        f"seeds were added to this study until it was decided ({last.seeds} of at most {last.rule.most}: {state}), and "
        f"this is what it is with {quantity(len(study.design.seeds), 'seed')}; add --set design.seeds=auto --set "
        f"design.max_seeds={last.rule.most} to see it as it was trained"
    )


def as_json(study: Study, runs: Sequence[Run]) -> dict[str, Any] | None:
    """{"asked_for", "most", "decided", "looks": [{"seeds", "undecided": [[metric, effect]], "no_seed_decides": those of
    them}]}, of the looks by today's rule; None for a study whose seeds are fixed. `study`, `runs`: of a plan.
    """
    if study.design.max_seeds is None:
        return None
    looks = _by_rule(study, runs)
    return {
        "asked_for": len(study.design.seeds),
        "most": study.design.max_seeds,
        "decided": bool(looks) and not looks[max(looks)].undecided,
        "looks": [
            {"seeds": seeds, "undecided": look.undecided, "no_seed_decides": look.no_seed_decides}
            for seeds, look in sorted(looks.items())
        ],
    }
