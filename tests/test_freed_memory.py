"""A process that keeps what it frees is not given new pages for what it asks for again."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
from harness.processes import keep_freed_memory
if sys.argv[1] == "keeps":
    keep_freed_memory()

def step():
    blocks = [bytearray(20 << 20) for _ in range(4)]
    for block in blocks:
        block[::4096] = bytes(len(block) // 4096)

for _ in range(2):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    keeps, returns = (
        int(subprocess.run([sys.executable, "-c", STEPS, word], capture_output=True, text=True, check=True).stdout)
        for word in ("keeps", "returns")
    )
    assert keeps < 100 < 10_000 < returns, "pages of 4 KiB in 80 MiB"
