"""What was examined on a machine or an engine, and how to put right what is missing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was examined; `fix` says what to do and is empty if nothing is missing."""

    subject: str
    detail: str
    fix: str = ""
    caveat: bool = False
    """Whether readers of a result have to know it."""
    is_used: bool = True
    """Whether anything here asks for it."""
