"""Where a result came from: code, versions and hardware, as plain JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil

from harness.code.checkout import code
from harness.code.engine import today
from harness.files import read, write_json
from harness.masking import masked
from harness.runs.machine import processor, versions
from harness.scheduler.gpus import listed_gpus
from harness.study.schema import Study


def add(path: Path, study: Study, command: str, data: Mapping[str, Any]) -> None:
    """Note in the study's provenance.json that this call of that command trains runs of it:
    {"data", "calls": [provenance]}.

    A grid that is stopped and asked for again, perhaps by newer code, tells of every call that differs.
    """
    written = read(path, dict[str, Any], "delete it") or {"calls": []}
    # Before there were several, the file was the last call itself.
    calls = written.get("calls", [{name: value for name, value in written.items() if name != "data"}])
    this_call = provenance(study, command)
    write_json(path, {"data": dict(data), "calls": [*(call for call in calls if call != this_call), this_call]})


def provenance(study: Study, command: str) -> dict[str, Any]:
    """{"command", "executor": unless runs train in this call, "code": {commit, dirty, changed},
    "engine": {training, measuring}, "versions": {package: version}, "hardware": {...}}.

    Versions and hardware are those of this machine: where runs train elsewhere, each run has its own in run.json.
    """
    executor = study.resources.executor
    # By its name: whoever reads this has the study in a folder of their own.
    here = replace(study, path=Path(study.path.name))
    return {
        "command": masked(here.command(command)),
        **({"executor": executor} if executor != "local" else {}),
        "code": code(),
        "engine": asdict(today()),
        "versions": versions(),
        "hardware": {
            "processor": processor(),
            "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "gpus": [gpu.uuid for gpu in listed_gpus()],
        },
    }
