"""A trained run as an MLflow model, which keeps this file as its code: `mlflow.pyfunc.load_model(...).predict([...])`.

Weights are safetensors and nothing is pickled. Using the model needs this package installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray


class TextToImage(PythonModel):  # type: ignore[misc]
    """Captions to images."""

    def load_context(self, context: PythonModelContext) -> None:
        """Find the folder in which MLflow put run.json and the generator's weights."""
        self.folder = Path(context.artifacts["generator"]).parent

    def predict(self, model_input: list[str], params: dict[str, Any] | None = None) -> NDArray[np.uint8]:
        """Images uint8 [N,R,R,3], one per caption; `params={"seed": 1}` draws other latents."""
        from harness.data.features import to_bytes
        from harness.training.samples import generate

        images = generate(self.folder, model_input, int((params or {}).get("seed", 0)))
        return to_bytes(images).permute(0, 2, 3, 1).numpy()


set_model(TextToImage())
