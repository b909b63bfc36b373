"""A tracking server in memory that keeps every metric it is given, twice if it comes twice, and fails on demand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace as Bag
from typing import Any, Literal

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from harness.tracking import mlflow_store

How = Literal["before", "half", "after"]


class Crash(BaseException):
    """The process dies here."""


@dataclass
class Row:
    """A tracking run."""

    name: str
    tags: dict[str, str]
    metrics: list[Any] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    inputs: list[Any] = field(default_factory=list)
    status: str = "RUNNING"
    started: int = 0

    def points(self) -> list[tuple[str, int]]:
        return sorted((metric.key, metric.step) for metric in self.metrics)


class Server:
    """What arrived; `fail` makes a later call the last one of its process."""

    def __init__(self) -> None:
        self.runs: dict[str, Row] = {}
        self.calls: list[str] = []
        self.experiment: dict[str, str] = {}
        """Its tags."""
        self.crash: tuple[int | str, How] | None = None

    def fail(self, call: int | str, how: How) -> None:
        """In the call with this number from now on, or of this name: before it, with half of it done, or after it."""
        self.crash = (len(self.calls) + call if isinstance(call, int) else call, how)

    @staticmethod
    def die() -> None:
        raise Crash

    def children(self) -> list[Row]:
        return [row for row in self.runs.values() if "mlflow.parentRunId" in row.tags]

    def parents(self) -> list[Row]:
        return [row for row in self.runs.values() if "mlflow.parentRunId" not in row.tags]


class Page(list[Any]):
    """An answer of a search, the last one."""

    token = ""


class Client:
    """The calls of MlflowClient that the mirror makes."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __getattribute__(self, name: str) -> Any:
        if name == "server" or name.startswith("_"):
            return object.__getattribute__(self, name)
        return _perhaps_failing(self.server, name, object.__getattribute__(self, name))

    def get_experiment_by_name(self, name: str) -> Any:
        return Bag(experiment_id="1", lifecycle_stage="active")

    def get_experiment(self, experiment: str) -> Any:
        return Bag(tags=dict(self.server.experiment))

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        self.server.experiment[key] = value

    def create_run(self, experiment: str, start_time: int = 0, tags: Any = (), run_name: str = "") -> Any:
        run_id = f"run{len(self.server.runs)}"
        self.server.runs[run_id] = Row(run_name, dict(tags), started=start_time)
        return self._shown(run_id)

    def search_runs(self, experiments: Sequence[str], query: str, *given: Any, **named: Any) -> Any:
        wanted = dict(re.findall(r"tags\.`([^`]+)` = '([^']*)'", query))
        found = [name for name, row in self.server.runs.items() if wanted.items() <= row.tags.items()]
        most = named.get("max_results", len(found))
        return Page(self._shown(name) for name in found[-most:][::-1])

    def get_run(self, run_id: str) -> Any:
        return self._shown(run_id)

    def get_metric_history(self, run_id: str, key: str) -> list[Any]:
        return [metric for metric in self._row(run_id).metrics if metric.key == key]

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = (), tags: Any = ()) -> None:
        row = self._row(run_id)
        row.metrics.extend(metrics)
        row.params.update({param.key: param.value for param in params})
        row.tags.update({tag.key: tag.value for tag in tags})

    def log_inputs(self, run_id: str, datasets: list[Any]) -> None:
        self._row(run_id).inputs.extend(datasets)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._row(run_id).tags[key] = value

    def delete_tag(self, run_id: str, key: str) -> None:
        del self._row(run_id).tags[key]

    def log_text(self, run_id: str, text: str, file: str) -> None:
        self._row(run_id).files[file] = text.encode()

    def log_artifact(self, run_id: str, path: str, below: str | None = None) -> None:
        self._row(run_id).files[f"{below or ''}/{Path(path).name}"] = Path(path).read_bytes()

    def log_artifacts(self, run_id: str, folder: str, below: str, every: int = 1) -> None:
        for path in [path for path in sorted(Path(folder).rglob("*")) if path.is_file()][::every]:
            self._row(run_id).files[f"{below}/{path.relative_to(folder)}"] = path.read_bytes()

    def list_artifacts(self, run_id: str, below: str) -> list[Any]:
        return [Bag(path=name) for name in self._row(run_id).files if name.startswith(f"{below}/")]

    def update_run(self, run_id: str, status: str) -> None:
        self._row(run_id).status = status

    def set_terminated(self, run_id: str, status: str, end_time: int = 0) -> None:
        self._row(run_id).status = status

    def _row(self, run_id: str) -> Row:
        if run_id not in self.server.runs:
            raise MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)
        return self.server.runs[run_id]

    def _shown(self, run_id: str) -> Any:
        row = self._row(run_id)
        latest = {metric.key: metric.value for metric in row.metrics}
        return Bag(
            info=Bag(run_id=run_id, status=row.status, lifecycle_stage="active", experiment_id="1"),
            data=Bag(metrics=latest, tags=row.tags, params=row.params),
            inputs=Bag(dataset_inputs=row.inputs),
        )


def _perhaps_failing(server: Server, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def made(*args: Any, **named: Any) -> Any:
        crash, number = server.crash, len(server.calls)
        server.calls.append(name)
        if crash is None or crash[0] not in (number, name):
            return call(*args, **named)
        server.crash = None
        if crash[1] == "half" and "metrics" in named:
            call(*args, **{**named, "metrics": named["metrics"][::2]})
        elif crash[1] == "half" and name == "log_artifacts":
            call(*args, every=2)
        elif crash[1] == "after":
            call(*args, **named)
        raise Crash(f"{name}, {crash[1]}")

    return made


@contextmanager
def served(server: Server) -> Iterator[None]:
    """The mirror speaks to this server meanwhile."""
    before = mlflow_store._connect
    mlflow_store._connect = lambda uri: Client(server)  # type: ignore[assignment,return-value]
    try:
        yield
    finally:
        mlflow_store._connect = before
