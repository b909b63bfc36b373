"""What a run may start from: imported weights, a file of tensors, or what an earlier run of the study had at its end.

Only the names in the head of a safetensors file are read here; the tensors are read where the run is trained.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import DataError, RecordError
from harness.runs.folders import RunFolder
from harness.runs.record import Run
from harness.settings import InitConfig, Settings
from harness.text import shortened

NETWORKS = ("generator", "discriminator", "averaged")
"""What the tensors of a training state begin with, and the names of the settings below `init`."""
_LARGEST_HEAD = 100_000_000
"""Bytes; the limit of the format."""
_OF_RUN = re.compile(r"(?P<cell>[^/\\]+)/(?P<seed>\d+)")


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


def find(written: str, root: Path) -> Source:
    """What `init` names: a file, or a run below `root` by its folder, its id or CELL/SEED. Raises DataError."""
    path, settings = Path(written), None
    folder = path if path.is_dir() else root / written
    if not path.is_file():
        if not (folder / "run.json").is_file() or not written:
            folder = _earlier(written, root)
        path, settings = _last_state(folder, written), RunFolder(folder).run().settings
    elif (path.parent / "run.json").is_file():
        settings = RunFolder(path.parent).run().settings
    head = _head(path, written)
    names = {name.partition("/")[0] for name in head if "/" in name}
    networks = frozenset(names & set(NETWORKS) if names else {"averaged"})
    if not networks:
        raise DataError(f"init: {written}: holds neither of {', '.join(NETWORKS)}")
    noted = _noted_hash(head)
    return Source(path, networks, noted[:16] or _hash_of_bytes(path), settings, bool(noted))


def fingerprints(init: InitConfig, root: Path) -> dict[str, str]:
    """Dotted setting -> fingerprint of what it names, for the networks that start from something. Raises DataError."""
    return {f"init.{name}": source.fingerprint for name, source in sources(init, root).items()}


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


def _earlier(written: str, root: Path) -> Path:
    """The folder of the finished run CELL/SEED below `root`, of those that do not start from it themselves."""
    named = _OF_RUN.fullmatch(written)
    if named is None and Path(written).is_dir():
        raise DataError(f"init: {written}: is no run's folder, as it has no run.json; name a run in it, or a file")
    if named is None:
        what = "a file, a run's folder or id, or CELL/SEED of a finished run of this study"
        raise DataError(f"init: {written}: there is no such file; write {what}")
    ends = [run for run in _finished(root) if (run.cell, run.seed) == (named["cell"], int(named["seed"]))]
    ends = [run for run in ends if written not in vars(run.settings.init).values()]
    if not ends:
        raise DataError(f"init: {written}: {root} has no finished run of that cell and seed; train it first")
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
        fix = f"write init: {{generator: {generator}, averaged: {generator}}}, which starts G alone, or train it again"
        raise DataError(f"init: {written}: the training state of {folder} was deleted; {fix}")
    return states[-1]


def _head(path: Path, written: str) -> dict[str, Any]:
    """Name -> type, shape and place of each tensor, and "__metadata__". Raises DataError."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            head = json.loads(file.read(size)) if 0 < size <= _LARGEST_HEAD else None
    except (ValueError, RecursionError):
        head = None
    if not isinstance(head, dict):
        fix = "`harness import` makes one of a network pickle"
        raise DataError(f"init: {written}: {path} is no safetensors file; {fix}")
    return head


def _noted_hash(head: dict[str, Any]) -> str:
    """What a file of ours says of its own content, which is checked when it is loaded; empty for other files."""
    meta = head.get("__metadata__")
    noted = meta.get("sha256") if isinstance(meta, dict) else None
    return noted if isinstance(noted, str) else ""


def _hash_of_bytes(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
