"""What a run is, and everything that its folder says about it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Interval

from harness.code.engine import UNKNOWN, Engine
from harness.runs.machine import Machine
from harness.settings import Settings
from harness.text import shortened

State = Literal["pending", "running", "interrupted", "done", "pruned", "diverged", "failed"]
STATES: tuple[State, ...] = ("done", "running", "interrupted", "pending", "pruned", "diverged", "failed")
"""In the order of tables and summaries. pruned: a search gave the run up before its end."""
FINAL: frozenset[State] = frozenset({"done", "pruned", "diverged", "failed"})
SETTLED: frozenset[State] = frozenset({"done", "diverged"})
"""Results: a run in one of these states is never started again. A failed one is, when it is asked for again."""

LARGEST = 1e100
"""No metric reaches it; the square of a larger number may overflow."""
NOTE_OF = "; name: "
"""In a key of `Status.script_notes`, before the name of whose values it is."""
Count = Annotated[int, Interval(ge=0, le=10**15)]
Amount = Annotated[float, Interval(ge=0, le=1e11)]
"""Neither infinite nor NaN."""
WHICH_RUN = ("run", "cell", "seed")
OUTCOME = (
    *("state", "step", "attempt", "error", "manifest", "weights_sha256"),
    *("engine_training", "engine_measuring", "device", "torch"),
)
"""Columns of a table of runs: the ideas stand after `WHICH_RUN`, the metrics after `OUTCOME`, then the costs."""
COST = "cost_"
"""Begins the columns of costs."""
STRICT: dict[str, Any] = {"strict": True, "extra": "forbid"}
"""For pydantic, which checks what is read: "3" is no number, and an unknown name is a mistake."""


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
    """Which code trained and measured it. Not part of its identity; written when training begins."""
    first_weights: dict[str, str] = field(default_factory=dict)
    """Network -> the file whose weights it starts from, or the name of what ships, where `init` names any; found when
    the run was planned."""
    machines: tuple[Machine, ...] = ()
    """Those that trained it, in the order in which they came. As `engine`, no part of its identity."""
    begun: Amount = 0.0
    """Unix time at which its folder was made, or at which other code began there again; 0: an earlier version has not
    noted it. Of two trainings under one id it tells which is which."""
    source: dict[str, str] = field(default_factory=dict)
    """Path relative to the study -> text, of the study's own code behind the ideas that are on; this text is run."""

    @property
    def code_files(self) -> list[str]:
        """The files of the study's `code` whose ideas are on; `source` has what they import too."""
        return [name.removeprefix("code.") for name in self.fingerprints if name.startswith("code.")]


@dataclass(frozen=True)
class Status:
    """State and progress of a run."""

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
    measuring: bool = False
    """Whether a run that is running is being measured now, and not trained."""
    scores: dict[str, float] = field(default_factory=dict)
    """The headline metrics as they were last measured."""
    measuring_s: Amount = 0.0
    """Seconds that this took."""
    error: str = ""
    """The last lines of the error, if there was one."""
    failure: str = ""
    """The class of the error, such as `out_of_memory`: a name in `harness.scheduler.failures`."""
    script_notes: dict[str, Count] = field(default_factory=dict)
    """What a script has left that was not used, or not as it is: what -> how often. See `NOTE_OF`."""
    ranks: Annotated[int, Interval(ge=1, le=10**6)] = 1
    """Processes that share the run."""
    memory_mib: Amount = 0.0
    """The most that torch has held of a GPU for this run so far, in one process; 0 on the processor."""
    device: str = ""
    """`cpu`, or the GPU of the newest attempt as CUDA_VISIBLE_DEVICES names it; several with commas."""
    sharing: str = ""
    """How the newest attempt shares its GPU, in words; empty where it has it to itself."""
    host: str = ""
    """The machine of the process, as `harness.scheduler.processes.node` names it."""

    @property
    def word(self) -> str:
        """Its state as readers see it: that of a running run says when it is being measured."""
        return "measuring" if self.state == "running" and self.measuring else self.state

    @property
    def ended_attempts(self) -> int:
        """The attempts before now; one that is under way is none of them."""
        return self.attempt - (self.state == "running")

    @property
    def reason(self) -> str:
        """`error` in one line: the exception of a traceback, without the path of its module; empty without an error."""
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

    @property
    def is_compared(self) -> bool:
        """Whether it holds a measurement, or what a script has reported; all others hold losses alone."""
        return any(name.startswith(("metrics/", "script/")) for name in self.values)


@dataclass(frozen=True)
class Result:
    """What a finished run measured. `cards` say how each of the `metrics` was measured; `cost` is what the run took."""

    __pydantic_config__: ClassVar = STRICT

    metrics: dict[str, float]
    cards: dict[str, dict[str, Any]]
    cost: dict[str, Amount]
    weights: str = ""
    """SHA-256 of the averaged generator's weights: runs of equal ones trained alike. Earlier versions wrote none."""


@dataclass(frozen=True)
class _Card:
    """The fields of a card that the harness computes with; the others are only shown."""

    role: Literal["headline", "further", "diagnostic", ""] = ""
    n: Count = 0
    n_real: Count = 0
    d: Count = 0


@dataclass(frozen=True)
class CheckedCards:
    """The cards of a result.json, as far as their types matter."""

    cards: dict[str, _Card]


@dataclass(frozen=True)
class RunRecord:
    """A run with all that its folder says about it."""

    run: Run
    status: Status
    result: Result | None
    points: tuple[Point, ...] = ()
    """Those that `is_compared`: the losses of ten thousand runs take gigabytes."""
    folder: Path = Path()


def notes_on_scripts(runs: Iterable[tuple[str, int, Mapping[str, int]]]) -> Iterator[str]:
    """A sentence for each thing that scripts left and that was not used, of (cell, seed, `script_notes`)."""
    counts, where, names = Counter[str](), dict[str, dict[str, None]](), dict[str, dict[str, None]]()
    for cell, seed, notes in runs:
        for kind, count in notes.items():
            what, _, name = kind.partition(NOTE_OF)
            counts[what] += count
            where.setdefault(what, {})[f"{cell} seed {seed}"] = None
            names.setdefault(what, {}).update({name: None} if name else {})
    for what, number in counts.items():
        of = f": {shortened(list(names[what]))}" if names[what] else ""
        place = shortened(list(where[what]))
        yield f"the script's output, not used as it is: {number:,} x {what}{of} ({place}; see log.txt)"


def state_of(record: RunRecord) -> State:
    """Its state; done with a number that no metric can have is diverged, and done without a result is failed."""
    state = record.status.state
    if state != "done":
        return state
    if record.result is None:
        return "failed"
    return "done" if all(map(is_number, record.result.metrics.values())) else "diverged"


def is_number(value: float) -> bool:
    """Whether a metric can have this value: it is finite and below LARGEST."""
    return math.isfinite(value) and abs(value) < LARGEST
