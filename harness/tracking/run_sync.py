"""One run's folder to its run on the tracking server: all that is new, once."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.code.engine import UNKNOWN, Engine
from harness.errors import RecordError
from harness.runs import lease
from harness.runs.folders import RunFolder
from harness.runs.record import Run, State, Status
from harness.tracking import ledger as ledgers
from harness.tracking.files import FileSender
from harness.tracking.ledger import Ledger, Noted
from harness.tracking.mlflow_store import Store, first_run, query

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = {"metrics": 1000, "params": 100}
"""What one call of MLflow takes."""
LONGEST_NAME = 250
LONGEST_PARAM, LONGEST_TAG, LONGEST_DIGEST = 6000, 5000, 36
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
AT_THE_END = ("result.json", "log.txt")
_LOOKED_AT = ("status.json", "metrics.jsonl", "samples")


class RunSync:
    """Sends what is new in one run's folder; the folder's mlflow.json remembers it."""

    def __init__(self, store: Store, folder: Path, run: Run, tags: dict[str, str]) -> None:
        self.store, self.client, self.run, self.tags = store, store.client, run, tags
        self.folder = RunFolder(folder)
        self.path = folder / ledgers.NAME
        self.state: State = "pending"
        """The run's last word at the last delivery."""
        self._marks: list[int] = []
        self._begin(ledgers.load(self.path, store.uri, store.parent))

    def deliver(self) -> Counter[str]:
        """Send what is new and count it by kind. Raises what MLflow raises; nothing is sent twice afterwards.

        Raises RecordError for a damaged folder.
        """
        marks = [_changed(self.folder.path / name) for name in _LOOKED_AT]
        if marks == self._marks and self.state != "running":
            return Counter()
        status = self.folder.status()
        sent = self._deliver(lease.live_status(self.folder.path, status)) if status.attempt else Counter[str]()
        self.state, self._marks = status.state, marks
        return sent

    def forget(self) -> None:
        """Begin anew: the tracking run is gone from the server."""
        self._begin(ledgers.Ledger(self.store.uri, self.store.parent))

    def _begin(self, ledger: ledgers.Ledger) -> None:
        self.ledger, self._new = ledger, False
        self._metrics = MetricSender(self.client, ledger, self._save)
        self._files = FileSender(self.client, self.folder.path, ledger, self._save)

    def _deliver(self, status: Status) -> Counter[str]:
        sent: Counter[str] = Counter()
        if not self.ledger.run_id:
            sent["runs"] += self._adopt(status)
        if self.ledger.adopted:
            self._files.recall()
        if not self.ledger.described:
            self._describe()
        sent["points"] += self._metrics.confirm() + self._send_points()
        sent["images"] += self._files.samples(self._batch)
        if status.state not in ("pending", "running"):
            sent["files"] += self._send_files(status)
        self._tell(status)
        return sent

    def _adopt(self, status: Status) -> int:
        """The tracking run of this folder: one that is there already, or a new one; returns how many were made."""
        ours = {"fingerprint": self.run.id, "mlflow.parentRunId": self.store.parent}
        made_by = self._engine().training
        mine = ours | ({"engine.training": made_by} if made_by else {})  # what other code has made is another run
        found = "" if self.store.is_new else first_run(self.client, self.store.experiment_id, mine)
        self.ledger.adopted, self._new = bool(found), not found
        if not found:
            name = f"{self.run.cell}/seed{self.run.seed}"
            began = int(status.started * 1000)
            made = self.client.create_run(self.store.experiment_id, began, {**self.tags, **mine}, name)
            found = str(made.info.run_id)
            if made_by and not self.store.is_new:
                self._retire(ours, found)
        self.ledger.run_id = found
        self._save()
        return int(self._new)

    def _retire(self, ours: dict[str, str], new: str) -> None:
        """Say of the tracking run of earlier code that this one has taken its place."""
        for found in self.client.search_runs([self.store.experiment_id], query(ours), max_results=100):
            if found.info.run_id != new and "replaced_by" not in found.data.tags:
                self.client.set_tag(found.info.run_id, "replaced_by", new)

    def _describe(self) -> None:
        """What never changes: every setting, the cell, the data set."""
        from mlflow.entities import Param, RunTag

        params = [Param(clean(name), _text(value)[:LONGEST_PARAM]) for name, value in self.run.settings.flat.items()]
        tags = {"cell": self.run.cell, "seed": str(self.run.seed), "toggles": ", ".join(self.run.toggles)}
        self.client.log_batch(self.ledger.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        for some in chunks([*params, Param("seed", str(self.run.seed))], BATCH["params"]):
            self.client.log_batch(self.ledger.run_id, params=some)
        self._describe_data()
        self.ledger.described = True
        self._save()

    def _describe_data(self) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        bare, self._new = self._new, False
        if not bare and self.client.get_run(self.ledger.run_id).inputs.dataset_inputs:
            return
        data = self.run.settings.data
        digest = self.run.fingerprints.get("data", "")[:LONGEST_DIGEST]
        source = json.dumps({"uri": data.source})
        dataset = Dataset(data.source, digest, "local", source, profile=json.dumps(asdict(data)))
        context = [InputTag("mlflow.data.context", "training")]
        self.client.log_inputs(self.ledger.run_id, [DatasetInput(dataset, context)])

    def _send_points(self) -> int:
        """New lines of metrics.jsonl; MLflow's step is the number of images seen."""
        lines = ledgers.read_points(self.folder.path / "metrics.jsonl", self.ledger)
        count = self._metrics.send(
            (name, value, int(point.time * 1000), round(point.kimg * 1000))
            for point in lines.points
            for name, value in point.values.items()
        )
        self._metrics.read_through()
        if (lines.offset, lines.tail) != (self.ledger.offset, self.ledger.tail):
            self.ledger.offset, self.ledger.tail = lines.offset, lines.tail
            self._save()
        return count

    def _send_files(self, status: Status) -> int:
        """What a run leaves: result, log, and the generator as a model."""
        new = [path for name in AT_THE_END if self._files.is_new(path := self.folder.path / name)]
        for path in new:
            if path.name == "result.json":
                self._metrics.send(self._result(status))
            self._files.send(path)
        weights = self.folder.path / "generator.safetensors"
        if status.state != "done" or not self._files.is_new(weights):
            return len(new)
        self._files.send_model(weights)
        return len(new) + 1

    def _result(self, status: Status) -> list[ledgers.Noted]:
        """The final measurements and the cost as metrics."""
        result = self.folder.result()
        assert result is not None
        at = int((self.folder.path / "result.json").stat().st_mtime * 1000)
        values = {**result.metrics, **{f"cost/{name}": value for name, value in result.cost.items()}}
        images = status.step * self._batch
        return [(name, value, at, images) for name, value in values.items() if math.isfinite(value)]

    def _tell(self, status: Status) -> None:
        """The run's state in MLflow's words, and in ours as tags."""
        from mlflow.entities import RunTag

        engine = self._engine()
        tags = {
            "engine.training": engine.training,
            "engine.measuring": engine.measuring,
            "outcome": status.state,
            "attempt": str(status.attempt),
            "failure": status.failure,
            "host": status.host.partition("?")[0],
            "error": status.error[:LONGEST_TAG],
        }
        if (news := list(tags.values())) == self.ledger.told:
            return
        self.client.log_batch(self.ledger.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        if status.state in ("pending", "running"):
            self.client.update_run(self.ledger.run_id, STATUS[status.state])
        else:
            self.client.set_terminated(self.ledger.run_id, STATUS[status.state], int(status.updated * 1000))
        self.ledger.told = news
        self._save()

    def _engine(self) -> Engine:
        try:
            return self.folder.run().engine
        except RecordError:
            return UNKNOWN

    @property
    def _batch(self) -> int:
        return self.run.settings.train.batch

    def _save(self) -> None:
        ledgers.save(self.path, self.ledger)


def _changed(path: Path) -> int:
    """When a file or folder last changed, in ns; 0 if it is not there."""
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class MetricSender:
    """Sends metrics of one tracking run; its ledger says which are there.

    A batch is noted before it is sent. While a note is unconfirmed the server is asked what it has of it, and gets
    the rest with the same times and values: a request that arrives late after all is then a plain repetition.
    """

    def __init__(self, client: MlflowClient, ledger: Ledger, save: Callable[[], None]) -> None:
        self.client, self.ledger, self.save = client, ledger, save
        self._there: dict[str, set[int]] = {}
        self._certain = False

    def confirm(self) -> int:
        """Make certain of what was sent before; returns how many metrics had to be sent again."""
        if self._certain:
            return 0
        if self.ledger.adopted:
            self._there = self._ask(self.client.get_run(self.ledger.run_id).data.metrics)
        there = self._ask({noted[0] for noted in self.ledger.pending})
        lost = [noted for noted in self.ledger.pending if noted[3] not in there[noted[0]]]
        self._log(lost)
        return len(lost)

    def send(self, metrics: Iterable[Noted]) -> int:
        """Send those that are not there yet and count them. The ledger is to be saved afterwards."""
        new = self._new(metrics)
        for some in chunks(new, BATCH["metrics"]):
            self.ledger.pending = some
            self.save()
            self._log(some)
        return len(new)

    def read_through(self) -> None:
        """All that was written so far has been sent: what was found on the server needs no list any more."""
        for name, steps in self._there.items():
            self.ledger.steps[name] = max(self.ledger.steps.get(name, -1), *steps)
        self._there, self.ledger.adopted = {}, False

    def _log(self, some: Sequence[Noted]) -> None:
        from mlflow.entities import Metric

        if some:
            self._certain = False
            self.client.log_batch(self.ledger.run_id, metrics=[Metric(*noted) for noted in some])
        for name, _, _, step in self.ledger.pending:
            self.ledger.steps[name] = max(self.ledger.steps.get(name, -1), step)
        self.ledger.pending, self._certain = [], True

    def _new(self, metrics: Iterable[Noted]) -> list[Noted]:
        """Those beyond the last delivered one of their name."""
        last, new = dict(self.ledger.steps), []
        for name, value, at, step in metrics:
            name = clean(name)
            if step > last.get(name, -1):
                last[name] = step
                if step not in self._there.get(name, ()):
                    new.append((name, value, at, step))
        return new

    def _ask(self, names: Iterable[str]) -> dict[str, set[int]]:
        """The steps that the server has of each of these."""
        return {
            name: {each.step for each in self.client.get_metric_history(self.ledger.run_id, name)} for name in names
        }


def clean(name: str) -> str:
    """A name that MLflow takes: other characters than letters, digits and `_-./: ` become `_`."""
    return re.sub(r"[^\w\-./: ]", "_", name)[:LONGEST_NAME]


def chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
