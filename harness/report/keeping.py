"""A report is replaced only by one that tells of all that it told of; else it stays, or is kept. No torch here."""

from __future__ import annotations

import csv
import json
from collections.abc import Set
from pathlib import Path

from harness.errors import HarnessError

_EARLIER = ".earlier"


class Kept(HarnessError):
    """The report that is there is left as it is."""


def make_way(folder: Path, told: Set[str], known: Set[str], finished: Set[str]) -> Path | None:
    """Make `folder` free for a new report; where the earlier one went, if it had to go.

    `told`: the runs or searches with results in the report that is there; `known`, `finished`: those of the new one.
    Raises Kept where the new report would tell of no result at all.
    """
    if not told:
        return None
    if not finished:
        what = f"tells of {len(told)} finished run{'' if len(told) == 1 else 's'}, and now none is finished"
        raise Kept(f"{folder}: the report there {what}; it is left as it is: finish runs first, or delete it")
    if told <= known:
        return None
    place = folder.with_name(folder.name + _EARLIER)
    count = 1
    while place.exists():
        count += 1
        place = folder.with_name(f"{folder.name}{_EARLIER}-{count}")
    folder.rename(place)
    return place


def told_runs(folder: Path) -> set[str]:
    """The finished runs that the report of a grid in `folder` tells of; none where there is no report."""
    try:
        with (folder / "runs.csv").open(encoding="utf-8", newline="") as file:
            return {row["run"] for row in csv.DictReader(file) if row["state"] == "done"}
    except (OSError, KeyError, UnicodeError, csv.Error):
        return set()


def told_searches(folder: Path) -> set[str]:
    """The search that the report in `folder` tells of, if it tells of a finished trial."""
    try:
        found = json.loads((folder / "search.json").read_text(encoding="utf-8"))
        is_done = any(trial["outcome"] == "done" for trial in found["trials"])
        return {str(found["search"])} if is_done else set()
    except (OSError, KeyError, TypeError, ValueError):
        return set()
