"""Metrics on their way to a tracking run: each value of a name and step once, whatever dies when. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness.tracking.ledger import Ledger, Noted

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = {"metrics": 1000, "params": 100}
"""What one call of MLflow takes."""
LONGEST_NAME = 250


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
