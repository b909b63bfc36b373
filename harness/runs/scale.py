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
    prints = run.fingerprints
    # A network of the study's own counts where it measures too, as the numbers are called otherwise then.
    judges = {content for path, content in prints.items() if path.startswith("metrics.")}
    own = {path for path, content in prints.items() if path.startswith("ideas.") and content not in judges}
    # Nor does it matter to real images what a generator started from.
    content = {
        path: each for path, each in prints.items() if path not in own and not path.startswith(("code.", "init."))
    }
    identity = json.dumps([ALGORITHM, engine, content, measuring(run.settings)], sort_keys=True)
    return f"scale-{hashlib.sha256(identity.encode()).hexdigest()[:12]}.json"


def read_scale(path: Path) -> dict[str, dict[str, float]]:
    """Row -> metric -> value; empty where nothing was measured yet. Raises RecordError."""
    return read(path, dict[str, dict[str, float]], "delete it, and it is measured again") or {}
