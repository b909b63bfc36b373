"""The tables that `terms`, `status`, `evaluate` and `doctor` print, and what all tables of commands have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from harness.command import words
from harness.finding import Finding
from harness.metrics.definitions import metrics_of
from harness.runs.record import notes_on_scripts
from harness.scheduler.failures import POLICIES
from harness.settings import CommandConfig
from harness.terminal.console import note, plain, result, terminal
from harness.terminal.table import TextTable, print_sentence, print_table
from harness.text import quantity, shortened

_NUMBERS = (
    "seed", "seeds", "cells", "runs", "weight", "done", "images/s", "value", "n", "real", "count",
    "size", "checkpoints", "generator", "samples", "records", "total",
)  # fmt: skip
"""Headers of columns that are aligned right, in all tables of commands."""
MOST_ROWS = 200
"""With more runs than this a table has one row per cell, which says more on a screen; --json has all."""
MOST_ERRORS = 20
"""With more errors than this, those that end in the same line are shown once."""
STYLES = {
    "done": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "red",
    "diverged": "magenta",
    "pruned": "dim",
}


def table_of(*headers: str) -> TextTable:
    return TextTable(*headers, numbers=_NUMBERS)


def terms(cell: str, rows: Sequence[Mapping[str, Any]], command: CommandConfig) -> None:
    """One row per term, the generator's first, then ideas. Each player also has its adversarial loss, of weight 1."""
    if command.run:
        result(f"cell {cell}: its loss is that of a script: {plain(words.shown(command))}")
        return
    table = table_of("player", "term", "weight", "equation")
    for row in rows:
        weight = "" if row["weight"] is None else f"{row['weight']:g}"
        table.add_row(row["player"], row["name"], weight, row["equation"])
    console = terminal()
    print_table(console, table)
    kinds = [row.get("kind", "term") for row in rows]
    in_place = next((row["name"] for row in rows if row.get("kind") == "adversarial"), "")
    others = len(rows) - kinds.count("term")
    also = f", {quantity(others, 'other idea')}" if others else ""
    adversarial = f"{in_place} as the adversarial loss" if in_place else "the adversarial loss"
    summary = (
        f"cell {cell}: {quantity(kinds.count('term'), 'term')}{also}, and {adversarial} of each player with weight 1"
    )
    print_sentence(console, plain(summary))


def status(study: str, rows: Sequence[Mapping[str, Any]], remarks: Iterable[str] = ()) -> None:
    """One row per run; below it the errors of those that have one, how many runs are in which state, and remarks.

    Of very many runs, one row per cell, and then those that are running.
    """
    console, listed = terminal(), rows
    if len(rows) > MOST_ROWS:
        if len({row["cell"] for row in rows}) <= MOST_ROWS:
            print_table(console, _cell_states(rows))
        listed = [row for row in rows if row["state"] == "running"][:MOST_ROWS]
    if listed or not rows:
        print_table(console, _run_states(listed))
    _errors([row for row in rows if row["error"]])
    counts = Counter(row["state"] for row in rows)
    print_sentence(console, f"{study}: {', '.join(f'{count} {state}' for state, count in sorted(counts.items()))}")
    if len(listed) < len(rows):
        print_sentence(
            console, f"without a row here: {len(rows) - len(listed)} of {len(rows)} runs; --json has all of them"
        )
    of_scripts = notes_on_scripts((row["cell"], row["seed"], row["script_notes"]) for row in rows)
    for remark in (*remarks, *_shared_gpus(rows), *of_scripts):
        print_sentence(console, plain(remark))


def _shared_gpus(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """How many runs each GPU has that several may share, and why so many."""
    by_gpu: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["state"] == "running" and row["sharing"]:
            by_gpu.setdefault((row["held_by"].partition(":")[0], row["device"]), []).append(row)
    for (host, device), its in by_gpu.items():
        held = sum(row["memory_mib"] for row in its) / 1024
        memory = f", which hold {held:.1f} GiB so far" if held else ""
        yield f"{device} on {host or 'this machine'}: {quantity(len(its), 'run')} now{memory}; {its[-1]['sharing']}"


def _run_states(rows: Sequence[Mapping[str, Any]]) -> TextTable:
    shared = any(row["held_by"] for row in rows)
    table = table_of("cell", "seed", "run", "state", "done", "images/s", *(["held by"] if shared else []))
    for row in rows:
        state = Text("measuring" if row["measuring"] else row["state"], STYLES.get(row["state"], ""))
        speed = f"{row['images_per_s']:.1f}" if row["images_per_s"] else ""
        worker = row["worker"]
        of_job = f"job {worker['job']} worker {worker['number']} on " if worker else ""
        holder = [of_job + row["held_by"]] if shared else []
        table.add_row(row["cell"], str(row["seed"]), row["id"], state, f"{_share(row):.0%}", speed, *holder)
    return table


def _cell_states(rows: Iterable[Mapping[str, Any]]) -> TextTable:
    of_cell: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        of_cell.setdefault(row["cell"], []).append(row)
    table = table_of("cell", "runs", "state", "done")
    for cell, its in of_cell.items():
        counts = Counter(row["state"] for row in its)
        states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
        table.add_row(cell, str(len(its)), states, f"{sum(map(_share, its)) / len(its):.0%}")
    return table


def _share(row: Mapping[str, Any]) -> float:
    return float(row["step"] / max(1, row["total_steps"]))


def _errors(rows: Sequence[Mapping[str, Any]]) -> None:
    """The error of each run; where these are many, one of each kind and the names of the others that have it."""
    alike: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        last = "".join(row["error"].strip().splitlines()[-1:])
        alike.setdefault((row["failure"], last) if len(rows) > MOST_ERRORS else (row["id"],), []).append(row)
    for row, *others in list(alike.values())[:MOST_ERRORS]:
        kind = f": {row['failure'].replace('_', ' ')}" if row["failure"] else ""
        head = f"{row['cell']}/{row['seed']} ({row['state']}{kind}, attempt {row['attempt']}, {row['folder']}):"
        advice = [POLICIES[row["failure"]].advice] if row["failure"] in POLICIES else []
        names = shortened([f"{other['cell']}/{other['seed']}" for other in others])
        same = [f"the same of {len(others)} more: {names}"] if others else []
        result("\n  ".join([head, *row["error"].strip().splitlines(), *advice, *same]))
    if (more := len(alike) - MOST_ERRORS) > 0:
        result(f"not shown: {quantity(more, 'other error')}; --json has all")


def jobs(label: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A paragraph for each job of the study `label` and of its searches: where its workers are, what they wait for, and
    their logs.
    """
    for row in rows:
        ids = shortened([each["id"] for each in row["workers"]])
        what = row["problem"] or f"{row['state']}: {ids}"
        fixes = sorted({each["fix"] for each in row["workers"] if each["fix"]})
        logs = [f"logs: {shortened(row['logs'], 3)}"] if row["logs"] else []
        job = f"job {row['number']}" if row["of"] == label else f"job {row['number']} of {row['of']}"
        result("\n  ".join([f"{job} on {row['executor']}: {what}", *fixes, *logs]))


def evaluation(metrics: Mapping[str, float], cards: Mapping[str, Mapping[str, Any]]) -> None:
    """One row per metric, then what each network measures and how."""
    from harness.metrics.cards import kernel_first  # only here, as it loads SciPy

    measured = metrics_of(cards)
    leading = [metric.name for metric in kernel_first(measured, cards)]
    order = sorted(measured, key=lambda metric: leading.index(metric.name) if metric.name in leading else len(leading))
    table = table_of("metric", "value", "better", "n", "real", "manifest")
    networks: dict[tuple[str, str, str], list[str]] = {}
    for metric in order:
        card = cards[metric.name]
        value = f"{metrics[metric.name]:.4g}"
        table.add_row(metric.name, value, metric.better, str(card["n"]), str(card["n_real"] or ""), card["manifest"])
        network = card["extractor"], card["extractor_fingerprint"], card["resize"]
        networks.setdefault(network, []).append(metric.name)
    console = terminal()
    print_table(console, table)
    for (name, weights, resize), names in networks.items():
        result(f"{', '.join(names)}: {name}, weights {weights}\n  {resize}")


def caveats(cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Notes on few images, and on captions and real images that are missing or so alike that a metric can hardly be
    bad, or not at all."""
    from harness.metrics.cards import bias
    from harness.metrics.cards import caveats as of_card

    for metric in metrics_of(cards):
        if text := bias(metric, cards[metric.name]):
            note(text)
    for text in dict.fromkeys(text for metric in metrics_of(cards) for text in of_card(metric, cards[metric.name])):
        note(text)


def findings(found: Sequence[Finding]) -> None:
    """One row per finding, then how to put right what is missing."""
    table = table_of("", "what", "finding")
    for finding in found:
        used = Text("ok", "green") if finding.is_used else Text("not used", "dim")
        mark = Text("caveat", "yellow") if finding.caveat else used
        table.add_row(Text("missing", "red") if finding.fix else mark, plain(finding.subject), plain(finding.detail))
    console = terminal()
    print_table(console, table)
    for finding in found:
        if finding.fix:
            result(f"{finding.subject}: {finding.fix}")
