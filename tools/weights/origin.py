"""python -m tools.weights.origin: trains the origin that ships as `embedded:origin-32`, and writes its file."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from harness.models.encoders import FOLDER
from harness.runs import initial
from harness.runs.folders import RunFolder
from harness.runs.initial import ORIGINS
from harness.training.checkpoint import of_generator, read_tensors, write_tensors

STUDY = Path(__file__).parent / f"{ORIGINS[0]}.yaml"
KEPT = ("averaged", "discriminator")
"""The generator starts from its average, which makes better images."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.weights.origin", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("origin-32"), help="where it trains; goes on from there")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(STUDY, folder / STUDY.name)
    subprocess.run([sys.executable, "-m", "harness", "run-grid", STUDY.name], cwd=folder, check=True)
    (result,) = folder.glob("runs/*/*/result.json")
    print(write(result.parent))


def write(run: Path) -> Path:
    """The file of the networks at the end of a finished run, in half precision, and a description beside it."""
    state = max((run / "checkpoint").glob("[0-9]*.safetensors"))
    tensors, _ = read_tensors(state)
    half = {name: value.half() for name, value in tensors.items() if name.partition("/")[0] in KEPT}
    made = RunFolder(run).run()
    path = FOLDER / STUDY.with_suffix(".safetensors").name
    write_tensors(path, half, of_generator(made.settings.generator))
    result = json.loads((run / "result.json").read_text())
    card = {
        "settings": made.settings.flat,
        "metrics": result["metrics"],
        "s_per_kimg": result["cost"]["s_per_kimg"],
        "engine": asdict(made.engine),
        "fingerprint": initial.find(f"embedded:{path.stem}", Path()).fingerprint,
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main()
