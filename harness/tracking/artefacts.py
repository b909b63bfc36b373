"""Files as MLflow gets them: without passwords, tokens and keys. What holds none goes as it is, byte for byte."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.masking import masked_file

if TYPE_CHECKING:
    from mlflow import MlflowClient


def send_file(client: MlflowClient, run_id: str, path: Path, below: str | None = None) -> None:
    """One file, into the folder `below` of the run's artefacts."""
    with tempfile.TemporaryDirectory() as temporary:
        client.log_artifact(run_id, str(without_secrets(path, Path(temporary))), below)


def send_folder(client: MlflowClient, run_id: str, folder: Path, below: str) -> None:
    """All files of a folder."""
    names = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "copy"
        shown = {name: without_secrets(folder / name, Path(temporary) / "hidden" / name.parent) for name in names}
        hidden = {name: path for name, path in shown.items() if path != folder / name}
        if hidden:
            shutil.copytree(folder, copy)
            for name, path in hidden.items():
                shutil.copyfile(path, copy / name)
        client.log_artifacts(run_id, str(copy if hidden else folder), below)


def without_secrets(path: Path, aside: Path) -> Path:
    """The file itself or, where something in it has to be hidden, a copy of that name in the folder `aside`."""
    content = path.read_bytes()
    shown = masked_file(path.name, content)
    if shown == content:
        return path
    aside.mkdir(parents=True, exist_ok=True)
    (aside / path.name).write_bytes(shown)
    return aside / path.name
