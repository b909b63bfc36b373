"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

PATIENCE = 3
"""How many times longer than on a quiet machine something may take."""


def until(holds: Callable[[], object], what: str | Callable[[], str] = "", limit_s: float = 60) -> None:
    """Wait until something is so. Raises AssertionError after PATIENCE times `limit_s` seconds: `what` is not."""
    limit_s *= PATIENCE
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s:g} s: {what() if callable(what) else what}"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Whether a process is at work; it may end while it is looked at."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_of(process: psutil.Process) -> str:
    """Its words; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
