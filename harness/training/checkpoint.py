"""Training states on disk: written whole or not at all, verified when they are read, the newest two kept.

A state is a file of named tensors: safetensors with a SHA-256 over all that is in it. Nothing is unpickled, and
damage is noticed. Files of earlier versions have no hash; they are read as they are.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import logging
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from harness.errors import RecordError
from harness.files import remove_leftovers, replacing
from harness.models.build import Networks
from harness.models.config import GeneratorConfig
from harness.models.losses import projection
from harness.models.objective import PLAYERS, Kind

if TYPE_CHECKING:
    from harness.data.batches import Corpus
    from harness.training.trainer import Trainer

GENERATOR = "generator"
"""Key of a file's metadata: the configuration of its generator as JSON."""
KEEP = 2  # should the newest turn out to be damaged, the run goes on from the one before
_HASH = "sha256"
_WITHOUT_HASH = {"run", "step"}
"""All that the metadata of an earlier version's file has: where there is more, a hash has been lost."""
_TRANSIENT = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.EMFILE, errno.ENFILE})
"""Errors of reading that say nothing about the file: the server is away, or this process has too many files open."""
_log = logging.getLogger(__name__)


class Damaged(Exception):
    """The file is not what was written; the message says what is wrong with it."""


def save(trainer: Trainer, folder: Path, step: int, run_id: str) -> None:
    """Everything that step `step` needs to go on exactly as if nothing had happened.

    Raises OSError where there is no room; the earlier states are then as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    meta = {"run": run_id, "step": str(step)} | _frozen(trainer.networks) | of_generator(trainer.settings.generator)
    write_tensors(_path(folder, step), state(trainer) | _projections(trainer.corpus), meta)
    for old in _states(folder)[:-KEEP]:
        old.unlink()


def fingerprint(trainer: Trainer) -> bytes:
    """SHA-256 of all that training changes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state(trainer).items()}
    return bytes.fromhex(digest(tensors, {}))


def restore(trainer: Trainer, folder: Path, run_id: str) -> int:
    """Load the newest sound state into `trainer` and return its step, or 0 if there is none.

    Damaged ones are moved aside with a warning, the last one kept. Raises RecordError for a sound state of another run.
    """
    remove_leftovers(folder)
    damaged = 0
    for path in reversed(_states(folder)):
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


def load_step(trainer: Trainer, folder: Path, step: int, run_id: str) -> None:
    """Load the state of that step, which `restore` has found sound, and leave the folder as it is."""
    _load(trainer, _path(folder, step), run_id)


def layout(networks: Networks) -> dict[str, Tensor]:
    """Name -> a tensor of the shape and type that it has in a state, once every weight has taken a step."""
    tensors = {"pl_mean": torch.empty(())} | networks.state()
    for player in PLAYERS:
        for index, weight in enumerate(networks.trained(player)):
            moments = {"step": torch.empty(()), "exp_avg": weight, "exp_avg_sq": weight}
            tensors |= {f"adam/{player}/{index}/{key}": value for key, value in moments.items()}
    return tensors


def state(trainer: Trainer) -> dict[str, Tensor]:
    """All that training changes."""
    tensors = {"pl_mean": trainer.pl_mean} | trainer.networks.state()
    for player, optimizer in trainer.optimizers.items():
        for index, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{player}/{index}/{key}": value for key, value in moments.items()}
    return tensors


def _path(folder: Path, step: int) -> Path:
    return folder / f"{step:09d}.safetensors"


def _states(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.safetensors"))


def _frozen(networks: Networks) -> dict[str, str]:
    """A hash of weights that training leaves as they are: each start makes them again, and they must be the same."""
    frozen = {name: weights.cpu().contiguous() for name, weights in networks.state(frozen=True).items()}
    return {"frozen": digest(frozen, {})} if frozen else {}


def projection_shapes(widths: Mapping[Kind, int]) -> dict[str, tuple[int, int]]:
    """Name -> shape of each fixed matrix that may take part in the objective, by the widths of the frozen features.

    The discriminator's features have the width of "f_c". The matrix between that and "f_res" is called as it was while
    there was no other.
    """
    pairs = {(max(pair), min(pair)) for pair in itertools.combinations(set(widths.values()), 2)}
    first = sorted((widths["f_c"], widths.get("f_res", 0)), reverse=True)
    return {"projection" if [*pair] == first else "projection/{}x{}".format(*pair): pair for pair in sorted(pairs)}


def _projections(corpus: Corpus) -> dict[str, Tensor]:
    """Those of `projection_shapes`: they must not change with a library."""
    widths = {kind: rows.shape[1] for kind, rows in corpus.frozen.items()}
    return {name: projection(*shape) for name, shape in projection_shapes(widths).items()}


def _load(trainer: Trainer, path: Path, run_id: str) -> int:
    """The step of the state in `path`, now that of `trainer`. Raises Damaged or RecordError before a change."""
    tensors, meta = read_tensors(path)
    if not meta.keys() >= {"run", "step"} or not meta["step"].isdecimal():
        raise Damaged("does not say its run and step")
    if meta["run"] != run_id:
        raise RecordError(f"{path}: belongs to run {meta['run']!r}, not {run_id!r}; move it away")
    ours = _projections(trainer.corpus)
    _check_fit(tensors, layout(trainer.networks) | ours)
    # Processors differ in rounding.
    if not all(torch.allclose(matrix, tensors[name], rtol=0, atol=1e-9) for name, matrix in ours.items()):
        problem = "its feature projection differs from this machine's"
        raise RecordError(f"{path}: {problem}; move the folder {path.parent} away to start from step 0 here")

    if meta.get("frozen") != _frozen(trainer.networks).get("frozen"):
        problem = "frozen weights of the study's own code are not those that it was trained with"
        raise RecordError(f"{path}: {problem}; bring them back, or move {path.parent} away to start from step 0")

    put(trainer, tensors)
    return int(meta["step"])


def put(trainer: Trainer, tensors: Mapping[str, Tensor]) -> None:
    """Have the trainer go on from what `state` gave of one like it."""
    trainer.graphs.release()  # Adam has other moments from now on
    trainer.pl_mean.copy_(tensors["pl_mean"])
    for name, network in vars(trainer.networks).items():
        prefix = f"{name}/"
        of_network = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        network.load_state_dict(of_network, strict=False)  # what is frozen is not in it; all else is, see `_check_fit`
    for player, optimizer in trainer.optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        weights = trainer.networks.trained(player)
        for key, value in tensors.items():
            if key.startswith(f"adam/{player}/"):
                _, _, index, field = key.split("/")
                # Stored in the order of their axes; a fused Adam reads them in the order of the weight's memory.
                like = value if field == "step" else weights[int(index)]
                moments.setdefault(int(index), {})[field] = torch.empty_like(like, device="cpu").copy_(value)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})


def _check_fit(tensors: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Adam has no moments of a weight that has not taken a step yet; otherwise it has all of them. Raises Damaged."""
    stepped = {name.rpartition("/")[0] for name in tensors if name.startswith("adam/")}
    for name, like in wanted.items():
        if name.startswith("adam/") and name.rpartition("/")[0] not in stepped:
            continue
        tensor = tensors.get(name)
        if tensor is None or (tensor.shape, tensor.dtype) != (like.shape, like.dtype):
            raise Damaged(f"does not fit the networks of this run ({name})")
    if unknown := tensors.keys() - wanted.keys():
        raise Damaged(f"does not fit the networks of this run ({min(unknown)})")


# Files of named tensors


def of_generator(generator: GeneratorConfig) -> dict[str, str]:
    """What is noted beside a generator's weights, so that a copy of the file says how they are stored and used."""
    return {GENERATOR: json.dumps(asdict(generator), sort_keys=True)}


def write_tensors(path: Path, tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
    """Replace `path` durably, whole or not at all. Raises OSError, for a full disk too."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    places = Counter(tensor.untyped_storage().data_ptr() for tensor in stored.values())
    for name, tensor in stored.items():
        if places[tensor.untyped_storage().data_ptr()] > 1:  # tied weights, which the format has no word for
            stored[name] = tensor.clone()
    with replacing(path, durable=True) as temporary:
        try:
            save_file(stored, temporary, {**meta, _HASH: digest(stored, meta)})
            _sort_metadata(temporary)
        except SafetensorError as error:
            # safetensors writes the number of the system's error into its text, and nowhere else
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise OSError(errno.EIO, str(error), str(path)) from error
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _sort_metadata(path: Path) -> None:
    """safetensors writes metadata in another order each time, so that files of equal runs would have unequal bytes."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU, and what was noted beside them. Raises Damaged, and OSError while a server is away."""
    try:
        content = path.read_bytes()  # not mapped: a bad sector would end the process
        tensors = load(content)
        # safetensors: 8 bytes of length, then that much JSON, then the tensors; `load` leaves the metadata out
        end = 8 + int.from_bytes(content[:8], "little")
        meta: dict[str, str] = dict(json.loads(content[8:end]).get("__metadata__", {}))
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in _TRANSIENT:
            raise
        raise Damaged(f"cannot be read ({error})") from error
    expected = meta.pop(_HASH, None)
    if expected is None and meta.keys() <= _WITHOUT_HASH:
        return tensors, meta
    if expected != digest(tensors, meta):
        raise Damaged("its content is not what was written (SHA-256)")
    return tensors, meta


def digest(tensors: dict[str, Tensor], meta: dict[str, str]) -> str:
    """SHA-256 over contiguous tensors on the CPU, by name, and what is noted beside them."""
    sha = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()
