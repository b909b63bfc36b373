"""What verbs print: tables and JSON to standard output, notes and failures to standard error.

Text from files and from the user is never read as markup, and its control characters are spelt out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from harness.metrics.cards import bias, caveats, kernel_first
from harness.metrics.definitions import rows
from harness.scheduler.failures import POLICIES
from harness.terminal import columns
from harness.terminal.columns import Columns
from harness.terminal.console import note, plain, terminal

if TYPE_CHECKING:
    from harness.cli.doctor import Finding

_COUNTS = {"seed", "seeds", "cells", "runs", "weight", "done", "images/s", "value", "n", "real", "count"}
_SIZES = {"size", "checkpoints", "generator", "samples", "records", "total"}
MOST_ROWS = 200
"""Rows of a table in the terminal, beyond which a table of cells tells more than one of runs; --json has all."""
STYLES = {
    "done": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "failed": "red",
    "diverged": "magenta",
    "pruned": "dim",
}


def terms(cell: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """One row a term, the generator's first; beside them each player has its adversarial loss, weight 1."""
    table = table_of("player", "term", "weight", "equation")
    for row in rows:
        table.add_row(row["player"], row["name"], f"{row['weight']:g}", row["equation"])
    console = terminal()
    columns.show(console, table)
    columns.say(
        console, plain(f"cell {cell}: {len(rows)} terms, and the adversarial loss of each player with weight 1")
    )


def status(study: str, rows: Sequence[Mapping[str, Any]], told: Iterable[str] = ()) -> None:
    """One row a run; the errors of those that have one follow, and what else is to be told."""
    held = any(row["held_by"] for row in rows)
    table = table_of("cell", "seed", "run", "state", "done", "images/s", *(["held by"] if held else []))
    for row in rows:
        state = Text(row["state"], STYLES.get(row["state"], ""))
        share = f"{row['step'] / row['total_steps']:.0%}"
        speed = f"{row['images_per_s']:.1f}" if row["images_per_s"] else ""
        table.add_row(
            row["cell"], str(row["seed"]), row["id"], state, share, speed, *([row["held_by"]] if held else [])
        )
    console = terminal()
    columns.show(console, table)
    for row in rows:
        if row["error"]:
            console.print(Text(plain("\n  ".join(_failure(row)))), soft_wrap=True)
    counts = Counter(row["state"] for row in rows)
    columns.say(console, f"{study}: {', '.join(f'{count} {state}' for state, count in sorted(counts.items()))}")
    for line in told:
        columns.say(console, line)


def _failure(row: Mapping[str, Any]) -> list[str]:
    """Which run, what was its end, and what can be done."""
    policy = POLICIES.get(row["failure"])
    why = f": {row['failure'].replace('_', ' ')}" if row["failure"] else ""
    head = f"{row['cell']}/{row['seed']} ({row['state']}{why}, attempt {row['attempt']}, {row['folder']}):"
    return [head, *row["error"].strip().splitlines(), *([policy.advice] if policy else [])]


def evaluation(metrics: Mapping[str, float], cards: Mapping[str, Mapping[str, Any]]) -> None:
    """One row a metric, then what each network measures and how; what to mind of the distances follows as notes."""
    found = rows(cards)
    leading = [metric.name for metric in kernel_first(found, cards)]
    order = sorted(found, key=lambda metric: leading.index(metric.name) if metric.name in leading else len(leading))
    values = table_of("metric", "value", "better", "n", "real", "manifest")
    for metric in order:
        card = cards[metric.name]
        value = f"{metrics[metric.name]:.4g}"
        values.add_row(metric.name, value, metric.better, str(card["n"]), str(card["n_real"] or ""), card["manifest"])
    console = terminal()
    columns.show(console, values)
    for name, weights, resize in dict.fromkeys(map(_network, cards.values())):
        measured = ", ".join(metric.name for metric in order if cards[metric.name]["extractor"] == name)
        console.print(Text(plain(f"{measured}: {name}, weights {weights}\n  {resize}")), soft_wrap=True)
    for text in filter(None, (bias(metric, cards[metric.name]) for metric in order)):
        note(text)


def left_to_go_wrong(cards: Mapping[str, Mapping[str, Any]]) -> None:
    """Notes on captions and real images that leave little, or nothing, that a number could be lowered by."""
    for metric in rows(cards):
        for text in caveats(metric, cards[metric.name]):
            note(text)


def _network(card: Mapping[str, Any]) -> tuple[str, str, str]:
    return card["extractor"], card["extractor_fingerprint"], card["resize"]


def findings(found: Iterable[Finding]) -> None:
    """One row a finding, then how to put right what is wrong."""
    table = table_of("", "what", "finding")
    wrong = [finding for finding in found if finding.fix]
    for finding in found:
        good = Text("mind", "yellow") if finding.mind else Text("ok", "green")
        table.add_row(Text("missing", "red") if finding.fix else good, plain(finding.subject), plain(finding.detail))
    console = terminal()
    columns.show(console, table)
    for finding in wrong:
        console.print(Text(plain(f"{finding.subject}: {finding.fix}")), soft_wrap=True)


def table_of(*headers: str) -> Columns:
    return Columns(*headers, numbers=tuple(_COUNTS | _SIZES))
