"""How many examples a test draws: a quarter of what `make test-slow` draws, so that `make test` stays short."""

from __future__ import annotations

import os

THOROUGH = "TESTS_THOROUGH"
"""Environment variable: set by `make test-slow`."""


def examples(number: int) -> int:
    return number if os.environ.get(THOROUGH) else -(-number // 4)
