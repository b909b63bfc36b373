"""The scale of the metrics: what real images score, which stands beside the runs in every table."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from harness.code.engine import loaded
from harness.files import read
from harness.runs.identity import ALGORITHM, measuring
from harness.runs.record import Run


def scale_name(run: Run, measuring_engine: str = "") -> str:
    """File name of the scale that a run is read by, measured by this process's code or by `measuring_engine`.

    Named by what the scale depends on, so that a change of data, encoders or formulas measures it again.
    """
    engine = measuring_engine or loaded("measuring")
    content = {name: each for name, each in run.fingerprints.items() if not name.startswith(("code.", "ideas."))}
    identity = json.dumps([ALGORITHM, engine, content, measuring(run.settings)], sort_keys=True)
    return f"scale-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"


def read_scale(path: Path) -> dict[str, dict[str, float]]:
    """Row -> metric -> value; empty where nothing was measured yet. Raises RecordError."""
    return read(path, dict[str, dict[str, float]], "delete it, and it is measured again") or {}
