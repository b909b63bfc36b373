"""Network pickles as the codes of LAFITE and StyleGAN2-ADA write them, read without running anything that they hold.

Such a file is a pickle of {"G", "D", "G_ema"}, each a module that carries its own source text for the reader to run.
Here that source is dropped: what is kept of a module is its tensors. Every name that a pickle asks for stands in one
table of harmless substitutes; any other name is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

LARGEST = 2**30
"""Bytes. The largest published network pickle, of 1024 px, has 0.4 GB."""
NETWORKS = {"G": "generator", "D": "discriminator", "G_ema": "averaged"}
"""Key of a pickle -> what the network is called here."""
_TENSORFLOW = "dnnlib.tflib"


@dataclass(frozen=True)
class StoredModule:
    """A module of a pickle without its code."""

    class_name: str
    state: Mapping[str, Any]

    def tensors(self, above: str = "", before: set[int] | None = None) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, tensor) of all parameters and buffers. Raises ValueError for a module that is in two places.

        Some dozens of modules that each hold the next one twice would have more names than any machine can list.
        """
        before = set() if before is None else before
        if id(self) in before:
            raise ValueError(f"its module {above.rstrip('.') or self.class_name!r} is in two places")
        before.add(id(self))
        for kind in ("_parameters", "_buffers"):
            for name, value in _items(self.state, kind):
                if isinstance(value, Tensor):
                    yield f"{above}{name}", torch.clone(value)  # without attributes that a pickle may set
        for name, module in _items(self.state, "_modules"):
            if isinstance(module, StoredModule):
                yield from module.tensors(f"{above}{name}.", before)


def read_networks(path: Path) -> dict[str, dict[str, Tensor]]:
    """generator, discriminator, averaged, as far as the pickle has them -> name as published -> tensor on the CPU.

    Raises OSError, and ValueError for what is no such pickle or asks for more than a network needs.
    """
    size = path.stat().st_size
    if size > LARGEST:
        raise ValueError(f"has {size / 2**30:.1f} GiB, and no network pickle is larger than {LARGEST / 2**30:.0f} GiB")
    content = path.read_bytes()
    try:
        _check_memo(content)
        loaded = _Unpickler(io.BytesIO(content)).load()
        networks = dict(loaded) if isinstance(loaded, dict) else {}
        stored = {name: networks[key] for key, name in NETWORKS.items() if type(networks.get(key)) is StoredModule}
        tensors = {name: dict(StoredModule.tensors(module)) for name, module in stored.items()}
    except Refused:
        raise
    except Exception as error:  # a damaged pickle, and one whose objects are not what they seem, may raise anything
        raise ValueError(f"is no whole pickle ({error or type(error).__name__})") from error
    if not tensors:
        raise ValueError(f"holds none of the networks {', '.join(NETWORKS)}")
    return tensors


class Refused(ValueError):
    """The pickle asks for something that no network needs."""


class _Unpickler(pickle.Unpickler):
    """Finds only the names of `_SUBSTITUTES`, so that whatever a pickle calls is one of the functions below."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith(_TENSORFLOW):
            fix = "convert it first, with `legacy.py` of StyleGAN2-ADA's own code"
            raise Refused(f"was written by StyleGAN2's TensorFlow code ({module}.{name}); {fix}")
        if (module, name) not in _SUBSTITUTES:
            raise Refused(f"asks for {module}.{name}, which no network needs: nothing of the file was run")
        return _SUBSTITUTES[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("refers to objects outside the file: it is no network pickle")


def _check_memo(content: bytes) -> None:
    """Python's unpickler makes room for as many objects as the largest number in the file says, however short it is."""
    for opcode, argument, _ in pickletools.genops(content):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(content):
            raise ValueError(f"opcode {opcode.name} {argument} in a file of {len(content)} bytes")


def _items(state: Mapping[str, Any], kind: str) -> list[tuple[str, Any]]:
    section = state.get(kind) or {}
    if not isinstance(section, Mapping) or not all(isinstance(name, str) for name in section):
        raise ValueError(f"a module's {kind} is no table of names")
    return list(section.items())


# What stands for the names in a pickle.


class _Nothing:
    """For values that say nothing about weights, such as the type of a number: arguments and state are dropped."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _Attributes(dict[str, Any]):
    """For dnnlib's dictionary."""


def _module(meta: Mapping[str, Any]) -> StoredModule:
    """Of torch_utils.persistence: {"type", "version", "module_src", "class_name", "state"}."""
    if not isinstance(meta, Mapping) or not isinstance(meta.get("state"), Mapping):
        raise ValueError("a stored object has no state")
    name = meta.get("class_name")
    return StoredModule(name if isinstance(name, str) else "?", meta["state"])


def _storage(content: bytes) -> torch.UntypedStorage | torch.TypedStorage:
    storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    if not isinstance(storage, torch.TypedStorage):
        raise ValueError("a tensor without numbers")
    return storage


def _tensor(storage: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, torch.TypedStorage):
        raise ValueError("a tensor without numbers")
    numbers = torch.tensor([], dtype=storage.dtype).set_(storage)
    last = offset + sum((extent - 1) * step for extent, step in zip(size, stride, strict=True))
    # A tensor of more elements than there are numbers repeats some: so a short file could fill the memory.
    beyond = last >= len(numbers) or math.prod(size) > len(numbers)
    if min((offset, *size, *stride)) < 0 or (0 not in size and beyond):
        raise ValueError(f"a tensor of shape {list(size)} over {len(numbers)} numbers")
    return numbers.as_strided(size, stride, offset).clone()


def _bytes(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    return text.encode("latin1" if encoding == "latin1" else "ascii")


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


_SUBSTITUTES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _module,
    **{("torch._utils", name): _tensor for name in ("_rebuild_tensor", "_rebuild_tensor_v2")},
    **{("torch._utils", name): _parameter for name in ("_rebuild_parameter", "_rebuild_parameter_with_state")},
    ("torch.storage", "_load_from_bytes"): _storage,
    ("collections", "OrderedDict"): OrderedDict,
    ("dnnlib.util", "EasyDict"): _Attributes,
    ("_codecs", "encode"): _bytes,
    **{(builtins, "set"): set for builtins in ("builtins", "__builtin__")},
    ("torch", "Size"): tuple,
    **{("torch", name): _Nothing for name in ("device", "float16", "float32", "float64", "int64", "uint8", "bool")},
    **{("torch._utils", f"torch.{name}"): _Nothing for name in ("channels_last", "contiguous_format")},
    **{("numpy", name): _Nothing for name in ("dtype", "ndarray", "float32", "float64", "int64")},
    **{
        (f"numpy.{core}.multiarray", name): _Nothing
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    },
}
