"""What a command line changes of a study, and how the folder of such a report is called."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from harness.masking import masked

_LONGEST = 48
"""Of what can be read in a folder's name."""
_CARRIED_OUT = ("study", "profile", "resources", "tracking")
"""Sections that change how runs are carried out or what folders are called, and nothing that a report tells."""
_FAR = ("tune.cell", "tune.trials", "tune.storage")
"""Of a search: which one it is, how far it goes and where it is kept."""


def changes(overrides: Sequence[str], is_search: bool) -> tuple[str, ...]:
    """The overrides that matter to a report, each setting once, in one order."""
    last = {text.partition("=")[0]: text for text in overrides}
    return tuple(text for path, text in sorted(last.items()) if _matters(path, is_search))


def _matters(path: str, is_search: bool) -> bool:
    section = path.split(".")[0]
    if section == "tune":
        return is_search and path not in _FAR
    return section not in _CARRIED_OUT


def ending(variant: Sequence[str]) -> str:
    """`.train-kimg-2-only-origin-3f2a9c`: no other variant has the same, and none shows a password; empty for the study
    as its file has it.
    """
    if not variant:
        return ""
    text = "\n".join(variant)
    words = re.sub(r"[^a-z0-9_]+", "-", masked(text).lower()).strip("-")[:_LONGEST].strip("-")
    return f".{words}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"
