"""Where prepared data and frozen features live: shared by all studies of a user, safe to delete."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def root() -> Path:
    """The folder named by HARNESS_CACHE, else the platform's cache folder of this user."""
    named = os.environ.get("HARNESS_CACHE")
    return Path(named).expanduser() if named else Path(platformdirs.user_cache_dir("gan-ablation-harness"))
