"""Files of a run on their way to its tracking run, each under one name however often it is sent."""

from __future__ import annotations

import re
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.tracking.ledger import Ledger

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_CODE = Path(__file__).parent.parent / "training" / "mlflow_model.py"
IMAGES = "images"
THUMBNAIL = 256
_SENT = re.compile(r"samples\+step\+(\d+)\+timestamp\+(\d+)\+")


class FileSender:
    """Sends sample grids, files and the model of one run's folder; its ledger says which are there."""

    def __init__(self, client: MlflowClient, folder: Path, ledger: Ledger, save: Callable[[], None]) -> None:
        self.client, self.folder, self.ledger, self.save = client, folder, ledger, save

    def recall(self) -> None:
        """Learn from the server under which times it has sample grids."""
        for artefact in self.client.list_artifacts(self.ledger.run_id, IMAGES):
            if match := _SENT.search(artefact.path):
                self.ledger.images[int(match[1])] = int(match[2])

    def send_samples(self, batch: int) -> int:
        """Sample grids: by images seen, for MLflow's image viewer, and beside them what their columns show."""
        paths = sorted((self.folder / "samples").glob("[!.]*"))
        new = [path for path in paths if self._name(path) not in self.ledger.files]  # a rewind draws the same again
        if any(path.stem.isdigit() for path in new):
            self.client.set_tag(self.ledger.run_id, "mlflow.loggedImages", "True")
        for path in new:
            if path.stem.isdigit():
                self._send_grid(path, int(path.stem) * batch)
                self._note(path)
            else:
                self.send(path, "samples")
        return len(new)

    def send(self, path: Path, below: str | None = None) -> None:
        self.client.log_artifact(self.ledger.run_id, str(path), below)
        self._note(path)

    def send_model(self, weights: Path) -> None:
        """A model that `mlflow.pyfunc.load_model` understands: code and safetensors, nothing pickled."""
        from mlflow import pyfunc

        parts = {"generator": str(weights), "run": str(self.folder / "run.json")}
        with tempfile.TemporaryDirectory() as temporary:
            model = Path(temporary) / "model"
            requirements = ["gan-ablation-harness"]
            pyfunc.save_model(model, python_model=str(MODEL_CODE), artifacts=parts, pip_requirements=requirements)
            self.client.log_artifacts(self.ledger.run_id, str(model), "model")
        self._note(weights)

    def is_new(self, path: Path) -> bool:
        return path.exists() and self.ledger.files.get(self._name(path)) != path.stat().st_mtime

    def _send_grid(self, path: Path, images: int) -> None:
        """What `log_image` does, which invents a name for each call: sent twice, there would be two images."""
        from PIL import Image, ImageOps

        if images not in self.ledger.images:
            self.ledger.images[images] = int(path.stat().st_mtime * 1000)
            self.save()
        unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.ledger.run_id} {images}")
        name = f"samples+step+{images}+timestamp+{self.ledger.images[images]}+{unique}"
        with tempfile.TemporaryDirectory() as temporary, Image.open(path) as image:
            image.save(Path(temporary) / f"{name}.png")
            ImageOps.contain(image, (THUMBNAIL, THUMBNAIL)).save(Path(temporary) / f"{name}+compressed.webp")
            self.client.log_artifacts(self.ledger.run_id, temporary, IMAGES)

    def _note(self, path: Path) -> None:
        self.ledger.files[self._name(path)] = path.stat().st_mtime
        self.save()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()
