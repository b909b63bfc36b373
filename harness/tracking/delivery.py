"""One run's folder to its run on the tracking server: all that is new, once. No torch here."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.records import Point, Run, RunFolder, State, Status
from harness.running.processes import living
from harness.study.draft import leaves
from harness.tracking import ledger as ledgers
from harness.tracking.mlflow_store import Store, first_run

if TYPE_CHECKING:
    from mlflow.entities import Metric

BATCH = {"metrics": 1000, "params": 100}
"""What one call of MLflow takes."""
LONGEST_PARAM, LONGEST_TAG, LONGEST_DIGEST = 6000, 5000, 36
STATUS: dict[State, str] = {
    "pending": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "diverged": "FAILED",
    "interrupted": "KILLED",
}
"""MLflow has no word for diverged: the tag `outcome` says which."""
AT_THE_END = ("result.json", "log.txt")
MODEL_CODE = Path(__file__).parent.parent / "training" / "mlflow_model.py"


class Delivery:
    """Sends what is new in one run's folder; the folder's mlflow.json remembers it."""

    def __init__(self, store: Store, folder: Path, run: Run, tags: dict[str, str]) -> None:
        self.store, self.client, self.run, self.tags = store, store.client, run, tags
        self.folder = RunFolder(folder)
        self.path = folder / "mlflow.json"
        self.ledger = ledgers.load(self.path, store.uri, store.parent)

    def deliver(self) -> Counter[str]:
        """Send what is new and count it by kind. Raises what MLflow raises; nothing is sent twice afterwards."""
        sent: Counter[str] = Counter()
        status = self._status()
        if not status.attempt:
            return sent
        if not self.ledger.run_id:
            self._adopt()
            sent["runs"] += 1
        if not self.ledger.described:
            self._describe()
        sent["points"] += self._send_points()
        sent["images"] += self._send_images()
        if status.state not in ("pending", "running"):
            sent["files"] += self._send_files(status)
        self._tell(status)
        return sent

    def forget(self) -> None:
        """Begin anew: the tracking run is gone from the server."""
        self.ledger = ledgers.Ledger(self.store.uri, self.store.parent)

    def _status(self) -> Status:
        """The folder's, but a run whose process is gone is interrupted, whatever its last words were."""
        status = self.folder.status()
        gone = status.state == "running" and status.pid and living(status) is None
        return replace(status, state="interrupted") if gone else status

    def _adopt(self) -> None:
        """The tracking run of this folder: one that is there already, or a new one."""
        ours = {"fingerprint": self.run.id, "mlflow.parentRunId": self.store.parent}
        found = first_run(self.client, self.store.experiment_id, ours)
        if not found:
            began = int(self.folder.status().started * 1000)
            name = f"{self.run.cell}/seed{self.run.seed}"
            made = self.client.create_run(self.store.experiment_id, began, {**self.tags, **ours}, name)
            found = str(made.info.run_id)
        self.ledger.run_id = found
        self._save()

    def _describe(self) -> None:
        """What never changes: every setting, the cell, the data set."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        params = [Param(clean(name), _text(value)[:LONGEST_PARAM]) for name, value in leaves(self.run.settings)]
        tags = {"cell": self.run.cell, "seed": str(self.run.seed), "toggles": ", ".join(self.run.toggles)}
        self.client.log_batch(self.ledger.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        for some in chunks([*params, Param("seed", str(self.run.seed))], BATCH["params"]):
            self.client.log_batch(self.ledger.run_id, params=some)
        data = self.run.settings["data"]
        digest = self.run.fingerprints.get("data", "")[:LONGEST_DIGEST]
        dataset = Dataset(
            data["source"], digest, "local", json.dumps({"uri": data["source"]}), profile=json.dumps(data)
        )
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self.ledger.run_id, [DatasetInput(dataset, context)])
        self.ledger.described = True
        self._save()

    def _send_points(self) -> int:
        before = (self.ledger.inode, self.ledger.offset)
        metrics = self._new_metrics(ledgers.read_points(self.folder.path / "metrics.jsonl", self.ledger))
        read = (self.ledger.inode, self.ledger.offset)
        # The file counts as read only when the last batch is through; `steps` knows the batches until then.
        self.ledger.inode, self.ledger.offset = before
        for some in chunks(metrics, BATCH["metrics"]):
            self.client.log_batch(self.ledger.run_id, metrics=some)
            self.ledger.steps.update({metric.key: metric.step for metric in some})
            self._save()
        if read != before:
            self.ledger.inode, self.ledger.offset = read
            self._save()
        return len(metrics)

    def _new_metrics(self, points: Sequence[Point]) -> list[Metric]:
        """Every value beyond the last delivered one of its name; MLflow's step is the number of images seen."""
        from mlflow.entities import Metric

        last, metrics = dict(self.ledger.steps), []
        for point in points:
            images = round(point.kimg * 1000)
            for name, value in point.values.items():
                key = clean(name)
                if images > last.get(key, -1):
                    last[key] = images
                    metrics.append(Metric(key, value, int(point.time * 1000), images))
        return metrics

    def _send_images(self) -> int:
        """Sample grids: by images seen, for MLflow's image viewer, and beside them what their columns show."""
        from PIL import Image

        count = 0
        for path in sorted((self.folder.path / "samples").glob("[!.]*")):
            if self._name(path) in self.ledger.files:  # by name: after a rewind the same image is drawn again
                continue
            if path.stem.isdigit():
                images = int(path.stem) * int(self.run.settings["train"]["batch"])
                at = int(path.stat().st_mtime * 1000)
                with Image.open(path) as image:
                    self.client.log_image(self.ledger.run_id, image, key="samples", step=images, timestamp=at)
            else:
                self.client.log_artifact(self.ledger.run_id, str(path), "samples")
            self._sent(path)
            count += 1
        return count

    def _send_files(self, status: Status) -> int:
        """What a run leaves: result, log, and the generator as a model."""
        new = [path for name in AT_THE_END if self._is_new(path := self.folder.path / name)]
        for path in new:
            if path.name == "result.json":
                self._send_result()
            self.client.log_artifact(self.ledger.run_id, str(path))
            self._sent(path)
        weights = self.folder.path / "generator.safetensors"
        if status.state != "done" or not self._is_new(weights):
            return len(new)
        self._send_model(weights)
        self._sent(weights)
        return len(new) + 1

    def _send_result(self) -> None:
        from mlflow.entities import Metric

        result, status = self.folder.result(), self.folder.status()
        assert result is not None
        images = status.step * int(self.run.settings["train"]["batch"])
        values = {**result.metrics, **{f"cost/{name}": value for name, value in result.cost.items()}}
        at = int((self.folder.path / "result.json").stat().st_mtime * 1000)
        metrics = [Metric(clean(name), value, at, images) for name, value in values.items() if math.isfinite(value)]
        self.client.log_batch(self.ledger.run_id, metrics=metrics)

    def _send_model(self, weights: Path) -> None:
        """A model that `mlflow.pyfunc.load_model` understands: code and safetensors, nothing pickled."""
        from mlflow import pyfunc

        parts = {"generator": str(weights), "run": str(self.folder.path / "run.json")}
        with tempfile.TemporaryDirectory() as temporary:
            made = Path(temporary) / "model"
            requirements = ["gan-ablation-harness"]
            pyfunc.save_model(made, python_model=str(MODEL_CODE), artifacts=parts, pip_requirements=requirements)
            self.client.log_artifacts(self.ledger.run_id, str(made), "model")

    def _tell(self, status: Status) -> None:
        """The run's state in MLflow's words, and in ours as tags."""
        from mlflow.entities import RunTag

        news = [status.state, status.attempt, status.error]
        if news == self.ledger.told:
            return
        words = {"outcome": status.state, "attempt": str(status.attempt), "error": status.error[:LONGEST_TAG]}
        self.client.log_batch(self.ledger.run_id, tags=[RunTag(name, value) for name, value in words.items()])
        if status.state in ("pending", "running"):
            self.client.update_run(self.ledger.run_id, STATUS[status.state])
        else:
            self.client.set_terminated(self.ledger.run_id, STATUS[status.state], int(status.updated * 1000))
        self.ledger.told = news
        self._save()

    def _is_new(self, path: Path) -> bool:
        return path.exists() and self.ledger.files.get(self._name(path)) != path.stat().st_mtime

    def _sent(self, path: Path) -> None:
        self.ledger.files[self._name(path)] = path.stat().st_mtime
        self._save()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder.path).as_posix()

    def _save(self) -> None:
        ledgers.save(self.path, self.ledger)


def clean(name: str) -> str:
    """A name that MLflow takes: other characters than letters, digits and `_-./: ` become `_`."""
    return re.sub(r"[^\w\-./: ]", "_", name)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
