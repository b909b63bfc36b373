"""Which code trained and measured the runs of a report, where that is more or other than today's. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.code.engine import today
from harness.design.kinds import shortened
from harness.report.wording import listed, runs
from harness.runs.record import Run, RunRecord

_DONE = {"training": "trained", "measuring": "measured"}


def by_code(records: Sequence[RunRecord]) -> list[str]:
    """A caution each on training and measuring; none where all that has a result was made by the code of today."""
    return told(
        [it.run for it in records if it.result], "harness run-grid --retrain takes anew what is not of today's code"
    )


def told(made: Iterable[Run], anew: str) -> list[str]:
    """As `by_code`, of runs that have a result; `anew` says what can be done."""
    engines, now = {f"{run.cell} seed {run.seed}": run.engine for run in made}, today()
    found = [
        _told(part, {name: getattr(it, part) for name, it in engines.items()}, getattr(now, part)) for part in _DONE
    ]
    return [f"{text}; {anew}." for text in found if text]


def _told(part: str, made: Mapping[str, str], now: str) -> str:
    groups: dict[str, list[str]] = {}
    for name, engine in made.items():
        groups.setdefault(engine, []).append(name)
    if set(groups) <= {now}:
        return ""
    if len(groups) > 1:
        several = listed([_group(engine, names, now) for engine, names in groups.items()])
        return f"Not all runs were {_DONE[part]} by the same code: {several}. A difference may be the code's"
    (engine,) = groups
    count = runs(len(made))
    if not engine:
        unsure = "which may not have been one and the same, nor today's"
        return f"{count}: {_DONE[part]} by code that is not known, {unsure}"
    apart = "they can be compared with each other, but not with runs of today"
    return f"{count}: {_DONE[part]} by other code than today's ({engine}, not {now}): {apart}"


def _group(engine: str, names: Sequence[str], now: str) -> str:
    if engine == now:
        return f"{len(names)} by today's ({now})"
    whose = f"by {engine.replace('+', ', then ')}" if engine else "by code that is not known"
    return f"{len(names)} {whose} ({shortened(names)})"
