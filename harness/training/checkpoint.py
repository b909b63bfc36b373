"""Training states on disk: written whole or not at all, verified when they are read, the newest two kept."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.errors import RecordError
from harness.files import remove_leftovers
from harness.models.build import Networks
from harness.models.losses import projection
from harness.models.terms import Player
from harness.training import tensors as files
from harness.training.tensors import Damaged

if TYPE_CHECKING:
    from harness.data.corpus import Corpus
    from harness.training.trainer import Trainer

KEEP = 2
PLAYERS: tuple[Player, ...] = ("generator", "discriminator")
_log = logging.getLogger(__name__)


def save(trainer: Trainer, folder: Path, step: int, run_id: str) -> None:
    """Everything that step `step` needs to go on exactly as if nothing had happened.

    Raises OSError where there is no room; the earlier states are then as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / f"{step:09d}.safetensors", _state(trainer), {"run": run_id, "step": str(step)})
    for old in _files(folder)[:-KEEP]:
        old.unlink()


def restore(trainer: Trainer, folder: Path, run_id: str) -> int:
    """Load the newest sound state into `trainer` and return its step, or 0 if there is none.

    Damaged ones are moved aside with a warning, the last one kept. Raises RecordError for a sound state of another run.
    """
    remove_leftovers(folder)
    damaged = 0
    for path in reversed(_files(folder)):
        try:
            return _load(trainer, path, run_id)
        except Damaged as error:
            aside = path.with_name(f"{path.name}.damaged")
            for older in folder.glob("*.damaged"):
                older.unlink()
            path.replace(aside)
            _log.warning("warning: %s: %s; moved aside as %s", path, error, aside.name)
            damaged += 1
    if damaged:
        _log.warning("warning: %s: no sound training state is left; starting from step 0", folder)
    return 0


def layout(networks: Networks) -> dict[str, Tensor]:
    """Name -> a tensor of the shape and type that it has in a state; the optimisers as after a step of every weight."""
    tensors = {"pl_mean": torch.empty(())} | _weights(networks)
    for player in PLAYERS:
        for index, weight in enumerate(getattr(networks, player).parameters()):
            moments = {"step": torch.empty(()), "exp_avg": weight, "exp_avg_sq": weight}
            tensors |= {f"adam/{player}/{index}/{key}": value for key, value in moments.items()}
    return tensors


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors"))


def _weights(networks: Networks) -> dict[str, Tensor]:
    states = {name: network.state_dict() for name, network in vars(networks).items()}
    return {f"{name}/{key}": value for name, state in states.items() for key, value in state.items()}


def _state(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {"pl_mean": trainer.pl_mean} | _weights(trainer.networks)
    for player, optimizer in trainer.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{player}/{index}/{key}": value for key, value in state.items()}
    return tensors | _projection(trainer.corpus)


def _projection(corpus: Corpus) -> dict[str, Tensor]:
    """The fixed matrix that takes part in the objective, if one does: it must not change with a library."""
    widths = {corpus.text_dim} if corpus.resnet is None else {corpus.text_dim, corpus.resnet.shape[1]}
    return {"projection": projection(max(widths), min(widths))} if len(widths) == 2 else {}


def _load(trainer: Trainer, path: Path, run_id: str) -> int:
    """The step of the state in `path`, now that of `trainer`. Raises Damaged or RecordError before a change."""
    tensors, meta = files.read(path)
    if not meta.keys() >= {"run", "step"} or not meta["step"].isdecimal():
        raise Damaged("does not say its run and step")
    if meta["run"] != run_id:
        raise RecordError(f"{path}: belongs to run {meta['run']!r}, not {run_id!r}; move it away")
    ours = _projection(trainer.corpus)
    _check_fit(tensors, layout(trainer.networks) | ours)
    # Processors differ in rounding.
    if ours and not torch.allclose(ours["projection"], tensors["projection"], rtol=0, atol=1e-9):
        told = "its feature projection differs from this machine's"
        raise RecordError(f"{path}: {told}; move the folder {path.parent} away to start from step 0 here")
    _fill(trainer, tensors)
    return int(meta["step"])


def _check_fit(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """A weight that has not taken a step yet has no moments; those that are there are there in full."""
    stepped = {name.rpartition("/")[0] for name in tensors if name.startswith("adam/")}
    for name, like in wanted.items():
        if name.startswith("adam/") and name.rpartition("/")[0] not in stepped:
            continue
        found = tensors.get(name)
        if found is None or (found.shape, found.dtype) != (like.shape, like.dtype):
            raise Damaged(f"does not fit the networks of this run ({name})")
    if unknown := tensors.keys() - wanted.keys():
        raise Damaged(f"does not fit the networks of this run ({min(unknown)})")


def _fill(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    trainer.pl_mean = tensors["pl_mean"].to(trainer.device)
    for name, network in vars(trainer.networks).items():
        prefix = f"{name}/"
        network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for player, optimizer in trainer.optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"adam/{player}/"):
                _, _, index, field = key.split("/")
                state.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
