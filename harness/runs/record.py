"""A run and its folder, which is the truth about it. No torch here.

<root>/<run id>/run.json        what the run is: cell, seed, toggles, resolved settings, fingerprints
                status.json     where it stands; rewritten atomically
                metrics.jsonl   one point a line: {"step", "kimg", "time", "values": {name: number}}
                result.json     the final measurements with their cards, and the cost
                checkpoint/     the newest training states        generator.safetensors   the final averaged G
                samples/        sample grids, <step>.png          log.txt                 what the run printed
                claim           which scheduler has it, if one has (`claims.py`)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from harness.code.engine import UNKNOWN, Engine
from harness.settings import Settings

State = Literal["pending", "running", "interrupted", "done", "pruned", "diverged", "failed"]
STATES: tuple[State, ...] = ("done", "running", "interrupted", "pending", "pruned", "diverged", "failed")
"""In the order in which they are told. pruned: a search had seen enough of it."""
FINAL: frozenset[State] = frozenset({"done", "pruned", "diverged", "failed"})


LARGEST = 1e100
"""What a metric never reaches; beyond it squares overflow."""
Count = Annotated[int, Interval(ge=0, le=10**15)]
Amount = Annotated[float, Interval(ge=0, le=1e11)]
"""Neither infinite nor NaN."""
STRICT: dict[str, Any] = {"strict": True, "extra": "forbid"}
"""For pydantic, which checks what is read: "3" is no number, and a name that nobody knows is a mistake."""
MOVE = "move the folder away"
PLAIN = frozenset({"run.json", "status.json", "metrics.jsonl", "result.json", "log.txt", "claim", "mlflow.json"})


@dataclass(frozen=True)
class Run:
    """One training run of the plan: a cell of the design under one seed."""

    __pydantic_config__: ClassVar = STRICT

    id: str
    study: str
    cell: str
    seed: Count
    toggles: tuple[str, ...]
    settings: Settings
    fingerprints: dict[str, str]
    """Content hashes of the data set and of every encoder the run reads."""
    engine: Engine = UNKNOWN
    """Which code trained and measured it: no part of what the run is, written when its training begins."""


@dataclass(frozen=True)
class Status:
    """Where a run stands."""

    __pydantic_config__: ClassVar = STRICT

    state: State = "pending"
    step: Count = 0
    total_steps: Count = 0
    images_per_s: Amount = 0.0
    attempt: Count = 0
    pid: Annotated[int, Interval(ge=0, le=2**31 - 1)] = 0
    started: Amount = 0.0
    """Unix time of this attempt's start."""
    updated: Amount = 0.0
    """Unix time of the last change."""
    seconds: Amount = 0.0
    """Seconds of training and measuring, over all attempts."""
    last: dict[str, float] = field(default_factory=dict)
    """The newest losses."""
    error: str = ""
    """Last lines of what went wrong, if anything did."""
    failure: str = ""
    """The class of what went wrong, such as `out_of_memory`; see `running/failures.py`."""
    host: str = ""
    """The machine of the process, as `processes.node` names it."""

    @property
    def reason(self) -> str:
        """`error` in one line: the exception of a traceback, without the path of its module; empty if there is none."""
        line = "".join(self.error.strip().splitlines()[-1:]).strip()
        return re.sub(r"^(?:\w+\.)+(?=\w+: )", "", line)


@dataclass(frozen=True)
class Point:
    """One line of metrics.jsonl."""

    __pydantic_config__: ClassVar = STRICT

    step: Count
    kimg: Amount
    time: Amount
    values: dict[str, float]


@dataclass(frozen=True)
class Result:
    """What a finished run measured. `metrics` by name; `cards` say how each was measured; `cost` is what it took."""

    __pydantic_config__: ClassVar = STRICT

    metrics: dict[str, float]
    cards: dict[str, dict[str, Any]]
    cost: dict[str, Amount]
    weights: str = ""
    """SHA-256 of the averaged generator's weights: runs of equal ones trained alike. Empty of earlier versions."""


@dataclass(frozen=True)
class _Card:
    """What is computed with of a card; all else of it is shown as it is."""

    role: Literal["headline", "further", "diagnostic", ""] = ""
    n: Count = 0
    n_real: Count = 0
    d: Count = 0


@dataclass(frozen=True)
class Measured:
    """What the cards of a result.json must be."""

    cards: dict[str, _Card]


@dataclass(frozen=True)
class RunRecord:
    """A run with all that its folder says about it."""

    run: Run
    status: Status
    result: Result | None
    points: tuple[Point, ...] = ()
    folder: Path = Path()


def state_of(record: RunRecord) -> State:
    """The run's state; one that claims to be done with a number that cannot be one has diverged."""
    if record.status.state != "done" or record.result is None:
        return "failed" if record.status.state == "done" else record.status.state
    return "done" if all(map(is_number, record.result.metrics.values())) else "diverged"


def is_number(value: float) -> bool:
    """Whether it can be a measurement: finite, and not so large that only something broken says it."""
    return math.isfinite(value) and abs(value) < LARGEST
