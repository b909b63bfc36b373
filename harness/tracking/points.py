"""Metrics of one tracking run: the lines of metrics.jsonl and the final results, each sent once."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Collection, Iterable, Sequence
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
_log = logging.getLogger(__name__)


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

    MLflow takes no point back. Of what has another value by now it gets that one too, under a later time: of one step
    it shows the newest.
    """

    def __init__(self, client: MlflowClient, ledger: Ledger, save: Callable[[], None], title: str) -> None:
        self.client, self.ledger, self.save, self.title = client, ledger, save, title
        for name, step in [*ledger.steps.items()]:  # of versions that sent the curve and its end under two names
            ledger.steps[shown_as(name)] = max(step, ledger.steps.get(shown_as(name), -1))
        # Of versions that noted names which MLflow does not take.
        ledger.pending = [(clean(name), value, at, step) for name, value, at, step in ledger.pending]
        self._there: dict[str, dict[int, tuple[int, float]]] = {}
        """Metric -> images seen -> time and value of the newest point on the server, while a run writes again what
        it had written before: it is asked once, not at each sync."""
        self._sent: dict[str, tuple[int, float]] = {}
        """Metric -> images seen and value of what was sent last: for the end of a curve nothing is asked."""
        self._certain = self._told = False

    def confirm(self) -> int:
        """Make certain of what was sent before; returns how many metrics had to be sent again."""
        if self._certain:
            return 0
        self._there.clear()
        self._ask(None if self.ledger.adopted else {shown_as(name) for name, *_ in self.ledger.pending})
        if self.ledger.adopted:
            self.ledger.steps |= {name: max(points) for name, points in self._there.items() if points}
            self.ledger.adopted = False
        lost = [noted for noted in self.ledger.pending if not self._has(noted)]
        self._log(lost)
        return len(lost)

    def send_lines(self, path: Path) -> int:
        """Send the new lines of metrics.jsonl and count their metrics; MLflow's step is the number of images seen."""
        points, offset, tail = read_points(path, self.ledger)
        new = self._lacking(
            (name, value, int(point.time * 1000), round(point.kimg * 1000))
            for point in points
            for name, value in point.values.items()
        )
        again = [step for name, _, _, step in new if step in self._there.get(name, ())]
        if again and not self._told:
            kept = "MLflow shows the new ones, and keeps the earlier ones beside them, as it takes no point back"
            _log.warning("%s: its points from %d images on were written anew; %s", self.title, min(again), kept)
            self._told = True
        self._send(new)
        if (offset, tail) != (self.ledger.offset, self.ledger.tail):
            self.ledger.offset, self.ledger.tail = offset, tail
            self.save()
        return len(new)

    def send_ends(self, values: Iterable[tuple[str, float]], at: int, images: int) -> None:
        """Send the values in which curves end, at their last points at least. The ledger is to be saved after it."""
        steps = self.ledger.steps
        self._send(
            self._lacking((name, value, at, max(images, steps.get(shown_as(name), 0))) for name, value in values)
        )

    def _lacking(self, metrics: Iterable[Noted]) -> list[Noted]:
        """What the server does not show. It is asked only for names of which points come that are not beyond the last
        one: as the run went on from an earlier state, or the process died before all was sent."""
        newest = {(shown_as(name), step): (value, at) for name, value, at, step in metrics}
        rows = [(name, value, at, step) for (name, step), (value, at) in newest.items()]
        rows = [row for row in rows if self._sent.get(row[0]) != (row[3], row[1])]
        again = {name for name, _, _, step in rows if step <= self.ledger.steps.get(name, -1)}
        if rows and not again:
            self._there.clear()
        self._ask(again - self._there.keys())
        return [self._after(row) for row in rows if not self._has(row)]

    def _ask(self, names: Collection[str] | None) -> None:
        """Learn what the server has of these metrics, None: of all; also under the names of earlier versions."""
        if names is not None and not names:
            return
        self._there |= {name: {} for name in names or ()}
        for name in self.client.get_run(self.ledger.run_id).data.metrics:
            if names is not None and shown_as(name) not in names:
                continue
            points = self._there.setdefault(shown_as(name), {})
            for each in self.client.get_metric_history(self.ledger.run_id, name):
                found = (each.timestamp, each.value)
                points[each.step] = max(points.get(each.step, found), found)

    def _has(self, noted: Noted) -> bool:
        name, value, _, step = noted
        there = self._there.get(shown_as(name), {}).get(step)
        # A database may round the last digit; what is not finite MLflow keeps in a form of its own.
        return there is not None and (math.isclose(value, there[1], rel_tol=1e-9) or not math.isfinite(value))

    def _after(self, noted: Noted) -> Noted:
        """With a time after that of the point which it replaces, whatever the clocks of two machines say."""
        name, value, at, step = noted
        there = self._there.get(name, {}).get(step)
        return noted if there is None else (name, value, max(at, there[0] + 1), step)

    def _send(self, metrics: Sequence[Noted]) -> None:
        for start in range(0, len(metrics), BATCH):
            self.ledger.pending = [*metrics[start : start + BATCH]]
            self.save()
            self._log(self.ledger.pending)

    def _log(self, metrics: Sequence[Noted]) -> None:
        from mlflow.entities import Metric

        if metrics:
            self._certain = False
            self.client.log_batch(self.ledger.run_id, metrics=[Metric(*noted) for noted in metrics])
        for name, value, at, step in self.ledger.pending:
            self.ledger.steps[name] = max(self.ledger.steps.get(name, -1), step)
            self._sent[name] = step, value
            if name in self._there:
                self._there[name][step] = (at, value)
        self.ledger.pending, self._certain = [], True
