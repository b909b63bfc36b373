"""One run's folder to its run on the tracking server: all that is new, once."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import tempfile
import uuid
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import RecordError
from harness.masking import masked, masked_tree
from harness.runs import lease
from harness.runs.folders import RunFolder
from harness.runs.identity import read_by_who_trains
from harness.runs.record import Run, State, Status
from harness.runs.weights import refuse_of_another
from harness.tracking import ledger as ledgers
from harness.tracking.artefacts import send_file, without_secrets
from harness.tracking.ledger import Ledger
from harness.tracking.mlflow_store import (
    LONGEST_DIGEST,
    LONGEST_PARAM,
    LONGEST_TAG,
    Store,
    common_tags,
    find_run,
)
from harness.tracking.names import name_tags
from harness.tracking.points import MetricSender, clean
from harness.tracking.trainings import find_or_create

if TYPE_CHECKING:
    from harness.study.schema import Study

STATUS: dict[State, str] = {
    "pending": "SCHEDULED",
    "running": "RUNNING",
    "done": "FINISHED",
    "failed": "FAILED",
    "diverged": "FAILED",
    "interrupted": "KILLED",
    "pruned": "KILLED",
}
"""MLflow has no word for diverged: the tag `outcome` says which."""
MODEL_CODE = Path(__file__).parent.parent / "training" / "mlflow_model.py"
THUMBNAIL = 256
_OWN_CODE = ("code.", "command.code")
"""Fingerprints of the study's own code, by file, and of a script's files."""
_log = logging.getLogger(__name__)
_IMAGE = re.compile(r"samples\+step\+(\d+)\+timestamp\+(\d+)\+")


class RunSync:
    """Sends what is new in one run's folder; the folder's mlflow.json remembers it."""

    def __init__(self, store: Store, folder: Path, run: Run, study: Study) -> None:
        self.store, self.client, self.run, self.study = store, store.client, run, study
        self.folder = RunFolder(folder)
        self.path = folder / ledgers.NAME
        self._names = name_tags(run, study)
        self._title = self._names["mlflow.runName"]
        self.state: State = "pending"
        """The run's state, as its folder had it at the last delivery."""
        self.written = run
        """The run as its run.json had it then, which says which code made it, where and when."""
        ledger = ledgers.read(self.path, Ledger)
        of_this_store = (ledger.uri, ledger.parent) == (store.uri, store.parent)
        self._begin(ledger if of_this_store else self._empty_ledger())

    def _empty_ledger(self) -> Ledger:
        return Ledger(self.store.uri, self.store.parent, self.written.begun)

    def _begin(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._metrics = MetricSender(self.client, ledger, self._save, self._title)

    def send(self) -> Counter[str]:
        """Send what is new and count it by kind. Raises what MLflow raises; nothing is sent twice afterwards.

        Raises RecordError for a damaged folder.
        """
        from mlflow.exceptions import MlflowException

        status = self.folder.status()
        self.state = status.state
        if not status.attempt:
            return Counter()
        status = lease.live_status(self.folder.path, status)
        with contextlib.suppress(RecordError):  # a run.json that is damaged says nothing new
            self.written = self.folder.run()
        if self.written.begun not in (0, self.ledger.begun):
            self._begin(self._empty_ledger())
        try:
            return self._send(status)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            self._begin(self._empty_ledger())  # the tracking run is gone from the server
            return self._send(status)

    def is_deleted(self) -> bool:
        """Whether somebody has deleted its tracking run in MLflow."""
        found = find_run(self.client, self.ledger.run_id) if self.ledger.run_id else None
        return found is not None and found.info.lifecycle_stage == "deleted"

    def show_end(self) -> None:
        """Show at least how the run has ended, of which MLflow does not take something else."""
        from mlflow.exceptions import MlflowException

        status = lease.live_status(self.folder.path, self.folder.status())
        if self.ledger.run_id and status.state not in ("pending", "running"):
            with contextlib.suppress(MlflowException):  # what is wrong has been told
                self._show_status(status)

    def _send(self, status: Status) -> Counter[str]:
        sent: Counter[str] = Counter()
        shown = self.ledger.status[: len(self._names)]
        is_renamed = bool(shown) and shown != list(self._names.values())
        if not self.ledger.run_id:
            sent["runs"] += self._find_or_create(status)
        if not self.ledger.described:
            self._describe()
        if is_renamed or self.ledger.ideas != list(self.study.ideas):
            new = self._send_ideas()
            sent["parameters"] += 0 if sent["runs"] else new  # those of a new run are no news
        sent["points"] += self._metrics.confirm() + self._metrics.send_lines(self.folder.path / "metrics.jsonl")
        sent["images"] += self._send_samples()
        if status.state not in ("pending", "running"):
            sent["files"] += self._send_files(status)
        self._show_status(status)
        sent["renamed runs"] += int(is_renamed)
        return sent

    def _find_or_create(self, status: Status) -> int:
        """The tracking run of this training: one that is there already, or a new one; returns how many were made."""
        began, tags = int(status.started * 1000), common_tags(self.study)
        run_id, is_new = find_or_create(self.store, self.written, began, self._title, tags)
        for artefact in () if is_new else self.client.list_artifacts(run_id, "images"):
            if match := _IMAGE.search(artefact.path):
                self.ledger.images[int(match[1])] = int(match[2])
        self.ledger.run_id, self.ledger.adopted = run_id, not is_new
        self._save()
        return int(is_new)

    def _describe(self) -> None:
        """What never changes: every setting, the seed, the study's own code, the data set."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        run, run_id = self.run, self.ledger.run_id
        settings = {**read_by_who_trains(run.settings), "seed": run.seed}
        values = {clean(name): _parameter(value) for name, value in settings.items()}
        code = {path: content for path, content in run.fingerprints.items() if path.startswith(_OWN_CODE)}
        there = self.client.get_run(run_id)
        self.client.log_batch(  # which divides them into requests of 100
            run_id,  # whose parameters never change: those of earlier versions stay
            params=[Param(name, value) for name, value in values.items() if name not in there.data.params],
            tags=[RunTag(clean(name), value) for name, value in {"seed": str(run.seed), **code}.items()],
        )
        if not there.inputs.dataset_inputs:
            data = masked_tree(asdict(run.settings.data))
            digest = run.fingerprints.get("data", "")[:LONGEST_DIGEST]
            source = json.dumps({"uri": data["source"]})
            dataset = Dataset(data["source"], digest, "local", source, profile=json.dumps(data))
            self.client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
        self.ledger.described = True
        self._save()

    def _send_ideas(self) -> int:
        """Each idea of the study as a parameter, 1 where it is on and else 0, to filter and group runs by; returns how
        many were not there."""
        from mlflow.entities import Param

        values = {clean(name): str(int(name in self.run.toggles)) for name in self.study.ideas}
        there = self.client.get_run(self.ledger.run_id).data.params
        if new := [Param(name, value) for name, value in values.items() if name not in there]:
            self.client.log_batch(self.ledger.run_id, params=new)
        if other := [name for name, value in values.items() if there.get(name, value) != value]:
            why = "MLflow keeps a parameter as it was first sent"
            _log.warning("%s: %s, so it shows earlier values of %s", self._title, why, ", ".join(other))
        self.ledger.ideas = list(self.study.ideas)
        self._save()
        return len(new)

    def _send_samples(self) -> int:
        """Sample grids: by images seen, for MLflow's image viewer, and beside them what their columns show."""
        paths = sorted((self.folder.path / "samples").glob("[!.]*"))
        new = [path for path in paths if self._is_new(path)]
        if any(path.stem.isdigit() for path in new):
            self.client.set_tag(self.ledger.run_id, "mlflow.loggedImages", "True")
        for path in new:
            if path.stem.isdigit():
                self._send_image(path, int(path.stem) * self.run.settings.step_size)
            else:
                send_file(self.client, self.ledger.run_id, path, "samples")
            self._note_sent(path)
        return len(new)

    def _send_image(self, path: Path, images: int) -> None:
        """What `log_image` does, which invents a name for each call: sent twice, there would be two images."""
        from PIL import Image, ImageOps

        if images not in self.ledger.images:
            self.ledger.images[images] = int(path.stat().st_mtime * 1000)
            self._save()
        unique = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.ledger.run_id} {images}")
        name = f"samples+step+{images}+timestamp+{self.ledger.images[images]}+{unique}"
        with tempfile.TemporaryDirectory() as temporary, Image.open(path) as image:
            image.save(Path(temporary) / f"{name}.png")
            ImageOps.contain(image, (THUMBNAIL, THUMBNAIL)).save(Path(temporary) / f"{name}+compressed.webp")
            self.client.log_artifacts(self.ledger.run_id, temporary, "images")

    def _send_files(self, status: Status) -> int:
        """What a run leaves: result, log, and the generator as a model."""
        names = ["result.json", "log.txt", *(["generator.safetensors"] if status.state == "done" else [])]
        paths = [path for name in names if (path := self.folder.path / name).exists()]
        new = [path for path in paths if self._is_new(path)]
        for path in new:
            if path.name == "generator.safetensors":
                refuse_of_another(path, self.run.id)
                self._send_model(path)
            else:
                if path.name == "result.json":
                    self._send_result(path, status)
                send_file(self.client, self.ledger.run_id, path)
            self._note_sent(path)
        return len(new)

    def _send_model(self, weights: Path) -> None:
        """A model that `mlflow.pyfunc.load_model` understands: code and safetensors, nothing pickled."""
        from mlflow import pyfunc

        with tempfile.TemporaryDirectory() as temporary:
            model, run = Path(temporary) / "model", without_secrets(self.folder.path / "run.json", Path(temporary))
            parts = {"generator": str(weights), "run": str(run)}
            requirements = ["gan-ablation-harness"]
            pyfunc.save_model(model, python_model=str(MODEL_CODE), artifacts=parts, pip_requirements=requirements)
            self.client.log_artifacts(self.ledger.run_id, str(model), "model")

    def _send_result(self, path: Path, status: Status) -> None:
        """The final measurements, which end their curves; the cost as tags, as a number of one point is no curve."""
        from mlflow.entities import RunTag

        result = self.folder.result()
        assert result is not None
        at, images = int(path.stat().st_mtime * 1000), status.step * self.run.settings.step_size
        ends = [(name, value) for name, value in result.metrics.items() if math.isfinite(value)]
        self._metrics.send_ends(ends, at, images)
        tags = [RunTag(clean(f"cost.{name}"), f"{value:.6g}") for name, value in result.cost.items()]
        self.client.log_batch(self.ledger.run_id, tags=tags)

    def _show_status(self, status: Status) -> None:
        """The run's state in MLflow's words, in ours as tags, and what the study calls its cell and toggles now."""
        from mlflow.entities import RunTag

        engine, machines = self.written.engine, self.written.machines
        tags = {
            **self._names,
            "engine.training": engine.training,
            "engine.measuring": engine.measuring,
            "device": ", then ".join(dict.fromkeys(each.device for each in machines))[:LONGEST_TAG],
            "torch": ", then ".join(dict.fromkeys(each.versions.get("torch", "") for each in machines))[:LONGEST_TAG],
            "outcome": status.state,
            "attempt": str(status.attempt),
            "failure": status.failure,
            "host": status.host.partition(" ")[0],
            "error": status.error[:LONGEST_TAG],
        }
        if list(tags.values()) == self.ledger.status:
            return
        self.client.log_batch(self.ledger.run_id, tags=[RunTag(name, masked(value)) for name, value in tags.items()])
        self.store.show_status(self.ledger.run_id, STATUS[status.state], int(status.updated * 1000))
        self.ledger.status = list(tags.values())
        self._save()

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder.path).as_posix()

    def _is_new(self, path: Path) -> bool:
        return self.ledger.files.get(self._name(path)) != path.stat().st_mtime

    def _note_sent(self, path: Path) -> None:
        self.ledger.files[self._name(path)] = path.stat().st_mtime
        self._save()

    def _save(self) -> None:
        ledgers.save(self.path, self.ledger)


def _parameter(value: object) -> str:
    """A setting as MLflow takes it: without passwords; of a longer text the beginning, its length and a hash."""
    text = masked(value if isinstance(value, str) else json.dumps(value))
    if len(text) <= LONGEST_PARAM:
        return text
    ending = f"... ({len(text)} characters, SHA-256 {hashlib.sha256(text.encode()).hexdigest()[:12]})"
    return text[: LONGEST_PARAM - len(ending)] + ending
