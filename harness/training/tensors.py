"""Named tensors in a file that shows whether it is whole: safetensors with a SHA-256 over all that is in it.

Nothing is unpickled. Files of earlier versions have no hash; they are read as they are.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from harness.files import replacing

_HASH = "sha256"
_WITHOUT_HASH = {"run", "step"}
"""All that a file of an earlier version says: with more than this, a hash has been lost."""


_PASSING = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOTCONN, errno.EMFILE, errno.ENFILE})
"""Errors of reading that say nothing about the file."""


class Damaged(Exception):
    """The file is not what was written; the message says what is wrong with it."""


def write(path: Path, tensors: dict[str, Tensor], meta: dict[str, str]) -> None:
    """Replace `path` durably, whole or not at all. Raises OSError, for a full disk too."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path, durable=True) as temporary:
        try:
            save_file(stored, temporary, {**meta, _HASH: digest(stored, meta)})
        except SafetensorError as error:
            raise _as_os_error(error, path) from error


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors on the CPU, and what was noted beside them. Raises Damaged, and OSError while a server is away."""
    try:
        content = path.read_bytes()  # not mapped: a bad sector would end the process
        tensors, meta = load(content), _metadata(content)
    except Exception as error:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in _PASSING:
            raise
        raise Damaged(f"cannot be read ({error})") from error
    expected = meta.pop(_HASH, None)
    if expected is None and meta.keys() <= _WITHOUT_HASH:
        return tensors, meta
    if expected != digest(tensors, meta):
        raise Damaged("its content is not what was written (SHA-256)")
    return tensors, meta


def _metadata(content: bytes) -> dict[str, str]:
    """The text that a safetensors file carries: 8 bytes of length, then that much JSON."""
    end = 8 + int.from_bytes(content[:8], "little")
    return dict(json.loads(content[8:end]).get("__metadata__", {}))


def digest(tensors: dict[str, Tensor], meta: dict[str, str]) -> str:
    """SHA-256 over contiguous tensors on the CPU, by name, and what is noted beside them."""
    found = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _as_os_error(error: SafetensorError, path: Path) -> OSError:
    """safetensors writes the number of the system's error into its text."""
    found = re.search(r"os error (\d+)", str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number) if found else str(error), str(path))
