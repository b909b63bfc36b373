"""What `harness ls`, `rm` and `gc` print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.filesize import decimal
from rich.text import Text

from harness.cli import tables
from harness.cli.tables import STYLES, table_of
from harness.storage.folders import PARTS, Part, StoredRun, StoredRuns
from harness.storage.garbage import WHY, Removable
from harness.storage.places import Place
from harness.storage.starting import Starting
from harness.study.plan import Plan
from harness.terminal.console import note, plain, result, shown, terminal
from harness.terminal.table import TextTable, console_width, print_table
from harness.text import quantity, shortened

_WIDE = 110
"""From this width on, each part of a run has a column of its own."""


def as_dict(plan: Plan, found: StoredRuns, beside: Sequence[Place]) -> dict[str, Any]:
    """JSON of `harness ls`, all sizes in bytes on disk.

    {"study", "root", "bytes": all of root,
     "runs": [{"id", "cell", "seed", "state", "planned", "folder", "bytes",
               "parts": {"checkpoints", "generator", "samples", "records"}}],
     "not_ours": {name: why}, "places": [{"what", "path", "bytes", "shared": other studies use it too}]}
    """
    return {
        "study": plan.study.label,
        "root": str(plan.study.root),
        "bytes": _total(found),
        "runs": [
            {
                "id": stored.run.id,
                "cell": stored.run.cell,
                "seed": stored.run.seed,
                "state": stored.state,
                "planned": stored.planned,
                "folder": str(plan.study.root / stored.run.id),
                "bytes": stored.bytes,
                "parts": dict(stored.parts),
            }
            for stored in found.runs
        ],
        "not_ours": dict(found.not_ours),
        "places": [asdict(place) | {"path": str(place.path)} for place in beside],
    }


def listing(plan: Plan, found: StoredRuns, beside: Iterable[Place]) -> None:
    """One row per run and their sum; then the other places, and folders that are no runs."""
    console = terminal()
    print_table(console, _table(found.runs, console_width(console)))
    counts = Counter(stored.planned for stored in found.runs)
    earlier = f", {counts[False]} of them with earlier settings" if counts[False] else ""
    runs = quantity(len(found.runs), "run")
    result(f"{runs}{earlier}: {decimal(_total(found))} in {shown(plan.study.root)}")
    for place in beside:
        shared = ", shared with other studies" if place.shared else ""
        result(f"{place.what}: {decimal(place.bytes)} in {shown(place.path)}{shared}")
    for name, why in found.not_ours.items():
        note(f"not a run, left alone: {shown(plan.study.root / name)}: {why}")


def removal(root: Path, chosen: Sequence[StoredRun], done: bool, begun: Starting) -> None:
    """One row per run of `root` that is deleted, or would be, and the sum; before them what starts from one."""
    console = terminal()
    going = {root.resolve() / stored.run.id for stored in chosen}
    for stored in chosen:
        if names := begun.names(stored.run.id, without=going):
            lost = "start from its weights: those that have not begun cannot start without them"
            note(f"{stored.label} ({stored.run.id}): {shortened(names)} {lost}")
    if chosen and begun.unreadable:
        note(f"{begun.unreadable[0]} cannot be read: whether it names these runs to start from is not known")
    if chosen:
        print_table(console, _table(chosen, console_width(console)))
    result(_summary(quantity(len(chosen), "run") if chosen else "", sum(stored.bytes for stored in chosen), done))


def left_alone(root: Path, runs: Sequence[StoredRun]) -> None:
    """Runs of other studies in the folder, which are not deleted together with this one's."""
    if runs:
        whose = f"of another study ({shortened(sorted({stored.run.study for stored in runs}))})"
        note(f"{root}: {quantity(len(runs), 'run')} {whose} left alone; ids alone delete them")


def garbage(pieces: Sequence[Removable], remarks: Iterable[str], done: bool, failed: int) -> None:
    """One row per kind of what is deleted, or would be, with the reason; remarks follow as notes.

    failed: how many others could not be deleted.
    """
    table = table_of("what", "count", "size", "why it can go")
    for kind, why in WHY.items():
        sizes = [piece.bytes for piece in pieces if piece.kind == kind]
        if sizes:
            table.add_row(kind, str(len(sizes)), decimal(sum(sizes)), why)
    if pieces:
        print_table(terminal(), table)
    for text in remarks:
        note(text)
    count = len(pieces) + failed
    what = "1 file or folder" if count == 1 else f"{count:,} files and folders"
    of_all = f"{len(pieces):,} of " if failed else ""
    result(_summary(f"{of_all}{what}" if count else "", sum(piece.bytes for piece in pieces), done))


def _summary(what: str, size: int, done: bool) -> str:
    if not what:
        return "nothing to delete"
    return f"deleted {what}, {decimal(size)}" if done else f"{what}, {decimal(size)}: nothing is deleted without --yes"


def _table(runs: Sequence[StoredRun], width: int | None) -> TextTable:
    """One row per run, or per cell where that would be too many."""
    parts = PARTS if width is None or width >= _WIDE else PARTS[:1]
    if len(runs) > tables.MOST_ROWS:
        return _cells(runs, parts)
    table = table_of("cell/seed", "run", "state", "settings", *parts, "total")
    for stored in runs:
        state = Text(stored.state, STYLES.get(stored.state, ""))
        table.add_row(plain(stored.label), stored.run.id, state, _settings(stored.planned), *_sizes([stored], parts))
    return table


def _cells(runs: Iterable[StoredRun], parts: Sequence[Part]) -> TextTable:
    of_cell: dict[tuple[str, bool], list[StoredRun]] = {}
    for stored in runs:
        of_cell.setdefault((stored.run.cell, stored.planned), []).append(stored)
    table = table_of("cell", "runs", "state", "settings", *parts, "total")
    for (cell, planned), its in of_cell.items():
        counts = Counter(stored.state for stored in its)
        states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
        table.add_row(plain(cell), str(len(its)), states, _settings(planned), *_sizes(its, parts))
    return table


def _settings(planned: bool) -> str:
    return "" if planned else "earlier"


def _sizes(runs: Sequence[StoredRun], parts: Sequence[Part]) -> list[str]:
    """Of each part, then of all."""
    sums = [sum(stored.parts[part] for stored in runs) for part in parts]
    return [decimal(size) if size else "–" for size in (*sums, sum(stored.bytes for stored in runs))]


def _total(found: StoredRuns) -> int:
    return found.rest + sum(stored.bytes for stored in found.runs)
