"""Metrics of one tracking run: the lines of metrics.jsonl and the final results, each sent once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import read_bytes
from harness.runs.folders import parse_point
from harness.runs.record import Point
from harness.tracking.ledger import Ledger, Noted
from harness.tracking.mlflow_store import LONGEST_NAME

if TYPE_CHECKING:
    from mlflow import MlflowClient

BATCH = 1000
"""Metrics that one request of MLflow takes; its client divides what is more, but one request at a time is noted."""
TAIL_BYTES = 200


def clean(name: str) -> str:
    """A name that MLflow takes, which would be the same as a path: other characters than letters, digits and `_-./: `
    become `_`, and so does a `/` at an end or before another one, and what stands for a folder: `.` and `..`."""
    plain = re.sub(r"^/|/(?=/|$)", "_", re.sub(r"[^\w\-./: ]", "_", name)[:LONGEST_NAME])
    return re.sub(r"(?<![^/])\.{1,2}(?![^/])", lambda dots: "_" * len(dots[0]), plain)


def shown_as(name: str) -> str:
    """A metric's name in MLflow: what is measured on the way and at the end is one curve, named as in the report."""
    return clean(name.removeprefix("metrics/"))


def read_points(path: Path, ledger: Ledger) -> tuple[list[Point], int, str]:
    """The whole lines that were not read yet, all of them after a rewind, and the ledger's next `offset` and `tail`.

    Raises RecordError for a line that is not a point.
    """
    text = read_bytes(path, "move it away") or b""
    before = text[max(0, ledger.offset - TAIL_BYTES) : ledger.offset]
    # Not by the file's inode: a rewritten file soon has the number of an older one.
    start = ledger.offset if before.hex() == ledger.tail else 0
    end = text.rfind(b"\n") + 1
    lines, first = text[start:end].split(b"\n")[:-1], text.count(b"\n", 0, start) + 1
    points = [parse_point(line, f"{path}: line {number}") for number, line in enumerate(lines, first)]
    return points, end, text[max(0, end - TAIL_BYTES) : end].hex()


class MetricSender:
    """Sends metrics of one tracking run; its ledger says which are there.

    A batch is noted before it is sent. While a note is unconfirmed the server is asked what it has of it, and gets
    the rest with the same times and values: a request that arrives late after all is then a plain repetition, which
    MLflow's own stores drop. Others append what comes twice, so that not all of the batch is repeated.
    """

    def __init__(self, client: MlflowClient, ledger: Ledger, save: Callable[[], None]) -> None:
        self.client, self.ledger, self.save = client, ledger, save
        for name, step in [*ledger.steps.items()]:  # of versions that sent the curve and its end under two names
            ledger.steps[shown_as(name)] = max(step, ledger.steps.get(shown_as(name), -1))
        # Of versions that noted names which MLflow does not take.
        ledger.pending = [(clean(name), value, at, step) for name, value, at, step in ledger.pending]
        self._on_server: dict[str, set[int]] = {}
        """Metric -> images seen of its points, as the server has answered since the last crash."""
        self._certain = False

    def confirm(self) -> int:
        """Make certain of what was sent before; returns how many metrics had to be sent again."""
        if self._certain:
            return 0
        run_id, names = self.ledger.run_id, {noted[0] for noted in self.ledger.pending}
        if self.ledger.adopted:
            names |= self.client.get_run(run_id).data.metrics.keys()
        there = {name: {each.step for each in self.client.get_metric_history(run_id, name)} for name in names}
        lost = [noted for noted in self.ledger.pending if noted[3] not in there[noted[0]]]
        for name, steps in there.items():
            self._on_server.setdefault(shown_as(name), set()).update(steps)
        self._log(lost)
        return len(lost)

    def send_lines(self, path: Path) -> int:
        """Send the new lines of metrics.jsonl and count their metrics; MLflow's step is the number of images seen."""
        points, offset, tail = read_points(path, self.ledger)
        count = self.send(
            (name, value, int(point.time * 1000), round(point.kimg * 1000))
            for point in points
            for name, value in point.values.items()
        )
        # All that was written so far is there: what the server has answered needs no list any more.
        for name, steps in self._on_server.items():
            self.ledger.steps[name] = max({self.ledger.steps.get(name, -1), *steps})
        self._on_server, self.ledger.adopted = {}, False
        if (offset, tail) != (self.ledger.offset, self.ledger.tail):
            self.ledger.offset, self.ledger.tail = offset, tail
            self.save()
        return count

    def send(self, metrics: Iterable[Noted]) -> int:
        """Send those beyond the last delivered one of their name and count them. The ledger is to be saved after it."""
        last, new = dict(self.ledger.steps), []
        for name, value, at, step in metrics:
            name = shown_as(name)
            if step > last.get(name, -1):
                last[name] = step
                if step not in self._on_server.get(name, ()):
                    new.append((name, value, at, step))
        for start in range(0, len(new), BATCH):
            self.ledger.pending = new[start : start + BATCH]
            self.save()
            self._log(self.ledger.pending)
        return len(new)

    def _log(self, metrics: Sequence[Noted]) -> None:
        from mlflow.entities import Metric

        if metrics:
            self._certain = False
            self.client.log_batch(self.ledger.run_id, metrics=[Metric(*noted) for noted in metrics])
        for name, _, _, step in self.ledger.pending:
            self.ledger.steps[name] = max(self.ledger.steps.get(name, -1), step)
        self.ledger.pending, self._certain = [], True
