"""What a run may start from: imported weights, a file of tensors, or what an earlier run of the study had at its end.

Only the names in the head of a safetensors file are read here; the tensors are read where the run is trained.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DataError, RecordError
from harness.models.encoders.names import FOLDER, near
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.runs.weights import noted, read_head, refuse_of_another
from harness.settings import InitConfig, Settings
from harness.text import shortened

NETWORKS = ("generator", "discriminator", "averaged")
"""What the tensors of a training state begin with, and the names of the settings below `init`."""
ORIGINS = ("origin-32",)
"""Trained networks that ship with the package: `embedded:NAME`."""
_EMBEDDED = "embedded:"
_log = logging.getLogger(__name__)
_OF_RUN = re.compile(r"(?P<cell>[^/\\]+)/(?P<seed>\d+)")


class Gone(DataError):
    """What `init` names is not there."""


@dataclass(frozen=True)
class Source:
    """A file of weights."""

    path: Path
    networks: frozenset[str]
    """Which of NETWORKS it holds; the file of a generator alone holds "averaged"."""
    fingerprint: str
    """16 hex digits over its content."""
    settings: Settings | None
    """Of the run that it is of, if it is of one."""
    is_hashed: bool
    """Whether it is a file of ours, which holds a hash of its content."""

    @property
    def place(self) -> str:
        """What finds it again from any folder: its absolute path, or the name of what ships with every installation."""
        is_shipped = self.path.parent == FOLDER and self.path.stem in ORIGINS
        return f"{_EMBEDDED}{self.path.stem}" if is_shipped else str(self.path.absolute())


def find(written: str, root: Path) -> Source:
    """What `init` names: a file, weights that ship with the package, or a run below `root` by its folder, its id or
    CELL/SEED. Raises DataError, and RecordError for weights that do not belong to the run they lie in."""
    path = file_of(written)
    if not path.is_file():
        if written.startswith(_EMBEDDED):
            raise Gone(f"init: {written}: the installation lacks {path}; install the package again")
        folder = path if path.is_dir() else root / written
        if not (folder / "run.json").is_file() or not written:
            folder = _earlier(written, root)
        path = _last_state(folder, written)
    # Of a run's folder, or of the states in it.
    runs = [folder for folder in (path.parent, path.parent.parent) if (folder / "run.json").is_file()]
    run = RunFolder(runs[0]).run() if runs else None
    head = read_head(path)
    if head is None:
        fix = "`harness import` makes one of a network pickle"
        raise DataError(f"init: {written}: {path} is no safetensors file, or a part of one; {fix}")
    if run is not None:
        refuse_of_another(path, run.id)
    names = {name.partition("/")[0] for name in head if "/" in name}
    networks = frozenset(names & set(NETWORKS) if names else {"averaged"})
    if not networks:
        raise DataError(f"init: {written}: holds neither of {', '.join(NETWORKS)}")
    # It is checked when the file is loaded.
    sha = noted(head, "sha256")
    return Source(path, networks, sha[:16] or _hash_of_bytes(path), run.settings if run else None, bool(sha))


@dataclass(frozen=True)
class Beginning:
    """What the runs of a cell start from."""

    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """Dotted setting -> fingerprint of what it names."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Network -> file."""


def beginning(init: InitConfig, root: Path, told: Mapping[str, str] | None = None) -> Beginning:
    """What `init` names, for the networks that start from something; `told`: the fingerprints, where they are known.

    Raises DataError.
    Where that is gone, finished runs below `root` that have started from it still say what it was, so that they keep
    their ids and can be reported; a warning says so.
    """
    try:
        found = sources(init, root)
    except DataError as error:
        if told is not None:
            return Beginning(told)
        if not isinstance(error, Gone):
            raise
        begun = [run for run in _finished(root) if run.settings.init == init]
        earlier = [{f"init.{name}": run.fingerprints[f"init.{name}"] for name in _starting(run)} for run in begun]
        if not earlier or any(each != earlier[0] for each in earlier):
            raise
        _log.warning("warning: %s; runs that have started from it stay, no other run can start", error)
        return Beginning(earlier[0], begun[0].first_weights)
    prints = {f"init.{name}": source.fingerprint for name, source in found.items()}
    return Beginning(prints if told is None else told, {name: source.place for name, source in found.items()})


def refuse_gone(root: Path, runs: Iterable[Run]) -> None:
    """Raises DataError where a run below `root` has yet to start, from weights that are no longer there."""
    for run in runs:
        if not any((root / run.id / "checkpoint").glob("[0-9]*.safetensors")):
            of_run(run)


def of_run(run: Run) -> dict[str, Source]:
    """Network -> what the run starts from. Raises DataError where that is gone, or not what it was planned with."""
    found = {}
    for name in _starting(run):
        place = run.first_weights.get(name, "")
        if not file_of(place).is_file():
            text = f"{run.cell} seed {run.seed} cannot start: its weights are gone ({place or run.settings.init})"
            raise DataError(f"init.{name}: {text}; put them back, or name others")
        source = found[name] = find(place, Path())
        if source.fingerprint != run.fingerprints[f"init.{name}"]:
            problem = f"init.{name}: {source.path} is not what the run was planned with"
            raise DataError(f"{problem}; ask again to plan runs with the weights as they are now")
    return found


def _starting(run: Run) -> list[str]:
    """The networks that start from something."""
    return [name for name in NETWORKS if f"init.{name}" in run.fingerprints]


def sources(init: InitConfig, root: Path) -> dict[str, Source]:
    """Network -> what it starts from, for those that start from something. Raises DataError.

    One source for all networks gives those that it holds; of the generator and its average, one stands for the other.
    """
    written = {name: text for name in NETWORKS if (text := getattr(init, name))}
    found = {text: find(text, root) for text in dict.fromkeys(written.values())}
    whole = len(written) == len(NETWORKS) and len(found) == 1
    lacks = [f"init.{name}: {text}" for name, text in written.items() if not holds(found[text], name)]
    if lacks and not whole:
        raise DataError(f"{lacks[0]}: the file has no such network; leave the setting out or name another file")
    return {name: found[text] for name, text in written.items() if holds(found[text], name)}


def holds(source: Source, network: str) -> bool:
    """Whether `network` can start from it."""
    return network in source.networks or (network != "discriminator" and bool(source.networks - {"discriminator"}))


def layer_lines(layers: Mapping[str, Any]) -> list[str]:
    """What becomes of a network's layers, in words; nothing of those that are taken as they are.

    layers: "adapted": {layer: how}, "new": [layer], "unused": [layer].
    """
    adapted: dict[str, list[str]] = {}
    for layer, how in layers["adapted"].items():
        adapted.setdefault(how, []).append(layer)
    lines = [f"{how}: {shortened(names)}" for how, names in adapted.items()]
    lines += [f"with first weights of their own: {shortened(layers['new'])}"] if layers["new"] else []
    return lines + ([f"not used: {shortened(layers['unused'])}"] if layers["unused"] else [])


def file_of(written: str) -> Path:
    """The file that a path or a name of shipped weights means, which need not be there. Raises DataError."""
    path = Path(written)
    if not written.startswith(_EMBEDDED) or path.is_file():
        return path
    name = written.removeprefix(_EMBEDDED)
    if name not in ORIGINS:
        allowed = [f"{_EMBEDDED}{each}" for each in ORIGINS]
        raise DataError(f"init: {written}: allowed is {', '.join(allowed)}{near(written, allowed)}")
    return FOLDER / f"{name}.safetensors"


def _earlier(written: str, root: Path) -> Path:
    """The folder of the finished run CELL/SEED below `root`, of those that do not start from it themselves."""
    named = _OF_RUN.fullmatch(written)
    if named is None and Path(written).is_dir():
        raise DataError(f"init: {written}: is no run's folder, as it has no run.json; name a run in it, or a file")
    if named is None:
        what = f"a file, a run's folder or id, CELL/SEED of a finished run of this study, or {_EMBEDDED}{ORIGINS[0]}"
        raise Gone(f"init: {written}: there is no such file; write {what}")
    ends = [run for run in _finished(root) if (run.cell, run.seed) == (named["cell"], int(named["seed"]))]
    ends = [run for run in ends if written not in vars(run.settings.init).values()]
    if not ends:
        raise Gone(f"init: {written}: {root} has no finished run of that cell and seed; train it first, without init")
    if len(ends) > 1:
        ids = ", ".join(run.id for run in ends)
        raise DataError(f"init: {written}: runs {ids} are of that cell and seed under other settings; write one's id")
    return root / ends[0].id


def _finished(root: Path) -> list[Run]:
    runs = []
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if (folder / "result.json").is_file():
            try:
                runs.append(RunFolder(folder).run())
            except RecordError:  # a damaged run is nobody's beginning; `status` names it
                continue
    return runs


def _last_state(folder: Path, written: str) -> Path:
    """The training state at the end of a finished run."""
    if not (folder / "result.json").is_file():
        raise DataError(f"init: {written}: the run in {folder} has not finished; train it first")
    states = sorted((folder / "checkpoint").glob("[0-9]*.safetensors"))
    if not states:
        generator = folder / "generator.safetensors"
        fix = f"write init: {{generator: {generator}, averaged: {generator}}}, or train it anew after `harness rm`"
        raise Gone(f"init: {written}: the training state of {folder} was deleted; {fix}")
    return states[-1]


def _hash_of_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
