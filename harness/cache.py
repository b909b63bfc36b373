"""Where prepared data and frozen features live: shared by all studies of a user, safe to delete."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from harness.files import user_path


def root() -> Path:
    """The folder named by HARNESS_CACHE, else the platform's cache folder of this user. Raises HarnessError."""
    named = os.environ.get("HARNESS_CACHE")
    return user_path(named, "HARNESS_CACHE") if named else Path(platformdirs.user_cache_dir("gan-ablation-harness"))
