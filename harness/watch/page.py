"""The page of the studies that are watched: one template for the first look and for every later one.

It is whole without scripts, as the script only puts newer parts of the same page in the place of older ones. Every text
is escaped by jinja2.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.masking import masked
from harness.scheduler.live import SIGNS
from harness.text import duration, one_line
from harness.watch.followed import FollowedStudy, Shown

RELOAD_S = 10
"""Of a browser without scripts."""
WIDTH, HEIGHT = 160.0, 36.0
"""Of a curve, in its own units."""
MOST_DRAWN = 120
"""Points of a curve."""
MOST_CELLS, MOST_SEEDS = 200, 40
"""Of the table of states."""
LOSSES = {"G": "generator/total", "D": "discriminator/total"}
"""Name in a status -> name in the points. A script's own values are there as they are called."""
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Curve:
    """A number of a run over its steps."""

    name: str
    newest: str
    path: str
    """Empty for a single point."""
    words: str
    """What is drawn, for those who cannot see it."""


def curves(shown: Shown) -> Iterator[Curve]:
    """Losses and headline metrics of a run."""
    points = shown.files.points
    for name in sorted(shown.status.last, reverse=True):
        yield from _curve(name, points.get(LOSSES.get(name, f"script/{name}"), ()))
    for name in shown.status.scores:
        yield from _curve(name, points.get(f"metrics/{name}", ()))


def _curve(name: str, points: Points) -> Iterator[Curve]:
    if not points:
        return
    every = max(1, -(-len(points) // MOST_DRAWN))
    drawn = [*list(points)[:-1:every], points[-1]]
    (first, _), (last, newest) = drawn[0], drawn[-1]
    values = [value for _, value in drawn]
    low, high = min(values), max(values)
    path = " ".join(
        f"{'L' if place else 'M'}{WIDTH * (step - first) / max(1, last - first):.1f} "
        f"{HEIGHT * ((high - value) / (high - low) if high > low else 0.5):.1f}"
        for place, (step, value) in enumerate(drawn)
    )
    if len(drawn) == 1:
        path = ""
    words = f"{one_line(name)}: {low:.3g} to {high:.3g}, steps {first} to {last}"
    yield Curve(name, f"{newest:.3g}", path, words)


def facts(shown: Shown) -> list[str]:
    """What a run's card says in words."""
    status, run = shown.status, shown.run
    total = status.total_steps or run.settings.total_steps
    told = [f"step {status.step:,} of {total:,}"] if total else []
    if status.state == "running":
        told += [f"{status.images_per_s:.3g} images/s"] if status.images_per_s else []
        told += [f"about {duration(shown.left)} left"] if shown.left and shown.left >= 1 else []
        host = status.host.partition(" ")[0]
        told += [f"on {host}, {status.device}"] if host and host != socket.gethostname() else []
    elif status.seconds:
        told.append(duration(status.seconds))
    return [*told, *([f"attempt {status.attempt}"] if status.attempt > 1 else [])]


def render(studies: Sequence[FollowedStudy]) -> str:
    """The whole page."""
    ended, every = sum(each.ended for each in studies), sum(len(each.runs) for each in studies)
    names = ", ".join(each.study.title for each in studies)
    about: dict[str, Any] = {
        "studies": studies,
        "title": f"{ended:,} of {every:,} ended: {names}",
        "now": time.strftime("%H:%M:%S"),
        "reload_s": RELOAD_S,
        "most_cells": MOST_CELLS,
        "most_seeds": MOST_SEEDS,
    }
    return _environment().get_template("watch.html").render(about)


@cache
def _environment() -> Environment:
    loader = PackageLoader("harness.watch", "page")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "line": lambda text: one_line(masked(str(text))),
        "symbol": lambda word: SIGNS["running" if word == "measuring" else word][0],
    }
    made.globals |= {"curves": curves, "facts": facts, "size": Markup(f"0 -3 {WIDTH:g} {HEIGHT + 6:g}")}
    return made


@cache
def static_files() -> dict[str, tuple[str, bytes]]:
    """Path -> type and content of what the page needs; colours and letters are those of the report."""
    of_report, own = PackageLoader("harness.report", "page"), PackageLoader("harness.watch", "page")
    sources = {
        "/theme.css": ("text/css", of_report, "report.css"),
        "/watch.css": ("text/css", own, "watch.css"),
        "/watch.js": ("text/javascript", own, "watch.js"),
    }
    return {
        path: (kind, loader.get_source(_environment(), name)[0].encode())
        for path, (kind, loader, name) in sources.items()
    }
