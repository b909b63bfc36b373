"""Training states on disk: safetensors, written whole or not at all, the newest two kept. Nothing is unpickled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harness.errors import RecordError
from models.losses import projection

if TYPE_CHECKING:
    from harness.training.trainer import Trainer

KEEP = 2


def save(trainer: Trainer, folder: Path, step: int, run_id: str) -> None:
    """Everything that step `step` needs to go on exactly as if nothing had happened."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / f"{step:09d}.safetensors", _state(trainer), {"run": run_id, "step": str(step)})
    for old in _files(folder)[:-KEEP]:
        old.unlink()


def restore(trainer: Trainer, folder: Path, run_id: str) -> int:
    """Load the newest state into `trainer` and return its step, or 0 if there is none.

    Raises RecordError when the file is damaged or belongs to another run.
    """
    files = _files(folder)
    if not files:
        return 0
    path = files[-1]
    try:
        with safe_open(path, framework="pt") as file:
            meta = file.metadata() or {}
        tensors = load_file(path)
    except Exception as error:  # safetensors raises a type of its own that it does not export stably
        raise RecordError(f"{path}: cannot be read ({error}); delete it to go on from the one before") from error
    if meta.get("run") != run_id:
        raise RecordError(f"{path}: belongs to run {meta.get('run')!r}, not {run_id!r}; move it away")
    _load(trainer, tensors)
    return int(meta["step"])


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
    """Write, sync and rename, so that a crash leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, temporary, meta)
    with temporary.open("rb+") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors"))


def _networks(trainer: Trainer) -> dict[str, nn.Module]:
    return {name: getattr(trainer.networks, name) for name in ("generator", "discriminator", "averaged")}


def _state(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {"pl_mean": trainer.pl_mean}
    for name, network in _networks(trainer).items():
        tensors |= {f"{name}/{key}": value for key, value in network.state_dict().items()}
    for player, optimizer in trainer.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{player}/{index}/{key}": value for key, value in state.items()}
    if trainer.corpus.resnet is not None and trainer.corpus.resnet.shape[1] != trainer.corpus.text_dim:
        widths = sorted((trainer.corpus.resnet.shape[1], trainer.corpus.text_dim), reverse=True)
        tensors["projection"] = projection(*widths)
    return tensors


def _load(trainer: Trainer, tensors: dict[str, Tensor]) -> None:
    trainer.pl_mean = tensors["pl_mean"].to(trainer.device)
    for name, network in _networks(trainer).items():
        prefix = f"{name}/"
        network.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for player, optimizer in trainer.optimizers.items():
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"adam/{player}/"):
                _, _, index, field = key.split("/")
                state.setdefault(int(index), {})[field] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    if "projection" in tensors and not torch.equal(tensors["projection"], projection(*tensors["projection"].shape)):
        raise RecordError("the stored feature projection differs from this machine's; run from the start here")
