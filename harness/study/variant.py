"""What a command line changes of a study, and what the folder of the report is called that tells of it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from harness.masking import masked

_LONGEST_ENDING = 48
"""Of what can be read in the name of a report's folder."""
_CARRIED_OUT = ("study", "profile", "resources", "tracking")
"""Sections that change how runs are carried out or what folders are called, and nothing that a report tells."""
_EXTENT = ("tune.cell", "tune.trials", "tune.storage")
"""Of a search: which one it is, how far it goes and where it is kept."""


def changes(overrides: Sequence[str], is_search: bool) -> tuple[str, ...]:
    """The overrides that matter to a report, each setting once, sorted but for the order of those that overlap."""

    def matters(path: str) -> bool:
        section = path.split(".")[0]
        return is_search and path not in _EXTENT if section == "tune" else section not in _CARRIED_OUT

    kept: list[tuple[str, str]] = []
    for text in overrides:
        path, _, value = text.partition("=")
        if not value.lstrip().startswith("{"):  # a mapping leaves what was said of its section's other keys
            kept = [(earlier, other) for earlier, other in kept if earlier != path]
        if matters(path) and (path, text) not in kept[-1:]:
            kept.append((path, text))
    found = []
    while kept:  # the first by name of those that no earlier one overlaps
        free = (each for at, each in enumerate(kept) if not any(_overlap(each[0], other) for other, _ in kept[:at]))
        first = min(free, key=lambda each: each[0])
        kept.remove(first)
        found.append(first[1])
    return tuple(found)


def _overlap(path: str, other: str) -> bool:
    """Whether one of the two is the other, or a section of it: the later of them wins."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


def folder_ending(variant: Sequence[str]) -> str:
    """`.train-kimg-2-only-origin-3f2a9c`: no other variant has the same, and none shows a password; empty for the study
    as its file has it.
    """
    if not variant:
        return ""
    text = "\n".join(variant)
    words = re.sub(r"[^a-z0-9_]+", "-", masked(text).lower()).strip("-")[:_LONGEST_ENDING].strip("-")
    return f".{words}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
