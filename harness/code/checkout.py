"""Which commit of the harness this is, and which files differ from it; of a copy, what was noted beside it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from harness.files import read
from harness.masking import masked

NAMED = 100
"""Changed files that are named; more are counted."""
OF_COPY = "code.json"
"""Beside a copy of the package: what `code` told where it was made. A copy may lie in another checkout."""
_PACKAGE = Path(__file__).parent.parent


def code() -> dict[str, Any]:
    """Git commit of the harness and which files differ from it; commit None outside a checkout.

    {"commit", "dirty": whether any differs, "changed": {"count", "files": names of the first}}; of a copy also "copy",
    a hash of its files.
    """
    noted = read(_PACKAGE.parent / OF_COPY, dict[str, Any], "delete the job's folder, and ask again for its runs")
    if noted is not None:
        return noted
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    names = [name for name in (_git("diff", "--name-only", "--no-renames", "-z", "HEAD") or "").split("\0") if name]
    changed = {"count": len(names), "files": [masked(name) for name in names[:NAMED]]}
    return {"commit": commit, "dirty": bool(names), **({"changed": changed} if names else {})}


def diff() -> str:
    """What the harness's files hold beyond their commit, as a patch; empty if nothing or outside a checkout."""
    return "" if (_PACKAGE.parent / OF_COPY).exists() else _git("diff", "HEAD", "--", ".") or ""


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(_PACKAGE), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
