"""Tests that need an engine of which this machine may have none: they are left out, and the summary says so loudly."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import database_servers
import ray_cluster
import slurm_cluster

ENGINES: dict[str, Callable[[], str]] = {
    "slurm": slurm_cluster.missing,
    "ray": ray_cluster.missing,
    "postgresql": functools.partial(database_servers.missing, "postgresql"),
    "mysql": functools.partial(database_servers.missing, "mysql"),
}
"""Marker -> what is missing for its tests and how to get it; empty if nothing is."""
_LEFT_OUT = "needs an engine: "


def reason_to_skip(markers: Iterable[str]) -> str:
    """Why a test with these markers cannot run here; empty if it can."""
    return next((_LEFT_OUT + why for name in markers if name in ENGINES and (why := ENGINES[name]())), "")


def left_out(skipped: Iterable[Any]) -> list[str]:
    """For the end of the summary: a line for each engine, of the reports of tests that were skipped."""
    reasons = (str(report.longrepr[-1]) for report in skipped)
    counts = Counter(reason.partition(_LEFT_OUT)[2] for reason in reasons if _LEFT_OUT in reason)
    return [f"NOT RUN: {count} tests, {why}" for why, count in counts.items()]


class Clusters:
    """Those that run, by the marker of the tests that need them."""

    def __init__(self) -> None:
        self._running: dict[str, tuple[Any, ExitStack]] = {}

    def get(self, name: str, start: Callable[[], AbstractContextManager[Any]]) -> Any:
        """The one that runs, or else one that is started."""
        if name not in self._running:
            stack = ExitStack()
            self._running[name] = (stack.enter_context(start()), stack)
        return self._running[name][0]

    def end_all_but(self, names: set[str]) -> None:
        for name in self._running.keys() - names:
            self._running.pop(name)[1].close()


CLUSTERS = Clusters()
"""Of this process."""
