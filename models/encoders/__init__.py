"""Frozen encoders. Here is what needs no torch: what they are called, what they are, what identifies their weights.

`load` has the networks themselves, `tokens` how CLIPs read texts, `files` what files of weights hold.
"""

from __future__ import annotations

from harness.models.encoders.names import (
    EMBEDDED,
    FOLDER,
    Encoder,
    check,
    fingerprint,
    is_published_inception,
    kind_of,
    parse,
    with_path_in,
)

__all__ = [
    "EMBEDDED",
    "FOLDER",
    "Encoder",
    "check",
    "fingerprint",
    "is_published_inception",
    "kind_of",
    "parse",
    "with_path_in",
]
