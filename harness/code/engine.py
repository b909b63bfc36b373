"""Which code computed a result: content hashes of its formulas.

A run records which code trained and which measured it, so that a changed formula is noticed. The hash is of all
definitions that the roots below reach by name, in the form of `source`, wherever they stand: comments, a moved function
or one more module change nothing, a flipped sign does. Left out is what a run's id holds already (the values of the
settings, the rows of the table of terms) and what decides no number, such as folders, caches and messages.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.code.source import Package, Reached, digest

Part = Literal["pixels", "encoding", "training", "measuring"]

_PIXELS = ("harness.data.decode.decode",)
_ENCODING = (
    *_PIXELS,
    "harness.data.features._encode_images",
    "harness.data.features._encode_texts",
    "harness.data.token_features._cached",
    "harness.models.encoders.load.load_clip",
    "harness.models.encoders.load.load_resnet",
)
ROOTS: dict[Part, tuple[str, ...]] = {
    "pixels": _PIXELS,
    "encoding": _ENCODING,
    "training": (
        *_ENCODING,
        "harness.training.trainer.Trainer",
        "harness.training.setup.Prepared",
        "harness.training.setup.prepare",
        "harness.training.warm_start.begin",
    ),
    "measuring": (
        *_ENCODING,
        "harness.metrics.measure.measure",
        "harness.metrics.measure.sanity",
        "harness.metrics.measure.load_references",
        "harness.metrics.manifest.make_manifest",
    ),
}
"""What each part begins with."""

_ROOT = Path(__file__).parent.parent.parent
_WITHOUT_NUMBERS = """
    harness.cache harness.code.engine harness.code.source harness.data.features.cached harness.data.listing
    harness.data.packed harness.data.prepare harness.data.reading harness.data.sources
    harness.errors harness.files harness.fonts harness.masking harness.models.encoders.names harness.processes
    harness.models.encoders.files.check_kind
    harness.runs.folders harness.runs.identity harness.runs.initial harness.runs.lease harness.runs.record
    harness.scheduler.failures harness.training.checkpoint
    harness.terminal.console harness.terminal.progress harness.terminal.streams harness.terminal.table harness.text
    harness.training.samples
"""
"""What decides no number: it brings a run its files, whose content has fingerprints, or reports."""
_NOT_OF = {"training": "harness.metrics"}
"""The trainer imports what its session measures with, which changes no weights."""
_VALUES = ("harness.models.config", "harness.models.objective", "harness.settings")
"""Modules whose values a run's id holds: only their functions and methods count."""


@dataclass(frozen=True)
class Engine:
    """What trained and what measured a run, as 12 hex digits each; empty where that is not known.

    Several, joined by +, where a run that was interrupted went on by other code.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True, "extra": "forbid"}

    training: str = ""
    measuring: str = ""

    def then(self, other: Engine) -> Engine:
        """Of a run that this code has begun and the other goes on with."""

        def joined(first: str, second: str) -> str:
            return "+".join(dict.fromkeys([*(first or "unknown").split("+"), second]))

        return Engine(joined(self.training, other.training), joined(self.measuring, other.measuring))

    def is_today(self, now: Engine) -> bool:
        """Whether today's code is the same; that of a script is part of its run's identity."""
        return self.training in (SCRIPT, now.training) and self.measuring == now.measuring


UNKNOWN = Engine()
SCRIPT = "script"
"""What trained a run with a `command`."""


def today() -> Engine:
    """Of the code as it lies on the disk now."""
    return Engine(engine("training"), engine("measuring"))


def loaded(part: Part) -> str:
    """As `engine`, of the code that this process has loaded: files that change afterwards do not count.

    Call it before the work whose results are named by it.
    """
    if part not in _loaded:
        _loaded[part] = engine(part)
    return _loaded[part]


_loaded: dict[Part, str] = {}


def engine(part: Part) -> str:
    """12 hex digits of one part of the code that computes results, as it lies on the disk now."""
    folders = (_ROOT / "harness", _ROOT / "harness" / "models")  # a link in a checkout, which rglob does not follow
    files = sorted({path for folder in folders for path in folder.rglob("*.py")})
    states = ((path, path.stat()) for path in files)
    return _digest(part, tuple((path, state.st_mtime_ns, state.st_size) for path, state in states))


def formulas(part: Part, root: Path) -> dict[Reached, str]:
    """(module, definition) -> its form, of all that decides this part; `root` is where the packages lie."""
    stops = (*_WITHOUT_NUMBERS.split(), *filter(None, [_NOT_OF.get(part)]))
    return Package(root, stops, _VALUES).reached(ROOTS[part])


@functools.lru_cache(maxsize=16)
def _digest(part: Part, stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """`stamps` are part of the cache's key: after a change of a file it is computed anew."""
    return digest(formulas(part, _ROOT))


def unlike(made: Mapping[str, Engine], now: Engine) -> dict[str, list[str]]:
    """`trained by other code`, or its like -> names of the runs of which it is true; each run once, training first."""
    groups: dict[str, list[str]] = {}
    for name, engine in made.items():
        parts = (("trained", engine.training, now.training), ("measured", engine.measuring, now.measuring))
        for done, theirs, ours in parts:
            if theirs not in (ours, SCRIPT):
                groups.setdefault(f"{done} by {'other code' if theirs else 'code that is not known'}", []).append(name)
                break
    return groups
